//! Backups of partition tables: what is read is written the same way.
#![no_main]

use image_specs::table_backup::TableBackup;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(backup) = TableBackup::parse(data) {
        let size = backup.disk_size;
        let inside = |end| end <= size;
        assert!(backup.ranges.iter().all(|range| range.extent().end().is_some_and(inside)));
        assert_eq!(TableBackup::parse(&backup.encode()), Ok(backup));
    }
});
