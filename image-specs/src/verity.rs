//! The superblock of a dm-verity hash device (cryptsetup's on-disk format, version 1).
//!
//! Invariant: a [`Superblock`] has block sizes that the kernel can take, a salt of at most 256 bytes
//! and a device size below 2⁶⁴. Pure.

use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::units::Bytes;

/// Bytes of a superblock; the rest of its hash block is zeros.
pub const SUPERBLOCK_SIZE: usize = 512;

const MAGIC: [u8; 8] = *b"verity\0\0";
const VERSION: u32 = 1;
const MAX_BLOCK: u32 = 512 * 1024;

/// The 512 bytes exactly as stored. Nothing here has been checked.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U32,
    hash_type: U32,
    uuid: [u8; 16],      // in the order of its text
    algorithm: [u8; 32], // ASCII, NUL-padded
    data_block: U32,     // bytes
    hash_block: U32,     // bytes
    data_blocks: U64,    // count of data_block
    salt_size: U16,      // bytes
    padding: [u8; 6],
    salt: [u8; 256],
    rest: [u8; 168],
}

const _: () = assert!(size_of::<Raw>() == SUPERBLOCK_SIZE);

/// What a hash device says of its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The format of the tree.
    pub hash_type: HashType,
    /// The UUID of the hash device.
    pub uuid: Uuid,
    /// The kernel's name of the hash, such as `sha256`.
    pub algorithm: String,
    /// Bytes of a block of data: a power of two from 512 to 524288.
    pub data_block: u32,
    /// Bytes of a block of the tree: a power of two from 512 to 524288.
    pub hash_block: u32,
    /// How many blocks of data the tree covers.
    pub data_blocks: u64,
    /// What is hashed along with each block: at most 256 bytes.
    pub salt: Vec<u8>,
}

/// How salt and block are put together, and how digests are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashType {
    /// 0: salt behind the block, digests without gaps.
    ChromeOs,
    /// 1: salt before the block, digests at powers of two.
    Normal,
}

/// A superblock that is there but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum SuperblockError {
    #[error("the verity superblock has version {0}, only 1 is known")]
    Version(u32),
    #[error("the verity superblock has hash type {0}, only 0 and 1 are known")]
    HashType(u32),
    #[error("the verity superblock names the hash {0:?}, which is no name of a hash")]
    Algorithm(String),
    #[error("the verity superblock has blocks of {0} bytes, not a power of two from 512 to 524288")]
    BlockSize(u32),
    #[error(
        "the verity superblock covers {blocks} blocks of {size} bytes, more than a disk can have"
    )]
    DataSize { blocks: u64, size: u32 },
    #[error("the verity superblock has a salt of {0} bytes, at most 256 are possible")]
    Salt(usize),
}

impl Superblock {
    /// Parses the start of a hash device. `Ok(None)` means that no superblock is there.
    pub fn parse(start: &[u8]) -> Result<Option<Self>, SuperblockError> {
        let Ok((raw, _)) = Raw::ref_from_prefix(start) else {
            return Ok(None);
        };
        if raw.magic != MAGIC {
            return Ok(None);
        }
        if raw.version != VERSION {
            return Err(SuperblockError::Version(raw.version.get()));
        }
        let salt_size = usize::from(raw.salt_size.get());
        let salt = raw.salt.get(..salt_size);
        let parsed = Self {
            hash_type: HashType::from_number(raw.hash_type.get())?,
            uuid: Uuid::from_bytes(raw.uuid),
            algorithm: algorithm(&raw.algorithm)?,
            data_block: block_size(raw.data_block.get())?,
            hash_block: block_size(raw.hash_block.get())?,
            data_blocks: raw.data_blocks.get(),
            salt: salt.ok_or(SuperblockError::Salt(salt_size))?.to_vec(),
        };
        match parsed.data_size_checked() {
            Some(_) => Ok(Some(parsed)),
            None => Err(SuperblockError::DataSize {
                blocks: parsed.data_blocks,
                size: parsed.data_block,
            }),
        }
    }

    /// The 512 bytes to store. What a parsed superblock cannot have is refused.
    pub fn encode(&self) -> Result<[u8; SUPERBLOCK_SIZE], SuperblockError> {
        let long_salt = SuperblockError::Salt(self.salt.len());
        let mut raw = Raw {
            magic: MAGIC,
            version: VERSION.into(),
            hash_type: self.hash_type.number().into(),
            uuid: self.uuid.into_bytes(),
            algorithm: [0; 32],
            data_block: block_size(self.data_block)?.into(),
            hash_block: block_size(self.hash_block)?.into(),
            data_blocks: self.data_blocks.into(),
            salt_size: u16::try_from(self.salt.len())
                .map_err(|_| long_salt.clone())?
                .into(),
            padding: [0; 6],
            salt: [0; 256],
            rest: [0; 168],
        };
        let name = self.algorithm.as_bytes();
        let place = raw.algorithm.get_mut(..name.len());
        place
            .ok_or_else(|| SuperblockError::Algorithm(self.algorithm.clone()))?
            .copy_from_slice(name);
        algorithm(&raw.algorithm)?;
        let place = raw.salt.get_mut(..self.salt.len());
        place.ok_or(long_salt)?.copy_from_slice(&self.salt);
        let mut bytes = [0; SUPERBLOCK_SIZE];
        bytes.copy_from_slice(raw.as_bytes());
        Ok(bytes)
    }

