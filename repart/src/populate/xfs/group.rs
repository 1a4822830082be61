//! One allocation group: its free space, its inodes, and the trees that say both.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use filetree::WriteError;

use super::super::bytes::Block;
use super::superblock::{Superblock, u16_at, u32_at, u64_at};
use super::{foreign, inode, unreadable};

/// Bytes before a tree block's records.
const HEADER: usize = 56;

/// A group in memory.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) number: u32,
    length: u32,
    space: Block,
    inodes: Block,
    /// Free runs: first block and count, in order.
    free: Vec<(u32, u32)>,
    free_before: u64,
    chunks: Vec<Chunk>,
    /// The leaves of the inode tree where one is not enough.
    leaves: Vec<u32>,
}

/// 64 inodes.
#[derive(Clone, Copy)]
struct Chunk {
    /// The first inode within the group.
    start: u32,
    /// A bit for each free inode.
    free: u64,
}

impl Group {
    pub(super) fn read(
        image: &File,
        superblock: &Superblock,
        number: u32,
    ) -> Result<Self, WriteError> {
        let at = superblock.block_at(superblock.block_number(number, 0));
        let header = |sector: u64, magic: &[u8]| {
            let mut block = Block::new(superblock.sector);
            image
                .read_exact_at(&mut block.0, at + sector * superblock.sector)
                .map_err(unreadable)?;
            match block.0.starts_with(magic) {
                true => Ok(block),
                false => Err(foreign("a group's header is damaged")),
            }
        };
        let space = header(1, b"XAGF")?;
        let inodes = header(2, b"XAGI")?;
        let length = u32_at(&space, 12);
        let leaf = |root: u32, level: u32, magic: &[u8], size: usize| {
            read_leaf(image, superblock, number, (root, level), magic, size)
        };
        let free: Vec<(u32, u32)> = leaf(u32_at(&space, 16), u32_at(&space, 28), b"AB3B", 8)?
            .iter()
            .map(|record| (u32_at(record, 0), u32_at(record, 4)))
            .collect();
        let fits = |(start, count): &(u32, u32)| {
            start.checked_add(*count).is_some_and(|end| end <= length)
        };
        if !free.iter().all(fits) {
            return Err(foreign("a group's free space is damaged"));
        }
        let chunks = leaf(u32_at(&inodes, 20), u32_at(&inodes, 24), b"IAB3", 16)?
            .iter()
            .map(|record| Chunk {
                start: u32_at(record, 0),
                free: u64_at(record, 8),
            })
            .collect();
        Ok(Self {
            number,
            length,
            free_before: free.iter().map(|run| u64::from(run.1)).sum(),
            space,
            inodes,
            free,
            chunks,
            leaves: Vec::new(),
        })
    }

    /// Takes a run of blocks: the first with room for at least `wanted.start` and then below
    /// `wanted.end` of them.
    pub(super) fn take(&mut self, wanted: Range<u64>) -> Option<(u32, u64)> {
        let at = self
            .free
            .iter()
            .position(|run| u64::from(run.1) >= wanted.start)?;
        let (start, there) = self.free[at];
        let count = there.min(u32::try_from(wanted.end - 1).unwrap_or(u32::MAX));
        self.carve(at, start, count);
        Some((start, u64::from(count)))
    }

    /// Takes the next inode and returns its number; `None` where the group holds enough of them.
    pub(super) fn take_inode(&mut self, superblock: &Superblock) -> Option<u64> {
        if self.chunks.iter().all(|chunk| chunk.free == 0) {
            self.take_chunk(superblock)?;
        }
        let chunk = self.chunks.iter_mut().find(|chunk| chunk.free != 0)?;
        let bit = chunk.free.trailing_zeros();
        chunk.free &= chunk.free - 1;
        Some(superblock.inode_number(self.number, chunk.start + bit))
    }

    fn take_chunk(&mut self, superblock: &Superblock) -> Option<()> {
        // Data of the files comes into the same group.
        let free: u64 = self.free.iter().map(|run| u64::from(run.1)).sum();
        if free < u64::from(self.length) / 8 {
            return None;
        }
        let count = superblock.chunk_blocks();
        let aligned = |start: u32| start.checked_next_multiple_of(superblock.alignment);
        let at = self
            .free
            .iter()
            .position(|run| aligned(run.0).is_some_and(|start| start + count <= run.0 + run.1))?;
        let start = aligned(self.free[at].0)?;
        self.carve(at, start, count);
        let start = superblock.first_inode(start);
        let place = self.chunks.partition_point(|chunk| chunk.start < start);
        self.chunks.insert(
            place,
            Chunk {
                start,
                free: u64::MAX,
            },
        );
        Some(())
    }

