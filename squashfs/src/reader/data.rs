//! The data of files, read and decompressed when it is asked for.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use filetree::{ReadAt, ReadError};

use super::inode::RawFile;
use super::metadata::locked;
use super::{Image, damaged};

/// In a block's stored size: it is not compressed.
const STORED: u32 = 1 << 24;

/// Decompressed blocks that are kept, for all files together.
const KEPT: usize = 8;

/// Decompressed blocks that all files of an image share, by their place, newest last.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<VecDeque<(u64, Arc<[u8]>)>>);

/// One file's blocks.
#[derive(Debug)]
pub(super) struct File {
    image: Arc<Image>,
    size: u64,
    /// Place and stored size of each; size 0 for a hole.
    blocks: Vec<(u64, u32)>,
    /// Place, stored size, and offset within.
    tail: Option<(u64, u32, u32)>,
}

impl Cache {
    /// The bytes of a block of at most the block size.
    fn block(&self, image: &Image, at: u64, stored: u32) -> Result<Arc<[u8]>, ReadError> {
        if let Some((_, bytes)) = locked(&self.0).iter().find(|(place, _)| *place == at) {
            return Ok(Arc::clone(bytes));
        }
        let bytes = load(image, at, stored)?;
        let mut kept = locked(&self.0);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((at, Arc::clone(&bytes)));
        Ok(bytes)
    }
}

fn load(image: &Image, at: u64, stored: u32) -> Result<Arc<[u8]>, ReadError> {
    let length = size(stored & !STORED);
    let full = size(image.superblock.block_size.bytes());
    if length == 0 || length > full {
        return Err(damaged(at, "a data block has an impossible size"));
    }
    let mut bytes = vec![0; length];
    image.source.image.read(&mut bytes, at)?;
    if stored & STORED != 0 {
        return Ok(bytes.into());
    }
    let mut decompressed = vec![0; full];
    let decompressors = &image.source.decompressors;
    let length = decompressors.decompress(&bytes, &mut decompressed)?;
    let length = length.ok_or(damaged(at, "a data block cannot be decompressed"))?;
    decompressed.truncate(length);
    Ok(decompressed.into())
}

impl File {
    /// Checks the blocks of a file; what of it is no hole comes with it.
    pub(super) fn new(
        image: Arc<Image>,
        raw: RawFile,
    ) -> Result<(Self, Vec<Range<u64>>), ReadError> {
        let damaged = |what| damaged(raw.start, what);
        let block_size = image.superblock.block_size.bytes();
        let mut blocks = Vec::with_capacity(raw.blocks.len());
        let mut data: Vec<Range<u64>> = Vec::new();
        let mut add = |range: Range<u64>| match data.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => data.push(range),
        };
        let (mut at, mut offset) = (raw.start, 0u64);
        for stored in raw.blocks {
            let length = stored & !STORED;
            if length > block_size {
                return Err(damaged("a data block is bigger than blocks are"));
            }
            let end = offset.saturating_add(block_size.into()).min(raw.size);
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
                let (at, stored) = image.tables.fragment(&image.source, index)?;
                add(offset..raw.size);
                Some((at, stored, within))
            }
            None => None,
        };
        let size = raw.size;
        Ok((
            Self {
                image,
                size,
                blocks,
                tail,
            },
            data,
        ))
    }

    /// Copies from the block that holds `offset`; how many bytes it gave.
    fn part(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let block_size = u64::from(self.image.superblock.block_size.bytes());
        let index = offset / block_size;
        let begin = index * block_size;
        let length = (self.size - begin).min(block_size);
        let block = usize::try_from(index)
            .ok()
            .and_then(|index| self.blocks.get(index));
        let (at, stored, within) = match (block, self.tail) {
            (Some((at, stored)), _) => (*at, *stored, 0),
            (None, Some(tail)) => tail,
            (None, None) => return Err(damaged(0, "a file has too few blocks").into_io()),
        };
        let count = usize::try_from(length - (offset - begin))
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let buffer = &mut buffer[..count];
        if stored & !STORED == 0 && block.is_some() {
            buffer.fill(0);
            return Ok(count);
        }
        let image = &self.image;
        let bytes = image.cache.block(image, at, stored);
        let bytes = bytes.map_err(ReadError::into_io)?;
        // A block of its own has the file's bytes and no others; a fragment has them somewhere.
        let own = u64::try_from(bytes.len()) == Ok(length);
        let start = usize::try_from(u64::from(within) + (offset - begin)).ok();
        let part = start
            .and_then(|start| bytes.get(start..)?.get(..count))
            .filter(|_| own || block.is_none())
            .ok_or_else(|| {
                damaged(at, "a data block has not the size that the file says").into_io()
            })?;
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

    fn memory(&self) -> usize {
        self.blocks.len().saturating_mul(size_of::<(u64, u32)>())
    }
}

fn size(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
