//! Inodes and directory entries as they are stored.
#![forbid(unsafe_code)]

use filetree::{DeviceNumber, ReadError};

use super::damaged;
use super::metadata::{Budget, Cursor, Source};
use super::superblock::{Superblock, u16_at, u32_at, u64_at};

/// The index of attributes of an inode that has none.
pub(super) const NO_XATTRS: u32 = u32::MAX;

/// The fragment of a file that has none.
const NO_FRAGMENT: u32 = u32::MAX;

/// Bytes of the longest target that a symlink may have.
const LONGEST_TARGET: u32 = 65_535;

#[derive(Debug)]
pub(super) struct RawInode {
    pub(super) mode: u16,
    pub(super) uid: u16,
    pub(super) gid: u16,
    pub(super) mtime: u32,
    pub(super) xattrs: u32,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    Directory(Listing),
    File(RawFile),
    Symlink(Vec<u8>),
    BlockDevice(DeviceNumber),
    CharacterDevice(DeviceNumber),
    Fifo,
    Socket,
}

/// Where a directory's entries are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    pub(super) block: u32,
    pub(super) offset: u16,
    /// Bytes of the listing.
    pub(super) size: u32,
}

/// Where a file's data is.
#[derive(Debug)]
pub(super) struct RawFile {
    pub(super) size: u64,
    pub(super) start: u64,
    /// Index and offset of the fragment that has the tail.
    pub(super) fragment: Option<(u32, u32)>,
    /// Stored sizes.
    pub(super) blocks: Vec<u32>,
}

impl RawInode {
    pub(super) fn read(
        source: &Source,
        superblock: &Superblock,
        place: u64,
        budget: &mut Budget,
    ) -> Result<Self, ReadError> {
        let mut cursor = Cursor::at(superblock.inodes, place)?;
        let head: [u8; 16] = source.take(&mut cursor)?;
        let mut reader = Reader {
            source,
            superblock,
            cursor,
            budget,
            place,
        };
        let (xattrs, body) = reader.body(u16_at(&head, 0))?;
        Ok(Self {
            mode: u16_at(&head, 2),
            uid: u16_at(&head, 4),
            gid: u16_at(&head, 6),
            mtime: u32_at(&head, 8),
            xattrs,
            body,
        })
    }
}

struct Reader<'a> {
    source: &'a Source,
    superblock: &'a Superblock,
    cursor: Cursor,
    budget: &'a mut Budget,
    place: u64,
}

