//! An ext2, ext3 or ext4 file system being filled: superblock, group descriptors, bitmaps, and the
//! giving out of inodes and blocks, first come first served, so the same requests give the same
//! places.

use filetree::{WriteAt, WriteError};

use super::bytes::{low16, low32, put16, put32, u16_at, u32_at};
use super::checksum::{crc16, crc32c};
use super::{Disk, backend};

const INODE_UNINIT: u16 = 1;
const BLOCK_UNINIT: u16 = 2;
const INODE_ZEROED: u16 = 4;

const COMPATIBLE_KNOWN: u32 = 0x1 | 0x4 | 0x8 | 0x10 | 0x20 | 0x400 | 0x800 | 0x1000;
const INCOMPATIBLE_KNOWN: u32 = 0x2 | 0x40 | 0x80 | 0x200 | 0x400 | 0x2000 | 0x4000;
const READ_ONLY_KNOWN: u32 = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 | 0x400 | 0x8000;

/// What the superblock says.
#[derive(Debug)]
pub(super) struct Geometry {
    pub(super) block_size: u64,
    pub(super) blocks: u64,
    pub(super) first_block: u64,
    pub(super) blocks_per_group: u64,
    pub(super) inodes_per_group: u32,
    pub(super) inodes: u32,
    pub(super) inode_size: usize,
    pub(super) extra_size: u16,
    descriptor_size: usize,
    reserved_descriptors: u64,
    pub(super) extents: bool,
    pub(super) metadata_checksums: bool,
    group_checksums: bool,
    sparse_super: bool,
    pub(super) file_types: bool,
    pub(super) many_links: bool,
    pub(super) seed: u32,
}

/// One group of blocks.
#[derive(Debug)]
struct Group {
    descriptor: Vec<u8>,
    blocks: Vec<u8>, // bitmap
    inodes: Vec<u8>, // bitmap
    free_blocks: u64,
    free_inodes: u32,
    directories: u32,
    last_inode: u32, // 1 + index of the last in use
}

/// The file system's books.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) geometry: Geometry,
    superblock: Vec<u8>,
    groups: Vec<Group>,
    next_block: u64,
    next_inode: u32,
}

impl Volume {
    /// Reads the books of a file system that `mke2fs` has just made.
    pub(super) fn open(disk: &dyn Disk) -> Result<Self, WriteError> {
        let mut superblock = vec![0; 1024];
        read(disk, &mut superblock, 1024)?;
        let geometry = Geometry::parse(&superblock)?;
        let count = (geometry.blocks - geometry.first_block).div_ceil(geometry.blocks_per_group);
        let mut table = vec![0; to_usize(count) * geometry.descriptor_size];
        read(
            disk,
            &mut table,
            (geometry.first_block + 1) * geometry.block_size,
        )?;
        let groups = table
            .chunks_exact(geometry.descriptor_size)
            .map(|descriptor| Group::open(disk, &geometry, descriptor))
            .collect::<Result<Vec<_>, _>>()?;
        let next_block = geometry.first_block;
        let mut volume = Self {
            geometry,
            superblock,
            groups,
            next_block,
            next_inode: 0,
        };
        volume.mark_uninitialised();
        Ok(volume)
    }

    /// Fills in the bitmaps that `mke2fs` left for the kernel to derive.
    fn mark_uninitialised(&mut self) {
        let geometry = &self.geometry;
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for group in &self.groups {
            taken.push((group.location(0), 1));
            taken.push((group.location(4), 1));
            let inodes = u64::from(geometry.inodes_per_group) * super::length(geometry.inode_size);
            taken.push((group.location(8), inodes.div_ceil(geometry.block_size)));
        }
        for index in 0..self.groups.len() {
            let start = geometry.group_start(index);
            if geometry.has_backup(index) {
                let table = (super::length(self.groups.len() * geometry.descriptor_size))
                    .div_ceil(geometry.block_size);
                taken.push((start, 1 + table + geometry.reserved_descriptors));
            }
        }
        for (index, group) in self.groups.iter_mut().enumerate() {
            if group.flags() & BLOCK_UNINIT == 0 {
                continue;
            }
            let start = geometry.group_start(index);
            let size = geometry.group_size(index);
            group.blocks.fill(0);
            for &(from, count) in &taken {
                for block in from.max(start)..(from + count).min(start + size) {
                    set(&mut group.blocks, to_usize(block - start));
                }
            }
            for bit in to_usize(size)..group.blocks.len() * 8 {
                set(&mut group.blocks, bit);
            }
        }
    }

