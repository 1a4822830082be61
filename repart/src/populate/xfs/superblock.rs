//! The superblock and the addresses that follow from it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use filetree::{Timestamp, WriteError};

use super::super::bytes::Block;
use super::group::Group;
use super::{foreign, inode, unreadable};

/// Incompatible features that change nothing here or that are handled: file types in directories,
/// sparse inodes, a UUID of the metadata's own, times past 2038, and exchanging ranges.
const KNOWN_INCOMPAT: u32 = 0b0100_1011;
/// Read-only compatible ones: free-inode tree, reference counts, counts of inode-tree blocks.
const KNOWN_RO_COMPAT: u32 = 0b1101;
const FILE_TYPES: u32 = 1;
const SPARSE_INODES: u32 = 1 << 1;
const BIG_TIME: u32 = 1 << 3;
const FREE_INODE_TREE: u32 = 1;
const TREE_COUNTS: u32 = 1 << 3;
/// The version bit that says that extended attributes exist.
const ATTRIBUTES: u16 = 0x10;
/// The version bit for names that ignore case.
const IGNORES_CASE: u16 = 0x4000;

pub(super) struct Superblock {
    raw: Block,
    /// Blocks of the whole.
    pub(super) blocks: u64,
    pub(super) uuid: [u8; 16],
    pub(super) root: u64,
    pub(super) group_blocks: u32,
    pub(super) groups: u32,
    pub(super) sector: u64,
    pub(super) inode_size: u64,
    /// Blocks to which inode chunks are aligned.
    pub(super) alignment: u32,
    block_log: u8,
    inodes_per_block_log: u8,
    group_log: u8,
    pub(super) sparse_inodes: bool,
    pub(super) big_time: bool,
    pub(super) tree_counts: bool,
    pub(super) uses_attributes: bool,
}

impl Superblock {
    pub(super) fn read(image: &File) -> Result<Self, WriteError> {
        let mut raw = Block::new(512);
        image.read_exact_at(&mut raw.0, 0).map_err(unreadable)?;
        let sector = u64::from(u16_at(&raw, 102));
        if !raw.0.starts_with(b"XFSB") || !(512..=32768).contains(&sector) {
            return Err(foreign("there is none"));
        }
        raw = Block::new(sector);
        image.read_exact_at(&mut raw.0, 0).map_err(unreadable)?;
        let (ro_compat, incompat) = (u32_at(&raw, 212), u32_at(&raw, 216));
        let version = u16_at(&raw, 100);
        if version & 0xf != 5 || version & IGNORES_CASE != 0 {
            return Err(foreign("it is not of version 5, or its names ignore case"));
        }
        if incompat & !KNOWN_INCOMPAT != 0
            || ro_compat & !KNOWN_RO_COMPAT != 0
            || incompat & FILE_TYPES == 0
            || ro_compat & FREE_INODE_TREE == 0
        {
            let what = format!(
                "its features are {incompat:#x} and {ro_compat:#x}, which is not supported; leave out options that change features"
            );
            return Err(foreign(&what));
        }
        if raw.0[192] != 0 {
            return Err(foreign("its directory blocks are larger than its blocks"));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&raw.0[32..48]);
        let it = Self {
            blocks: u64_at(&raw, 8),
            uuid,
            root: u64_at(&raw, 56),
            group_blocks: u32_at(&raw, 84),
            groups: u32_at(&raw, 88),
            sector,
            inode_size: u64::from(u16_at(&raw, 104)),
            alignment: u32_at(&raw, 180).max(1),
            block_log: raw.0[120],
            inodes_per_block_log: raw.0[123],
            group_log: raw.0[124],
            sparse_inodes: incompat & SPARSE_INODES != 0,
            big_time: incompat & BIG_TIME != 0,
            tree_counts: ro_compat & TREE_COUNTS != 0,
            uses_attributes: false,
            raw,
        };
        let sane = (10..=16).contains(&it.block_log)
            && it.inodes_per_block_log <= 8
            && (3..=32).contains(&it.group_log)
            && it.inode_size >= 256
            && it.inode_size << it.inodes_per_block_log == it.block_size()
            && it.groups > 0
            && it.sector <= it.block_size();
        match sane {
            true => Ok(it),
            false => Err(foreign("its superblock is damaged")),
        }
    }

