//! Meta-data blocks, read as a stream: 8 KiB each, compressed, one behind the other.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use filetree::{ReadAt, ReadError};

use super::superblock::{Superblock, u16_at};
use super::{FORMAT, damaged};
use crate::ffi::Compressor;
use crate::parameters::{Algorithm, BlockSize};

/// Bytes of a meta-data block, decompressed.
pub(super) const BLOCK: usize = 8192;

/// In a block's header: it is stored as it is.
const STORED: u16 = 0x8000;

/// Decompressed blocks that are kept.
const KEPT: usize = 256;

/// What one inode may still take of memory.
#[derive(Debug)]
pub(super) struct Budget {
    all: u64,
    left: u64,
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            all: bytes,
            left: bytes,
        }
    }

    /// Takes what is about to be allocated, before it is.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), ReadError> {
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or(ReadError::Memory(self.all))?;
        Ok(())
    }
}

/// The image's bytes, within its own size, and what decompresses them. For several threads.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) image: Window,
    pub(super) decompressors: Decompressors,
    blocks: Mutex<HashMap<u64, Block>>,
}

/// The part of a file that the image is.
#[derive(Clone, Debug)]
pub(super) struct Window {
    image: Arc<dyn ReadAt>,
    size: u64,
}

#[derive(Clone, Debug)]
struct Block {
    bytes: Arc<[u8]>,
    next: u64,
}

/// A place in a stream of blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    block: u64,
    offset: usize,
}

impl Cursor {
    /// From a block's place in the image and the offset in what it decompresses to.
    pub(super) fn new(block: u64, offset: u16) -> Self {
        Self {
            block,
            offset: usize::from(offset),
        }
    }

    /// The place of the block in the image.
    pub(super) fn block(&self) -> u64 {
        self.block
    }

    /// From a reference (block offset << 16 | offset) relative to a table.
    pub(super) fn at(table: u64, reference: u64) -> Result<Self, ReadError> {
        let bytes = reference.to_le_bytes();
        let block = table
            .checked_add(reference >> 16)
            .ok_or(damaged(table, "a reference leads outside the image"))?;
        Ok(Self::new(block, u16::from_le_bytes([bytes[0], bytes[1]])))
    }
}

impl Window {
    /// Reads from a place of the image.
    pub(super) fn read(&self, buffer: &mut [u8], at: u64) -> Result<(), ReadError> {
        let end = u64::try_from(buffer.len())
            .ok()
            .and_then(|length| at.checked_add(length))
            .filter(|end| *end <= self.size);
        if end.is_none() {
            return Err(damaged(at, "a place lies behind the image's end"));
        }
        self.image
            .read_exact_at(buffer, at)
            .map_err(|source| ReadError::Read {
                format: FORMAT,
                offset: at,
                source,
            })
    }
}

impl Source {
    pub(super) fn new(image: Arc<dyn ReadAt>, superblock: &Superblock) -> Result<Self, ReadError> {
        Ok(Self {
            image: Window {
                image,
                size: superblock.size,
            },
            decompressors: Decompressors::new(superblock)?,
            blocks: Mutex::default(),
        })
    }

    /// The next `N` bytes.
    pub(super) fn take<const N: usize>(&self, cursor: &mut Cursor) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.fill(cursor, &mut bytes)?;
        Ok(bytes)
    }

    /// The next `length` bytes, of which the caller has made sure that they are not too many.
    pub(super) fn bytes(&self, cursor: &mut Cursor, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; length];
        self.fill(cursor, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn fill(&self, cursor: &mut Cursor, mut buffer: &mut [u8]) -> Result<(), ReadError> {
        while !buffer.is_empty() {
            let block = self.block(cursor.block)?;
            let rest = block.bytes.get(cursor.offset..).unwrap_or_default();
            if rest.is_empty() {
                // Only a full block is followed by the rest of what it holds.
                if cursor.offset != BLOCK {
                    return Err(damaged(cursor.block, "a meta-data block is too short"));
                }
                *cursor = Cursor::new(block.next, 0);
                continue;
            }
            let length = rest.len().min(buffer.len());
            let (now, later) = buffer.split_at_mut(length);
            now.copy_from_slice(&rest[..length]);
            cursor.offset += length;
            buffer = later;
        }
        Ok(())
    }

    fn block(&self, at: u64) -> Result<Block, ReadError> {
        if let Some(block) = locked(&self.blocks).get(&at) {
            return Ok(block.clone());
        }
        let block = self.load(at)?;
        let mut blocks = locked(&self.blocks);
        if blocks.len() >= KEPT {
            blocks.clear();
        }
        blocks.insert(at, block.clone());
        Ok(block)
    }

    fn load(&self, at: u64) -> Result<Block, ReadError> {
        let mut header = [0; 2];
        self.image.read(&mut header, at)?;
        let header = u16_at(&header, 0);
        let length = usize::from(header & !STORED);
        if length == 0 || length > BLOCK {
            return Err(damaged(at, "a meta-data block has an impossible size"));
        }
        let mut stored = vec![0; length];
        // Cannot overflow: the header was read from there.
        let start = at.saturating_add(2);
        self.image.read(&mut stored, start)?;
        let next = start.saturating_add(u64::from(header & !STORED));
        if header & STORED == 0 {
            let mut bytes = vec![0; BLOCK];
            let length = self.decompressors.decompress(&stored, &mut bytes)?;
            let length = length.ok_or(damaged(at, "a meta-data block cannot be decompressed"))?;
            bytes.truncate(length);
            stored = bytes;
        }
        Ok(Block {
            bytes: stored.into(),
            next,
        })
    }
}

/// What decompresses blocks, for several threads: those that no thread uses now.
#[derive(Debug)]
pub(super) struct Decompressors {
    algorithm: Algorithm,
    block_size: BlockSize,
    idle: Mutex<Vec<Decompressor>>,
}

enum Decompressor {
    Deflate(libdeflater::Decompressor),
    Library(Compressor),
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Deflate(_) => "Deflate",
            Self::Library(_) => "Library",
        })
    }
}

impl Decompressors {
    /// Fails if there is no such decompressor.
    fn new(superblock: &Superblock) -> Result<Self, ReadError> {
        let new = Self {
            algorithm: superblock.algorithm,
            block_size: superblock.block_size,
            idle: Mutex::default(),
        };
        let first = new.decompressor()?;
        locked(&new.idle).push(first);
        Ok(new)
    }

    /// How many bytes of `output` a block gave; `None` if it is damaged or gives more.
    pub(super) fn decompress(
        &self,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<Option<usize>, ReadError> {
        let idle = locked(&self.idle).pop();
        let mut decompressor = match idle {
            Some(idle) => idle,
            None => self.decompressor()?,
        };
        let length = match &mut decompressor {
            Decompressor::Deflate(deflate) => deflate.zlib_decompress(input, output).ok(),
            Decompressor::Library(library) => library.decompress(input, output).ok(),
        };
        locked(&self.idle).push(decompressor);
        Ok(length.filter(|length| *length > 0))
    }

    fn decompressor(&self) -> Result<Decompressor, ReadError> {
        if self.algorithm == Algorithm::Gzip {
            return Ok(Decompressor::Deflate(libdeflater::Decompressor::new()));
        }
        Compressor::decompressor(self.algorithm, self.block_size)
            .map(Decompressor::Library)
            .map_err(|_| ReadError::Unsupported {
                format: FORMAT,
                what: format!(
                    "libsquashfs is built without {} compression",
                    self.algorithm.name()
                ),
            })
    }
}

/// A lock that a panic elsewhere does not take from us.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