    /// Takes a free inode; `directory` says what it will be.
    pub(super) fn take_inode(&mut self, directory: bool) -> Result<u32, WriteError> {
        let per_group = self.geometry.inodes_per_group;
        while self.next_inode < self.geometry.inodes {
            let index = self.next_inode;
            self.next_inode += 1;
            let group = &mut self.groups[to_usize(u64::from(index / per_group))];
            let bit = to_usize(u64::from(index % per_group));
            if !is_set(&group.inodes, bit) {
                set(&mut group.inodes, bit);
                group.free_inodes -= 1;
                group.directories += u32::from(directory);
                group.last_inode = group.last_inode.max(index % per_group + 1);
                return Ok(index + 1);
            }
        }
        Err(WriteError::Parameters(format!(
            "the file system has room for {} files only; enlarge SizeMinBytes=, or give mkfs the option -N or -i for more inodes",
            self.geometry.inodes
        )))
    }

    /// Takes up to `wanted` free blocks that follow each other: the first and how many.
    pub(super) fn take_blocks(&mut self, wanted: u64) -> Result<(u64, u64), WriteError> {
        let geometry = &self.geometry;
        let (mut start, mut count) = (0, 0);
        while self.next_block < geometry.blocks && count < wanted.min(32768) {
            let relative = self.next_block - geometry.first_block;
            let group = &mut self.groups[to_usize(relative / geometry.blocks_per_group)];
            let bit = to_usize(relative % geometry.blocks_per_group);
            if is_set(&group.blocks, bit) {
                if count > 0 {
                    break;
                }
            } else {
                set(&mut group.blocks, bit);
                group.free_blocks -= 1;
                group.clear_flag(BLOCK_UNINIT);
                if count == 0 {
                    start = self.next_block;
                }
                count += 1;
            }
            self.next_block += 1;
        }
        match count {
            0 => Err(WriteError::TooSmall {
                needed: (geometry.blocks + wanted) * geometry.block_size,
                available: geometry.blocks * geometry.block_size,
            }),
            _ => Ok((start, count)),
        }
    }

    /// Gives a block back that `mke2fs` took.
    pub(super) fn release(&mut self, block: u64) {
        let relative = block - self.geometry.first_block;
        let group = &mut self.groups[to_usize(relative / self.geometry.blocks_per_group)];
        let bit = to_usize(relative % self.geometry.blocks_per_group);
        if is_set(&group.blocks, bit) {
            group.blocks[bit / 8] &= !(1 << (bit % 8));
            group.free_blocks += 1;
        }
    }

    /// Where an inode lies, in bytes.
    pub(super) fn inode_address(&self, number: u32) -> u64 {
        let per_group = self.geometry.inodes_per_group;
        let group = &self.groups[to_usize(u64::from((number - 1) / per_group))];
        group.location(8) * self.geometry.block_size
            + u64::from((number - 1) % per_group) * super::length(self.geometry.inode_size)
    }

    /// Says in the superblock that there are files of 2 GiB and more.
    pub(super) fn set_large_file(&mut self) {
        let features = u32_at(&self.superblock, 0x64) | 2;
        put32(&mut self.superblock, 0x64, features);
    }

    /// The first block of each group, and which of its blocks are in use.
    pub(super) fn bitmaps(&self) -> impl Iterator<Item = (u64, impl Iterator<Item = bool>)> {
        self.groups.iter().enumerate().map(|(index, group)| {
            let size = to_usize(self.geometry.group_size(index));
            let used = (0..size).map(|bit| is_set(&group.blocks, bit));
            (self.geometry.group_start(index), used)
        })
    }

