//! Versions: the order is total on whatever bytes, three lines at a time.
#![no_main]

use std::cmp::Ordering;

use image_specs::version::{Version, compare};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n').chain([&[][..]; 3]);
    let mut next = || lines.next().unwrap_or_default();
    let mut sorted = [next(), next(), next()];
    for a in sorted {
        assert_eq!(compare(a, a), Ordering::Equal);
        for b in sorted {
            assert_eq!(compare(a, b), compare(b, a).reverse());
        }
    }
    sorted.sort_by(|a, b| compare(a, b));
    assert_ne!(compare(sorted[0], sorted[2]), Ordering::Greater);
    if let Ok(Ok(version)) = str::from_utf8(data).map(Version::new) {
        assert_eq!(version.as_str().as_bytes(), data);
    }
});
