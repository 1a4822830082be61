//! Verity superblocks: what is accepted is written as it was read, but for bytes without a meaning.
#![no_main]

use image_specs::verity::Superblock;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(Some(superblock)) = Superblock::parse(data) else {
        return;
    };
    assert!(superblock.salt.len() <= 256);
    let bytes = superblock.encode().expect("what was read can be written");
    assert_eq!(
        Superblock::parse(&bytes).expect("and read"),
        Some(superblock)
    );
});