    /// The parts of inode tables, in bytes, that hold no inode and of which the descriptors say that
    /// they are not cleared yet.
    pub(super) fn unused_inodes(&self) -> Vec<std::ops::Range<u64>> {
        let geometry = &self.geometry;
        let (block, size) = (geometry.block_size, super::length(geometry.inode_size));
        let lazy = |group: &&Group| geometry.group_checksums && group.flags() & INODE_ZEROED == 0;
        let unused = |group: &Group| {
            let table = group.location(8).saturating_mul(block);
            let place = |inodes: u32| table.saturating_add(u64::from(inodes).saturating_mul(size));
            place(group.last_inode).next_multiple_of(block)..place(geometry.inodes_per_group)
        };
        let mut ranges: Vec<_> = self.groups.iter().filter(lazy).map(unused).collect();
        ranges.retain(|range| !range.is_empty());
        ranges
    }

    /// Writes bitmaps, descriptors and superblock.
    pub(super) fn close(mut self, disk: &mut dyn Disk) -> Result<(), WriteError> {
        let geometry = &self.geometry;
        let mut table = Vec::new();
        for (index, group) in self.groups.iter_mut().enumerate() {
            group.close(disk, geometry)?;
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            geometry.seal_descriptor(number, &self.superblock[0x68..0x78], &mut group.descriptor);
            table.extend_from_slice(&group.descriptor);
        }
        let at = (geometry.first_block + 1) * geometry.block_size;
        write(disk, &table, at)?;
        let blocks: u64 = self.groups.iter().map(|group| group.free_blocks).sum();
        let inodes: u32 = self.groups.iter().map(|group| group.free_inodes).sum();
        put32(&mut self.superblock, 0x0c, low32(blocks));
        put32(&mut self.superblock, 0x158, low32(blocks >> 32));
        put32(&mut self.superblock, 0x10, inodes);
        if geometry.metadata_checksums {
            let checksum = crc32c(!0, &self.superblock[..0x3fc]);
            put32(&mut self.superblock, 0x3fc, checksum);
        }
        write(disk, &self.superblock, 1024)
    }
}

impl Geometry {
    fn parse(superblock: &[u8]) -> Result<Self, WriteError> {
        let word = |at| u32_at(superblock, at);
        if u16_at(superblock, 0x38) != 0xef53 {
            return Err(backend("mke2fs left no ext superblock"));
        }
        let (compatible, incompatible, read_only) = (word(0x5c), word(0x60), word(0x64));
        for (set, known, which) in [
            (compatible, COMPATIBLE_KNOWN, "compatible"),
            (incompatible, INCOMPATIBLE_KNOWN, "incompatible"),
            (read_only, READ_ONLY_KNOWN, "read-only compatible"),
        ] {
            if set & !known != 0 {
                return Err(WriteError::Parameters(format!(
                    "mke2fs was told to make a file system with the {which} feature{}, which cannot be filled without mounting it; take it out of SYSTEMD_REPART_MKFS_OPTIONS_EXT4 or mke2fs.conf",
                    feature_names(which, set & !known)
                )));
            }
        }
        let sixty_four = incompatible & 0x80 != 0;
        let blocks_high = if sixty_four { word(0x150) } else { 0 };
        let uuid = &superblock[0x68..0x78];
        let geometry = Self {
            block_size: 1024u64.checked_shl(word(0x18)).unwrap_or(0),
            blocks: u64::from(word(4)) | u64::from(blocks_high) << 32,
            first_block: word(0x14).into(),
            blocks_per_group: word(0x20).into(),
            inodes_per_group: word(0x28),
            inodes: word(0),
            inode_size: u16_at(superblock, 0x58).into(),
            extra_size: u16_at(superblock, 0x15e),
            descriptor_size: if sixty_four {
                u16_at(superblock, 0xfe).into()
            } else {
                32
            },
            reserved_descriptors: u16_at(superblock, 0xce).into(),
            extents: incompatible & 0x40 != 0,
            metadata_checksums: read_only & 0x400 != 0,
            group_checksums: read_only & 0x410 != 0,
            sparse_super: read_only & 1 != 0,
            file_types: incompatible & 2 != 0,
            many_links: read_only & 0x20 != 0,
            seed: match incompatible & 0x2000 {
                0 => crc32c(!0, uuid),
                _ => word(0x270),
            },
        };
        geometry.check()
    }

