//! The data of files, read and decompressed when it is asked for.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use filetree::ReadAt;

use super::ReadError;
use super::inode::RawFile;
use super::metadata::{Decompressor, Source, Window};
use super::superblock::Superblock;
use crate::parameters::{Algorithm, BlockSize};

/// In a block's stored size: it is not compressed.
const STORED: u32 = 1 << 24;

/// Decompressed blocks that are kept, for all files together.
const KEPT: usize = 8;

/// What all files of an image share.
#[derive(Debug)]
pub(super) struct Store {
    image: Window,
    algorithm: Algorithm,
    block_size: BlockSize,
    fragments: Vec<(u64, u32)>,
    /// Those that no thread uses now.
    decompressors: Mutex<Vec<Decompressor>>,
    /// By place, newest last.
    kept: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

/// One file's blocks.
#[derive(Debug)]
pub(super) struct File {
    store: Arc<Store>,
    size: u64,
    /// Place and stored size of each; size 0 for a hole.
    blocks: Vec<(u64, u32)>,
    /// Place, stored size, and offset within.
    tail: Option<(u64, u32, u32)>,
}

impl Store {
    pub(super) fn new(
        source: &Source,
        superblock: &Superblock,
        fragments: Vec<(u64, u32)>,
    ) -> Self {
        Self {
            image: source.image.clone(),
            algorithm: superblock.algorithm,
            block_size: superblock.block_size,
            fragments,
            decompressors: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// The bytes of a block of at most the block size.
    fn block(&self, at: u64, stored: u32) -> io::Result<Arc<[u8]>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = kept.iter().find(|(place, _)| *place == at) {
            return Ok(Arc::clone(bytes));
        }
        drop(kept);
        let bytes = self.load(at, stored)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((at, Arc::clone(&bytes)));
        Ok(bytes)
    }

    fn load(&self, at: u64, stored: u32) -> io::Result<Arc<[u8]>> {
        let length = size(stored & !STORED);
        let full = size(self.block_size.bytes());
        if length == 0 || length > full {
            return Err(damaged(at, "a data block has an impossible size"));
        }
        let mut bytes = vec![0; length];
        self.image.read(&mut bytes, at).map_err(io::Error::other)?;
        if stored & STORED != 0 {
            return Ok(bytes.into());
        }
        let mut decompressed = vec![0; full];
        let mut decompressor = self.decompressor()?;
        let length = decompressor.decompress(&bytes, &mut decompressed);
        let mut idle = self
            .decompressors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        idle.push(decompressor);
        drop(idle);
        let length = length.ok_or_else(|| damaged(at, "a data block cannot be decompressed"))?;
        decompressed.truncate(length);
        Ok(decompressed.into())
    }

    fn decompressor(&self) -> io::Result<Decompressor> {
        let mut idle = self
            .decompressors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match idle.pop() {
            Some(decompressor) => Ok(decompressor),
            None => Decompressor::new(self.algorithm, self.block_size).map_err(io::Error::other),
        }
    }
}

impl File {
    /// Checks the blocks of a file; what of it is no hole comes with it.
    pub(super) fn new(
        store: Arc<Store>,
        raw: RawFile,
    ) -> Result<(Self, Vec<Range<u64>>), ReadError> {
        let damaged = |what| ReadError::Damaged {
            offset: raw.start,
            what,
        };
        let block_size = u64::from(store.block_size.bytes());
        let mut blocks = Vec::with_capacity(raw.blocks.len());
        let mut data: Vec<Range<u64>> = Vec::new();
        let mut add = |range: Range<u64>| match data.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => data.push(range),
        };
        let (mut at, mut offset) = (raw.start, 0u64);
        for stored in raw.blocks {
            let length = stored & !STORED;
            if length > store.block_size.bytes() {
                return Err(damaged("a data block is bigger than blocks are"));
            }
            let end = offset.saturating_add(block_size).min(raw.size);
            if length > 0 {
                add(offset..end);
            }
            blocks.push((at, stored));
            at = at
                .checked_add(u64::from(length))
                .ok_or(damaged("a data block lies outside the image"))?;
            offset = end;
        }
        let tail = match raw.fragment.filter(|_| offset < raw.size) {
            Some((index, within)) => {
                let fragment = usize::try_from(index)
                    .ok()
                    .and_then(|index| store.fragments.get(index));
                let (at, stored) =
                    *fragment.ok_or(damaged("a fragment is missing in the table"))?;
                add(offset..raw.size);
                Some((at, stored, within))
            }
            None => None,
        };
        let size = raw.size;
        Ok((
            Self {
                store,
                size,
                blocks,
                tail,
            },
            data,
        ))
    }

    /// Copies from the block that holds `offset`; how many bytes it gave.
    fn part(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let block_size = u64::from(self.store.block_size.bytes());
        let index = offset / block_size;
        let begin = index * block_size;
        let length = (self.size - begin).min(block_size);
        let block = usize::try_from(index)
            .ok()
            .and_then(|index| self.blocks.get(index));
        let (at, stored, within) = match (block, self.tail) {
            (Some((at, stored)), _) => (*at, *stored, 0),
            (None, Some(tail)) => tail,
            (None, None) => return Err(damaged(0, "a file has too few blocks")),
        };
        let count = usize::try_from(length - (offset - begin))
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let buffer = &mut buffer[..count];
        if stored & !STORED == 0 && block.is_some() {
            buffer.fill(0);
            return Ok(count);
        }
        let bytes = self.store.block(at, stored)?;
        // A block of its own has the file's bytes and no others; a fragment has them somewhere.
        let own = u64::try_from(bytes.len()) == Ok(length);
        let start = usize::try_from(u64::from(within) + (offset - begin)).ok();
        let part = start
            .and_then(|start| bytes.get(start..)?.get(..count))
            .filter(|_| own || block.is_none())
            .ok_or_else(|| damaged(at, "a data block has not the size that the file says"))?;
        buffer.copy_from_slice(part);
        Ok(count)
    }
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = u64::try_from(buffer.len())
            .ok()
            .and_then(|length| offset.checked_add(length));
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut buffer, mut offset) = (buffer, offset);
        while !buffer.is_empty() {
            let count = self.part(buffer, offset)?;
            buffer = &mut buffer[count..];
            offset += u64::try_from(count).unwrap_or(0);
        }
        Ok(())
    }
}

fn size(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn damaged(offset: u64, what: &'static str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        ReadError::Damaged { offset, what },
    )
}