impl Reader<'_> {
    fn body(&mut self, kind: u16) -> Result<(u32, Body), ReadError> {
        let (small, extended) = match kind {
            1..=7 => (kind, false),
            8..=14 => (kind - 7, true),
            _ => return Err(self.damaged("there is no such kind of inode")),
        };
        match (small, extended) {
            (1, false) => {
                let raw: [u8; 16] = self.take()?;
                let size = u32::from(u16_at(&raw, 8));
                self.directory(u32_at(&raw, 0), u16_at(&raw, 10), size, NO_XATTRS)
            }
            (1, true) => {
                let raw: [u8; 24] = self.take()?;
                let xattrs = u32_at(&raw, 20);
                self.directory(u32_at(&raw, 8), u16_at(&raw, 18), u32_at(&raw, 4), xattrs)
            }
            (2, false) => {
                let raw: [u8; 16] = self.take()?;
                let fragment = (u32_at(&raw, 4), u32_at(&raw, 8));
                let (start, size) = (u32_at(&raw, 0).into(), u32_at(&raw, 12).into());
                Ok((NO_XATTRS, self.file(start, size, fragment)?))
            }
            (2, true) => {
                let raw: [u8; 40] = self.take()?;
                let fragment = (u32_at(&raw, 28), u32_at(&raw, 32));
                let file = self.file(u64_at(&raw, 0), u64_at(&raw, 8), fragment)?;
                Ok((u32_at(&raw, 36), file))
            }
            (3, extended) => self.symlink(extended),
            (4 | 5, extended) => {
                let raw: [u8; 8] = self.take()?;
                let number = device(u32_at(&raw, 4));
                let body = match small {
                    4 => Body::BlockDevice(number),
                    _ => Body::CharacterDevice(number),
                };
                Ok((self.xattrs(extended)?, body))
            }
            (_, extended) => {
                let _links: [u8; 4] = self.take()?;
                let body = if small == 6 { Body::Fifo } else { Body::Socket };
                Ok((self.xattrs(extended)?, body))
            }
        }
    }

    fn directory(
        &mut self,
        block: u32,
        offset: u16,
        size: u32,
        xattrs: u32,
    ) -> Result<(u32, Body), ReadError> {
        // 3 bytes are counted for `.` and `..`, which are not stored; an empty one may say 0.
        let size = size.saturating_sub(3);
        let listing = Listing {
            block,
            offset,
            size,
        };
        Ok((xattrs, Body::Directory(listing)))
    }

    fn file(&mut self, start: u64, size: u64, fragment: (u32, u32)) -> Result<Body, ReadError> {
        let block = u64::from(self.superblock.block_size.bytes());
        let fragment = Some(fragment).filter(|(index, _)| *index != NO_FRAGMENT);
        let count = match fragment {
            Some(_) => size / block,
            None => size.div_ceil(block),
        };
        // The list here, the places made of it later, and the ranges that are no holes.
        self.budget.take(count.saturating_mul(64))?;
        let length = count
            .checked_mul(4)
            .and_then(|length| usize::try_from(length).ok())
            .ok_or_else(|| self.damaged("a file is impossibly big"))?;
        let raw = self.source.bytes(&mut self.cursor, length)?;
        let blocks = raw.chunks_exact(4).map(|raw| u32_at(raw, 0)).collect();
        Ok(Body::File(RawFile {
            size,
            start,
            fragment,
            blocks,
        }))
    }

    fn symlink(&mut self, extended: bool) -> Result<(u32, Body), ReadError> {
        let raw: [u8; 8] = self.take()?;
        let length = u32_at(&raw, 4);
        if length > LONGEST_TARGET {
            return Err(self.damaged("a symlink's target is too long"));
        }
        self.budget.take(u64::from(length))?;
        let length = usize::try_from(length).unwrap_or(0);
        let target = self.source.bytes(&mut self.cursor, length)?;
        if target.contains(&0) {
            return Err(self.damaged("a symlink's target holds a NUL byte"));
        }
        Ok((self.xattrs(extended)?, Body::Symlink(target)))
    }

    fn xattrs(&mut self, extended: bool) -> Result<u32, ReadError> {
        match extended {
            true => self.take::<4>().map(u32::from_le_bytes),
            false => Ok(NO_XATTRS),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        self.source.take(&mut self.cursor)
    }

    fn damaged(&self, what: &'static str) -> ReadError {
        damaged(
            self.superblock.inodes.saturating_add(self.place >> 16),
            what,
        )
    }
}

fn device(packed: u32) -> DeviceNumber {
    DeviceNumber {
        major: packed >> 8 & 0xfff,
        minor: packed & 0xff | packed >> 12 & 0xf_ff00,
    }
}

/// What a run of directory entries has in common.
#[derive(Debug)]
pub(super) struct DirectoryHeader {
    pub(super) count: u32,
    block: u32,
}

impl DirectoryHeader {
    pub(super) const SIZE: u64 = 12;

    pub(super) fn read(source: &Source, cursor: &mut Cursor) -> Result<Self, ReadError> {
        let raw: [u8; 12] = source.take(cursor)?;
        let count = u32_at(&raw, 0).saturating_add(1);
        if count > 256 {
            return Err(damaged(
                cursor.block(),
                "a directory header counts more than 256 entries",
            ));
        }
        Ok(Self {
            count,
            block: u32_at(&raw, 4),
        })
    }

    /// The next entry: its size, its name, and where its inode is.
    pub(super) fn entry(
        &self,
        source: &Source,
        cursor: &mut Cursor,
    ) -> Result<(u64, Vec<u8>, u64), ReadError> {
        let raw: [u8; 8] = source.take(cursor)?;
        let length = usize::from(u16_at(&raw, 6)) + 1;
        if length > 256 {
            return Err(damaged(cursor.block(), "a name is longer than 256 bytes"));
        }
        let name = source.bytes(cursor, length)?;
        let size = 8 + u64::try_from(length).unwrap_or(0);
        let place = u64::from(self.block) << 16 | u64::from(u16_at(&raw, 0));
        Ok((size, name, place))
    }
}
