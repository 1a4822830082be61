//! Files in chunks of one size, each of which is somewhere in the image or a hole.

use std::ops::Range;

use filetree::ReadError;

use super::bytes::{length, u16_at, u32_at, wide};
use super::cache::Window;
use super::inode::RawInode;
use super::{Area, Image, damaged, unsupported};

const BITS: u32 = 0x1f;
const INDEXES: u32 = 0x20;
const WIDE: u32 = 0x40;
const KNOWN: u32 = 0x7f;

/// The table of a file's chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    size: u64,
    area: Area,
    table: u64,
    /// Bytes of a chunk are 2 to the power of this.
    bits: u32,
    /// Whether an entry has 8 bytes, and not 4.
    indexes: bool,
    wide: bool,
}

impl Chunks {
    pub(super) fn new(image: &Image, inode: &RawInode) -> Result<Self, ReadError> {
        let format = inode.word & 0xffff;
        if format & !KNOWN != 0 {
            let what = format!("a file has the unknown chunk format {format:#x}");
            return Err(unsupported(what));
        }
        let new = Self {
            size: inode.size,
            area: inode.area,
            table: 0,
            bits: u32::from(image.superblock.block_bits) + (format & BITS),
            indexes: format & INDEXES != 0,
            wide: format & WIDE != 0,
        };
        let table = inode.body().next_multiple_of(new.unit());
        let end = new.count().saturating_mul(new.unit()).checked_add(table);
        if end.is_none_or(|end| end > image.size(inode.area)) {
            return Err(damaged(table, "a table of chunks lies outside the image"));
        }
        Ok(Self { table, ..new })
    }

    /// What is no hole.
    pub(super) fn ranges(&self, image: &Image) -> Result<Vec<Range<u64>>, ReadError> {
        let mut window = Window::new(image, self.area);
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for index in 0..self.count() {
            if self.entry(&mut window, index)?.is_none() {
                continue;
            }
            let begin = index << self.bits;
            let end = begin.saturating_add(self.chunk()).min(self.size);
            match ranges.last_mut() {
                Some(last) if last.end == begin => last.end = end,
                _ => ranges.push(begin..end),
            }
        }
        Ok(ranges)
    }

    pub(super) fn read(
        &self,
        image: &Image,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<(), ReadError> {
        let mut window = Window::new(image, self.area);
        let (mut buffer, mut offset) = (buffer, offset);
        while !buffer.is_empty() {
            let (start, run) = self.run(&mut window, offset, wide(buffer.len()))?;
            let (now, later) = buffer.split_at_mut(length(run));
            match start {
                Some(start) => image.read(Area::Image, now, start)?,
                None => now.fill(0),
            }
            buffer = later;
            offset += run;
        }
        Ok(())
    }

    /// Bytes in a row from `offset` on, `wanted` at most: where they begin, how many there are.
    fn run(
        &self,
        window: &mut Window<'_>,
        offset: u64,
        wanted: u64,
    ) -> Result<(Option<u64>, u64), ReadError> {
        let mut index = offset >> self.bits;
        let within = offset & (self.chunk() - 1);
        let first = self.entry(window, index)?;
        let start = first.map(|first| first.saturating_add(within));
        let mut run = self.chunk() - within;
        while run < wanted {
            index += 1;
            let next = start.map(|start| start.saturating_add(run));
            if self.entry(window, index)? != next {
                break;
            }
            run += self.chunk();
        }
        Ok((start, run.min(wanted)))
    }

    /// Where a chunk begins; `None` for a hole.
    fn entry(&self, window: &mut Window<'_>, index: u64) -> Result<Option<u64>, ReadError> {
        let place = self.table + index * self.unit();
        let (block, nowhere) = match self.indexes {
            false => {
                let raw: [u8; 4] = window.take(place)?;
                (u64::from(u32_at(&raw, 0)), u64::from(u32::MAX))
            }
            true => {
                let raw: [u8; 8] = window.take(place)?;
                let low = u64::from(u32_at(&raw, 4));
                match self.wide {
                    false => (low, u64::from(u32::MAX)),
                    true => (u64::from(u16_at(&raw, 0)) << 32 | low, (1 << 48) - 1),
                }
            }
        };
        // At most 48 bits, and blocks of at most 2¹⁶ bytes.
        let bytes = block << window.image.superblock.block_bits;
        Ok(Some(bytes).filter(|_| block != nowhere))
    }

    fn count(&self) -> u64 {
        self.size.div_ceil(self.chunk())
    }

    fn chunk(&self) -> u64 {
        1 << self.bits
    }

    fn unit(&self) -> u64 {
        if self.indexes { 8 } else { 4 }
    }

    /// The table is not kept, but walked when the file is opened: that is counted, as many inodes may
    /// claim one table.
    pub(super) fn memory(&self) -> usize {
        length(self.count().saturating_mul(self.unit()))
    }
}