    pub(super) fn block_size(&self) -> u64 {
        1 << self.block_log
    }

    /// Bytes of an inode behind its core.
    pub(super) fn literal(&self) -> usize {
        usize::try_from(self.inode_size).unwrap_or(0) - 176
    }

    pub(super) fn block_number(&self, group: u32, block: u32) -> u64 {
        u64::from(group) << self.group_log | u64::from(block)
    }

    /// The byte at which a block begins.
    pub(super) fn block_at(&self, number: u64) -> u64 {
        let block = number & ((1 << self.group_log) - 1);
        let group = number >> self.group_log;
        (group * u64::from(self.group_blocks) + block) << self.block_log
    }

    /// The same in sectors of 512 bytes, as blocks note it about themselves.
    pub(super) fn sector_of(&self, number: u64) -> u64 {
        self.block_at(number) / 512
    }

    /// Blocks of one chunk of 64 inodes.
    pub(super) fn chunk_blocks(&self) -> u32 {
        64u32.div_ceil(1 << self.inodes_per_block_log)
    }

    /// A block's first inode, within its group.
    pub(super) fn first_inode(&self, block: u32) -> u32 {
        block << self.inodes_per_block_log
    }

    pub(super) fn inode_number(&self, group: u32, inode: u32) -> u64 {
        u64::from(group) << (self.group_log + self.inodes_per_block_log) | u64::from(inode)
    }

    /// The byte at which an inode begins.
    pub(super) fn inode_at(&self, number: u64) -> u64 {
        let within = number & ((1 << self.inodes_per_block_log) - 1);
        self.block_at(number >> self.inodes_per_block_log) + within * self.inode_size
    }

    /// Gives mkfs's own inodes, those of the realtime part, times that do not depend on the clock.
    pub(super) fn renew_inodes(&self, image: &File, time: Timestamp) -> io::Result<()> {
        for number in [u64_at(&self.raw, 64), u64_at(&self.raw, 72)] {
            if number == u64::MAX {
                continue;
            }
            let mut bytes = Block::new(self.inode_size);
            image.read_exact_at(&mut bytes.0, self.inode_at(number))?;
            let time = inode::time(self, time);
            for at in [32, 40, 48, 144] {
                bytes.u64(at, time);
            }
            bytes.u32(92, 0u32);
            bytes.crc(100);
            image.write_all_at(&bytes.0, self.inode_at(number))?;
        }
        Ok(())
    }

    /// Writes the counters that follow from the groups.
    pub(super) fn write(&mut self, image: &File, groups: &[Group]) -> io::Result<()> {
        let sum = |count: fn(&Group) -> u64| groups.iter().map(count).sum();
        let used: u64 = sum(Group::blocks_taken);
        self.raw.u64(128, sum(Group::inodes));
        self.raw.u64(136, sum(Group::free_inodes));
        let free = u64_at(&self.raw, 144).saturating_sub(used);
        self.raw.u64(144, free);
        if self.uses_attributes {
            let version = u16_at(&self.raw, 100) | ATTRIBUTES;
            self.raw.u16(100, version);
        }
        self.raw.crc(224);
        image.write_all_at(&self.raw.0, 0)
    }
}

pub(super) fn u16_at(block: &Block, at: usize) -> u16 {
    u16::from_be_bytes([block.0[at], block.0[at + 1]])
}

pub(super) fn u32_at(block: &Block, at: usize) -> u32 {
    u32::from(u16_at(block, at)) << 16 | u32::from(u16_at(block, at + 2))
}

pub(super) fn u64_at(block: &Block, at: usize) -> u64 {
    u64::from(u32_at(block, at)) << 32 | u64::from(u32_at(block, at + 4))
}
