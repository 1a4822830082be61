//! The checksums that a btrfs may have, all over its metadata and data. Pure.

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use sha2::Sha256;
use twox_hash::XxHash64;

/// Bytes of the longest.
pub(super) const LONGEST: usize = 32;

/// How checksums are computed (`csum_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    Crc32c,
    Xxhash64,
    Sha256,
    Blake2b,
}

impl Checksum {
    pub(super) fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0 => Self::Crc32c,
            1 => Self::Xxhash64,
            2 => Self::Sha256,
            3 => Self::Blake2b,
            _ => return None,
        })
    }

    /// In bytes.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Crc32c => 4,
            Self::Xxhash64 => 8,
            Self::Sha256 | Self::Blake2b => LONGEST,
        }
    }

    /// Whether `stored` begins with the checksum of `bytes`.
    pub(super) fn is(self, stored: &[u8], bytes: &[u8]) -> bool {
        match self {
            Self::Crc32c => stored.starts_with(&crc32c::crc32c(bytes).to_le_bytes()),
            Self::Xxhash64 => stored.starts_with(&XxHash64::oneshot(0, bytes).to_le_bytes()),
            Self::Sha256 => stored.starts_with(&Sha256::digest(bytes)),
            Self::Blake2b => stored.starts_with(&Blake2b::<U32>::digest(bytes)),
        }
    }
}

/// The hash by which names are found: CRC-32C from a seed, without the inversions.
pub(super) fn name_hash(name: &[u8]) -> u64 {
    const SEED: u32 = !1;
    u64::from(!crc32c::crc32c_append(!SEED, name))
}
