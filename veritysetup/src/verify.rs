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
    let checker = Checker {
        levels: &levels,
        params,
        hash,
        root,
    };
    for level in (0..levels.levels().len()).rev() {
        checker.level(level, |bad| Err(checker.error(bad)))?;
    }
    checker.data(data, threads, |bad| Err(checker.error(bad)))
}

/// Holds blocks against the tree above them, which must have been checked before.
pub(crate) struct Checker<'a> {
    pub(crate) levels: &'a Levels,
    pub(crate) params: &'a Params,
    pub(crate) hash: &'a dyn ReadAt,
    pub(crate) root: &'a RootHash,
}

/// A block that does not match.
pub(crate) struct Bad {
    /// Its level in the tree; `None` for data.
    pub(crate) level: Option<usize>,
    /// Its index within the level or data.
    pub(crate) block: u64,
    /// Where it begins on its device.
    pub(crate) offset: u64,
    /// The digest that it should have.
    pub(crate) expected: Vec<u8>,
    /// The digest that it has.
    found: Vec<u8>,
}

impl<'a> Checker<'a> {
    /// Tells of each block of a level that does not match.
    pub(crate) fn level(
        &self,
        index: usize,
        mut tell: impl FnMut(Bad) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        let level = self.levels.levels()[index];
        let hasher = Hasher::new(self.params)?;
        let mut buffer = vec![0; self.params.hash_block.in_memory()];
        let mut expected = self.digests_above(index);
        for block in 0..level.blocks {
            let offset = self.levels.offset(level, block);
            self.hash
                .read_exact_at(&mut buffer, offset)
                .map_err(|source| VerifyError::Read { offset, source })?;
            let found = hasher.digest(&buffer)?;
            let expected = expected.next()?;
            if expected != found {
                tell(Bad {
                    level: Some(index),
                    block,
                    offset,
                    expected: expected.to_vec(),
                    found,
                })?;
            }
        }
        Ok(())
    }

    /// Tells of each block of the data that does not match.
    pub(crate) fn data(
        &self,
        data: &dyn ReadAt,
        threads: NonZeroUsize,
        mut tell: impl FnMut(Bad) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        let size = self.params.algorithm.digest_size();
        let mut expected = self.leaf_digests();
        pipeline::run(self.params, data, threads, |Digests { first, bytes }| {
            for (block, found) in (first..).zip(bytes.chunks_exact(size)) {
                let expected = expected.next()?;
                if expected != found {
                    tell(Bad {
                        level: None,
                        block,
                        offset: block * self.params.data_block.get(),
                        expected: expected.to_vec(),
                        found: found.to_vec(),
                    })?;
                }
            }
            Ok(())
        })
    }

    fn error(&self, bad: Bad) -> VerifyError {
        let Bad { block, offset, .. } = bad;
        let above = bad.level.map_or(0, |level| level + 1);
        match bad.level {
            _ if above == self.levels.levels().len() => VerifyError::RootHash {
                expected: self.root.clone(),
                found: RootHash::new(bad.found),
            },
            None => VerifyError::DataBlock { block, offset },
            Some(level) => VerifyError::TreeBlock {
                level,
                block,
                offset,
            },
        }
    }

    fn leaf_digests(&self) -> Expected<'a> {
        Expected::new(self, self.levels.levels().first().copied())
    }

    fn digests_above(&self, index: usize) -> Expected<'a> {
        Expected::new(self, self.levels.levels().get(index + 1).copied())
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
