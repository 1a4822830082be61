//! Builds superblock and hash tree in one pass over the data.
//!
//! Each level keeps one block in memory: when it is full, it is written to its place and its digest
//! goes to the level above. Beside these there are only the workers' buffers.

use std::io;
use std::num::NonZeroUsize;

use image_specs::verity::SuperblockError;

use crate::hasher::{HashError, Hasher};
use crate::io::{ReadAt, WriteAt};
use crate::levels::{Level, Levels};
use crate::params::{Params, ParamsError, RootHash};
use crate::pipeline::{self, DataError};

/// Why a tree could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no such tree.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// There is no superblock that says so.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// The data could not be read or hashed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The tree could not be written.
    #[error("cannot write the hash tree at byte {offset}")]
    Write {
        /// Where, from the start of the hash device.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

impl From<HashError> for BuildError {
    fn from(error: HashError) -> Self {
        Self::Data(error.into())
    }
}

/// Hashes `data` with `threads` threads, writes superblock and tree, and returns the root hash.
///
/// `hash` needs [`Levels::hash_size`] bytes; each of them from the superblock on is written once.
pub fn build(
    params: &Params,
    data: &dyn ReadAt,
    hash: &mut dyn WriteAt,
    threads: NonZeroUsize,
) -> Result<RootHash, BuildError> {
    let levels = Levels::new(params)?;
    let mut tree = Tree::new(params, &levels, hash)?;
    tree.write_superblock(params)?;
    let digest_size = params.algorithm.digest_size();
    pipeline::run(params, data, threads, |digests| {
        digests
            .bytes
            .chunks_exact(digest_size)
            .try_for_each(|digest| tree.push(0, digest))
    })?;
    tree.finish()
}

struct Tree<'a> {
    hash: &'a mut dyn WriteAt,
    hasher: Hasher,
    levels: &'a Levels,
    growing: Vec<Growing>,
    root: Vec<u8>,
}

/// A level while it is built.
struct Growing {
    level: Level,
    /// The block that is being filled.
    block: Vec<u8>,
    /// How many digests it holds.
    filled: usize,
    /// How many blocks are written.
    written: u64,
}

impl<'a> Tree<'a> {
    fn new(
        params: &Params,
        levels: &'a Levels,
        hash: &'a mut dyn WriteAt,
    ) -> Result<Self, HashError> {
        let growing = levels.levels().iter().map(|level| Growing {
            level: *level,
            block: vec![0; params.hash_block.in_memory()],
            filled: 0,
            written: 0,
        });
        Ok(Self {
            hash,
            hasher: Hasher::new(params)?,
            levels,
            growing: growing.collect(),
            root: Vec::new(),
        })
    }

    fn write_superblock(&mut self, params: &Params) -> Result<(), BuildError> {
        let Some(superblock) = params.to_superblock() else {
            return Ok(());
        };
        let offset = params.hash_offset.get();
        // A superblock in the middle of a block leaves what is before it alone.
        let end = self.levels.first_block() * params.hash_block.get();
        let mut bytes = superblock.encode()?.to_vec();
        bytes.resize(usize::try_from(end - offset).unwrap_or(bytes.len()), 0);
        self.write(&bytes, offset)
    }

    /// Adds a digest to a level; the one that no level takes is the root hash.
    fn push(&mut self, level: usize, digest: &[u8]) -> Result<(), BuildError> {
        let Some(growing) = self.growing.get_mut(level) else {
            self.root = digest.to_vec();
            return Ok(());
        };
        let at = growing.filled * self.levels.digest_slot();
        growing.block[at..at + digest.len()].copy_from_slice(digest);
        growing.filled += 1;
        if growing.filled == self.levels.digests_per_block() {
            self.close(level)?;
        }
        Ok(())
    }

    /// Writes a level's block and begins its next.
    fn close(&mut self, level: usize) -> Result<(), BuildError> {
        let growing = &mut self.growing[level];
        let offset = self.levels.offset(growing.level, growing.written);
        growing.written += 1;
        growing.filled = 0;
        let digest = self.hasher.digest(&growing.block)?;
        self.hash
            .write_all_at(&growing.block, offset)
            .map_err(|source| BuildError::Write { offset, source })?;
        growing.block.fill(0);
        self.push(level + 1, &digest)
    }

    /// Writes the blocks that did not become full, from the leaves up.
    fn finish(mut self) -> Result<RootHash, BuildError> {
        for level in 0..self.growing.len() {
            if self.growing[level].filled > 0 {
                self.close(level)?;
            }
        }
        Ok(RootHash::new(self.root))
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), BuildError> {
        self.hash
            .write_all_at(bytes, offset)
            .map_err(|source| BuildError::Write { offset, source })
    }
}
