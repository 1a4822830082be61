//! Data that is checked against a hash tree as it is read, without the kernel.
//!
//! Nothing reaches the caller that the root hash does not stand for: a block of the tree is checked
//! against the one above it before it is used, data against the leaves. Checked blocks of the tree,
//! and data blocks of which only a part was asked for, are kept in bounded memory. Bytes are read once:
//! what is checked is what is handed on.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::hasher::BlockHasher;
use crate::io::ReadAt;
use crate::levels::Levels;
use crate::params::{Params, ParamsError, RootHash};
use crate::pipeline::DataError;
use crate::verify::VerifyError;

/// Bytes of tree blocks that are kept at most, and as many of data blocks (about).
const KEPT: usize = 4 << 20;

/// Bytes that are read and checked at once: few enough to still be in the second-level cache when
/// they are hashed.
const CHUNK: usize = 512 * 1024;

/// Data with its hash tree. Several threads may read it.
pub struct Verified<D, H> {
    data: D,
    hash: H,
    params: Params,
    levels: Levels,
    root: RootHash,
    data_hasher: BlockHasher,
    tree_hasher: BlockHasher,
    /// Blocks of the tree, by level and index.
    tree: Mutex<Cache<(usize, u64)>>,
    /// Blocks of the data, by index.
    parts: Mutex<Cache<u64>>,
}

impl<D, H> fmt::Debug for Verified<D, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({})", self.root)
    }
}

impl<D: ReadAt, H: ReadAt> Verified<D, H> {
    /// `data` and `hash` begin where their partitions do. The top of the tree is checked at once, so
    /// that a wrong root hash shows here.
    ///
    /// The superblock is not looked at: `params` says what it would.
    pub fn new(params: Params, data: D, hash: H, root: RootHash) -> Result<Self, VerifyError> {
        let levels = Levels::new(&params)?;
        if root.as_bytes().len() != params.algorithm.digest_size() {
            return Err(ParamsError::RootHash(root.to_string()).into());
        }
        let new = Self {
            data,
            hash,
            levels,
            root,
            data_hasher: BlockHasher::new(&params, params.data_block)?,
            tree_hasher: BlockHasher::new(&params, params.hash_block)?,
            params,
            tree: Mutex::default(),
            parts: Mutex::default(),
        };
        match new.levels.levels().len().checked_sub(1) {
            Some(top) => new.tree_block(top, 0)?,
            None => new.block(0)?,
        };
        Ok(new)
    }

    /// Bytes of data that the tree covers.
    pub fn size(&self) -> u64 {
        // Levels::new has checked that this fits.
        self.params.data_blocks * self.params.data_block.get()
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), VerifyError> {
        let block = self.params.data_block.get();
        let (mut buffer, mut offset) = (buffer, offset);
        while !buffer.is_empty() {
            let (index, within) = (offset / block, in_memory(offset % block));
            let whole = buffer.len() / in_memory(block) * in_memory(block);
            let count = if within == 0 && whole > 0 {
                let chunk = whole.min(CHUNK.max(in_memory(block)));
                self.whole(&mut buffer[..chunk], index)?;
                chunk
            } else {
                let count = buffer.len().min(in_memory(block) - within);
                buffer[..count].copy_from_slice(&self.block(index)?[within..within + count]);
                count
            };
            buffer = &mut buffer[count..];
            offset += wide(count);
        }
        Ok(())
    }

    /// Fills `buffer` with whole blocks.
    fn whole(&self, buffer: &mut [u8], first: u64) -> Result<(), VerifyError> {
        let offset = first * self.params.data_block.get();
        self.data
            .read_exact_at(buffer, offset)
            .map_err(|source| DataError::Read { offset, source })?;
        let checked = self.check(buffer, first);
        if checked.is_err() {
            // Nobody shall use it in spite of the error.
            buffer.fill(0);
        }
        checked
    }

