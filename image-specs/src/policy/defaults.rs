//! The policies that have names. Pure.

use std::collections::BTreeMap;

use super::{Flags, ImagePolicy};
use crate::partition::Designator;

const MAYBE_ENCRYPTED: Flags = Flags::ENCRYPTED
    .with(Flags::ENCRYPTED_WITH_INTEGRITY)
    .with(Flags::UNPROTECTED)
    .with(Flags::ABSENT);
const ANY_PROTECTION: Flags = MAYBE_ENCRYPTED.with(Flags::VERITY).with(Flags::SIGNED);

impl ImagePolicy {
    /// `*`: everything is allowed.
    pub fn allow() -> Self {
        Self::everywhere(Flags::OPEN)
    }

    /// `-`: nothing may be used.
    pub fn ignore() -> Self {
        Self::default()
    }

    /// `~`: nothing may be there.
    pub fn deny() -> Self {
        Self::everywhere(Flags::ABSENT)
    }

    /// The policy that systemd-analyze(1) calls `name`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "sysext" => Some(Self::sysext()),
            "sysext-strict" => Some(Self::sysext_strict()),
            "confext" => Some(Self::confext()),
            "confext-strict" => Some(Self::confext_strict()),
            "service" => Some(Self::service()),
            "container" => Some(Self::container()),
            "host" => Some(Self::host()),
            _ => None,
        }
    }

    fn everywhere(flags: Flags) -> Self {
        Self {
            rules: BTreeMap::new(),
            default: Some(flags),
        }
    }

    fn of(rules: impl IntoIterator<Item = (Designator, Flags)>) -> Self {
        Self {
            rules: rules.into_iter().collect(),
            default: None,
        }
    }

    /// What extension images (`sysext`) are held to.
    pub fn sysext() -> Self {
        Self::of([
            (Designator::Root, ANY_PROTECTION),
            (Designator::Usr, ANY_PROTECTION),
        ])
    }

    /// What extension images from untrusted places are held to.
    pub fn sysext_strict() -> Self {
        let signed = Flags::SIGNED | Flags::ABSENT;
        Self::of([(Designator::Root, signed), (Designator::Usr, signed)])
    }

    /// What configuration images (`confext`) are held to.
    pub fn confext() -> Self {
        Self::of([(Designator::Root, ANY_PROTECTION)])
    }

    /// What configuration images from untrusted places are held to.
    pub fn confext_strict() -> Self {
        Self::of([(Designator::Root, Flags::SIGNED | Flags::ABSENT)])
    }

    /// What images of services (`RootImage=`) are held to.
    pub fn service() -> Self {
        use Designator::{Home, Srv, Tmp, Var};
        let mut policy = Self::sysext();
        policy
            .rules
            .extend([Home, Srv, Tmp, Var].map(|designator| (designator, MAYBE_ENCRYPTED)));
        policy
    }

    /// What container images are held to.
    pub fn container() -> Self {
        let unprotected = Flags::UNPROTECTED | Flags::ABSENT;
        let mut policy = Self::service();
        policy.rules.insert(Designator::Esp, unprotected);
        policy.rules.insert(Designator::Xbootldr, unprotected);
        policy
    }

    /// What the disk of the running system is held to.
    pub fn host() -> Self {
        let mut policy = Self::container();
        policy.rules.insert(Designator::Swap, MAYBE_ENCRYPTED);
        policy
    }
}