    fn check(self) -> Result<Self, WriteError> {
        let good = (1024..=32768).contains(&self.block_size)
            && self.blocks > self.first_block
            && (1..=self.block_size * 8).contains(&self.blocks_per_group)
            && self.inodes_per_group > 0
            && u64::from(self.inodes_per_group) <= self.block_size * 8
            && matches!(self.inode_size, 128 | 256 | 512 | 1024 | 2048 | 4096)
            && usize::from(self.extra_size) + 128 <= self.inode_size
            && matches!(self.descriptor_size, 32 | 64);
        match good {
            true => Ok(self),
            false => Err(backend("mke2fs made a file system of an unknown geometry")),
        }
    }

    fn group_start(&self, index: usize) -> u64 {
        self.first_block + super::length(index) * self.blocks_per_group
    }

    fn group_size(&self, index: usize) -> u64 {
        self.blocks_per_group
            .min(self.blocks - self.group_start(index))
    }

    fn has_backup(&self, index: usize) -> bool {
        let power = |base: usize| {
            let mut value = base;
            while value < index {
                value *= base;
            }
            value == index
        };
        !self.sparse_super || index < 2 || power(3) || power(5) || power(7)
    }

    fn seal_descriptor(&self, number: u32, uuid: &[u8], descriptor: &mut [u8]) {
        put16(descriptor, 0x1e, 0);
        let number = number.to_le_bytes();
        if self.metadata_checksums {
            let checksum = crc32c(crc32c(self.seed, &number), descriptor);
            put16(descriptor, 0x1e, low16(checksum.into()));
        } else if self.group_checksums {
            let checksum = crc16(crc16(!0, uuid), &number);
            let checksum = crc16(checksum, &descriptor[..0x1e]);
            put16(descriptor, 0x1e, crc16(checksum, &descriptor[0x20..]));
        }
    }
}

impl Group {
    fn open(disk: &dyn Disk, geometry: &Geometry, descriptor: &[u8]) -> Result<Self, WriteError> {
        let size = to_usize(geometry.block_size);
        let mut group = Self {
            descriptor: descriptor.to_vec(),
            blocks: vec![0; size],
            inodes: vec![0; size],
            free_blocks: 0,
            free_inodes: 0,
            directories: 0,
            last_inode: 0,
        };
        group.free_blocks = group.pair(0x0c, 0x2c).into();
        group.free_inodes = group.pair(0x0e, 0x2e);
        group.directories = group.pair(0x10, 0x30);
        if group.flags() & BLOCK_UNINIT == 0 {
            let at = group.location(0) * geometry.block_size;
            read(disk, &mut group.blocks, at)?;
        }
        if group.flags() & INODE_UNINIT == 0 {
            let at = group.location(4) * geometry.block_size;
            read(disk, &mut group.inodes, at)?;
            let unused = if geometry.group_checksums {
                group.pair(0x1c, 0x32)
            } else {
                0
            };
            group.last_inode = geometry.inodes_per_group.saturating_sub(unused);
        } else {
            let used = to_usize(geometry.inodes_per_group.into());
            for bit in used..size * 8 {
                set(&mut group.inodes, bit);
            }
        }
        Ok(group)
    }

    fn flags(&self) -> u16 {
        u16_at(&self.descriptor, 0x12)
    }

    fn clear_flag(&mut self, flag: u16) {
        let flags = self.flags() & !flag;
        put16(&mut self.descriptor, 0x12, flags);
    }

