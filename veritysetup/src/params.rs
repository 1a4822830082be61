//! What decides a hash tree: algorithm, block sizes, salt, number of data blocks. Pure.

use std::fmt;
use std::str::FromStr;

use image_specs::units::Bytes;
pub use image_specs::verity::HashType;
use image_specs::verity::Superblock;
use uuid::Uuid;

use crate::algorithm::{HashAlgorithm, UnknownHash};

/// All that decides the bytes of a superblock and hash tree, beside the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// How salt and block are put together, and how digests are packed.
    pub hash_type: HashType,
    /// The hash.
    pub algorithm: HashAlgorithm,
    /// Size of the blocks that are hashed.
    pub data_block: BlockSize,
    /// Size of the tree's blocks.
    pub hash_block: BlockSize,
    /// How many data blocks the tree covers.
    pub data_blocks: u64,
    /// What is hashed along with each block.
    pub salt: Salt,
    /// The UUID of the superblock; `None` for a tree without one.
    pub superblock: Option<Uuid>,
    /// Where the superblock (or, without one, the tree) begins on the hash device.
    pub hash_offset: Bytes,
}

/// Size of a block: a power of two from 512 bytes to 512 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockSize(u32);

/// Up to 256 bytes that are hashed along with each block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salt(Vec<u8>);

/// The hash that stands for all data blocks.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RootHash(Vec<u8>);

/// Parameters that no hash tree can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// The block size is not allowed.
    #[error("verity block size {0} is not a power of two from 512 to 524288 bytes")]
    BlockSize(u64),
    /// The salt is too long.
    #[error("verity salt has {0} bytes; at most 256 are possible")]
    SaltSize(usize),
    /// The salt is no hex text.
    #[error("verity salt {0:?} is not hex digits, and not '-' for none")]
    Salt(String),
    /// The root hash is no hex text of a sensible length.
    #[error("root hash {0:?} is not an even number of hex digits (at least 32)")]
    RootHash(String),
    /// The superblock names a hash that is not known here.
    #[error(transparent)]
    Hash(#[from] UnknownHash),
    /// There is no data.
    #[error("there is no data to hash; a verity data partition needs at least one block")]
    NoData,
    /// The data does not end with a block.
    #[error("data of {size} bytes is not a multiple of the verity data block size {block}")]
    Unaligned {
        /// Bytes of data.
        size: u64,
        /// Bytes in a data block.
        block: u64,
    },
    /// A hash block holds fewer than two digests.
    #[error("hash blocks of {block} bytes cannot hold two digests of {digest} bytes")]
    Fanout {
        /// Bytes in a hash block.
        block: u64,
        /// Bytes in a digest.
        digest: usize,
    },
    /// The offset is no multiple of 512.
    #[error("hash offset {0} is not a multiple of 512")]
    HashOffset(u64),
    /// Sizes or positions pass 2⁶⁴.
    #[error("hash tree for {0} data blocks is too large")]
    TooLarge(u64),
}

impl Params {
    /// The usual tree (SHA-256, type 1, with superblock at offset 0) for all of `data` bytes.
    pub fn for_data(
        data: Bytes,
        (data_block, hash_block): (BlockSize, BlockSize),
        salt: Salt,
        uuid: Uuid,
    ) -> Result<Self, ParamsError> {
        if !data.is_multiple_of(data_block.get()) {
            return Err(ParamsError::Unaligned {
                size: data.get(),
                block: data_block.get(),
            });
        }
        Ok(Self {
            hash_type: HashType::Normal,
            algorithm: HashAlgorithm::Sha256,
            data_block,
            hash_block,
            data_blocks: data.get() / data_block.get(),
            salt,
            superblock: Some(uuid),
            hash_offset: Bytes::ZERO,
        })
    }

    /// The parameters that a superblock at the start of a hash device asks for.
    pub fn from_superblock(superblock: &Superblock) -> Result<Self, ParamsError> {
        Ok(Self {
            hash_type: superblock.hash_type,
            algorithm: superblock.algorithm.parse()?,
            data_block: BlockSize::new(superblock.data_block.into())?,
            hash_block: BlockSize::new(superblock.hash_block.into())?,
            data_blocks: superblock.data_blocks,
            salt: Salt::new(superblock.salt.as_slice())?,
            superblock: Some(superblock.uuid),
            hash_offset: Bytes::ZERO,
        })
    }

