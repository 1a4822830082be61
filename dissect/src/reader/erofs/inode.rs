//! Inodes as they are stored: compact (32 bytes) and extended (64 bytes).

use filetree::{DeviceNumber, Metadata, ReadError, Timestamp};

use super::bytes::{u16_at, u32_at, u64_at};
use super::{Area, IN_BOX, Image, damaged, unsupported, xattr};

/// An inode, and where what follows it begins.
#[derive(Clone, Debug)]
pub(super) struct RawInode {
    pub(super) area: Area,
    /// Where the inode itself is.
    pub(super) place: u64,
    /// Where its attributes are.
    pub(super) xattrs: u64,
    /// Bytes of its attributes.
    pub(super) xattr_size: u64,
    pub(super) layout: Layout,
    /// Bytes of its content.
    pub(super) size: u64,
    /// The number that means something else for each layout.
    pub(super) word: u32,
    /// The block where data begins; `None` for a hole.
    pub(super) start: Option<u64>,
    pub(super) shape: Shape,
    mode: u16,
    uid: u32,
    gid: u32,
    mtime: Timestamp,
}

/// How content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Plain,
    /// Compressed, 8 bytes for each cluster, or extents.
    Full,
    /// The last block follows the inode.
    Inline,
    /// Compressed, 2 or 4 bytes for each cluster.
    Compact,
    Chunks,
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Directory,
    File,
    Symlink,
    CharacterDevice(DeviceNumber),
    BlockDevice(DeviceNumber),
    Fifo,
    Socket,
}

const EXTENDED: u16 = 0x1;
/// Of a compact inode that is no directory: the number of links is 1, and its place is used otherwise.
const ONE_LINK: u16 = 0x10;
const KNOWN: u16 = 0x1f;

/// The start of a file that is one hole.
const NOWHERE: u64 = u32::MAX as u64;
const NOWHERE_WIDE: u64 = (1 << 48) - 1;

impl RawInode {
    pub(super) fn read(image: &Image, number: u64) -> Result<Self, ReadError> {
        let (area, base) = match number & IN_BOX {
            0 => (Area::Image, image.superblock.inodes),
            _ => (Area::Box, 0),
        };
        let place = (number & !IN_BOX)
            .checked_mul(32)
            .and_then(|at| at.checked_add(base))
            .ok_or(damaged(0, "an inode lies outside the image"))?;
        let mut raw = [0; 64];
        image.read(area, &mut raw[..32], place)?;
        let format = u16_at(&raw, 0);
        if format & !KNOWN != 0 {
            let what = format!("inode {number} has the unknown format {format:#x}");
            return Err(unsupported(what));
        }
        if format & EXTENDED != 0 {
            image.read(area, &mut raw[32..], place.saturating_add(32))?;
        }
        Self::parse(&raw, (area, place), image)
    }

    fn parse(raw: &[u8; 64], (area, place): (Area, u64), image: &Image) -> Result<Self, ReadError> {
        let format = u16_at(raw, 0);
        let extended = format & EXTENDED != 0;
        let layout = match format >> 1 & 7 {
            0 => Layout::Plain,
            1 => Layout::Full,
            2 => Layout::Inline,
            3 => Layout::Compact,
            4 => Layout::Chunks,
            _ => return Err(damaged(place, "there is no such layout of an inode")),
        };
        let mode = u16_at(raw, 4);
        let word = u32_at(raw, 16);
        let shape = shape(mode, word).ok_or(damaged(place, "there is no such kind of inode"))?;
        let wide = extended || (format & ONE_LINK != 0 && shape != Shape::Directory);
        let high = if wide { u16_at(raw, 6) } else { 0 };
        let start = u64::from(high) << 32 | u64::from(word);
        let nowhere = if wide { NOWHERE_WIDE } else { NOWHERE };
        let length = if extended { 64 } else { 32 };
        let size = match extended {
            true => u64_at(raw, 8),
            false => u64::from(u32_at(raw, 8)),
        };
        // Positions in files are signed.
        if i64::try_from(size).is_err() {
            return Err(damaged(place, "a file is impossibly big"));
        }
        let count = u64::from(u16_at(raw, 2));
        Ok(Self {
            area,
            place,
            xattrs: place.saturating_add(length),
            xattr_size: match count {
                0 => 0,
                count => count * 4 + 8,
            },
            layout,
            size,
            word,
            start: Some(start).filter(|start| *start != nowhere),
            shape,
            mode: mode & 0o7777,
            uid: match extended {
                true => u32_at(raw, 24),
                false => u16_at(raw, 24).into(),
            },
            gid: match extended {
                true => u32_at(raw, 28),
                false => u16_at(raw, 26).into(),
            },
            mtime: mtime(raw, extended, image),
        })
    }

    /// Owner, mode, time and attributes.
    pub(super) fn metadata(&self, image: &Image) -> Result<Metadata, ReadError> {
        Ok(Metadata {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs: xattr::all(image, self)?,
        })
    }

    /// Where what follows inode and attributes begins.
    pub(super) fn body(&self) -> u64 {
        self.xattrs.saturating_add(self.xattr_size)
    }
}

/// Compact inodes count from the time of the file system.
fn mtime(raw: &[u8; 64], extended: bool, image: &Image) -> Timestamp {
    let (seconds, nanoseconds) = match extended {
        true => (u64_at(raw, 32), u32_at(raw, 40)),
        false => (
            image.superblock.epoch.wrapping_add(u32_at(raw, 12).into()),
            image.superblock.nanoseconds,
        ),
    };
    Timestamp {
        seconds: i64::from_le_bytes(seconds.to_le_bytes()),
        nanoseconds: nanoseconds.min(999_999_999),
    }
}

fn shape(mode: u16, word: u32) -> Option<Shape> {
    let number = DeviceNumber {
        major: word >> 8 & 0xfff,
        minor: word & 0xff | word >> 12 & 0xf_ff00,
    };
    Some(match mode >> 12 {
        0o01 => Shape::Fifo,
        0o02 => Shape::CharacterDevice(number),
        0o04 => Shape::Directory,
        0o06 => Shape::BlockDevice(number),
        0o10 => Shape::File,
        0o12 => Shape::Symlink,
        0o14 => Shape::Socket,
        _ => return None,
    })
}
