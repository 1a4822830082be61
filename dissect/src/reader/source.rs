//! The bytes of one file system: every place checked against its size, blocks of metadata kept in a
//! small cache that threads share.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use filetree::{ReadAt, ReadError};

/// Bytes of metadata that are kept at most (about).
const CACHE: usize = 4 << 20;

/// The image of a file system.
#[derive(Debug)]
pub(super) struct Source {
    image: Arc<dyn ReadAt>,
    size: u64,
    format: &'static str,
    cache: Mutex<Cache>,
    /// Who has which block of a map or directory.
    claims: Mutex<HashMap<u64, u64>>,
}

/// Blocks by their offset, in two generations: when the young one is full, the old one is dropped.
#[derive(Debug, Default)]
struct Cache {
    young: HashMap<u64, Arc<[u8]>>,
    old: HashMap<u64, Arc<[u8]>>,
    /// Bytes in the young generation.
    used: usize,
}

impl Source {
    /// `size` bytes of `image`, named `format` in errors.
    pub(super) fn new(image: Arc<dyn ReadAt>, size: u64, format: &'static str) -> Self {
        Self {
            image,
            size,
            format,
            cache: Mutex::default(),
            claims: Mutex::default(),
        }
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` from `offset` on, past the cache: for the data of files.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let length = u64::try_from(buffer.len()).ok();
        let end = length.and_then(|length| offset.checked_add(length));
        let within = end.is_some_and(|end| end <= self.size);
        let outcome = if within {
            self.image.read_exact_at(buffer, offset)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        };
        outcome.map_err(|source| ReadError::Read {
            format: self.format,
            offset,
            source,
        })
    }

    /// A block of metadata. The same `offset` always comes with the same `length`, which the caller
    /// bounds.
    pub(super) fn block(&self, offset: u64, length: usize) -> Result<Arc<[u8]>, ReadError> {
        if let Some(block) = self.lock().get(offset) {
            return Ok(block);
        }
        let mut block = vec![0; length];
        self.read(offset, &mut block)?;
        let block: Arc<[u8]> = block.into();
        self.lock().insert(offset, &block);
        Ok(block)
    }

    /// Notes that a block of metadata belongs to an inode. It may not belong to another one, too, or a
    /// small image could be walked for ever: then the answer is `false`.
    pub(super) fn claim(&self, block: u64, owner: u64) -> bool {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        *claims.entry(block).or_insert(owner) == owner
    }

    /// The error that the file system is not as its format says.
    pub(super) fn damaged(&self, offset: u64, what: &'static str) -> ReadError {
        ReadError::Damaged {
            format: self.format,
            offset,
            what,
        }
    }

    /// The error that something is sound, but not known.
    pub(super) fn unsupported(&self, what: &str) -> ReadError {
        ReadError::Unsupported {
            format: self.format,
            what: what.to_owned(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        // A cache is whole after every step.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn get(&mut self, offset: u64) -> Option<Arc<[u8]>> {
        if let Some(block) = self.young.get(&offset) {
            return Some(Arc::clone(block));
        }
        let block = self.old.remove(&offset)?;
        self.insert(offset, &block);
        Some(block)
    }

    fn insert(&mut self, offset: u64, block: &Arc<[u8]>) {
        if self.used + block.len() > CACHE / 2 {
            self.old = std::mem::take(&mut self.young);
            self.used = 0;
        }
        if self.young.insert(offset, Arc::clone(block)).is_none() {
            self.used += block.len();
        }
    }
}
