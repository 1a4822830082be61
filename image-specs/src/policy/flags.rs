//! The words of a rule, as a set. Pure.

use std::fmt;
use std::ops::{BitAnd, BitOr};
use std::str::FromStr;

use super::PolicyError;
use crate::partition::Designator;

/// A set of words of one rule: ways to use a partition, GPT flags, file systems, means to unlock.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

const WORDS: &[(&str, Flags)] = &[
    ("verity", Flags::VERITY),
    ("signed", Flags::SIGNED),
    ("encrypted", Flags::ENCRYPTED),
    ("encryptedwithintegrity", Flags::ENCRYPTED_WITH_INTEGRITY),
    ("unprotected", Flags::UNPROTECTED),
    ("unused", Flags::UNUSED),
    ("absent", Flags::ABSENT),
    ("read-only-on", Flags::READ_ONLY_ON),
    ("read-only-off", Flags::READ_ONLY_OFF),
    ("growfs-on", Flags::GROWFS_ON),
    ("growfs-off", Flags::GROWFS_OFF),
    ("btrfs", Flags(1 << 11)),
    ("erofs", Flags(1 << 12)),
    ("ext4", Flags(1 << 13)),
    ("f2fs", Flags(1 << 14)),
    ("squashfs", Flags(1 << 15)),
    ("vfat", Flags(1 << 16)),
    ("xfs", Flags(1 << 17)),
    ("encrypted-with-passphrase", Flags::PASSPHRASE),
    ("encrypted-with-key-file", Flags::KEY_FILE),
    ("encrypted-with-tpm2", Flags::TPM2),
    ("encrypted-with-fido2", Flags::FIDO2),
    ("encrypted-with-pkcs11", Flags::PKCS11),
];

impl Flags {
    /// Nothing said.
    pub const NONE: Self = Self(0);
    /// Used, protected by dm-verity.
    pub const VERITY: Self = Self(1);
    /// Used, protected by dm-verity with a signed root hash.
    pub const SIGNED: Self = Self(1 << 1);
    /// Used, encrypted.
    pub const ENCRYPTED: Self = Self(1 << 2);
    /// Used, encrypted and authenticated.
    pub const ENCRYPTED_WITH_INTEGRITY: Self = Self(1 << 3);
    /// Used as it is.
    pub const UNPROTECTED: Self = Self(1 << 4);
    /// There, and left alone.
    pub const UNUSED: Self = Self(1 << 5);
    /// Not there.
    pub const ABSENT: Self = Self(1 << 6);
    /// GPT bit 60 is set.
    pub const READ_ONLY_ON: Self = Self(1 << 7);
    /// GPT bit 60 is not set.
    pub const READ_ONLY_OFF: Self = Self(1 << 8);
    /// GPT bit 59 is set.
    pub const GROWFS_ON: Self = Self(1 << 9);
    /// GPT bit 59 is not set.
    pub const GROWFS_OFF: Self = Self(1 << 10);

    /// Every way to be used, unused or absent.
    pub const OPEN: Self = Self(0x7f);
    /// Unused or absent.
    pub const IGNORE: Self = Self(0x60);
    /// Every way to be used.
    pub const USED: Self = Self(0x1f);

    /// Unlocked by a passphrase or recovery key that somebody types.
    pub const PASSPHRASE: Self = Self(1 << 18);
    /// Unlocked by a key from a file.
    pub const KEY_FILE: Self = Self(1 << 19);
    /// Unlocked by the machine's TPM2 chip.
    pub const TPM2: Self = Self(1 << 20);
    /// Unlocked by a FIDO2 token.
    pub const FIDO2: Self = Self(1 << 21);
    /// Unlocked by a PKCS#11 token or smart card.
    pub const PKCS11: Self = Self(1 << 22);
    /// Every means to unlock.
    pub const MEANS: Self = Self(0x7c_0000);

