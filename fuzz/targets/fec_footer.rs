//! Footers of parity: what is accepted is written as it was read. Checksums are made good, so that what
//! is behind them is reached.
#![no_main]

use image_specs::fec_footer::{FOOTER_SIZE, Footer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = [0; FOOTER_SIZE];
    for (to, from) in bytes.iter_mut().zip(data) {
        *to = *from;
    }
    check(&bytes);
    bytes[36..40].fill(0);
    let sum = crc32fast::hash(&bytes);
    bytes[36..40].copy_from_slice(&sum.to_le_bytes());
    check(&bytes);
    check(data);
});

fn check(bytes: &[u8]) {
    if let Ok(Some(footer)) = Footer::parse(bytes) {
        let written = footer.encode().expect("what was read can be written");
        assert_eq!(written.as_slice(), bytes);
    }
}
