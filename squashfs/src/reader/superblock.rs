//! The superblock: where everything is. Pure.
#![forbid(unsafe_code)]

use filetree::ReadError;

use super::{FORMAT, damaged};
use crate::parameters::{Algorithm, BlockSize};

/// Bytes of the superblock.
pub(super) const SIZE: usize = 96;

/// What a table's place is where there is no table.
const NONE: u64 = u64::MAX;

/// A checked superblock. Places are in bytes from the beginning of the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) algorithm: Algorithm,
    pub(super) block_size: BlockSize,
    pub(super) fragment_count: u32,
    pub(super) id_count: u16,
    pub(super) root: u64,
    pub(super) size: u64,
    pub(super) ids: u64,
    pub(super) xattrs: Option<u64>,
    pub(super) inodes: u64,
    pub(super) directories: u64,
    pub(super) fragments: Option<u64>,
}

impl Superblock {
    /// Parses the first bytes of a file system; `None` means that it is no squashfs.
    pub(super) fn parse(raw: &[u8; SIZE]) -> Result<Option<Self>, ReadError> {
        if raw[..4] != *b"hsqs" {
            return Ok(None);
        }
        let (major, minor) = (u16_at(raw, 28), u16_at(raw, 30));
        if (major, minor) != (4, 0) {
            return Err(ReadError::Unsupported {
                format: FORMAT,
                what: format!("it is version {major}.{minor}, and only 4.0 is known"),
            });
        }
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|(id, _)| *id == u16_at(raw, 20))
            .ok_or(damaged(20, "there is no such compression"))?;
        let block_size = BlockSize::new(u32_at(raw, 12))
            .map_err(|_| damaged(12, "the block size is none that squashfs has"))?;
        if block_size.bytes().ilog2() != u32::from(u16_at(raw, 22)) {
            return Err(damaged(22, "the block size and its logarithm differ"));
        }
        let optional = |at| Some(u64_at(raw, at)).filter(|place| *place != NONE);
        Ok(Some(Self {
            algorithm: algorithm.1,
            block_size,
            fragment_count: u32_at(raw, 16),
            id_count: u16_at(raw, 26),
            root: u64_at(raw, 32),
            size: u64_at(raw, 40),
            ids: u64_at(raw, 48),
            xattrs: optional(56),
            inodes: u64_at(raw, 64),
            directories: u64_at(raw, 72),
            fragments: optional(80),
        }))
    }
}

/// The little-endian number at a place that the caller knows to exist; 0 behind the end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

/// As [`u16_at`].
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// As [`u16_at`].
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
