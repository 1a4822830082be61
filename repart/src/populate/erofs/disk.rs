//! EROFS as stored: superblock, inodes, directory entries, attribute entries.
//!
//! From the kernel's description of the format (Documentation/filesystems/erofs.rst). All integers
//! are little-endian. Pure.

use filetree::DeviceNumber;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

/// Where the superblock begins, in bytes.
pub(super) const SUPERBLOCK_OFFSET: u64 = 1024;
/// The unit of inode addresses: an inode's number is its offset in these.
pub(super) const SLOT: u64 = 32;
/// The address of a chunk that is a hole.
pub(super) const HOLE: u32 = u32::MAX;

pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
/// The superblock's block carries a checksum, and inodes carry the time of the data's change.
pub(super) const COMPATIBLE: u32 = 0x1 | 0x2;
/// Some files are stored by chunks.
pub(super) const INCOMPATIBLE_CHUNKED: u32 = 0x4;

/// The superblock.
#[derive(Default, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Superblock {
    pub(super) magic: U32,
    pub(super) checksum: U32,
    pub(super) compatible: U32,
    pub(super) block_bits: u8,
    pub(super) extra_slots: u8,
    pub(super) root: U16, // number of the root's inode
    pub(super) inodes: U64,
    pub(super) build_seconds: U64,
    pub(super) build_nanoseconds: U32,
    pub(super) blocks: U32,
    pub(super) metadata_block: U32,
    pub(super) xattr_block: U32,
    pub(super) uuid: [u8; 16],
    pub(super) label: [u8; 16],
    pub(super) incompatible: U32,
    pub(super) algorithms: U16,
    pub(super) devices: U16,
    pub(super) device_slot: U16,
    pub(super) directory_block_bits: u8,
    pub(super) xattr_prefixes: u8,
    pub(super) xattr_prefix_start: U32,
    pub(super) packed: U64,
    pub(super) reserved: [u8; 24],
}
const _: () = assert!(size_of::<Superblock>() == 128);

/// The short inode: 16-bit owners, the build time as its time, sizes below 4 GiB.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Compact {
    pub(super) format: U16,
    pub(super) xattr_count: U16,
    pub(super) mode: U16,
    pub(super) links: U16,
    pub(super) size: U32,
    pub(super) reserved: U32,
    pub(super) data: U32, // block address, device number or chunk format
    pub(super) number: U32,
    pub(super) uid: U16,
    pub(super) gid: U16,
    pub(super) reserved2: U32,
}
const _: () = assert!(size_of::<Compact>() == 32);

/// The full inode.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Extended {
    pub(super) format: U16,
    pub(super) xattr_count: U16,
    pub(super) mode: U16,
    pub(super) reserved: U16,
    pub(super) size: U64,
    pub(super) data: U32,
    pub(super) number: U32,
    pub(super) uid: U32,
    pub(super) gid: U32,
    pub(super) seconds: U64,
    pub(super) nanoseconds: U32,
    pub(super) links: U32,
    pub(super) reserved2: [u8; 16],
}
const _: () = assert!(size_of::<Extended>() == 64);

/// One entry of a directory's block; the names follow all entries.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Dirent {
    pub(super) inode: U64,
    pub(super) name_offset: U16,
    pub(super) kind: u8,
    pub(super) reserved: u8,
}
const _: () = assert!(size_of::<Dirent>() == 12);

/// What comes before an inode's own attributes.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct XattrHeader {
    pub(super) name_filter: U32,
    pub(super) shared: u8,
    pub(super) reserved: [u8; 7],
}
const _: () = assert!(size_of::<XattrHeader>() == 12);

/// One attribute; name without prefix and value follow.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct XattrEntry {
    pub(super) name_length: u8,
    pub(super) prefix: u8,
    pub(super) value_size: U16,
}
const _: () = assert!(size_of::<XattrEntry>() == 4);

/// A device number as the kernel packs it; `None` where it has no room (12 and 20 bits).
pub(super) fn device(number: DeviceNumber) -> Option<u32> {
    let DeviceNumber { major, minor } = number;
    (major < 1 << 12 && minor < 1 << 20)
        .then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers() {
        for (major, minor, packed) in [
            (1, 3, Some(0x103)),
            (8, 0x12345, Some(0x1230_0845)),
            (4095, 0xf_ffff, Some(0xffff_ffff)),
            (4096, 0, None),
            (0, 1 << 20, None),
        ] {
            assert_eq!(device(DeviceNumber { major, minor }), packed);
        }
    }
}