    fn check(&self, blocks: &[u8], first: u64) -> Result<(), VerifyError> {
        let digests = self.data_hasher.digests(blocks)?;
        let digests = digests.chunks_exact(self.params.algorithm.digest_size());
        let mut leaf: Option<(u64, Arc<[u8]>)> = None;
        for (block, digest) in (first..).zip(digests) {
            if self.levels.levels().is_empty() {
                return self.check_root(digest);
            }
            let (index, at) = self.slot(block);
            let known = leaf.take().filter(|(known, _)| *known == index);
            let bytes = match known {
                Some((_, bytes)) => bytes,
                None => self.tree_block(0, index)?,
            };
            if bytes[at..at + digest.len()] != *digest {
                return Err(VerifyError::DataBlock {
                    block,
                    offset: block * self.params.data_block.get(),
                });
            }
            leaf = Some((index, bytes));
        }
        Ok(())
    }

    /// A data block that was checked.
    fn block(&self, index: u64) -> Result<Arc<[u8]>, VerifyError> {
        if let Some(known) = lookup(&self.parts, index) {
            return Ok(known);
        }
        let mut bytes = vec![0; in_memory(self.params.data_block.get())];
        self.whole(&mut bytes, index)?;
        Ok(keep(&self.parts, index, bytes))
    }

    /// A block of the tree that was checked, with all that are above it.
    fn tree_block(&self, level: usize, index: u64) -> Result<Arc<[u8]>, VerifyError> {
        let (mut at, mut above) = (level, None);
        // Up to the first that is known, or over the top.
        while at < self.levels.levels().len() {
            above = lookup(&self.tree, (at, self.ancestor(level, index, at)));
            if above.is_some() {
                break;
            }
            at += 1;
        }
        while at > level || above.is_none() {
            at -= 1;
            let this = self.ancestor(level, index, at);
            above = Some(self.load(at, this, above.as_deref())?);
        }
        Ok(above.unwrap_or_default())
    }

    /// The index of the block of `at` that a block of a lower level depends on.
    fn ancestor(&self, level: usize, index: u64, at: usize) -> u64 {
        let shift = self.levels.digests_per_block().ilog2();
        (level..at).fold(index, |index, _| index >> shift)
    }

    /// Reads a block of the tree and checks it against the one above, or the root hash.
    fn load(
        &self,
        level: usize,
        index: u64,
        above: Option<&[u8]>,
    ) -> Result<Arc<[u8]>, VerifyError> {
        let offset = self.levels.offset(self.levels.levels()[level], index);
        let mut bytes = vec![0; in_memory(self.params.hash_block.get())];
        self.hash
            .read_exact_at(&mut bytes, offset)
            .map_err(|source| VerifyError::Read { offset, source })?;
        let digest = self.tree_hasher.digests(&bytes)?;
        let Some(above) = above else {
            self.check_root(&digest)?;
            return Ok(keep(&self.tree, (level, index), bytes));
        };
        let (_, at) = self.slot(index);
        if above[at..at + digest.len()] != *digest {
            return Err(VerifyError::TreeBlock {
                level,
                block: index,
                offset,
            });
        }
        Ok(keep(&self.tree, (level, index), bytes))
    }

    fn check_root(&self, digest: &[u8]) -> Result<(), VerifyError> {
        if digest == self.root.as_bytes() {
            return Ok(());
        }
        Err(VerifyError::RootHash {
            expected: self.root.clone(),
            found: RootHash::new(digest),
        })
    }

    /// Which block of the level above has the digest of a block, and where in it.
    fn slot(&self, index: u64) -> (u64, usize) {
        let count = wide(self.levels.digests_per_block());
        let at = in_memory(index % count) * self.levels.digest_slot();
        (index / count, at)
    }
}

impl<D: ReadAt, H: ReadAt> ReadAt for Verified<D, H> {
    /// Fails with a [`VerifyError`] as the source if the data or the tree is not what the root hash
    /// stands for.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(wide(buffer.len()));
        if end.is_none_or(|end| end > self.size()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read(buffer, offset).map_err(|error| {
            let kind = match &error {
                VerifyError::Read { source, .. }
                | VerifyError::Data(DataError::Read { source, .. }) => source.kind(),
                _ => io::ErrorKind::InvalidData,
            };
            io::Error::new(kind, error)
        })
    }
}

