//! Where the blocks of a fork are: a list of extents, or a tree of them ("XFS Algorithms & Data
//! Structures", "Data Extents").
//!
//! Extents come in order and without overlaps, and a block of a tree belongs to one fork, so that no
//! walk takes longer than the image is.

use std::ops::Range;
use std::sync::Arc;

use filetree::ReadError;

use super::Volume;
use super::bytes::{be16, be64, is_sound};
use super::inode::{Format, Root, Stored};

/// Bytes of an extent, and of a key with its pointer.
const RECORD: usize = 16;
/// The deepest tree that Linux knows.
const MAX_DEPTH: u16 = 9;
/// Bytes of the header of a block of a tree, version 4 and 5.
const OLD_HEADER: usize = 24;
const HEADER: usize = 72;
const CHECKSUM: usize = 64;
const OWNER: usize = 56;
/// The first block of a file that cannot be.
const MAX_BLOCK: u64 = 1 << 54;

/// Blocks of a fork that lie one behind the other, all numbers in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) logical: u64,
    /// Counted from the beginning of the image.
    pub(super) physical: u64,
    pub(super) length: u64,
}

/// The written extents of a fork, in order.
pub(super) fn read(
    volume: &Volume,
    inode: &Stored,
    root: Root<'_>,
) -> Result<Vec<Extent>, ReadError> {
    let mut walk = Walk {
        volume,
        inode,
        next: 0,
        extents: Vec::new(),
    };
    match root.format {
        Format::Extents => {
            let length = usize::try_from(root.extents.saturating_mul(16)).ok();
            let records = length.and_then(|length| root.bytes.get(..length));
            let records = records.ok_or_else(|| walk.damaged("a list of extents is too long"))?;
            walk.records(records, &(0..MAX_BLOCK))?;
        }
        Format::Tree => walk.tree(root.bytes)?,
        Format::Device | Format::Local => {
            return Err(walk.damaged("a fork has no extents"));
        }
    }
    Ok(walk.extents)
}

struct Walk<'a> {
    volume: &'a Volume,
    inode: &'a Stored,
    /// The first block of the fork that has no place yet.
    next: u64,
    extents: Vec<Extent>,
}

struct Node {
    block: u64,
    level: u16,
    range: Range<u64>,
}

impl Walk<'_> {
    fn tree(&mut self, root: &[u8]) -> Result<(), ReadError> {
        let level = match root.len() {
            0..4 => 0,
            _ => be16(root, 0),
        };
        if level == 0 || level > MAX_DEPTH {
            return Err(self.damaged("the depth of a tree of extents is impossible"));
        }
        let count = usize::from(be16(root, 2));
        let mut pending = Vec::new();
        self.children(&root[4..], count, (level, 0..MAX_BLOCK), &mut pending)?;
        while let Some(Node {
            block,
            level,
            range,
        }) = pending.pop()
        {
            let bytes = self.block(block, level)?;
            let count = usize::from(be16(&bytes, 6));
            let header = if self.volume.superblock.version5 {
                HEADER
            } else {
                OLD_HEADER
            };
            let rest = &bytes[header..];
            if level > 0 {
                self.children(rest, count, (level, range), &mut pending)?;
                continue;
            }
            let records = rest.get(..count * RECORD);
            let records = records.ok_or_else(|| self.damaged("a tree of extents has no room"))?;
            self.records(records, &range)?;
        }
        Ok(())
    }

    /// Adds what a node leads to, the first one last. Keys come first, then pointers, with room for
    /// as many as there is.
    fn children(
        &self,
        bytes: &[u8],
        count: usize,
        (level, range): (u16, Range<u64>),
        pending: &mut Vec<Node>,
    ) -> Result<(), ReadError> {
        let room = bytes.len() / RECORD;
        if count == 0 || count > room {
            return Err(self.damaged("a node of a tree of extents is impossible"));
        }
        let mut end = range.end;
        for index in (0..count).rev() {
            let start = be64(bytes, index * 8);
            if start < range.start || start >= end {
                return Err(self.damaged("a tree of extents is not in order"));
            }
            pending.push(Node {
                block: be64(bytes, room * 8 + index * 8),
                level: level - 1,
                range: start..end,
            });
            end = start;
        }
        Ok(())
    }

    /// A block of the tree, which nothing else may use.
    fn block(&self, number: u64, level: u16) -> Result<Arc<[u8]>, ReadError> {
        let superblock = &self.volume.superblock;
        let place = superblock
            .block(number, 1)
            .ok_or_else(|| self.damaged("a tree of extents is not within the file system"))?;
        self.volume.claim(place, self.inode)?;
        let bytes = self.volume.block(place)?;
        let magic = if superblock.version5 {
            b"BMA3"
        } else {
            b"BMAP"
        };
        if !bytes.starts_with(magic) || be16(&bytes, 4) != level {
            return Err(self.damaged("a node of a tree of extents is impossible"));
        }
        let owned = !superblock.checksums
            || is_sound(&bytes, CHECKSUM) && be64(&bytes, OWNER) == self.inode.number;
        if !owned {
            return Err(self.damaged("the checksum of a tree of extents is wrong"));
        }
        Ok(bytes)
    }

    fn records(&mut self, records: &[u8], range: &Range<u64>) -> Result<(), ReadError> {
        for record in records.chunks_exact(RECORD) {
            let (high, low) = (be64(record, 0), be64(record, 8));
            let logical = high >> 9 & (MAX_BLOCK - 1);
            let length = low & 0x1f_ffff;
            let block = (high & 0x1ff) << 43 | low >> 21;
            if length == 0 || logical < self.next || !range.contains(&logical) {
                return Err(self.damaged("extents are not in order"));
            }
            self.next = logical + length;
            let physical =
                self.volume.superblock.block(block, length).ok_or_else(|| {
                    self.damaged("a file's blocks are not within the file system")
                })?;
            // Allocated, but not written: it reads as zeros.
            if high >> 63 == 0 {
                self.push(Extent {
                    logical,
                    physical,
                    length,
                });
            }
        }
        Ok(())
    }

    fn push(&mut self, extent: Extent) {
        match self.extents.last_mut() {
            Some(last)
                if last.logical + last.length == extent.logical
                    && last.physical + last.length == extent.physical =>
            {
                last.length += extent.length;
            }
            _ => self.extents.push(extent),
        }
    }

    fn damaged(&self, what: &'static str) -> ReadError {
        self.volume.source.damaged(self.inode.offset, what)
    }
}

/// The bytes of some blocks of a fork, put together; a hole is an error.
pub(super) fn blocks(
    volume: &Volume,
    inode: &Stored,
    extents: &[Extent],
    wanted: Range<u64>,
) -> Result<Vec<u8>, ReadError> {
    let damaged = |what| volume.source.damaged(inode.offset, what);
    let mut bytes = Vec::new();
    for logical in wanted {
        let index = extents.partition_point(|extent| extent.logical <= logical);
        let extent = index.checked_sub(1).and_then(|index| extents.get(index));
        let extent = extent.filter(|extent| logical - extent.logical < extent.length);
        let extent = extent.ok_or_else(|| damaged("metadata of a file are missing"))?;
        let physical = extent.physical + (logical - extent.logical);
        bytes.extend_from_slice(&volume.block(physical)?);
    }
    Ok(bytes)
}
