//! The superblock, checked, and the group descriptors that it leads to (kernel documentation,
//! filesystems/ext4: "Super Block", "Block Group Descriptors").

use filetree::ReadError;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::super::source::Source;
use super::checksum::{crc16, crc32c, crc32c_without, low16};

/// Where the superblock is, in bytes.
pub(super) const OFFSET: u64 = 1024;
/// How long it is, in bytes.
pub(super) const SIZE: usize = 1024;

const MAGIC: u16 = 0xef53;
/// The first inode of files where the superblock has no field for it.
const OLD_FIRST_INODE: u32 = 11;
const OLD_INODE_SIZE: u16 = 128;

/// `s_feature_incompat`: what a reader must know.
mod incompat {
    pub(super) const FILE_TYPE: u32 = 0x2;
    pub(super) const RECOVER: u32 = 0x4;
    pub(super) const META_BG: u32 = 0x10;
    pub(super) const EXTENTS: u32 = 0x40;
    pub(super) const BITS_64: u32 = 0x80;
    pub(super) const MMP: u32 = 0x100;
    pub(super) const FLEX_BG: u32 = 0x200;
    pub(super) const EA_INODE: u32 = 0x400;
    pub(super) const CSUM_SEED: u32 = 0x2000;
    pub(super) const LARGE_DIR: u32 = 0x4000;
    pub(super) const INLINE_DATA: u32 = 0x8000;
    pub(super) const ENCRYPT: u32 = 0x1_0000;
    pub(super) const CASEFOLD: u32 = 0x2_0000;
    pub(super) const KNOWN: u32 = FILE_TYPE
        | RECOVER
        | META_BG
        | EXTENTS
        | BITS_64
        | MMP
        | FLEX_BG
        | EA_INODE
        | CSUM_SEED
        | LARGE_DIR
        | INLINE_DATA
        | ENCRYPT
        | CASEFOLD;
}

/// `s_feature_ro_compat`: none of them keeps anyone from reading; these say what there is.
mod read_only {
    pub(super) const SPARSE_SUPER: u32 = 0x1;
    pub(super) const GROUP_CHECKSUMS: u32 = 0x10;
    pub(super) const METADATA_CHECKSUMS: u32 = 0x400;
}

/// `s_feature_compat`.
const SPARSE_SUPER_2: u32 = 0x200;

/// As stored. Nothing here has been checked.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    inodes: U32,
    blocks_low: U32,
    _reserved_and_free: [u8; 12],
    first_data_block: U32,
    block_size_log: U32,   // 1024 << this bytes
    cluster_size_log: U32, // likewise
    blocks_per_group: U32,
    _clusters_per_group: U32,
    inodes_per_group: U32,
    _times_and_counts: [u8; 12],
    magic: U16,
    _state: [u8; 18],
    revision: U32,
    _owner: U32,
    first_inode: U32,
    inode_size: U16, // bytes
    _group: U16,
    compatible: U32,
    incompatible: U32,
    read_only: U32,
    uuid: [u8; 16],
    _names: [u8; 134],
    descriptor_size: U16, // bytes
    _mount: U32,
    first_meta_group: U32,
    _journal: [u8; 72],
    blocks_high: U32,
    _counts: [u8; 33],
    checksum_type: u8,
    _statistics: [u8; 214],
    backup_groups: [U32; 2],
    _security: [u8; 28],
    checksum_seed: U32,
    _more: [u8; 392],
    checksum: U32,
}
const _: () = assert!(size_of::<Raw>() == SIZE);

/// What the superblock says, proven to be possible.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    /// Bytes of a block: a power of two, 1 to 64 KiB.
    pub(super) block_size: usize,
    /// Bytes of a cluster, which extended attributes of symlinks are counted by.
    pub(super) cluster_size: u64,
    /// How many blocks there are; all lie within the image.
    pub(super) blocks: u64,
    /// The number of the last inode.
    pub(super) inodes: u32,
    /// The first inode that a name may lead to, besides the root.
    pub(super) first_inode: u32,
    /// Bytes of an inode, at least 128.
    pub(super) inode_size: usize,
    /// Whether attributes may have inodes of their own.
    pub(super) attribute_inodes: bool,
    /// Whether directories may be longer than 4 GiB.
    pub(super) large_directories: bool,
    /// What all checksums of metadata begin with, where they are used.
    pub(super) seed: u32,
    /// Whether metadata have checksums, and they are to be verified.
    pub(super) checksums: bool,
    group_checksums: bool,
    uuid: [u8; 16],
    first_data_block: u64,
    blocks_per_group: u64,
    inodes_per_group: u32,
    descriptor_size: usize,
    /// The first meta-group, where there are any.
    first_meta_group: Option<u64>,
    backups: Backups,
}