    /// The superblock that says all this; `None` for a tree without one.
    pub fn to_superblock(&self) -> Option<Superblock> {
        Some(Superblock {
            hash_type: self.hash_type,
            uuid: self.superblock?,
            algorithm: self.algorithm.name().to_owned(),
            data_block: self.data_block.0,
            hash_block: self.hash_block.0,
            data_blocks: self.data_blocks,
            salt: self.salt.0.clone(),
        })
    }
}

impl BlockSize {
    /// 4096 bytes, the default.
    pub const DEFAULT: Self = Self(4096);

    /// A block of `bytes`.
    pub fn new(bytes: u64) -> Result<Self, ParamsError> {
        u32::try_from(bytes)
            .ok()
            .filter(|size| size.is_power_of_two() && (512..=512 * 1024).contains(size))
            .map(Self)
            .ok_or(ParamsError::BlockSize(bytes))
    }

    /// Bytes in a block.
    pub const fn get(self) -> u64 {
        self.0 as u64
    }

    /// Bytes in a block, as a length in memory.
    pub(crate) const fn in_memory(self) -> usize {
        self.0 as usize
    }
}

impl Salt {
    /// Takes up to 256 bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, ParamsError> {
        let bytes = bytes.into();
        if bytes.len() > 256 {
            return Err(ParamsError::SaltSize(bytes.len()));
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Salt {
    type Err = ParamsError;

    /// Parses hex digits, or `-` for no salt.
    fn from_str(text: &str) -> Result<Self, ParamsError> {
        if text == "-" {
            return Ok(Self::default());
        }
        let bytes = hex::decode(text).map_err(|_| ParamsError::Salt(text.to_owned()))?;
        Self::new(bytes)
    }
}

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => f.write_str("-"),
            false => f.write_str(&hex::encode(&self.0)),
        }
    }
}

impl RootHash {
    /// Takes a digest.
    pub fn new(digest: impl Into<Vec<u8>>) -> Self {
        Self(digest.into())
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for RootHash {
    type Err = ParamsError;

    /// Parses at least 16 bytes of hex digits.
    fn from_str(text: &str) -> Result<Self, ParamsError> {
        match hex::decode(text) {
            Ok(bytes) if bytes.len() >= 16 => Ok(Self(bytes)),
            _ => Err(ParamsError::RootHash(text.to_owned())),
        }
    }
}

impl fmt::Display for RootHash {
    /// Lower-case hex digits: also the text that is signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(&self.0))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sizes_are_powers_of_two_in_range() {
        for good in [512, 1024, 4096, 512 * 1024] {
            assert_eq!(BlockSize::new(good).map(BlockSize::get), Ok(good));
        }
        for bad in [0, 1, 256, 3072, 1 << 20, u64::MAX] {
            assert_eq!(BlockSize::new(bad), Err(ParamsError::BlockSize(bad)));
        }
    }

    #[test]
    fn salts_are_hex_or_a_dash() {
        assert_eq!("-".parse::<Salt>().unwrap().as_bytes(), b"");
        assert_eq!("00FF".parse::<Salt>().unwrap().to_string(), "00ff");
        assert_eq!(Salt::default().to_string(), "-");
        for bad in ["0", "xy", "0x00", &"00".repeat(257)] {
            assert!(bad.parse::<Salt>().is_err(), "{bad}");
        }
    }

    #[test]
    fn root_hashes_have_sixteen_bytes_or_more() {
        let text = "00112233445566778899aabbccddeeff";
        assert_eq!(text.parse::<RootHash>().unwrap().to_string(), text);
        for bad in ["", "0011", &text[1..], &format!("{text}\n")] {
            assert!(bad.parse::<RootHash>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn data_must_be_whole_blocks() {
        let sizes = (BlockSize::DEFAULT, BlockSize::DEFAULT);
        let params =
            |bytes| Params::for_data(Bytes::new(bytes), sizes, Salt::default(), Uuid::nil());
        assert_eq!(params(8192).unwrap().data_blocks, 2);
        assert!(matches!(params(8191), Err(ParamsError::Unaligned { .. })));
    }
}
