//! Tables of verity and integrity volumes, the units for them, and for volumes of a command line.
#![no_main]

use image_specs::tab::units::{Files, Settings, Source};
use image_specs::tab::{
    IntegrityOptions, RootHashSource, Table, VerityOptions, device_path, is_volume_name,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let lines = data.split(|byte| *byte == b'\n').count();
    for table in [Table::Verity, Table::Integrity] {
        let (volumes, errors) = table.parse(data);
        assert!(volumes.len() + errors.len() <= 2 * lines);
        let mut files = Files::new();
        let path = "/etc/tab";
        for volume in &volumes {
            Source { table, path }.units(volume, &mut files);
            assert!(is_volume_name(&volume.name));
            let options = volume.options.as_ref().map_or("", |(_, text)| text);
            let _ = VerityOptions::parse(options);
            let _ = IntegrityOptions::parse(options);
            for field in &volume.fields {
                assert!(!device_path(field).is_empty());
                let _ = RootHashSource::parse(field);
            }
        }
        check(&files);
    }
    let text = String::from_utf8_lossy(data);
    for initrd in [false, true] {
        let mut files = Files::new();
        if let Ok(settings) = Settings::parse(text.split_whitespace(), initrd) {
            let _ = settings.units(&mut files);
        }
        check(&files);
    }
});

/// Nothing is written outside of the generator's folder.
fn check(files: &Files) {
    for path in files.keys() {
        assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".."));
    }
}