/// Blocks in two generations: when the young one is full, the old one is dropped.
#[derive(Debug)]
struct Cache<K> {
    young: HashMap<K, Arc<[u8]>>,
    old: HashMap<K, Arc<[u8]>>,
    /// Bytes in the young generation.
    used: usize,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            used: 0,
        }
    }
}

impl<K: Copy + Eq + std::hash::Hash> Cache<K> {
    fn insert(&mut self, key: K, bytes: Arc<[u8]>) {
        if self.used > KEPT / 2 {
            self.old = std::mem::take(&mut self.young);
            self.used = 0;
        }
        self.used += bytes.len();
        self.young.insert(key, bytes);
    }
}

fn lookup<K: Copy + Eq + std::hash::Hash>(cache: &Mutex<Cache<K>>, key: K) -> Option<Arc<[u8]>> {
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cache.young.get(&key) {
        return Some(Arc::clone(known));
    }
    let known = cache.old.remove(&key)?;
    cache.insert(key, Arc::clone(&known));
    Some(known)
}

fn keep<K: Copy + Eq + std::hash::Hash>(
    cache: &Mutex<Cache<K>>,
    key: K,
    bytes: Vec<u8>,
) -> Arc<[u8]> {
    let bytes: Arc<[u8]> = bytes.into();
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    cache.insert(key, Arc::clone(&bytes));
    bytes
}

