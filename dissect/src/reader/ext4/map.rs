//! Where the blocks of a file are: a tree of extents, or blocks of block numbers (kernel
//! documentation, filesystems/ext4: "The Contents of inode.i_block").
//!
//! A file's blocks come in order and without overlaps, whatever the image says; a block of a map
//! belongs to one place in one file, so that no walk takes longer than the image is.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use filetree::ReadError;

use super::Volume;
use super::checksum::crc32c;
use super::inode::{Stored, flags};
use super::superblock::{block_u64, u16_at, u32_at};

/// The deepest tree of extents that Linux knows.
const MAX_DEPTH: u16 = 5;
const EXTENT_MAGIC: u16 = 0xf30a;
/// Bytes of the header and of each entry in a tree of extents.
const ENTRY: usize = 12;
/// Extents longer than this are allocated, but not written: they read as zeros.
const MAX_WRITTEN: u64 = 32768;
/// Blocks that an inode names itself, before blocks of numbers.
const DIRECT: u64 = 12;

/// Blocks of a file that lie one behind the other, all numbers in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) length: u64,
}

/// The written extents of a file up to its size, in order.
pub(super) fn read(volume: &Volume, inode: &Stored) -> Result<Vec<Extent>, ReadError> {
    let block = block_u64(volume.superblock.block_size);
    let mut walk = Walk {
        volume,
        inode,
        limit: inode.size.div_ceil(block),
        next: 0,
        visited: HashSet::new(),
        extents: Vec::new(),
    };
    if inode.has(flags::EXTENTS) {
        walk.tree()?;
    } else {
        walk.numbers()?;
    }
    Ok(walk.extents)
}

struct Walk<'a> {
    volume: &'a Volume,
    inode: &'a Stored,
    /// Blocks of the file.
    limit: u64,
    /// The first block of the file that has no place yet.
    next: u64,
    visited: HashSet<u64>,
    extents: Vec<Extent>,
}

/// A block of a tree of extents: where, how far from the leaves, for which blocks of the file.
struct Node {
    block: u64,
    depth: u16,
    range: Range<u64>,
}

/// A block of block numbers: where, how many levels are below it, its first block of the file.
struct Numbers {
    block: u64,
    level: u32,
    start: u64,
}

