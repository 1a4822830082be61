//! Which blocks are in which code words, and where their parity lies. Pure.
//!
//! Protected are the data blocks and, behind them, the hash device from the tree's first block to
//! its end (or to the parity that is on the same device). Symbol i of the code words of round n is in
//! block i · rounds + n, so that neighbouring blocks are in different code words; each byte of a block
//! is in a code word of its own. Blocks past the end count as zeros.

use image_specs::units::Bytes;

use super::code::WORD;
use crate::levels::Levels;
use crate::params::{Params, ParamsError};

/// Parity bytes in a code word: 2 to 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roots(u8);

/// What is protected, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(super) roots: Roots,
    pub(super) block: u64,
    /// How many blocks of data are protected.
    pub(super) data_blocks: u64,
    /// The byte of the hash device where protection begins.
    pub(super) tree_start: u64,
    /// All protected blocks, of data and tree.
    pub(super) blocks: u64,
    pub(super) rounds: u64,
}

/// No parity has this shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The number of roots is out of range.
    #[error("{0} parity bytes in a code word are not possible, only 2 to 24")]
    Roots(u64),
    /// Data and tree have blocks of different sizes.
    #[error("error correction needs data and hash blocks of one size, not {data} and {hash} bytes")]
    BlockSizes {
        /// Bytes in a data block.
        data: u64,
        /// Bytes in a hash block.
        hash: u64,
    },
    /// No hash tree has these parameters.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The hash device (or the space in front of the parity) ends within the tree.
    #[error("the hash tree ends at byte {tree}, behind the end of what is protected ({end})")]
    Short {
        /// Where the tree ends.
        tree: u64,
        /// Where protection ends.
        end: u64,
    },
}

impl Roots {
    /// Every possible number.
    pub const ALL: std::ops::RangeInclusive<u64> = 2..=24;

    /// 2, the default.
    pub const DEFAULT: Self = Self(2);

    /// `count` parity bytes in each code word of 255 bytes.
    pub fn new(count: u64) -> Result<Self, LayoutError> {
        let roots = u8::try_from(count).ok();
        roots
            .filter(|_| Self::ALL.contains(&count))
            .map(Self)
            .ok_or(LayoutError::Roots(count))
    }

    /// How many.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// How many, to count with.
    pub(super) const fn count(self) -> usize {
        self.0 as usize
    }

    /// How many blocks of parity `protected` blocks have.
    pub fn parity_blocks(self, protected: u64) -> u64 {
        let message = u64::try_from(self.message()).unwrap_or(1);
        let rounds = protected.div_ceil(message);
        rounds.saturating_mul(self.get().into())
    }

    /// Symbols of a code word that are no parity.
    pub(super) const fn message(self) -> usize {
        WORD - self.count()
    }
}

impl Layout {
    /// `hash_end` is where protection ends on the hash device: its end, or where parity begins that is
    /// on the same device.
    pub fn new(params: &Params, roots: Roots, hash_end: Bytes) -> Result<Self, LayoutError> {
        let (data, hash) = (params.data_block.get(), params.hash_block.get());
        if data != hash {
            return Err(LayoutError::BlockSizes { data, hash });
        }
        let levels = Levels::new(params)?;
        let (tree, end) = (levels.hash_size().get(), hash_end.get());
        if end < tree {
            return Err(LayoutError::Short { tree, end });
        }
        let tree_start = levels.first_block() * data;
        let blocks = params.data_blocks + (end - tree_start) / data;
        let message = WORD - roots.count();
        Ok(Self {
            roots,
            block: data,
            data_blocks: params.data_blocks,
            tree_start,
            blocks,
            rounds: blocks.div_ceil(u64::try_from(message).unwrap_or(1)),
        })
    }

    /// The same, where the hash device ends with the tree.
    pub fn of_tree(params: &Params, roots: Roots) -> Result<Self, LayoutError> {
        Self::new(params, roots, Levels::new(params)?.hash_size())
    }

    /// Bytes of parity.
    pub const fn size(&self) -> Bytes {
        Bytes::new(self.rounds * self.block * self.roots.get() as u64)
    }

    /// Where protection ends on the hash device.
    pub const fn hash_end(&self) -> Bytes {
        Bytes::new(self.tree_start + (self.blocks - self.data_blocks) * self.block)
    }

    /// How many blocks are protected: what the kernel calls `fec_blocks`.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Parity bytes in a code word.
    pub const fn roots(&self) -> Roots {
        self.roots
    }
}
