//! Where each level of a hash tree lies: the arithmetic of the on-disk format.
//!
//! The superblock comes first, then the tree, top level first, leaves last, without gaps. All is
//! counted in hash blocks. Pure.

use image_specs::units::Bytes;

use crate::params::{HashType, Params, ParamsError};

/// Bytes of the superblock itself, the rest of its block is zero.
const SUPERBLOCK_SIZE: u64 = 512;

/// The places of a tree's levels on the hash device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Leaf level first; empty where there is only one data block.
    levels: Vec<Level>,
    first_block: u64,
    end_block: u64,
    hash_block: u64,
    digests_per_block: usize,
    digest_slot: usize,
}

/// One level of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its first block, from the start of the hash device.
    pub first_block: u64,
    /// How many blocks it has.
    pub blocks: u64,
}

impl Levels {
    /// Lays the tree out.
    pub fn new(params: &Params) -> Result<Self, ParamsError> {
        if params.data_blocks == 0 {
            return Err(ParamsError::NoData);
        }
        let too_large = || ParamsError::TooLarge(params.data_blocks);
        let (digest_slot, digests_per_block) = packing(params)?;
        let first_block = first_tree_block(params)?;
        let mut levels = level_sizes(params.data_blocks, digests_per_block);
        let mut end_block = first_block;
        for level in levels.iter_mut().rev() {
            level.first_block = end_block;
            end_block = end_block.checked_add(level.blocks).ok_or_else(too_large)?;
        }
        for (blocks, size) in [
            (end_block, params.hash_block),
            (params.data_blocks, params.data_block),
        ] {
            let bytes = blocks.checked_mul(size.get());
            // Positions in files are signed.
            bytes
                .filter(|bytes| i64::try_from(*bytes).is_ok())
                .ok_or_else(too_large)?;
        }
        Ok(Self {
            levels,
            first_block,
            end_block,
            hash_block: params.hash_block.get(),
            digests_per_block,
            digest_slot,
        })
    }

    /// The levels, leaves first; none where the root hash is that of the only data block.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The tree's first block: what the kernel calls the hash start.
    pub const fn first_block(&self) -> u64 {
        self.first_block
    }

    /// How many bytes of the hash device are used, from its start to the end of the tree.
    pub const fn hash_size(&self) -> Bytes {
        Bytes::new(self.end_block * self.hash_block)
    }

    /// How many digests a hash block holds: a power of two.
    pub const fn digests_per_block(&self) -> usize {
        self.digests_per_block
    }

    /// Bytes from one digest to the next within a hash block.
    pub const fn digest_slot(&self) -> usize {
        self.digest_slot
    }

    /// The byte where block `index` of `level` begins, which must be one of [`Self::levels`].
    pub(crate) const fn offset(&self, level: Level, index: u64) -> u64 {
        (level.first_block + index) * self.hash_block
    }
}

/// The distance between digests, and how many a block holds.
fn packing(params: &Params) -> Result<(usize, usize), ParamsError> {
    let digest = params.algorithm.digest_size();
    let slot = match params.hash_type {
        HashType::ChromeOs => digest,
        HashType::Normal => digest.next_power_of_two(),
    };
    let fit = params.hash_block.in_memory() / slot;
    if fit < 2 {
        return Err(ParamsError::Fanout {
            block: params.hash_block.get(),
            digest,
        });
    }
    Ok((slot, 1 << fit.ilog2()))
}

fn first_tree_block(params: &Params) -> Result<u64, ParamsError> {
    let offset = params.hash_offset.get();
    if !offset.is_multiple_of(512) {
        return Err(ParamsError::HashOffset(offset));
    }
    if params.superblock.is_none() {
        return Ok(offset / params.hash_block.get());
    }
    offset
        .checked_add(SUPERBLOCK_SIZE)
        .map(|end| end.div_ceil(params.hash_block.get()))
        .ok_or(ParamsError::HashOffset(offset))
}

/// The levels with their sizes, leaves first, not yet placed.
fn level_sizes(data_blocks: u64, digests_per_block: usize) -> Vec<Level> {
    let shift = digests_per_block.ilog2();
    let mut levels = Vec::new();
    let mut below = data_blocks;
    while below > 1 {
        below = ((below - 1) >> shift) + 1;
        levels.push(Level {
            first_block: 0,
            blocks: below,
        });
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::HashAlgorithm;
    use crate::params::{BlockSize, Salt};
    use uuid::Uuid;

    fn params(data_blocks: u64) -> Params {
        Params {
            hash_type: HashType::Normal,
            algorithm: HashAlgorithm::Sha256,
            data_block: BlockSize::DEFAULT,
            hash_block: BlockSize::DEFAULT,
            data_blocks,
            salt: Salt::default(),
            superblock: Some(Uuid::nil()),
            hash_offset: Bytes::ZERO,
        }
    }

    #[test]
    fn top_comes_first_and_leaves_last() {
        for (blocks, expected, size) in [
            (1, vec![], 4096),
            (2, vec![(1, 1)], 8192),
            (128, vec![(1, 1)], 8192),
            (129, vec![(2, 2), (1, 1)], 16384),
            (128 * 128 + 1, vec![(4, 129), (2, 2), (1, 1)], 133 * 4096),
        ] {
            let levels = Levels::new(&params(blocks)).unwrap();
            let found: Vec<_> = levels
                .levels()
                .iter()
                .map(|level| (level.first_block, level.blocks))
                .collect();
            assert_eq!(found, expected, "{blocks}");
            assert_eq!(levels.hash_size(), Bytes::new(size), "{blocks}");
        }
    }

    #[test]
    fn digests_are_packed_by_hash_type() {
        let mut params = params(10);
        params.algorithm = HashAlgorithm::Sha1;
        let levels = Levels::new(&params).unwrap();
        assert_eq!(
            (levels.digest_slot(), levels.digests_per_block()),
            (32, 128)
        );
        params.hash_type = HashType::ChromeOs;
        let levels = Levels::new(&params).unwrap();
        assert_eq!(
            (levels.digest_slot(), levels.digests_per_block()),
            (20, 128)
        );
    }

    #[test]
    fn hash_offset_moves_the_tree() {
        for (superblock, offset, first) in [
            (Some(Uuid::nil()), 0, 1),
            (Some(Uuid::nil()), 512, 1),
            (Some(Uuid::nil()), 4096, 2),
            (None, 0, 0),
            (None, 8192, 2),
        ] {
            let mut params = params(2);
            params.superblock = superblock;
            params.hash_offset = Bytes::new(offset);
            assert_eq!(Levels::new(&params).unwrap().first_block(), first);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(Levels::new(&params(0)), Err(ParamsError::NoData));
        for huge in [u64::MAX, 1 << 52, 1 << 51] {
            assert_eq!(Levels::new(&params(huge)), Err(ParamsError::TooLarge(huge)));
        }
        let mut odd = params(1);
        odd.hash_offset = Bytes::new(513);
        assert_eq!(Levels::new(&odd), Err(ParamsError::HashOffset(513)));
        odd.hash_offset = Bytes::new(u64::MAX - 511);
        assert!(Levels::new(&odd).is_err());
    }
}