    /// A block number that the descriptor holds at `at`, its upper half 0x20 behind.
    fn location(&self, at: usize) -> u64 {
        let high = match self.descriptor.len() {
            32 => 0,
            _ => u32_at(&self.descriptor, at + 0x20),
        };
        u64::from(u32_at(&self.descriptor, at)) | u64::from(high) << 32
    }

    fn pair(&self, low: usize, high: usize) -> u32 {
        let upper = match self.descriptor.len() {
            32 => 0,
            _ => u16_at(&self.descriptor, high),
        };
        u32::from(u16_at(&self.descriptor, low)) | u32::from(upper) << 16
    }

    fn put_pair(&mut self, low: usize, high: usize, value: u64) {
        put16(&mut self.descriptor, low, low16(value));
        if self.descriptor.len() > 32 {
            put16(&mut self.descriptor, high, low16(value >> 16));
        }
    }

    fn close(&mut self, disk: &mut dyn Disk, geometry: &Geometry) -> Result<(), WriteError> {
        self.put_pair(0x0c, 0x2c, self.free_blocks);
        self.put_pair(0x0e, 0x2e, self.free_inodes.into());
        self.put_pair(0x10, 0x30, self.directories.into());
        if self.last_inode > 0 {
            self.clear_flag(INODE_UNINIT);
        }
        if geometry.group_checksums {
            let unused = geometry.inodes_per_group - self.last_inode;
            self.put_pair(0x1c, 0x32, unused.into());
        }
        if self.flags() & BLOCK_UNINIT == 0 {
            write(disk, &self.blocks, self.location(0) * geometry.block_size)?;
            if geometry.metadata_checksums {
                let covered = to_usize(geometry.blocks_per_group / 8);
                let checksum = crc32c(geometry.seed, &self.blocks[..covered]);
                self.put_pair(0x18, 0x38, checksum.into());
            }
        }
        if self.flags() & INODE_UNINIT == 0 {
            write(disk, &self.inodes, self.location(4) * geometry.block_size)?;
            if geometry.metadata_checksums {
                let covered = to_usize(u64::from(geometry.inodes_per_group / 8));
                let checksum = crc32c(geometry.seed, &self.inodes[..covered]);
                self.put_pair(0x1a, 0x3a, checksum.into());
            }
        }
        Ok(())
    }
}

/// The names of features that are not known here, where they have common ones.
fn feature_names(which: &str, bits: u32) -> String {
    let names: &[(u32, &str)] = match which {
        "compatible" => &[(0x200, "sparse_super2")],
        "incompatible" => &[
            (0x8, "journal_dev"),
            (0x10, "meta_bg"),
            (0x100, "mmp"),
            (0x8000, "inline_data"),
            (0x10000, "encrypt"),
            (0x20000, "casefold"),
        ],
        _ => &[(0x100, "quota"), (0x200, "bigalloc"), (0x2000, "project")],
    };
    let mut text = String::new();
    let mut unnamed = bits;
    for (bit, name) in names.iter().filter(|(bit, _)| bits & bit != 0) {
        text = format!("{text} {name}");
        unnamed &= !bit;
    }
    if unnamed != 0 {
        text = format!("{text} 0x{unnamed:x}");
    }
    text
}

fn is_set(bitmap: &[u8], bit: usize) -> bool {
    bitmap[bit / 8] & (1 << (bit % 8)) != 0
}

fn set(bitmap: &mut [u8], bit: usize) {
    bitmap[bit / 8] |= 1 << (bit % 8);
}

/// What was checked to be small, as a length in memory.
pub(super) fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn read(disk: &dyn Disk, buffer: &mut [u8], at: u64) -> Result<(), WriteError> {
    disk.read_exact_at(buffer, at).map_err(WriteError::Target)
}

fn write(disk: &mut dyn Disk, bytes: &[u8], at: u64) -> Result<(), WriteError> {
    WriteAt::write_all_at(disk, bytes, at).map_err(WriteError::Target)
}
