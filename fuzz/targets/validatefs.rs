//! What a file system says of where it belongs: the first byte chooses the attribute.
#![no_main]

use dissect::validatefs::{Attribute, Constraints};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, value)) = bytes.split_first() else {
        return;
    };
    let attribute = match choice % 3 {
        0 => Attribute::MountPoint,
        1 => Attribute::Label,
        _ => Attribute::Type,
    };
    let mut constraints = Constraints::default();
    if constraints.take(attribute, value).is_err() {
        return;
    }
    // What is taken is never more than what is said, and nothing is said only by nothing.
    assert_eq!(constraints.is_empty(), value.is_empty());
    let paths = constraints.mount_points.iter();
    assert!(paths.clone().all(|path| path.is_absolute()));
    let texts = paths.len() + constraints.labels.len() + constraints.types.len();
    assert!(texts <= value.len());
});