    fn carve(&mut self, at: usize, start: u32, count: u32) {
        let (first, there) = self.free.remove(at);
        let (before, after) = (start - first, first + there - start - count);
        if after > 0 {
            self.free.insert(at, (start + count, after));
        }
        if before > 0 {
            self.free.insert(at, (first, before));
        }
    }

    /// Takes the blocks that the inode tree itself needs.
    pub(super) fn take_tree(&mut self, superblock: &Superblock) -> Option<()> {
        let leaves = self.chunks.len().div_ceil(records(superblock, 16));
        if leaves > 1 {
            for _ in 0..leaves {
                let (block, _) = self.take(1..2)?;
                self.leaves.push(block);
            }
        }
        (leaves <= records(superblock, 8)).then_some(())
    }

    pub(super) fn blocks_taken(&self) -> u64 {
        self.free_before - self.free_blocks()
    }

    pub(super) fn inodes(&self) -> u64 {
        u64::try_from(self.chunks.len()).unwrap_or(0) * 64
    }

    pub(super) fn free_inodes(&self) -> u64 {
        self.chunks
            .iter()
            .map(|chunk| u64::from(chunk.free.count_ones()))
            .sum()
    }

    fn free_blocks(&self) -> u64 {
        self.free.iter().map(|run| u64::from(run.1)).sum()
    }

    /// The free inodes: where each lies, and its bytes.
    pub(super) fn spare_inodes<'a>(
        &'a self,
        superblock: &'a Superblock,
    ) -> impl Iterator<Item = (u64, Vec<u8>)> + 'a {
        let free = self.chunks.iter().flat_map(|chunk| {
            let bits = (0..64u32).filter(|bit| chunk.free >> bit & 1 == 1);
            bits.map(|bit| chunk.start + bit)
        });
        free.map(|inode| {
            let number = superblock.inode_number(self.number, inode);
            (
                superblock.inode_at(number),
                inode::spare(superblock, number),
            )
        })
    }

    /// Writes the trees and the headers.
    pub(super) fn write(&self, image: &File, superblock: &Superblock) -> io::Result<()> {
        let tree = Trees {
            group: self,
            image,
            superblock,
        };
        let mut by_size = self.free.clone();
        by_size.sort_unstable_by_key(|run| (run.1, run.0));
        tree.leaf(
            u32_at(&self.space, 16),
            b"AB3B",
            &free_records(&self.free),
            None,
        )?;
        tree.leaf(
            u32_at(&self.space, 20),
            b"AB3C",
            &free_records(&by_size),
            None,
        )?;
        let with_free: Vec<Chunk> = self
            .chunks
            .iter()
            .filter(|chunk| chunk.free != 0)
            .copied()
            .collect();
        let spare = inode_records(&with_free, superblock);
        tree.leaf(u32_at(&self.inodes, 328), b"FIB3", &spare, None)?;
        tree.inodes()?;
        self.write_space(image, superblock)?;
        self.write_inodes(image, superblock)
    }

    fn write_space(&self, image: &File, superblock: &Superblock) -> io::Result<()> {
        let mut space = self.space.clone();
        space.u32(52, self.free_blocks());
        space.u32(56, self.free.iter().map(|run| run.1).max().unwrap_or(0));
        space.crc(216);
        image.write_all_at(&space.0, self.at(superblock) + superblock.sector)
    }

    fn write_inodes(&self, image: &File, superblock: &Superblock) -> io::Result<()> {
        let mut inodes = self.inodes.clone();
        inodes.u32(16, self.inodes());
        inodes.u32(24, if self.leaves.is_empty() { 1u32 } else { 2 });
        inodes.u32(28, self.free_inodes());
        inodes.u32(32, self.chunks.last().map_or(u32::MAX, |chunk| chunk.start));
        if superblock.tree_counts {
            inodes.u32(336, self.leaves.len() + 1);
        }
        inodes.crc(312);
        image.write_all_at(&inodes.0, self.at(superblock) + 2 * superblock.sector)
    }

    fn at(&self, superblock: &Superblock) -> u64 {
        superblock.block_at(superblock.block_number(self.number, 0))
    }
}

/// Writes tree blocks of one group.
struct Trees<'a> {
    group: &'a Group,
    image: &'a File,
    superblock: &'a Superblock,
}

