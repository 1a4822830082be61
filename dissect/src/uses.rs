//! What an image can be used for, by what its files say. Pure.

use image_specs::partition::Designator;
use image_specs::release::{Class, Release, Scope};
use serde::Serialize;

use crate::assign::Dissected;
use crate::metadata::Metadata;

/// What an image can be used as; nothing, where nobody has looked into its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each is its own name")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are fields of the answer"
)]
pub struct Uses {
    pub use_bootable_uefi: bool,
    pub use_bootable_container: bool,
    pub use_initrd: bool,
    pub use_portable_service: bool,
    pub use_system_extension: bool,
    #[serde(rename = "useInitRDSystemExtension")]
    pub use_initrd_system_extension: bool,
    pub use_portable_system_extension: bool,
    pub use_configuration_extension: bool,
    #[serde(rename = "useInitRDConfigurationExtension")]
    pub use_initrd_configuration_extension: bool,
    pub use_portable_configuration_extension: bool,
}

/// Something that an image may be wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Booting a machine or a container.
    Bootable,
    /// Booting a machine by UEFI.
    Uefi,
    /// Booting a container.
    Container,
    /// The initial RAM disk.
    Initrd,
    /// A portable service.
    Portable,
    /// A system extension, for anything.
    Sysext,
    /// A configuration extension, for anything.
    Confext,
}

/// Every purpose by its name.
const PURPOSES: [(&str, Purpose); 7] = [
    ("bootable", Purpose::Bootable),
    ("uefi", Purpose::Uefi),
    ("container", Purpose::Container),
    ("initrd", Purpose::Initrd),
    ("portable", Purpose::Portable),
    ("sysext", Purpose::Sysext),
    ("confext", Purpose::Confext),
];

/// A name that is no purpose.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no purpose of an image; known are bootable, uefi, container, initrd, portable, sysext \
     and confext"
)]
pub struct UnknownPurpose(pub String);

impl Uses {
    /// What the files of an image make of it.
    pub fn of(dissected: &Dissected, metadata: &Metadata) -> Self {
        Self {
            use_bootable_uefi: metadata.init && dissected.partitions.contains_key(&Designator::Esp),
            ..Self::of_files(metadata)
        }
    }

    /// What the files of a directory make of it, to which firmware has no way.
    pub fn of_files(metadata: &Metadata) -> Self {
        let os = &metadata.os_release;
        let names = |key: &str| os.fields().any(|(known, _)| known == key);
        let sysext = |scope| has_scope(metadata.sysext_release.as_ref(), Class::Sysext, scope);
        let confext = |scope| has_scope(metadata.confext_release.as_ref(), Class::Confext, scope);
        Self {
            use_bootable_uefi: false,
            use_bootable_container: metadata.init,
            use_initrd: metadata.initrd_release.is_some(),
            use_portable_service: names("PORTABLE_PREFIXES") || names("PORTABLE_SCOPE"),
            use_system_extension: sysext(Scope::System),
            use_initrd_system_extension: sysext(Scope::Initrd),
            use_portable_system_extension: sysext(Scope::Portable),
            use_configuration_extension: confext(Scope::System),
            use_initrd_configuration_extension: confext(Scope::Initrd),
            use_portable_configuration_extension: confext(Scope::Portable),
        }
    }

    /// Whether the image is good for something.
    pub fn serve(self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Bootable => self.use_bootable_uefi || self.use_bootable_container,
            Purpose::Uefi => self.use_bootable_uefi,
            Purpose::Container => self.use_bootable_container,
            Purpose::Initrd => self.use_initrd,
            Purpose::Portable => self.use_portable_service,
            Purpose::Sysext => {
                self.use_system_extension
                    || self.use_initrd_system_extension
                    || self.use_portable_system_extension
            }
            Purpose::Confext => {
                self.use_configuration_extension
                    || self.use_initrd_configuration_extension
                    || self.use_portable_configuration_extension
            }
        }
    }
}

impl Purpose {
    /// The name.
    pub fn name(self) -> &'static str {
        let known = PURPOSES.iter().find(|(_, purpose)| *purpose == self);
        known.map_or("", |(name, _)| name)
    }
}

impl std::str::FromStr for Purpose {
    type Err = UnknownPurpose;

    fn from_str(text: &str) -> Result<Self, UnknownPurpose> {
        let known = PURPOSES.iter().find(|(name, _)| *name == text);
        let known = known.map(|(_, purpose)| *purpose);
        known.ok_or_else(|| UnknownPurpose(text.to_owned()))
    }
}

fn has_scope(release: Option<&Release>, class: Class, scope: Scope) -> bool {
    release.is_some_and(|release| class.has_scope(release, scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_have_names_and_follow_from_files() {
        for (name, purpose) in PURPOSES {
            assert_eq!(name.parse(), Ok(purpose));
            assert_eq!(purpose.name(), name);
        }
        assert!("boot".parse::<Purpose>().is_err());
        let release = |text: &str| Release::parse(text.as_bytes()).unwrap();
        let metadata = Metadata {
            os_release: release("ID=x\nPORTABLE_PREFIXES="),
            sysext_release: Some(release("ID=x\nSYSEXT_SCOPE=initrd")),
            init: true,
            ..Metadata::default()
        };
        let uses = Uses::of_files(&metadata);
        let serves = |purpose: &Purpose| uses.serve(*purpose);
        let found: Vec<_> = PURPOSES
            .map(|(_, purpose)| purpose)
            .into_iter()
            .filter(serves)
            .collect();
        let expected = [
            Purpose::Bootable,
            Purpose::Container,
            Purpose::Portable,
            Purpose::Sysext,
        ];
        assert_eq!(found, expected);
        assert!(!uses.use_system_extension && uses.use_initrd_system_extension);
    }
}
