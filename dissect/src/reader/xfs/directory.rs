//! The entries of a directory: within the inode, or in blocks ("XFS Algorithms & Data Structures",
//! "Directories"). Blocks that index them by hashes are not needed.

use std::collections::HashSet;

use filetree::reader::{Entry, Place, Visit};
use filetree::{Name, ReadError};

use super::Volume;
use super::bytes::{be16, be32, be64, is_sound};
use super::extents;
use super::inode::{Format, Stored};

/// Entries end at this byte of a directory; behind it is the index.
const INDEX: u64 = 1 << 35;
/// Bytes of the header of a block, version 4 and 5.
const OLD_HEADER: usize = 16;
const HEADER: usize = 64;
const CHECKSUM: usize = 4;
const OWNER: usize = 40;
/// Bytes of an entry before its name.
const ENTRY: usize = 9;
/// Marks room that is not used.
const UNUSED: u16 = 0xffff;

/// Hands on the entries, without `.` and `..`.
pub(super) fn entries(
    volume: &Volume,
    inode: &Stored,
    visit: &mut Visit<'_>,
) -> Result<(), ReadError> {
    let mut list = List {
        volume,
        inode,
        visit,
    };
    let root = inode.data();
    if root.format == Format::Local {
        return list.short(root.bytes);
    }
    let each = volume.superblock.directory_blocks;
    let end = INDEX / volume.superblock.block_u64();
    let extents = extents::read(volume, inode, root)?;
    let mut done = None;
    let mut visited = HashSet::new();
    for extent in &extents {
        for index in 0..extent.length.min(end.saturating_sub(extent.logical)) {
            let place = extent.physical + index;
            if !visited.insert(place) {
                return Err(list.damaged("a directory has a block twice"));
            }
            volume.claim(place, inode)?;
            let number = (extent.logical + index) / each;
            if done != Some(number) {
                let wanted = number * each..(number + 1) * each;
                list.block(&extents::blocks(volume, inode, &extents, wanted)?)?;
                done = Some(number);
            }
        }
    }
    Ok(())
}

struct List<'a, 'b> {
    volume: &'a Volume,
    inode: &'a Stored,
    visit: &'a mut Visit<'b>,
}

impl List<'_, '_> {
    /// Entries within the inode. Numbers of inodes have four bytes unless one needs more.
    fn short(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        const WHAT: &str = "a directory within an inode is impossible";
        let short = || self.volume.source.damaged(self.inode.offset, WHAT);
        let [count, large, rest @ ..] = bytes else {
            return Err(short());
        };
        let width = if *large == 0 { 4 } else { 8 };
        let mut rest = rest.get(width..).ok_or_else(short)?;
        for _ in 0..*count {
            let length = usize::from(*rest.first().ok_or_else(short)?);
            let kind = usize::from(self.volume.superblock.file_types);
            let end = 3 + length + kind;
            let name = rest.get(3..3 + length).ok_or_else(short)?;
            let number = rest.get(end..end + width).ok_or_else(short)?;
            let number = match width {
                4 => be32(number, 0).into(),
                _ => be64(number, 0),
            };
            rest = &rest[end + width..];
            self.entry(name, number)?;
        }
        Ok(())
    }

    /// The entries of one block.
    fn block(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let superblock = &self.volume.superblock;
        let (header, only, one_of_many) = match superblock.version5 {
            true => (HEADER, b"XDB3", b"XDD3"),
            false => (OLD_HEADER, b"XD2B", b"XD2D"),
        };
        let only = bytes.starts_with(only);
        if !only && !bytes.starts_with(one_of_many) {
            return Err(self.damaged("a block of a directory is none"));
        }
        let owned = !superblock.checksums
            || is_sound(bytes, CHECKSUM) && be64(bytes, OWNER) == self.inode.number;
        if !owned {
            return Err(self.damaged("the checksum of a directory is wrong"));
        }
        let end = if only {
            self.end(bytes)
        } else {
            Some(bytes.len())
        };
        let area = end.and_then(|end| bytes.get(..end));
        let area = area.ok_or_else(|| self.damaged("the index of a directory is impossible"))?;
        let mut at = header;
        while at < area.len() {
            at += self.next(&area[at..])?;
        }
        Ok(())
    }

    /// A directory of one block has its index at the end, and its length in the last eight bytes.
    fn end(&self, bytes: &[u8]) -> Option<usize> {
        let tail = bytes.len().checked_sub(8)?;
        let count = usize::try_from(be32(bytes, tail)).ok()?;
        tail.checked_sub(count.checked_mul(8)?)
    }

    /// One entry or piece of unused room; gives its length.
    fn next(&mut self, bytes: &[u8]) -> Result<usize, ReadError> {
        let impossible = || {
            let what = "an entry of a directory is impossible";
            self.volume.source.damaged(self.inode.offset, what)
        };
        let head = bytes.get(..8).ok_or_else(impossible)?;
        if be16(head, 0) == UNUSED {
            let length = usize::from(be16(head, 2));
            let sound = length >= 8 && length.is_multiple_of(8) && length <= bytes.len();
            return if sound { Ok(length) } else { Err(impossible()) };
        }
        let length = usize::from(*bytes.get(8).ok_or_else(impossible)?);
        let kind = usize::from(self.volume.superblock.file_types);
        let whole = (ENTRY + length + kind + 2).next_multiple_of(8);
        if whole > bytes.len() {
            return Err(impossible());
        }
        self.entry(&bytes[ENTRY..ENTRY + length], be64(head, 0))?;
        Ok(whole)
    }

    fn entry(&mut self, name: &[u8], number: u64) -> Result<(), ReadError> {
        if matches!(name, b"." | b"..") {
            return Ok(());
        }
        let name = Name::new(name).map_err(|_| self.damaged("a name is impossible"))?;
        (self.visit)(Entry {
            name,
            place: Place {
                volume: 0,
                inode: number,
            },
        })
    }

    fn damaged(&self, what: &'static str) -> ReadError {
        self.volume.source.damaged(self.inode.offset, what)
    }
}
