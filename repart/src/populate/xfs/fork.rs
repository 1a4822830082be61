//! What an inode's data or attribute fork can be. Pure.

use super::Extent;

/// The contents of a fork.
#[derive(Clone, Debug)]
pub(super) enum Fork {
    Device(u32),
    Local(Vec<u8>),
    Extents(Vec<Extent>),
}

impl Fork {
    /// The format's number in the inode.
    pub(super) fn format(&self) -> u8 {
        match self {
            Self::Device(_) => 0,
            Self::Local(_) => 1,
            Self::Extents(_) => 2,
        }
    }

    /// How many extents it has, and blocks in them.
    pub(super) fn extents(&self) -> (usize, u64) {
        match self {
            Self::Extents(all) => (all.len(), all.iter().map(|extent| extent.count).sum()),
            _ => (0, 0),
        }
    }

    /// The bytes within the inode.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Device(number) => number.to_be_bytes().to_vec(),
            Self::Local(bytes) => bytes.clone(),
            Self::Extents(all) => all.iter().flat_map(|extent| record(*extent)).collect(),
        }
    }
}

/// Extents as few as they can be: those that continue each other become one.
pub(super) fn joined(extents: Vec<Extent>) -> Vec<Extent> {
    let mut all: Vec<Extent> = Vec::new();
    for extent in extents {
        match all.last_mut() {
            Some(last)
                if last.offset + last.count == extent.offset
                    && last.start + last.count == extent.start
                    && last.count + extent.count < 1 << 21 =>
            {
                last.count += extent.count;
            }
            _ => all.push(extent),
        }
    }
    all
}

/// 1 bit "unwritten", 54 bits offset, 52 bits start, 21 bits count.
fn record(extent: Extent) -> [u8; 16] {
    let value =
        u128::from(extent.offset) << 73 | u128::from(extent.start) << 21 | u128::from(extent.count);
    value.to_be_bytes()
}