    /// Bytes of data that the tree covers.
    pub fn data_size(&self) -> Bytes {
        self.data_size_checked().unwrap_or(Bytes::MAX)
    }

    fn data_size_checked(&self) -> Option<Bytes> {
        let size = self.data_blocks.checked_mul(self.data_block.into());
        size.map(Bytes::new)
    }
}

impl HashType {
    /// The number in superblocks and device-mapper tables.
    pub const fn number(self) -> u32 {
        match self {
            Self::ChromeOs => 0,
            Self::Normal => 1,
        }
    }

    fn from_number(number: u32) -> Result<Self, SuperblockError> {
        match number {
            0 => Ok(Self::ChromeOs),
            1 => Ok(Self::Normal),
            other => Err(SuperblockError::HashType(other)),
        }
    }
}

fn algorithm(field: &[u8; 32]) -> Result<String, SuperblockError> {
    let end = field.iter().position(|byte| *byte == 0);
    let name = &field[..end.unwrap_or(field.len())];
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let text = String::from_utf8_lossy(name).into_owned();
    match end.is_some_and(|end| end > 0) && name.iter().all(fine) {
        true => Ok(text),
        false => Err(SuperblockError::Algorithm(text)),
    }
}

fn block_size(bytes: u32) -> Result<u32, SuperblockError> {
    let good = bytes.is_power_of_two() && (512..=MAX_BLOCK).contains(&bytes);
    good.then_some(bytes)
        .ok_or(SuperblockError::BlockSize(bytes))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn sample() -> Superblock {
        Superblock {
            hash_type: HashType::Normal,
            uuid: Uuid::from_u128(0x11111111_2222_3333_4444_555555555555),
            algorithm: "sha256".to_owned(),
            data_block: 4096,
            hash_block: 1024,
            data_blocks: 3,
            salt: vec![0xab; 20],
        }
    }

    #[test]
    fn veritysetup_writes_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (data, hash) = (folder.path().join("data"), folder.path().join("hash"));
        std::fs::write(&data, vec![0; 3 * 4096]).unwrap();
        let salt = format!("--salt={}", hex::encode([0xab; 20]));
        let done = Command::new("veritysetup")
            .args([
                "format",
                "--data-block-size=4096",
                "--hash-block-size=1024",
                &salt,
            ])
            .arg("--uuid=11111111-2222-3333-4444-555555555555")
            .args([&data, &hash])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        let bytes = std::fs::read(&hash).unwrap();
        assert_eq!(Superblock::parse(&bytes).unwrap(), Some(sample()));
        assert_eq!(sample().encode().unwrap(), bytes[..512]);
    }

    #[test]
    fn damage_is_named() {
        let good = sample().encode().unwrap();
        for (offset, value, error) in [
            (8, 2_u32, SuperblockError::Version(2)),
            (12, 2, SuperblockError::HashType(2)),
            (32, 0, SuperblockError::Algorithm(String::new())),
            (
                32,
                0x2f2e_2e2f,
                SuperblockError::Algorithm("/../56".to_owned()),
            ),
            (64, 0, SuperblockError::BlockSize(0)),
            (64, 1000, SuperblockError::BlockSize(1000)),
            (68, 1 << 20, SuperblockError::BlockSize(1 << 20)),
            (80, 257, SuperblockError::Salt(257)),
            (
                76,
                u32::MAX,
                SuperblockError::DataSize {
                    blocks: 0xffff_ffff_0000_0003,
                    size: 4096,
                },
            ),
        ] {
            let mut bytes = good;
            bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
            assert_eq!(Superblock::parse(&bytes), Err(error));
        }
    }

    #[test]
    fn what_is_not_ours_is_no_failure() {
        let good = sample().encode().unwrap();
        assert_eq!(Superblock::parse(&good[..511]), Ok(None));
        assert_eq!(Superblock::parse(&[0; 512]), Ok(None));
        assert_eq!(Superblock::parse(&[]), Ok(None));
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
        let mut long = sample();
        long.salt = vec![0; 257];
        assert_eq!(long.encode(), Err(SuperblockError::Salt(257)));
        let mut named = sample();
        named.algorithm = "x".repeat(32);
        assert!(matches!(named.encode(), Err(SuperblockError::Algorithm(_))));
    }
}
