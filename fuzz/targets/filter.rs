//! Image filters and globs: a filter in the first line, a label in the second.
#![no_main]

use image_specs::filter::{ImageFilter, glob_matches};
use image_specs::partition::Designator;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (first, label) = text.split_once('\n').unwrap_or((text, "label"));
    let found = glob_matches(first, label);
    assert!(glob_matches(&format!("*{first}"), label) || !found);
    if !first.contains(['*', '?', '[']) {
        assert_eq!(found, first == label);
    }
    if let Ok(filter) = first.parse::<ImageFilter>() {
        assert_eq!(filter.to_string().parse(), Ok(filter.clone()));
        filter.matches(Designator::Root, label);
    }
});
