//! FAT: whatever an image says, reading all of it ends, and within the limits.
#![no_main]

mod reading;

use dissect::reader::vfat;
use libfuzzer_sys::fuzz_target;

/// Every image has as many bytes: what is missing is zeros.
const SIZE: u64 = 4 << 20;

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(reader)) = vfat::open(reading::image(data), SIZE) {
        reading::read(&reader);
    }
});
