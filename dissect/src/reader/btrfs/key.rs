//! Where items are sorted, and what leads to blocks of trees. Pure.

use super::field::{u8_at, u64_at};

/// What an item is, as its key's type says.
pub(super) mod kind {
    pub(in super::super) const INODE: u8 = 1;
    pub(in super::super) const XATTR: u8 = 24;
    pub(in super::super) const DIR_ITEM: u8 = 84;
    pub(in super::super) const DIR_INDEX: u8 = 96;
    pub(in super::super) const EXTENT_DATA: u8 = 108;
    pub(in super::super) const CHECKSUMS: u8 = 128;
    pub(in super::super) const ROOT: u8 = 132;
    pub(in super::super) const ROOT_REF: u8 = 156;
    pub(in super::super) const CHUNK: u8 = 228;
}

/// Where an item is sorted: by object, then kind, then offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) object: u64,
    pub(super) kind: u8,
    pub(super) offset: u64,
}

impl Key {
    /// Bytes of a key as stored.
    pub(super) const SIZE: usize = 17;

    pub(super) fn new(object: u64, kind: u8, offset: u64) -> Self {
        Self {
            object,
            kind,
            offset,
        }
    }

    /// The key at `at`, which the caller knows to be within `bytes`.
    pub(super) fn at(bytes: &[u8], at: usize) -> Self {
        Self {
            object: u64_at(bytes, at),
            kind: u8_at(bytes, at + 8),
            offset: u64_at(bytes, at + 9),
        }
    }
}

/// How high a block stands in its tree: 0 for a leaf, at most 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level(u8);

impl Level {
    pub(super) fn new(level: u8) -> Result<Self, &'static str> {
        if level < 8 {
            Ok(Self(level))
        } else {
            Err("a tree is too high")
        }
    }

    /// That of the blocks below; `None` for a leaf.
    pub(super) fn below(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

/// What leads to a block of a tree, and what must be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pointer {
    /// In the address space of the chunks, in bytes.
    pub(super) address: u64,
    pub(super) generation: u64,
    pub(super) level: Level,
    /// The first key, which a root may choose.
    pub(super) first: Option<Key>,
    /// The key that all keys are below of.
    pub(super) end: Option<Key>,
}

impl Pointer {
    pub(super) fn to_root(address: u64, generation: u64, level: Level) -> Self {
        Self {
            address,
            generation,
            level,
            first: None,
            end: None,
        }
    }
}