    pub(super) const ENCRYPTION: Self = Self::ENCRYPTED.with(Self::ENCRYPTED_WITH_INTEGRITY);
    pub(super) const READ_ONLY: Self = Self(0x180);
    pub(super) const GROWFS: Self = Self(0x600);
    pub(super) const FILE_SYSTEMS: Self = Self(0x3f800);

    /// Whether the two sets share a word.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every word of `other` is here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is no word.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets together; what `|` does, for constants.
    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Spells out what silence means: any use, any GPT flag, any means to unlock. A means says that
    /// the partition is encrypted.
    pub(super) fn extended(self) -> Self {
        let encrypted = match self.intersects(Self::MEANS) && !self.intersects(Self::ENCRYPTION) {
            true => self.with(Self::ENCRYPTED),
            false => self,
        };
        [Self::OPEN, Self::READ_ONLY, Self::GROWFS, Self::MEANS]
            .into_iter()
            .filter(|group| !encrypted.intersects(*group))
            .fold(encrypted, Self::bitor)
            .with_sensible_means()
    }

    /// Only what is encrypted is unlocked.
    fn with_sensible_means(self) -> Self {
        match self.intersects(Self::ENCRYPTION) {
            true => self,
            false => self.without(Self::MEANS),
        }
    }

    /// What a rule comes to for one designator, which may know fewer protections.
    pub(super) fn normalized(self, designator: Designator) -> Self {
        let verity = Self::VERITY | Self::SIGNED;
        let meaningless = match designator {
            Designator::Root | Designator::Usr => Self::NONE,
            _ if designator.verity_role().is_some() => verity | Self::ENCRYPTION,
            _ => verity,
        };
        let flags = self.extended().without(meaningless).with_sensible_means();
        match flags & Self::OPEN == Self::ABSENT {
            true => flags.without(Self::READ_ONLY | Self::GROWFS),
            false => flags,
        }
    }

    /// The word for a set that is one file system.
    pub(super) fn file_system(self) -> Option<&'static str> {
        let known = WORDS.iter().find(|(_, flag)| *flag == self);
        known.map(|(word, _)| *word)
    }

    /// The words in the grammar's order, shortened where a word stands for several.
    fn words(self) -> Vec<&'static str> {
        // Every means is as much as none is named, but that a means says "encrypted".
        let said = match self.contains(Self::MEANS) && !self.intersects(Self::ENCRYPTION) {
            true => self.with(Self::ENCRYPTED),
            false => self,
        };
        let shorthand = match said & Self::OPEN {
            Self::OPEN => Some("open"),
            Self::IGNORE => Some("ignore"),
            _ => None,
        };
        let said = [Self::READ_ONLY, Self::GROWFS, Self::MEANS]
            .into_iter()
            .filter(|group| said.contains(*group))
            .fold(said, Self::without);
        let said = match shorthand {
            Some(_) => said.without(Self::OPEN),
            None => said,
        };
        let words = WORDS.iter().filter(|(_, flag)| said.intersects(*flag));
        shorthand
            .into_iter()
            .chain(words.map(|(word, _)| *word))
            .collect()
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl BitAnd for Flags {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl FromStr for Flags {
    type Err = PolicyError;

    /// Parses words joined by `+`; nothing or `-` says nothing.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if matches!(text.trim(), "" | "-") {
            return Ok(Self::NONE);
        }
        text.split('+')
            .map(parse_word)
            .try_fold(Self::NONE, |flags, flag| Ok(flags | flag?))
    }
}

fn parse_word(text: &str) -> Result<Flags, PolicyError> {
    match text.trim() {
        "open" => Ok(Flags::OPEN),
        "ignore" => Ok(Flags::IGNORE),
        word => WORDS
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, flag)| *flag)
            .ok_or_else(|| PolicyError::Flag(word.to_owned())),
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words()[..] {
            [] => f.pad("-"),
            ref words => f.pad(&words.join("+")),
        }
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({self})")
    }
}

#[cfg(test)]
impl Flags {
    /// Any set of words.
    pub(super) const fn any(bits: u32) -> Self {
        Self(bits & 0x7f_ffff)
    }
}
