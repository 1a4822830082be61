//! An inode as stored, checked, and what it says of its file (kernel documentation,
//! filesystems/ext4: "Index Nodes").

use std::ops::Range;
use std::sync::Arc;

use filetree::{DeviceNumber, ReadError, Timestamp};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Volume;
use super::checksum::{crc32c, low16};
use super::superblock::{block_u64, u16_at, u32_at};

/// Bytes of the fields that every inode has.
const OLD_SIZE: usize = 128;
/// Bytes behind those in use where an inode does not say: as many as the kernel knows.
const KNOWN_EXTRA: usize = 32;

/// `i_flags`.
pub(super) mod flags {
    pub(in super::super) const ENCRYPTED: u32 = 0x800;
    pub(in super::super) const INDEXED: u32 = 0x1000;
    pub(in super::super) const EXTENTS: u32 = 0x8_0000;
    pub(in super::super) const ATTRIBUTE: u32 = 0x20_0000;
    pub(in super::super) const INLINE: u32 = 0x1000_0000;
}

/// The fields that every inode has, as stored. Nothing here has been checked.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    mode: U16,
    uid_low: U16,
    size_low: U32, // bytes
    access_time: U32,
    change_time: U32,
    mtime: U32, // seconds, signed
    _deletion_time: U32,
    gid_low: U16,
    links: U16,
    sectors: U32, // of 512 bytes
    flags: U32,
    _version: U32,
    map: [u8; 60],
    generation: U32,
    attributes_low: U32, // block
    size_high: U32,
    _fragment: U32,
    _sectors_high: U16,
    attributes_high: U16,
    uid_high: U16,
    gid_high: U16,
    checksum_low: U16,
    _reserved: U16,
}
const _: () = assert!(size_of::<Raw>() == OLD_SIZE);

/// One inode.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) number: u32,
    /// Where it is, in bytes.
    pub(super) offset: u64,
    /// The kind of file and its permission bits.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of the file.
    pub(super) size: u64,
    /// Blocks in use, in 512 bytes (low bits).
    pub(super) sectors: u32,
    pub(super) flags: u32,
    /// The map of its blocks, or what stands in its place.
    pub(super) map: [u8; 60],
    pub(super) generation: u32,
    /// The block of attributes, or 0.
    pub(super) attribute_block: u64,
    /// Seconds of the last access, which an inode of an attribute keeps a hash in.
    pub(super) access_time: u32,
    pub(super) mtime: Timestamp,
    /// What the checksums of its blocks begin with.
    pub(super) seed: u32,
    block: Arc<[u8]>,
    behind: Range<usize>,
}

/// The kinds of file, in the high bits of the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileType {
    Fifo,
    CharacterDevice,
    Directory,
    BlockDevice,
    Regular,
    Symlink,
    Socket,
}

impl Stored {
    /// Reads an inode that a name leads to.
    pub(super) fn read(volume: &Volume, number: u32) -> Result<Self, ReadError> {
        let (source, superblock) = (&volume.source, &volume.superblock);
        let offset = superblock
            .inode(source, number)?
            .ok_or_else(|| source.damaged(super::superblock::OFFSET, "a name leads to no inode"))?;
        let within = offset % block_u64(superblock.block_size);
        let block = source.block(offset - within, superblock.block_size)?;
        let start = usize::try_from(within).unwrap_or(0);
        Self::parse(volume, number, offset, (block, start))
            .map_err(|what| source.damaged(offset, what))
    }

