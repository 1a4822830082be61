//! The bytes of one file system: every place checked against its size, blocks of metadata kept in a
//! small cache that threads share.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use filetree::{ReadAt, ReadError};

use super::cache::Cache;

/// Bytes of metadata that are kept at most (about).
const CACHE: usize = 4 << 20;

/// The image of a file system.
#[derive(Debug)]
pub(super) struct Source {
    image: Arc<dyn ReadAt>,
    size: u64,
    format: &'static str,
    cache: Cache<u64>,
    /// Who has which block of a map or directory.
    claims: Mutex<HashMap<u64, u64>>,
}

impl Source {
    /// `size` bytes of `image`, named `format` in errors.
    pub(super) fn new(image: Arc<dyn ReadAt>, size: u64, format: &'static str) -> Self {
        Self {
            image,
            size,
            format,
            cache: Cache::new(CACHE),
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
        self.checked_block(offset, length, |_| Ok(()))
    }

    /// The same, but only a block that passes `check` is kept, so that it is checked once.
    pub(super) fn checked_block(
        &self,
        offset: u64,
        length: usize,
        check: impl FnOnce(&[u8]) -> Result<(), ReadError>,
    ) -> Result<Arc<[u8]>, ReadError> {
        self.cache.get_or(offset, || {
            let mut block = vec![0; length];
            self.read(offset, &mut block)?;
            check(&block)?;
            Ok(block.into())
        })
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
}
