//! What the gpt-auto generator reads: a command line, then (after an empty line) partition UUIDs, fstab;
//! and all of it as an EFI variable.
#![no_main]

use dissect::gpt_auto::cmdline::Settings;
use dissect::gpt_auto::pins::Pins;
use dissect::gpt_auto::survey::loader_partition;
use dissect::gpt_auto::units::{Item, escape};
use dissect::gpt_auto::{Facts, Fstab, plan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let loader = loader_partition(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (line, rest) = text.split_once("\n\n").unwrap_or((text, text));
    let pins = Pins::parse(rest).unwrap_or_default();
    let name = escape(line);
    assert!(
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b":_.\\-".contains(&byte))
    );
    let Ok(settings) = Settings::parse(line) else {
        return;
    };
    for initrd in [false, true] {
        let facts = Facts {
            initrd,
            efi: true,
            loader_partition: loader,
            fstab: Fstab::parse(rest),
            ..Facts::default()
        };
        for (_, path, item) in plan(&settings, &facts, None, &pins).files.iter() {
            assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".."));
            assert!(!matches!(item, Item::File(text) if !text.ends_with('\n')));
        }
    }
});