/// Which groups have a copy of the superblock.
#[derive(Clone, Copy, Debug)]
enum Backups {
    All,
    Sparse,
    Two([u32; 2]),
}

impl Superblock {
    /// Parses and checks; `None` if this is no ext file system. Without `verify`, checksums are taken
    /// as they are.
    pub(super) fn read(source: &Source, verify: bool) -> Result<Option<Self>, ReadError> {
        if source.size() < OFFSET + 1024 {
            return Ok(None);
        }
        let mut bytes = [0; SIZE];
        source.read(OFFSET, &mut bytes)?;
        let raw: &Raw = zerocopy::transmute_ref!(&bytes);
        if raw.magic != MAGIC {
            return Ok(None);
        }
        known(source, raw)?;
        let new = Self::parse(raw, verify).map_err(|what| source.damaged(OFFSET, what))?;
        if new.checksums && crc32c(!0, &bytes[..SIZE - 4]) != raw.checksum.get() {
            return Err(source.damaged(OFFSET, "the checksum of the superblock is wrong"));
        }
        let length = new.blocks.checked_mul(block_u64(new.block_size));
        if length.is_none_or(|length| length > source.size()) {
            return Err(source.damaged(OFFSET, "it has more blocks than there is room for"));
        }
        Ok(Some(new))
    }

