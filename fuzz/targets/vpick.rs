//! Versioned directories: a path in the first line, names in the others. The choice does not depend
//! on the order of names, and is one of them.
#![no_main]

use image_specs::arch::Architecture;
use image_specs::vpick::{Filter, Search};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let Some(search) = lines
        .next()
        .and_then(|path| Search::from_path(path, ".raw"))
    else {
        return;
    };
    let names: Vec<&str> = lines.collect();
    let filter = Filter::native(Architecture::X86_64);
    let forth = search.pick(names.iter().copied(), &filter);
    let back = search.pick(names.iter().rev().copied(), &filter);
    assert_eq!(
        forth.as_ref().map(|entry| entry.name),
        back.map(|entry| entry.name)
    );
    if let Some(best) = forth {
        assert!(names.contains(&best.name));
        let again = Filter {
            version: Some(best.version.clone()),
            architecture: best.architecture,
            ..filter
        };
        assert!(search.pick([best.name], &again).is_some());
        assert!(
            search
                .direct_name(&again)
                .is_none_or(|name| name.ends_with(&search.suffix))
        );
    }
});