/// Of something that is smaller than a block.
fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::thread;

    use image_specs::units::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::algorithm::HashAlgorithm;
    use crate::params::{BlockSize, HashType, Salt};
    use crate::{tree, verify};

    struct Sample {
        params: Params,
        data: Vec<u8>,
        hash: Vec<u8>,
        root: RootHash,
    }

    impl Sample {
        fn new(blocks: u64, (data, hash): (u64, u64), algorithm: HashAlgorithm) -> Self {
            let params = Params {
                hash_type: HashType::Normal,
                algorithm,
                data_block: BlockSize::new(data).unwrap(),
                hash_block: BlockSize::new(hash).unwrap(),
                data_blocks: blocks,
                salt: Salt::new(b"salt".to_vec()).unwrap(),
                superblock: None,
                hash_offset: Bytes::ZERO,
            };
            let bytes = in_memory(blocks * data);
            let step = |index: usize| (index / 3 % 251).to_le_bytes()[0] & 0x7f;
            let mut data: Vec<u8> = (0..bytes).map(step).collect();
            // Some blocks are holes.
            data[bytes / 3..bytes / 2].fill(0);
            let mut hash = Vec::new();
            let one = NonZeroUsize::MIN;
            let root = tree::build(&params, &data, &mut hash, one).unwrap();
            Self {
                params,
                data,
                hash,
                root,
            }
        }

        fn open(&self) -> Result<Verified<&[u8], &[u8]>, VerifyError> {
            Verified::new(
                self.params.clone(),
                &self.data[..],
                &self.hash[..],
                self.root.clone(),
            )
        }
    }

    fn cause(error: &io::Error) -> &VerifyError {
        let source = error.get_ref().unwrap();
        source.downcast_ref().unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        for (blocks, sizes, algorithm) in [
            (1, (4096, 4096), HashAlgorithm::Sha256),
            (2, (512, 4096), HashAlgorithm::Sha512),
            (600, (1024, 1024), HashAlgorithm::Sha1),
            (3000, (4096, 1024), HashAlgorithm::Sha256),
            (5000, (512, 512), HashAlgorithm::Sha256),
        ] {
            let sample = Sample::new(blocks, sizes, algorithm);
            let verified = sample.open().unwrap();
            let mut all = vec![1; sample.data.len()];
            thread::scope(|scope| {
                for part in 0..3_u64 {
                    let verified = &verified;
                    let expected = &sample.data;
                    scope.spawn(move || {
                        let mut all = vec![1; expected.len()];
                        for (index, chunk) in all.chunks_mut(1000).enumerate() {
                            let at = u64::try_from(index).unwrap() * 1000;
                            if at % 3 == part {
                                verified.read_exact_at(chunk, at).unwrap();
                                assert!(*chunk == expected[in_memory(at)..][..chunk.len()]);
                            }
                        }
                    });
                }
            });
            verified.read_exact_at(&mut all, 0).unwrap();
            assert!(all == sample.data, "{blocks}");
            let end = verified.read_exact_at(&mut [0; 2], verified.size() - 1);
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert!(verified.read_exact_at(&mut [0; 2], u64::MAX).is_err());
        }
    }

    #[test]
    fn damage_is_named() {
        let sizes = (1024, 1024);
        let whole = || Sample::new(2000, sizes, HashAlgorithm::Sha256);
        let read = |sample: &Sample, at: u64| -> io::Error {
            let mut buffer = [7; 3000];
            let error = sample.open().unwrap().read_exact_at(&mut buffer, at);
            assert!(!buffer.contains(&0xff), "damage was handed on");
            error.unwrap_err()
        };
        let mut sample = whole();
        sample.data[5000] = 0xff;
        assert!(matches!(
            cause(&read(&sample, 4000)),
            VerifyError::DataBlock {
                block: 4,
                offset: 4096
            }
        ));
        // Elsewhere there is no harm.
        let mut buffer = [0; 4096];
        sample
            .open()
            .unwrap()
            .read_exact_at(&mut buffer, 0)
            .unwrap();

        let levels = Levels::new(&sample.params).unwrap();
        let mut sample = whole();
        let leaf = levels.levels()[0];
        let offset = levels.offset(leaf, 3);
        sample.hash[in_memory(offset)] ^= 1;
        let error = read(&sample, 3 * 32 * 1024);
        assert!(matches!(
            cause(&error),
            VerifyError::TreeBlock { level: 0, block: 3, offset: at } if *at == offset
        ));

        let mut sample = whole();
        sample.hash[0] ^= 1;
        assert!(matches!(sample.open(), Err(VerifyError::RootHash { .. })));
        let mut sample = whole();
        sample.root = RootHash::new([0; 32]);
        assert!(matches!(sample.open(), Err(VerifyError::RootHash { .. })));
        sample.root = RootHash::new([0; 20]);
        assert!(matches!(sample.open(), Err(VerifyError::Params(_))));
        let mut sample = whole();
        sample.hash.truncate(10);
        assert!(matches!(
            sample.open(),
            Err(VerifyError::Read { offset: 0, .. })
        ));
        let mut sample = whole();
        sample.hash.truncate(sample.hash.len() - 1024);
        let last = sample.data.len() - 3000;
        let error = read(&sample, u64::try_from(last).unwrap());
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(matches!(cause(&error), VerifyError::Read { .. }));
        let mut sample = whole();
        sample.data.truncate(1024);
        assert!(matches!(
            cause(&read(&sample, 0)),
            VerifyError::Data(DataError::Read { .. })
        ));
        let mut sample = whole();
        sample.params.data_blocks = 1 << 60;
        assert!(matches!(sample.open(), Err(VerifyError::Params(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_fails_where_verify_fails(
            blocks in 1_u64..200,
            place in any::<prop::sample::Index>(),
            in_tree in any::<bool>(),
            flip in 0_u8..=255,
            chunk in 1_usize..5000,
        ) {
            let mut sample = Sample::new(blocks, (512, 512), HashAlgorithm::Sha256);
            let target = if in_tree { &mut sample.hash } else { &mut sample.data };
            if !target.is_empty() {
                let place = place.index(target.len());
                target[place] ^= flip;
            }
            let Sample { params, data, hash, root } = &sample;
            let one = NonZeroUsize::MIN;
            let expected = verify::verify(params, data, hash, root, one);
            let found = sample.open().map_err(io::Error::other).and_then(|verified| {
                let mut all = vec![0; data.len()];
                for (index, part) in all.chunks_mut(chunk).enumerate() {
                    verified.read_exact_at(part, u64::try_from(index * chunk).unwrap())?;
                }
                assert!(all == *data);
                Ok(())
            });
            match (expected, found) {
                (Ok(()), Ok(())) => (),
                (Err(expected), Err(found)) => {
                    prop_assert_eq!(expected.to_string(), cause(&found).to_string());
                }
                (expected, found) => prop_assert!(false, "{:?} {:?}", expected, found),
            }
        }
    }
}
