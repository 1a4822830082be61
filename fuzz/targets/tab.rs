//! Tables of verity and integrity volumes.
#![no_main]

use image_specs::tab::{
    IntegrityOptions, RootHashSource, Table, VerityOptions, device_path, is_volume_name,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let lines = data.split(|byte| *byte == b'\n').count();
    for table in [Table::Verity, Table::Integrity] {
        let (volumes, errors) = table.parse(data);
        assert!(volumes.len() + errors.len() <= 2 * lines);
        for volume in &volumes {
            assert!(is_volume_name(&volume.name));
            let options = volume.options.as_ref().map_or("", |(_, text)| text);
            let _ = VerityOptions::parse(options);
            let _ = IntegrityOptions::parse(options);
            for field in &volume.fields {
                assert!(!device_path(field).is_empty());
                let _ = RootHashSource::parse(field);
            }
        }
    }
});
