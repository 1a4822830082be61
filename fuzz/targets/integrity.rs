//! Integrity superblocks: what is accepted is written as it was read, and everything lies on its device.
#![no_main]

use image_specs::integrity::{Layout, Superblock};
use image_specs::units::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(Some(superblock)) = Superblock::parse(data) else {
        return;
    };
    let bytes = superblock.encode().expect("what was read can be written");
    assert_eq!(
        Superblock::parse(&bytes).expect("and read"),
        Some(superblock.clone())
    );
    let size = Bytes::mib(64);
    let Ok(layout) = Layout::of(&superblock, size) else {
        return;
    };
    let sectors = size.get() / 512;
    for sector in [0, layout.provided_sectors / 2, layout.provided_sectors - 1] {
        let (data, tag) = layout.find(sector);
        assert!(data < sectors && tag < size.get());
    }
});
