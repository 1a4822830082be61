//! Image policies: two lines. Text and value say the same; what both allow, each allows.
#![no_main]

use image_specs::partition::Designator;
use image_specs::policy::{Flags, ImagePolicy, Means};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (first, second) = text.split_once('\n').unwrap_or((text, "*"));
    let Ok(a) = first.parse::<ImagePolicy>() else {
        return;
    };
    let again: ImagePolicy = a.to_string().parse().expect("what was printed parses");
    assert!(again.is_equivalent(&a));
    assert_eq!(again.to_string(), a.to_string());
    let Ok(b) = second.parse::<ImagePolicy>() else {
        return;
    };
    if let Ok(both) = a.intersect(&b) {
        for designator in Designator::POLICY {
            let uses = |policy: &ImagePolicy| policy.effective(designator) & Flags::OPEN;
            let common = uses(&a) & uses(&b);
            assert!(common.contains(uses(&both)));
            for means in Means::ALL {
                let unlock = |policy: &ImagePolicy| policy.may_unlock(designator, means);
                assert!(!unlock(&both) || (unlock(&a) && unlock(&b)));
            }
        }
    }
});
