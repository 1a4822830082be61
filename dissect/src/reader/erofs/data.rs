//! The content of an inode: as it is, in chunks, or compressed.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use filetree::{ReadAt, ReadError};

use super::bytes::{length, wide};
use super::chunks::Chunks;
use super::compressed::Compressed;
use super::inode::{Layout, RawInode};
use super::{Area, Image, damaged};

/// Where the bytes of a file, directory or symlink are.
#[derive(Debug)]
pub(super) struct Data {
    size: u64,
    mapping: Mapping,
}

#[derive(Debug)]
enum Mapping {
    Flat(Flat),
    Chunks(Chunks),
    Compressed(Compressed),
}

/// Blocks in a row; what does not fill a block may follow the inode.
#[derive(Debug)]
struct Flat {
    /// In bytes; `None` for a hole.
    start: Option<u64>,
    tail: Option<Tail>,
}

#[derive(Clone, Copy, Debug)]
struct Tail {
    /// Which byte of the content is its first.
    begin: u64,
    area: Area,
    place: u64,
}

/// A file's content, to be read later.
#[derive(Debug)]
pub(super) struct File {
    image: Arc<Image>,
    data: Data,
}

impl Data {
    pub(super) fn new(image: &Image, inode: &RawInode) -> Result<Self, ReadError> {
        Self::with(image, inode, true)
    }

    /// For the special files: these have no ends in others, so that there are no circles.
    pub(super) fn special(image: &Image, inode: &RawInode) -> Result<Self, ReadError> {
        Self::with(image, inode, false)
    }

    fn with(image: &Image, inode: &RawInode, fragments: bool) -> Result<Self, ReadError> {
        let mapping = match inode.layout {
            Layout::Plain | Layout::Inline => Mapping::Flat(Flat::new(image, inode)?),
            Layout::Chunks => Mapping::Chunks(Chunks::new(image, inode)?),
            Layout::Full | Layout::Compact => {
                Mapping::Compressed(Compressed::new(image, inode, fragments)?)
            }
        };
        Ok(Self {
            size: inode.size,
            mapping,
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// What is no hole, as the kernel says.
    pub(super) fn ranges(&self, image: &Image) -> Result<Vec<Range<u64>>, ReadError> {
        match &self.mapping {
            Mapping::Chunks(chunks) => chunks.ranges(image),
            Mapping::Flat(flat) if flat.start.is_none() && flat.tail.is_none() => Ok(Vec::new()),
            _ => Ok(vec![0..self.size]),
        }
    }

    /// Fills `buffer` from `offset` on.
    pub(super) fn read(
        &self,
        image: &Image,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<(), ReadError> {
        let end = offset.checked_add(wide(buffer.len()));
        if end.is_none_or(|end| end > self.size) {
            return Err(damaged(
                offset,
                "something lies behind the end of its special file",
            ));
        }
        match &self.mapping {
            Mapping::Flat(flat) => flat.read(image, buffer, offset),
            Mapping::Chunks(chunks) => chunks.read(image, buffer, offset),
            Mapping::Compressed(compressed) => compressed.read(image, buffer, offset),
        }
    }

    fn memory(&self) -> usize {
        match &self.mapping {
            Mapping::Chunks(chunks) => chunks.memory(),
            _ => size_of::<Self>(),
        }
    }
}

impl Flat {
    fn new(image: &Image, inode: &RawInode) -> Result<Self, ReadError> {
        let bits = image.superblock.block_bits;
        let outside = || damaged(inode.place, "a file's data lies outside the image");
        let start = match inode.start {
            Some(block) => Some(block.checked_mul(1 << bits).ok_or_else(outside)?),
            None => None,
        };
        if inode.layout == Layout::Plain || inode.size == 0 {
            return Ok(Self { start, tail: None });
        }
        let block = image.superblock.block();
        let begin = (inode.size - 1) >> bits << bits;
        let place = inode.body();
        if place % block + (inode.size - begin) > block {
            let what = "data beside an inode crosses a block's border";
            return Err(damaged(place, what));
        }
        if start.is_none() && begin > 0 {
            return Err(outside());
        }
        let area = inode.area;
        let tail = Some(Tail { begin, area, place });
        Ok(Self { start, tail })
    }

    fn read(&self, image: &Image, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
        let blocks = match self.tail {
            Some(tail) => length(tail.begin.saturating_sub(offset)).min(buffer.len()),
            None => buffer.len(),
        };
        let (blocks, rest) = buffer.split_at_mut(blocks);
        if let (Some(tail), false) = (self.tail, rest.is_empty()) {
            let within = offset.saturating_sub(tail.begin);
            image.read(tail.area, rest, tail.place.saturating_add(within))?;
        }
        match self.start {
            _ if blocks.is_empty() => Ok(()),
            Some(start) => image.read(Area::Image, blocks, start.saturating_add(offset)),
            None => {
                blocks.fill(0);
                Ok(())
            }
        }
    }
}

impl File {
    pub(super) fn new(image: Arc<Image>, data: Data) -> Self {
        Self { image, data }
    }
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(wide(buffer.len()));
        if end.is_none_or(|end| end > self.data.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let read = self.data.read(&self.image, buffer, offset);
        read.map_err(ReadError::into_io)
    }

    fn memory(&self) -> usize {
        self.data.memory()
    }
}
