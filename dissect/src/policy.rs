//! Holds what was found against an image policy (systemd.image-policy(7)). Pure.
//!
//! Twice: when the table is read, and when it is known what the partitions hold.

use std::fmt;

use image_specs::luks_header::Segment;
use image_specs::partition::{Designator, FLAG_GROW_FILE_SYSTEM, FLAG_READ_ONLY, VerityRole};
use image_specs::policy::{Flags, ImagePolicy};
use luks::Header;

use crate::assign::{Dissected, Partition};

/// What a partition turned out to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// LUKS.
    Luks,
    /// LUKS2 that authenticates what it encrypts.
    WithIntegrity,
}

impl Encryption {
    /// What a header says.
    pub(crate) fn of(header: &Header) -> Self {
        let segments = header.segments();
        let authenticated = |(segment, _): &(&Segment, u32)| segment.integrity.is_some();
        match !segments.is_empty() && segments.iter().all(authenticated) {
            true => Self::WithIntegrity,
            false => Self::Luks,
        }
    }
}

/// How a partition was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name")]
#[non_exhaustive]
pub enum State {
    Absent,
    Unused,
    Plain,
    Verity,
    Signed,
    Encrypted(Encryption),
    ReadOnly(bool),
    Growfs(bool),
}

/// An image does not obey its policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image policy wants partition {designator} to be {allowed}, but it {found}")]
pub struct Refused {
    /// Which partition.
    pub designator: Designator,
    /// What the policy allows.
    pub allowed: Flags,
    /// What there is.
    pub found: State,
}

/// After the table was read: what is there, what is missing, and the bits of the entries.
pub(crate) fn check_table(dissected: &Dissected, policy: &ImagePolicy) -> Result<(), Refused> {
    for designator in Designator::POLICY {
        let Some(partition) = dissected.partitions.get(&designator) else {
            let unused = dissected.unused.contains(&designator);
            let state = if unused { State::Unused } else { State::Absent };
            check(policy, designator, state.flags(), state)?;
            continue;
        };
        let protection = protection(dissected, designator);
        check(policy, designator, before_probing(protection), protection)?;
        check_bits(policy, designator, partition.attributes)?;
    }
    Ok(())
}

/// After it is known what a partition holds.
pub(crate) fn check_contents(
    dissected: &Dissected,
    policy: &ImagePolicy,
    partition: &Partition,
) -> Result<(), Refused> {
    let designator = partition.designator;
    match partition.encryption {
        Some(encryption) => {
            let state = State::Encrypted(encryption);
            check(policy, designator, state.flags() | Flags::UNUSED, state)
        }
        None => {
            let found = Flags::UNUSED | Flags::UNPROTECTED | Flags::VERITY | Flags::SIGNED;
            check(policy, designator, found, protection(dissected, designator))
        }
    }
}

/// An image without a table: its one file system, and the tree that may come with it.
pub(crate) fn check_single(
    policy: &ImagePolicy,
    root: &Partition,
    tree: Option<State>,
) -> Result<(), Refused> {
    let encrypted = root.encryption.map(State::Encrypted);
    let state = tree.or(encrypted).unwrap_or(State::Plain);
    check(policy, Designator::Root, state.flags(), state)?;
    check_bits(policy, Designator::Root, 0)
}

/// How a partition is protected by others.
fn protection(dissected: &Dissected, designator: Designator) -> State {
    let has = |role| {
        let data = designator.verity_role() == Some(VerityRole::Data);
        data && dissected.verity_member(designator, role).is_some()
    };
    match (has(VerityRole::Hash), has(VerityRole::Signature)) {
        (true, true) => State::Signed,
        (true, false) => State::Verity,
        (false, _) => State::Plain,
    }
}

/// What a partition may turn out to be when its contents are not known.
fn before_probing(protection: State) -> Flags {
    let any =
        Flags::ENCRYPTED | Flags::ENCRYPTED_WITH_INTEGRITY | Flags::UNPROTECTED | Flags::UNUSED;
    match protection {
        State::Signed => any | Flags::VERITY | Flags::SIGNED,
        State::Verity => any | Flags::VERITY,
        _ => any,
    }
}

fn check_bits(policy: &ImagePolicy, designator: Designator, bits: u64) -> Result<(), Refused> {
    let read_only = bits & FLAG_READ_ONLY != 0;
    let growfs = bits & FLAG_GROW_FILE_SYSTEM != 0;
    policy
        .check_gpt(designator, read_only, growfs)
        .map_err(|violation| Refused {
            designator,
            allowed: violation.wanted,
            found: match violation.found {
                Flags::READ_ONLY_ON | Flags::READ_ONLY_OFF => State::ReadOnly(read_only),
                _ => State::Growfs(growfs),
            },
        })
}

fn check(
    policy: &ImagePolicy,
    designator: Designator,
    found: Flags,
    state: State,
) -> Result<(), Refused> {
    policy
        .check(designator, found)
        .map_err(|violation| Refused {
            designator,
            allowed: violation.wanted,
            found: state,
        })
}

impl State {
    fn flags(self) -> Flags {
        match self {
            Self::Absent => Flags::ABSENT,
            Self::Unused => Flags::UNUSED,
            Self::Plain => Flags::UNPROTECTED,
            Self::Verity => Flags::VERITY,
            Self::Signed => Flags::SIGNED,
            Self::Encrypted(Encryption::Luks) => Flags::ENCRYPTED,
            Self::Encrypted(Encryption::WithIntegrity) => Flags::ENCRYPTED_WITH_INTEGRITY,
            Self::ReadOnly(_) | Self::Growfs(_) => Flags::NONE,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Absent => "is absent",
            Self::Unused => "is there and would stay unused",
            Self::Plain => "is neither encrypted nor protected by verity",
            Self::Verity => "is protected by verity without a signature",
            Self::Signed => "is protected by signed verity",
            Self::Encrypted(Encryption::Luks) => "is encrypted",
            Self::Encrypted(Encryption::WithIntegrity) => "is encrypted with integrity",
            Self::ReadOnly(true) => "is marked read-only",
            Self::ReadOnly(false) => "is not marked read-only",
            Self::Growfs(true) => "is marked to grow",
            Self::Growfs(false) => "is not marked to grow",
        })
    }
}
