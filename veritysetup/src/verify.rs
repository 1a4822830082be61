//! Checks data and hash tree against a root hash, in whole, without the kernel.
//!
//! The tree is checked from its top down, then all data against the leaves that are now trusted: so
//! the first bad block can be named.

use std::io;
use std::num::NonZeroUsize;

use crate::hasher::{HashError, Hasher};
use crate::io::ReadAt;
use crate::levels::{Level, Levels};
use crate::params::{Params, ParamsError, RootHash};
use crate::pipeline::{self, DataError, Digests};

/// Why data and tree are not what the root hash stands for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no such tree.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The data could not be read or hashed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The tree could not be read.
    #[error("cannot read the hash tree at byte {offset}")]
    Read {
        /// Where, from the start of the hash device.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The top of the tree has another hash.
    #[error("the data or tree is not that of root hash {expected}: it has {found}")]
    RootHash {
        /// The root hash that was asked for.
        expected: RootHash,
        /// That of the tree's top block.
        found: RootHash,
    },
    /// A block of the tree does not match.
    #[error("hash tree block {block} (level {level}, byte {offset}) is corrupted")]
    TreeBlock {
        /// Its level, 0 = leaves.
        level: usize,
        /// Its index within the level.
        block: u64,
        /// Where it begins on the hash device.
        offset: u64,
    },
    /// A data block does not match.
    #[error("data block {block} (byte {offset}) is corrupted")]
    DataBlock {
        /// Its index.
        block: u64,
        /// Where it begins.
        offset: u64,
    },
}

impl From<HashError> for VerifyError {
    fn from(error: HashError) -> Self {
        Self::Data(error.into())
    }
}

/// Reads everything and returns whether it is what `root` stands for.
///
/// The superblock is not looked at: `params` says what it would.
pub fn verify(
    params: &Params,
    data: &dyn ReadAt,
    hash: &dyn ReadAt,
    root: &RootHash,
    threads: NonZeroUsize,
) -> Result<(), VerifyError> {
    let levels = Levels::new(params)?;
    let mut checker = Checker {
        hasher: Hasher::new(params)?,
        levels: &levels,
        params,
        hash,
        root,
    };
    for level in (0..levels.levels().len()).rev() {
        checker.level(level)?;
    }
    checker.data(data, threads)
}

struct Checker<'a> {
    hasher: Hasher,
    levels: &'a Levels,
    params: &'a Params,
    hash: &'a dyn ReadAt,
    root: &'a RootHash,
}

impl<'a> Checker<'a> {
    /// Checks each block of a level against the level above, which was checked before.
    fn level(&mut self, index: usize) -> Result<(), VerifyError> {
        let level = self.levels.levels()[index];
        let mut block = vec![0; self.params.hash_block.in_memory()];
        let mut expected = self.digests_above(index);
        for at in 0..level.blocks {
            let offset = self.levels.offset(level, at);
            self.hash
                .read_exact_at(&mut block, offset)
                .map_err(|source| VerifyError::Read { offset, source })?;
            let digest = self.hasher.digest(&block)?;
            if expected.next()? == digest {
                continue;
            }
            return Err(match index + 1 == self.levels.levels().len() {
                true => self.wrong_root(digest),
                false => VerifyError::TreeBlock {
                    level: index,
                    block: at,
                    offset,
                },
            });
        }
        Ok(())
    }

    fn data(&mut self, data: &dyn ReadAt, threads: NonZeroUsize) -> Result<(), VerifyError> {
        let size = self.params.algorithm.digest_size();
        let mut expected = self.leaf_digests();
        pipeline::run(self.params, data, threads, |Digests { first, bytes }| {
            for (block, digest) in (first..).zip(bytes.chunks_exact(size)) {
                if expected.next()? != digest {
                    return Err(match self.levels.levels().is_empty() {
                        true => self.wrong_root(digest.to_vec()),
                        false => VerifyError::DataBlock {
                            block,
                            offset: block * self.params.data_block.get(),
                        },
                    });
                }
            }
            Ok(())
        })
    }

    fn leaf_digests(&self) -> Expected<'a> {
        Expected::new(self, self.levels.levels().first().copied())
    }

    fn digests_above(&self, index: usize) -> Expected<'a> {
        Expected::new(self, self.levels.levels().get(index + 1).copied())
    }

    fn wrong_root(&self, found: Vec<u8>) -> VerifyError {
        VerifyError::RootHash {
            expected: self.root.clone(),
            found: RootHash::new(found),
        }
    }
}

/// The digests that a level stores, one after the other; above the top there is the root hash.
struct Expected<'a> {
    hash: &'a dyn ReadAt,
    levels: &'a Levels,
    level: Option<Level>,
    digest_size: usize,
    block: Vec<u8>,
    read: u64,
    used: usize,
}

impl<'a> Expected<'a> {
    fn new(checker: &Checker<'a>, level: Option<Level>) -> Self {
        let digests_per_block = checker.levels.digests_per_block();
        let (block, used) = match level {
            Some(_) => (
                vec![0; checker.params.hash_block.in_memory()],
                digests_per_block,
            ),
            None => (checker.root.as_bytes().to_vec(), 0),
        };
        Self {
            hash: checker.hash,
            levels: checker.levels,
            level,
            digest_size: checker.params.algorithm.digest_size(),
            block,
            read: 0,
            used,
        }
    }

    fn next(&mut self) -> Result<&[u8], VerifyError> {
        if let Some(level) = self.level
            && self.used == self.levels.digests_per_block()
        {
            let offset = self.levels.offset(level, self.read);
            self.hash
                .read_exact_at(&mut self.block, offset)
                .map_err(|source| VerifyError::Read { offset, source })?;
            self.read += 1;
            self.used = 0;
        }
        if self.level.is_none() {
            return Ok(&self.block);
        }
        let at = self.used * self.levels.digest_slot();
        self.used += 1;
        Ok(&self.block[at..at + self.digest_size])
    }
}
