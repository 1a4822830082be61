//! Specifiers: the two passes over `SplitName=` come to what one pass would; text without `%` stays.
#![no_main]

use image_specs::specifier::{SPLIT_LETTERS, SplitValues, Values};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

fuzz_target!(|text: &str| {
    let values = Values {
        architecture: Some("x86-64".into()),
        machine_id: Some("0123".into()),
        image_id: Some("50%T off".into()),
        ..Values::default()
    };
    let split = SplitValues {
        type_name: "root".into(),
        type_uuid: Uuid::nil(),
        uuid: Uuid::max(),
        number: 7,
    };
    if let Ok(expanded) = values.expand(text) {
        assert!(expanded.len() <= 4095);
        if !text.contains('%') {
            assert_eq!(expanded, text);
        }
    }
    if let Ok(template) = values.expand_except(text, SPLIT_LETTERS)
        && let Ok(name) = split.expand(&template)
        && !text.contains(|letter| SPLIT_LETTERS.contains(&letter))
        && let Ok(single) = values.expand(text)
    {
        assert_eq!(name, single);
    }
});