impl Trees<'_> {
    /// The inode tree: one leaf, or leaves below a root.
    fn inodes(&self) -> io::Result<()> {
        let root = u32_at(&self.group.inodes, 20);
        let size = records(self.superblock, 16);
        if self.group.leaves.is_empty() {
            let all = inode_records(&self.group.chunks, self.superblock);
            return self.leaf(root, b"IAB3", &all, None);
        }
        let leaves = &self.group.leaves;
        for (index, (chunks, block)) in self.group.chunks.chunks(size).zip(leaves).enumerate() {
            let left = index.checked_sub(1).map_or(u32::MAX, |left| leaves[left]);
            let right = leaves.get(index + 1).copied().unwrap_or(u32::MAX);
            let all = inode_records(chunks, self.superblock);
            self.leaf(*block, b"IAB3", &all, Some((left, right)))?;
        }
        let mut block = self.block(root, b"IAB3", None);
        block.u16(4, 1u16);
        block.u16(6, leaves.len());
        let pointers = HEADER + records(self.superblock, 8) * 4;
        for (index, (chunks, leaf)) in self.group.chunks.chunks(size).zip(leaves).enumerate() {
            block.u32(HEADER + index * 4, chunks[0].start);
            block.u32(pointers + index * 4, *leaf);
        }
        self.write(root, block)
    }

    fn leaf(
        &self,
        number: u32,
        magic: &[u8],
        all: &[Vec<u8>],
        siblings: Option<(u32, u32)>,
    ) -> io::Result<()> {
        let mut block = self.block(number, magic, siblings);
        block.u16(6, all.len());
        let mut at = HEADER;
        for record in all {
            block.put(at, record);
            at += record.len();
        }
        self.write(number, block)
    }

    fn block(&self, number: u32, magic: &[u8], siblings: Option<(u32, u32)>) -> Block {
        let mut block = Block::new(self.superblock.block_size());
        let place = self.superblock.block_number(self.group.number, number);
        let (left, right) = siblings.unwrap_or((u32::MAX, u32::MAX));
        block.put(0, magic);
        block.u32(8, left);
        block.u32(12, right);
        block.u64(16, self.superblock.sector_of(place));
        block.put(32, &self.superblock.uuid);
        block.u32(48, self.group.number);
        block
    }

    fn write(&self, number: u32, mut block: Block) -> io::Result<()> {
        block.crc(52);
        let place = self.superblock.block_number(self.group.number, number);
        self.image
            .write_all_at(&block.0, self.superblock.block_at(place))
    }
}

/// How many records of `size` bytes a tree block holds.
fn records(superblock: &Superblock, size: usize) -> usize {
    (usize::try_from(superblock.block_size()).unwrap_or(0) - HEADER) / size
}

fn free_records(free: &[(u32, u32)]) -> Vec<Vec<u8>> {
    free.iter()
        .map(|(start, count)| [start.to_be_bytes(), count.to_be_bytes()].concat())
        .collect()
}

fn inode_records(chunks: &[Chunk], superblock: &Superblock) -> Vec<Vec<u8>> {
    let record = |chunk: &Chunk| {
        let mut record = chunk.start.to_be_bytes().to_vec();
        let free = u8::try_from(chunk.free.count_ones()).unwrap_or(0);
        // With sparse inodes: which are not there at all, and how many are.
        let sparse = if superblock.sparse_inodes { 64 } else { 0 };
        record.extend_from_slice(&[0, 0, sparse, free]);
        record.extend_from_slice(&chunk.free.to_be_bytes());
        record
    };
    chunks.iter().map(record).collect()
}

fn read_leaf(
    image: &File,
    superblock: &Superblock,
    group: u32,
    (root, level): (u32, u32),
    magic: &[u8],
    size: usize,
) -> Result<Vec<Block>, WriteError> {
    let damaged = || foreign("a group's tree is not that of an empty file system");
    if root >= superblock.group_blocks || level != 1 {
        return Err(damaged());
    }
    let mut block = Block::new(superblock.block_size());
    let at = superblock.block_at(superblock.block_number(group, root));
    image.read_exact_at(&mut block.0, at).map_err(unreadable)?;
    let count = usize::from(u16_at(&block, 6));
    if !block.0.starts_with(magic) || count > records(superblock, size) {
        return Err(damaged());
    }
    let records = block.0[HEADER..].chunks(size).take(count);
    Ok(records.map(|record| Block(record.to_vec())).collect())
}
