//! Partition types of master boot records: one byte, and what people call it. Pure.

use std::fmt;

use crate::arch::Architecture;
use crate::partition::{Designator, PartitionType};

/// The type byte of a partition that holds data: neither 0 (unused) nor one of those that lead to
/// other partitions or guard a GPT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MbrType(u8);

/// A text that is no such type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no type of an MBR partition; write two hex digits such as 83 or 0x0c, or linux, swap, \
     efi, esp, xbootldr, fat32, lvm, raid (an extended partition is made where one is needed)"
)]
pub struct UnknownMbrType(pub String);

/// The types of partitions that hold others.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// The type that guards a GPT.
const PROTECTIVE: u8 = 0xee;

const NAMES: [(&str, u8); 8] = [
    ("linux", 0x83),
    ("swap", 0x82),
    ("efi", 0xef),
    ("esp", 0xef),
    ("xbootldr", 0xea),
    ("fat32", 0x0c),
    ("lvm", 0x8e),
    ("raid", 0xfd),
];

impl MbrType {
    /// Linux data.
    pub const LINUX: Self = Self(0x83);

    /// The type with this byte, where a partition with data can have it.
    pub fn new(byte: u8) -> Option<Self> {
        let structural = byte == 0 || byte == PROTECTIVE || is_extended(byte);
        (!structural).then_some(Self(byte))
    }

    /// Parses a name, or one or two hex digits with or without `0x`.
    pub fn parse(text: &str) -> Result<Self, UnknownMbrType> {
        let unknown = || UnknownMbrType(text.to_owned());
        if let Some((_, byte)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(Self(*byte));
        }
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let plain = digits.len() <= 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| plain);
        byte.and_then(Self::new).ok_or_else(unknown)
    }

    /// What a partition of a designator is in a master boot record, unless something else is said;
    /// `None` for those that such a table cannot tell from others: hash trees and signatures.
    pub const fn of(designator: Designator) -> Option<Self> {
        match designator {
            Designator::Esp => Some(Self(0xef)),
            Designator::Xbootldr => Some(Self(0xea)),
            Designator::Swap => Some(Self(0x82)),
            Designator::RootVerity
            | Designator::UsrVerity
            | Designator::RootVeritySig
            | Designator::UsrVeritySig => None,
            _ => Some(Self::LINUX),
        }
    }

    /// The GPT type that comes nearest: that of the ESP, XBOOTLDR or swap, else generic Linux data.
    pub fn nearest(self) -> PartitionType {
        let designator = match self.0 {
            0xef => Designator::Esp,
            0xea => Designator::Xbootldr,
            0x82 => Designator::Swap,
            _ => Designator::LinuxGeneric,
        };
        // These are the same on every architecture.
        PartitionType::of(designator, Architecture::X86_64)
            .unwrap_or(PartitionType::new(uuid::Uuid::nil()))
    }

    /// The byte.
    pub const fn byte(self) -> u8 {
        self.0
    }
}

/// Whether a partition of this type byte holds others.
pub(super) fn is_extended(byte: u8) -> bool {
    EXTENDED.contains(&byte)
}

impl fmt::Display for MbrType {
    /// As in `Type=`: `0x83`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:#04x}", self.0))
    }
}

impl fmt::Debug for MbrType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MbrType({self})")
    }
}
