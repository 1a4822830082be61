//! XFS: whatever an image says, reading all of it ends, and within the limits.
//! Checksums are left unverified, or nothing would come past them.
#![no_main]

mod reading;

use dissect::reader::xfs;
use libfuzzer_sys::fuzz_target;

/// Every image has as many bytes: what is missing is zeros.
const SIZE: u64 = 64 << 10;

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(reader)) = xfs::open_with(reading::image(data), SIZE, false) {
        reading::read(&reader);
    }
});