    fn parse(
        volume: &Volume,
        number: u32,
        offset: u64,
        (block, start): (Arc<[u8]>, usize),
    ) -> Result<Self, &'static str> {
        let superblock = &volume.superblock;
        let bytes = &block[start..start + superblock.inode_size];
        let extra = extra_size(bytes)?;
        let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| "an inode is cut off")?;
        let generation = raw.generation.get();
        let seed = crc32c(superblock.seed, &number.to_le_bytes());
        let seed = crc32c(seed, &generation.to_le_bytes());
        if superblock.checksums && !is_sound(bytes, extra, seed) {
            return Err("the checksum of an inode is wrong");
        }
        if raw.links == 0 {
            return Err("a name leads to an inode that is not in use");
        }
        let mode = raw.mode.get();
        let long = superblock.large_directories || file_type(mode) == Some(FileType::Regular);
        let behind = if extra == 0 {
            bytes.len()
        } else {
            OLD_SIZE + extra
        };
        let new = Self {
            number,
            offset,
            mode,
            uid: join(raw.uid_low, raw.uid_high),
            gid: join(raw.gid_low, raw.gid_high),
            size: u64::from(raw.size_low.get())
                | if long {
                    u64::from(raw.size_high.get()) << 32
                } else {
                    0
                },
            sectors: raw.sectors.get(),
            flags: raw.flags.get(),
            map: raw.map,
            generation,
            attribute_block: u64::from(raw.attributes_low.get())
                | if superblock.blocks > u32::MAX.into() {
                    u64::from(raw.attributes_high.get()) << 32
                } else {
                    0
                },
            access_time: raw.access_time.get(),
            mtime: mtime(raw, bytes, extra)?,
            seed,
            behind: start + behind..start + bytes.len(),
            block: Arc::clone(&block),
        };
        if new.size > u64::MAX >> 1 {
            return Err("the size of a file is impossible");
        }
        Ok(new)
    }

    /// `None` where the mode has no kind that there is.
    pub(super) fn file_type(&self) -> Option<FileType> {
        file_type(self.mode)
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The bytes behind the fields, where attributes are.
    pub(super) fn behind(&self) -> &[u8] {
        &self.block[self.behind.clone()]
    }

    /// The byte at which those begin.
    pub(super) fn behind_offset(&self) -> u64 {
        self.offset - self.offset % block_u64(self.block.len()) + block_u64(self.behind.start)
    }

    /// The number of a device: the old form has 8 bits each.
    pub(super) fn device(&self) -> DeviceNumber {
        let old = u32_at(&self.map, 0);
        if old != 0 {
            let [minor, major, ..] = old.to_le_bytes();
            return DeviceNumber {
                major: major.into(),
                minor: minor.into(),
            };
        }
        let new = u32_at(&self.map, 4);
        DeviceNumber {
            major: new >> 8 & 0xfff,
            minor: new & 0xff | new >> 12 & 0xf_ff00,
        }
    }
}

/// How many bytes of fields there are behind the old ones; 0 where the inode does not say.
fn extra_size(bytes: &[u8]) -> Result<usize, &'static str> {
    if bytes.len() == OLD_SIZE {
        return Ok(0);
    }
    let extra = usize::from(u16_at(bytes, OLD_SIZE));
    if extra % 4 != 0 || extra > bytes.len() - OLD_SIZE {
        return Err("the size of an inode's fields is impossible");
    }
    Ok(extra)
}

/// The time, with the bits above 32 and the nanoseconds if the inode has room for them.
fn mtime(raw: &Raw, bytes: &[u8], extra: usize) -> Result<Timestamp, &'static str> {
    const AT: usize = 136;
    let extra = if extra == 0 { KNOWN_EXTRA } else { extra };
    let has = bytes.len() > OLD_SIZE && OLD_SIZE + extra >= AT + 4;
    let more = if has { u32_at(bytes, AT) } else { 0 };
    let nanoseconds = more >> 2;
    if nanoseconds >= 1_000_000_000 {
        return Err("a time has too many nanoseconds");
    }
    Ok(Timestamp {
        seconds: i64::from(raw.mtime.get().cast_signed()) + (i64::from(more & 3) << 32),
        nanoseconds,
    })
}

/// The checksum's lower half is among the old fields, the upper one behind them.
fn is_sound(bytes: &[u8], extra: usize, seed: u32) -> bool {
    const LOW: usize = 124;
    const HIGH: usize = 130;
    let sum = crc32c(crc32c(seed, &bytes[..LOW]), &[0; 2]);
    if extra < 4 {
        let sum = crc32c(sum, &bytes[LOW + 2..]);
        return low16(sum) == u16_at(bytes, LOW);
    }
    let sum = crc32c(crc32c(sum, &bytes[LOW + 2..HIGH]), &[0; 2]);
    let sum = crc32c(sum, &bytes[HIGH + 2..]);
    sum == u32::from(u16_at(bytes, LOW)) | u32::from(u16_at(bytes, HIGH)) << 16
}

fn join(low: U16, high: U16) -> u32 {
    u32::from(low.get()) | u32::from(high.get()) << 16
}

fn file_type(mode: u16) -> Option<FileType> {
    Some(match mode >> 12 {
        0o01 => FileType::Fifo,
        0o02 => FileType::CharacterDevice,
        0o04 => FileType::Directory,
        0o06 => FileType::BlockDevice,
        0o10 => FileType::Regular,
        0o12 => FileType::Symlink,
        0o14 => FileType::Socket,
        _ => return None,
    })
}
