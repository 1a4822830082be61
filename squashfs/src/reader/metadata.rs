//! Meta-data blocks, read as a stream: 8 KiB each, compressed, one behind the other.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use filetree::ReadAt;

use super::ReadError;
use super::superblock::{Superblock, u16_at};
use crate::ffi::Compressor;
use crate::parameters::{Algorithm, BlockSize};

/// Bytes of a meta-data block, decompressed.
pub(super) const BLOCK: usize = 8192;

/// In a block's header: it is stored as it is.
const STORED: u16 = 0x8000;

/// Decompressed blocks that are kept.
const KEPT: usize = 256;

/// What may still be kept in memory.
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
            .ok_or(ReadError::Limit(self.all))?;
        Ok(())
    }
}

/// The image's bytes, within its own size, and its decompressor.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) image: Window,
    decompressor: Decompressor,
    blocks: HashMap<u64, Block>,
}

/// The part of a file that the image is.
#[derive(Clone, Debug)]
pub(super) struct Window {
    image: Arc<dyn ReadAt>,
    offset: u64,
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

    /// From a reference (block offset << 16 | offset) relative to a table.
    pub(super) fn at(table: u64, reference: u64) -> Result<Self, ReadError> {
        let bytes = reference.to_le_bytes();
        let block = table
            .checked_add(reference >> 16)
            .ok_or(ReadError::Damaged {
                offset: table,
                what: "a reference leads outside the image",
            })?;
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
        let place = self.offset.checked_add(at);
        let (Some(_), Some(place)) = (end, place) else {
            return Err(ReadError::Damaged {
                offset: at,
                what: "a place lies behind the image's end",
            });
        };
        self.image
            .read_exact_at(buffer, place)
            .map_err(|source| ReadError::Read { offset: at, source })
    }
}

impl Source {
    pub(super) fn new(
        image: Arc<dyn ReadAt>,
        offset: u64,
        superblock: &Superblock,
    ) -> Result<Self, ReadError> {
        Ok(Self {
            image: Window {
                image,
                offset,
                size: superblock.size,
            },
            decompressor: Decompressor::new(superblock.algorithm, superblock.block_size)?,
            blocks: HashMap::new(),
        })
    }

    /// The next `N` bytes.
    pub(super) fn take<const N: usize>(
        &mut self,
        cursor: &mut Cursor,
    ) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.fill(cursor, &mut bytes)?;
        Ok(bytes)
    }

    /// The next `length` bytes, of which the caller has made sure that they are not too many.
    pub(super) fn bytes(
        &mut self,
        cursor: &mut Cursor,
        length: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; length];
        self.fill(cursor, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn fill(
        &mut self,
        cursor: &mut Cursor,
        mut buffer: &mut [u8],
    ) -> Result<(), ReadError> {
        while !buffer.is_empty() {
            let block = self.block(cursor.block)?;
            let rest = block.bytes.get(cursor.offset..).unwrap_or_default();
            if rest.is_empty() {
                // Only a full block is followed by the rest of what it holds.
                if cursor.offset != BLOCK {
                    return Err(ReadError::Damaged {
                        offset: cursor.block,
                        what: "a meta-data block is too short",
                    });
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

    fn block(&mut self, at: u64) -> Result<Block, ReadError> {
        if let Some(block) = self.blocks.get(&at) {
            return Ok(block.clone());
        }
        let block = self.load(at)?;
        if self.blocks.len() >= KEPT {
            self.blocks.clear();
        }
        self.blocks.insert(at, block.clone());
        Ok(block)
    }

    fn load(&mut self, at: u64) -> Result<Block, ReadError> {
        let damaged = |what| ReadError::Damaged { offset: at, what };
        let mut header = [0; 2];
        self.image.read(&mut header, at)?;
        let header = u16_at(&header, 0);
        let length = usize::from(header & !STORED);
        if length == 0 || length > BLOCK {
            return Err(damaged("a meta-data block has an impossible size"));
        }
        let mut stored = vec![0; length];
        // Cannot overflow: the header was read from there.
        let start = at.saturating_add(2);
        self.image.read(&mut stored, start)?;
        let next = start.saturating_add(u64::from(header & !STORED));
        if header & STORED == 0 {
            let mut bytes = vec![0; BLOCK];
            let length = self.decompressor.decompress(&stored, &mut bytes);
            let length = length.ok_or(damaged("a meta-data block cannot be decompressed"))?;
            bytes.truncate(length);
            stored = bytes;
        }
        Ok(Block {
            bytes: stored.into(),
            next,
        })
    }
}

/// What decompresses blocks, bounded by the size of the output.
#[derive(Debug)]
pub(super) struct Decompressor(Engine);

enum Engine {
    Deflate(libdeflater::Decompressor),
    Library(Compressor),
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Deflate(_) => "Deflate",
            Self::Library(_) => "Library",
        })
    }
}

impl Decompressor {
    pub(super) fn new(algorithm: Algorithm, block_size: BlockSize) -> Result<Self, ReadError> {
        Ok(Self(match algorithm {
            Algorithm::Gzip => Engine::Deflate(libdeflater::Decompressor::new()),
            other => Compressor::decompressor(other, block_size)
                .map(Engine::Library)
                .map_err(|_| ReadError::Compression(other.name()))?,
        }))
    }

    /// How many bytes of `output` the block gave; `None` if it is damaged or gives more.
    pub(super) fn decompress(&mut self, input: &[u8], output: &mut [u8]) -> Option<usize> {
        match &mut self.0 {
            Engine::Deflate(deflate) => deflate.zlib_decompress(input, output).ok(),
            Engine::Library(library) => library.decompress(input, output).ok(),
        }
        .filter(|length| *length > 0)
    }
}
