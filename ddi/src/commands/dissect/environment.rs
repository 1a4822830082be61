//! The variables of the environment that systemd-dissect listens to.

use dissect::{FileSystems, Rules};
use image_specs::conf::boolean;
use image_specs::partition::Designator;

use crate::exit::Failure;

/// Whether files beside an image are looked at.
pub(super) fn sidecars() -> Result<bool, Failure> {
    switch("SYSTEMD_DISSECT_VERITY_SIDECAR")
}

/// The rules of systemd-dissect, as far as the environment does not change them.
pub(super) fn rules() -> Result<Rules, Failure> {
    Ok(Rules {
        embedded_hash: switch("SYSTEMD_DISSECT_VERITY_EMBEDDED")?,
        guess_hash: switch("SYSTEMD_DISSECT_VERITY_GUESS")?,
        userspace_verity: switch("SYSTEMD_ALLOW_USERSPACE_VERITY")?,
        ..Rules::default()
    })
}

/// Which file systems are looked for, and what is said of single partitions.
pub(super) fn file_systems() -> FileSystems {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut found = match variable("SYSTEMD_DISSECT_FILE_SYSTEMS") {
        Some(list) => FileSystems::of(&list),
        None => FileSystems::default(),
    };
    for designator in Designator::POLICY {
        let name = designator.name().to_ascii_uppercase().replace('-', "_");
        if let Some(kind) = variable(&format!("SYSTEMD_DISSECT_FSTYPE_{name}")) {
            found.forced.insert(designator, kind);
        }
    }
    found
}

/// A switch that is on unless it is set to off.
pub(super) fn switch(name: &'static str) -> Result<bool, Failure> {
    match std::env::var(name) {
        Err(_) => Ok(true),
        Ok(text) => boolean(&text).map_err(|_| {
            Failure::message(format!("{name} is set to {text:?}, which is no boolean"))
                .with_hint("set it to yes or no, or unset it")
        }),
    }
}
