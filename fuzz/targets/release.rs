//! Release files: what is read and printed reads the same, and matching never fails otherwise.
#![no_main]

use image_specs::arch::Architecture;
use image_specs::release::{Class, Found, Host, Release, Scope, image_name, select};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(release) = Release::parse(data) else {
        return;
    };
    let printed = release.to_string();
    assert_eq!(Release::parse(printed.as_bytes()).as_ref(), Ok(&release));
    let host = Host {
        release: &release,
        architecture: Architecture::X86_64,
        scope: Some(Scope::System),
    };
    let name = release.field("ID").unwrap_or("x");
    // An extension of the very same system may only be refused for what is asked of it alone.
    let _ = Class::Sysext.check(&release, &host);
    let _ = Class::Confext.check(&release, &host);
    assert!(name.starts_with(image_name(name)));
    let found = release.fields().map(|(suffix, _)| Found {
        suffix,
        strict: true,
    });
    let _ = select(name, found, false);
});