impl Walk<'_> {
    fn tree(&mut self) -> Result<(), ReadError> {
        let root = self.inode.map;
        let depth = u16_at(&root, 6);
        if depth > MAX_DEPTH {
            return Err(self.damaged("a tree of extents is too deep"));
        }
        let mut pending = Vec::new();
        self.node(&root, depth, 0..1 << 32, &mut pending)?;
        while let Some(Node {
            block,
            depth,
            range,
        }) = pending.pop()
        {
            let bytes = self.block(block)?;
            self.verify(&bytes)?;
            self.node(&bytes, depth, range, &mut pending)?;
        }
        Ok(())
    }

    /// Takes the extents of a leaf, or adds the children of another node, the first one last.
    fn node(
        &mut self,
        bytes: &[u8],
        depth: u16,
        range: Range<u64>,
        pending: &mut Vec<Node>,
    ) -> Result<(), ReadError> {
        let entries = self.entries(bytes, depth)?;
        if depth == 0 {
            return entries
                .chunks_exact(ENTRY)
                .try_for_each(|entry| self.leaf(entry, &range));
        }
        let mut end = range.end;
        for entry in entries.rchunks_exact(ENTRY) {
            let start = u64::from(u32_at(entry, 0));
            if start < range.start || start >= end {
                return Err(self.damaged("a tree of extents is not in order"));
            }
            pending.push(Node {
                block: u64::from(u32_at(entry, 4)) | u64::from(u16_at(entry, 8)) << 32,
                depth: depth - 1,
                range: start..end,
            });
            end = start;
        }
        Ok(())
    }

    /// The entries behind a checked header.
    fn entries<'b>(&self, bytes: &'b [u8], depth: u16) -> Result<&'b [u8], ReadError> {
        let count = usize::from(u16_at(bytes, 2));
        let most = usize::from(u16_at(bytes, 4));
        let sound = u16_at(bytes, 0) == EXTENT_MAGIC
            && count <= most
            && ENTRY + most * ENTRY <= bytes.len()
            && u16_at(bytes, 6) == depth
            && (count > 0 || depth == 0);
        if !sound {
            return Err(self.damaged("a node of a tree of extents is impossible"));
        }
        Ok(&bytes[ENTRY..ENTRY + count * ENTRY])
    }

    /// The checksum stands behind the room for entries.
    fn verify(&self, bytes: &[u8]) -> Result<(), ReadError> {
        if !self.volume.superblock.checksums {
            return Ok(());
        }
        let tail = ENTRY + usize::from(u16_at(bytes, 4)) * ENTRY;
        let stored = bytes.get(tail..tail + 4).map(|tail| u32_at(tail, 0));
        match stored {
            Some(stored) if stored == crc32c(self.inode.seed, &bytes[..tail]) => Ok(()),
            _ => Err(self.damaged("the checksum of a tree of extents is wrong")),
        }
    }

    fn leaf(&mut self, entry: &[u8], range: &Range<u64>) -> Result<(), ReadError> {
        let logical = u64::from(u32_at(entry, 0));
        let stored = u64::from(u16_at(entry, 4));
        let written = stored <= MAX_WRITTEN;
        let extent = Extent {
            logical,
            physical: u64::from(u32_at(entry, 8)) | u64::from(u16_at(entry, 6)) << 32,
            length: if written {
                stored
            } else {
                stored - MAX_WRITTEN
            },
        };
        if extent.length == 0 || !range.contains(&logical) || logical < self.next {
            return Err(self.damaged("extents are not in order"));
        }
        self.next = logical + extent.length;
        self.check(extent.physical, extent.length)?;
        if written {
            self.push(extent);
        }
        Ok(())
    }

    fn numbers(&mut self) -> Result<(), ReadError> {
        let per_block = block_u64(self.volume.superblock.block_size) / 4;
        let map = self.inode.map;
        let numbers = map
            .chunks_exact(4)
            .map(|number| u64::from(u32_at(number, 0)));
        let numbers: Vec<u64> = numbers.collect();
        for (logical, block) in (0..).zip(&numbers[..12]) {
            self.number(logical, *block)?;
        }
        let mut start = DIRECT;
        for (level, block) in (1..).zip(&numbers[12..]) {
            self.levels(Numbers {
                block: *block,
                level,
                start,
            })?;
            start += per_block.pow(level);
        }
        Ok(())
    }

    /// Takes the blocks below one block of numbers.
    fn levels(&mut self, top: Numbers) -> Result<(), ReadError> {
        let per_block = block_u64(self.volume.superblock.block_size) / 4;
        let mut pending = vec![top];
        while let Some(Numbers {
            block,
            level,
            start,
        }) = pending.pop()
        {
            if block == 0 || start >= self.limit {
                continue;
            }
            let bytes = self.block(block)?;
            let numbers = bytes
                .chunks_exact(4)
                .map(|number| u64::from(u32_at(number, 0)));
            if level == 1 {
                for (logical, block) in (start..).zip(numbers) {
                    self.number(logical, block)?;
                }
                continue;
            }
            let step = per_block.pow(level - 1);
            let children = (0..).zip(numbers).map(|(index, block)| Numbers {
                block,
                level: level - 1,
                start: start + index * step,
            });
            let at = pending.len();
            pending.extend(children.filter(|child| child.block != 0));
            pending[at..].reverse();
        }
        Ok(())
    }

    fn number(&mut self, logical: u64, block: u64) -> Result<(), ReadError> {
        if block == 0 || logical >= self.limit {
            return Ok(());
        }
        self.check(block, 1)?;
        self.push(Extent {
            logical,
            physical: block,
            length: 1,
        });
        Ok(())
    }

    /// Adds what lies within the file's size, to the last extent if it goes on.
    fn push(&mut self, extent: Extent) {
        let left = self.limit.saturating_sub(extent.logical);
        let length = extent.length.min(left);
        if length == 0 {
            return;
        }
        match self.extents.last_mut() {
            Some(last)
                if last.logical + last.length == extent.logical
                    && last.physical + last.length == extent.physical =>
            {
                last.length += length;
            }
            _ => self.extents.push(Extent { length, ..extent }),
        }
    }

    fn check(&self, block: u64, length: u64) -> Result<(), ReadError> {
        let end = block.checked_add(length);
        let within = end.is_some_and(|end| end <= self.volume.superblock.blocks);
        if block == 0 || !within {
            return Err(self.damaged("a file's blocks are not within the file system"));
        }
        Ok(())
    }

    /// A block of the map, which nothing else may use.
    fn block(&mut self, block: u64) -> Result<Arc<[u8]>, ReadError> {
        self.check(block, 1)?;
        if !self.visited.insert(block) {
            return Err(self.damaged("a file has a block of its map twice"));
        }
        self.volume.claim(block, self.inode)?;
        self.volume.block(block)
    }

    fn damaged(&self, what: &'static str) -> ReadError {
        self.volume.source.damaged(self.inode.offset, what)
    }
}