    fn parse(raw: &Raw, verify: bool) -> Result<Self, &'static str> {
        let has = |feature| raw.incompatible.get() & feature != 0;
        let has_read_only = |feature| raw.read_only.get() & feature != 0;
        let old = raw.revision.get() == 0;
        let checksums = has_read_only(read_only::METADATA_CHECKSUMS);
        if checksums && raw.checksum_type != 1 {
            return Err("its checksums are of an unknown kind");
        }
        let new = Self {
            block_size: size(raw.block_size_log.get()).ok_or("the block size is impossible")?,
            cluster_size: Some(raw.cluster_size_log.get())
                .filter(|log| *log <= 29)
                .map(|log| 1024 << log)
                .ok_or("the cluster size is impossible")?,
            blocks: u64::from(raw.blocks_low.get())
                | if has(incompat::BITS_64) {
                    u64::from(raw.blocks_high.get()) << 32
                } else {
                    0
                },
            inodes: raw.inodes.get(),
            first_inode: if old {
                OLD_FIRST_INODE
            } else {
                raw.first_inode.get()
            },
            inode_size: usize::from(if old {
                OLD_INODE_SIZE
            } else {
                raw.inode_size.get()
            }),
            attribute_inodes: has(incompat::EA_INODE),
            large_directories: has(incompat::LARGE_DIR),
            seed: if has(incompat::CSUM_SEED) {
                raw.checksum_seed.get()
            } else {
                crc32c(!0, &raw.uuid)
            },
            checksums: checksums && verify,
            group_checksums: has_read_only(read_only::GROUP_CHECKSUMS) && !checksums && verify,
            uuid: raw.uuid,
            first_data_block: raw.first_data_block.get().into(),
            blocks_per_group: raw.blocks_per_group.get().into(),
            inodes_per_group: raw.inodes_per_group.get(),
            descriptor_size: if has(incompat::BITS_64) {
                raw.descriptor_size.get().into()
            } else {
                32
            },
            first_meta_group: has(incompat::META_BG).then(|| raw.first_meta_group.get().into()),
            backups: if raw.compatible.get() & SPARSE_SUPER_2 != 0 {
                Backups::Two(raw.backup_groups.map(U32::get))
            } else if has_read_only(read_only::SPARSE_SUPER) {
                Backups::Sparse
            } else {
                Backups::All
            },
        };
        new.check().map(|()| new)
    }

    fn check(&self) -> Result<(), &'static str> {
        let block = self.block_size;
        let bits = block_u64(block) * 8;
        // A group's bitmap is a block, and counts clusters.
        let most = bits.saturating_mul((self.cluster_size / block_u64(block)).max(1));
        let descriptor = self.descriptor_size;
        let possible = [
            (
                self.inode_size.is_power_of_two() && (128..=block).contains(&self.inode_size),
                "the inode size is impossible",
            ),
            (
                self.first_inode >= OLD_FIRST_INODE,
                "its first inode is impossible",
            ),
            (
                (1..=most).contains(&self.blocks_per_group),
                "the blocks of a group are impossible",
            ),
            (
                self.inodes_per_group > 0 && u64::from(self.inodes_per_group) <= bits,
                "the inodes of a group are impossible",
            ),
            (
                descriptor.is_power_of_two() && (32..=block.min(1024)).contains(&descriptor),
                "the size of group descriptors is impossible",
            ),
            (
                self.first_data_block < self.blocks,
                "its first block is not within",
            ),
            (
                u64::from(self.inodes)
                    <= self.groups().saturating_mul(self.inodes_per_group.into()),
                "it has more inodes than its groups",
            ),
        ];
        match possible.iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(what),
            None => Ok(()),
        }
    }

    fn groups(&self) -> u64 {
        let blocks = self.blocks.saturating_sub(self.first_data_block);
        blocks.div_ceil(self.blocks_per_group.max(1))
    }

    /// The byte at which a block begins; `None` if there is no such block.
    pub(super) fn offset(&self, block: u64) -> Option<u64> {
        (block < self.blocks).then(|| block * block_u64(self.block_size))
    }

    /// The byte at which an inode begins; `None` if there is no such inode.
    pub(super) fn inode(&self, source: &Source, number: u32) -> Result<Option<u64>, ReadError> {
        let Some(index) = number.checked_sub(1).filter(|_| number <= self.inodes) else {
            return Ok(None);
        };
        let table = self.inode_table(source, index / self.inodes_per_group)?;
        let within = u64::from(index % self.inodes_per_group) * block_u64(self.inode_size);
        let block = table.checked_add(within / block_u64(self.block_size));
        let offset = block.and_then(|block| self.offset(block));
        let offset = offset.map(|offset| offset + within % block_u64(self.block_size));
        offset.map(Some).ok_or_else(|| {
            source.damaged(OFFSET, "a table of inodes is not within the file system")
        })
    }

    /// The first block of a group's inodes.
    fn inode_table(&self, source: &Source, group: u32) -> Result<u64, ReadError> {
        let per_block = self.block_size / self.descriptor_size;
        let index = usize::try_from(group).unwrap_or(usize::MAX);
        let block = self.descriptor_block(block_u64(index / per_block));
        let offset = block.and_then(|block| self.offset(block)).ok_or_else(|| {
            source.damaged(OFFSET, "group descriptors are not within the file system")
        })?;
        let block = source.block(offset, self.block_size)?;
        let start = index % per_block * self.descriptor_size;
        let bytes = &block[start..start + self.descriptor_size];
        if !self.is_sound(group, bytes) {
            let at = offset + block_u64(start);
            return Err(source.damaged(at, "the checksum of a group descriptor is wrong"));
        }
        let low = u32_at(bytes, 8);
        let high = if bytes.len() >= 64 {
            u32_at(bytes, 40)
        } else {
            0
        };
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    /// The `number`th block of group descriptors.
    fn descriptor_block(&self, number: u64) -> Option<u64> {
        let superblock = OFFSET / block_u64(self.block_size);
        if self.first_meta_group.is_none_or(|first| number < first) {
            return number.checked_add(superblock + 1);
        }
        let group = number * block_u64(self.block_size / self.descriptor_size);
        let start = group
            .checked_mul(self.blocks_per_group)?
            .checked_add(self.first_data_block)?;
        let mut before = u64::from(self.has_backup(group));
        // The boot block comes first where blocks are small but clusters are not.
        if number == 0 && superblock == 1 && self.first_data_block == 0 {
            before += 1;
        }
        start.checked_add(before)
    }

    fn has_backup(&self, group: u64) -> bool {
        let is_power = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        match self.backups {
            _ if group == 0 => true,
            Backups::Two(groups) => groups.map(u64::from).contains(&group),
            Backups::All => true,
            Backups::Sparse => group == 1 || [3, 5, 7].into_iter().any(is_power),
        }
    }

    fn is_sound(&self, group: u32, descriptor: &[u8]) -> bool {
        const AT: usize = 30;
        let stored = u16_at(descriptor, AT);
        let number = group.to_le_bytes();
        if self.checksums {
            let sum = crc32c_without(crc32c(self.seed, &number), descriptor, AT, 2);
            return low16(sum) == stored;
        }
        if !self.group_checksums {
            return true;
        }
        let behind = descriptor.get(AT + 2..).unwrap_or_default();
        let parts = [&self.uuid, &number[..], &descriptor[..AT], behind];
        parts.iter().fold(!0, |crc, part| crc16(crc, part)) == stored
    }
}

/// Refuses what this reader does not know.
fn known(source: &Source, raw: &Raw) -> Result<(), ReadError> {
    let unknown = raw.incompatible.get() & !incompat::KNOWN;
    if unknown != 0 {
        let what = format!("it has features that are not known (incompatible, {unknown:#x})");
        return Err(source.unsupported(&what));
    }
    Ok(())
}

fn size(log: u32) -> Option<usize> {
    (log <= 6).then(|| 1024 << log)
}

/// Sizes of blocks and places within them are small.
pub(super) fn block_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// The little-endian number at `at`, which lies within.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The little-endian number at `at`, which lies within.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
