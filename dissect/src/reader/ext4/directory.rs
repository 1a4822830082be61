//! The entries of a directory, block after block: an index of hashes looks like unused entries (kernel
//! documentation, filesystems/ext4: "Directory Entries").

use filetree::reader::{Entry, Place, Visit};
use filetree::{Name, ReadError};

use super::Volume;
use super::checksum::crc32c;
use super::inode::{Stored, flags};
use super::superblock::{block_u64, u16_at, u32_at};
use super::{map, xattr};

/// Bytes of an entry before its name.
const HEADER: usize = 8;
/// Bytes of the shortest entry, and of the one at the end of a block that holds its checksum.
const SHORTEST: usize = 12;
/// The kind that the entry with the checksum says it is.
const CHECKSUM_KIND: u8 = 0xde;
/// Bytes of the number of the parent, which entries within an inode come behind.
const PARENT: usize = 4;

/// Hands on the entries, without `.` and `..`.
pub(super) fn entries(
    volume: &Volume,
    inode: &Stored,
    visit: &mut Visit<'_>,
) -> Result<(), ReadError> {
    if inode.has(flags::ENCRYPTED) {
        let what = format!("the directory of inode {} is encrypted", inode.number);
        return Err(volume.source.unsupported(&what));
    }
    if inode.has(flags::INLINE) {
        let first = Area::new(inode, &inode.map[PARENT..], inode.offset);
        first.entries(volume, visit)?;
        let rest = xattr::inline_data(volume, inode)?;
        return Area::new(inode, rest, inode.offset).entries(volume, visit);
    }
    let size = block_u64(volume.superblock.block_size);
    let mut visited = std::collections::HashSet::new();
    for extent in map::read(volume, inode)? {
        for index in 0..extent.length {
            let number = extent.physical + index;
            if !visited.insert(number) {
                let what = "a directory has a block twice";
                return Err(volume.source.damaged(number * size, what));
            }
            volume.claim(number, inode)?;
            let bytes = volume.block(number)?;
            let area = Area::new(inode, &bytes, number * size);
            area.verify(volume, extent.logical + index == 0)?;
            area.entries(volume, visit)?;
        }
    }
    Ok(())
}

/// Bytes full of entries: a block, or a part of an inode.
struct Area<'a> {
    inode: &'a Stored,
    bytes: &'a [u8],
    offset: u64,
}

impl<'a> Area<'a> {
    fn new(inode: &'a Stored, bytes: &'a [u8], offset: u64) -> Self {
        Self {
            inode,
            bytes,
            offset,
        }
    }

    fn entries(&self, volume: &Volume, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let mut at = 0;
        while at < self.bytes.len() {
            let entry = self.entry(at).ok_or_else(|| {
                let what = "an entry of a directory is impossible";
                volume.source.damaged(self.offset + block_u64(at), what)
            })?;
            let number = u32_at(self.bytes, at);
            if number != 0 {
                self.visit(volume, at, number, visit)?;
            }
            at += entry;
        }
        Ok(())
    }

    /// How long the entry at `at` is; `None` if that cannot be.
    fn entry(&self, at: usize) -> Option<usize> {
        let rest = self.bytes.get(at..).filter(|rest| rest.len() >= HEADER)?;
        let length = record(u16_at(rest, 4), self.bytes.len());
        let name = HEADER + usize::from(rest[6]);
        let sound = length.is_multiple_of(4)
            && length >= SHORTEST
            && length >= name.next_multiple_of(4)
            && length <= rest.len();
        sound.then_some(length)
    }

    fn visit(
        &self,
        volume: &Volume,
        at: usize,
        number: u32,
        visit: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        let start = at + HEADER;
        let name = &self.bytes[start..start + usize::from(self.bytes[at + 6])];
        if matches!(name, b"." | b"..") {
            return Ok(());
        }
        let damaged = |what| volume.source.damaged(self.offset + block_u64(at), what);
        if number < volume.superblock.first_inode || number > volume.superblock.inodes {
            return Err(damaged("a name leads to no inode"));
        }
        let name = Name::new(name).map_err(|_| damaged("a name is impossible"))?;
        visit(Entry {
            name,
            place: Place {
                volume: 0,
                inode: number.into(),
            },
        })
    }

    /// Checks the checksum of a block.
    fn verify(&self, volume: &Volume, first: bool) -> Result<(), ReadError> {
        if !volume.superblock.checksums || self.is_sound_leaf() {
            return Ok(());
        }
        if self.inode.has(flags::INDEXED) && self.is_sound_index(first) == Some(true) {
            return Ok(());
        }
        let what = "the checksum of a directory is wrong";
        Err(volume.source.damaged(self.offset, what))
    }

    /// A leaf ends in an entry without a name, whose last bytes are the checksum.
    fn is_sound_leaf(&self) -> bool {
        let (entries, tail) = self.bytes.split_at(self.bytes.len() - SHORTEST);
        let marked = u32_at(tail, 0) == 0
            && usize::from(u16_at(tail, 4)) == SHORTEST
            && tail[6..HEADER] == [0, CHECKSUM_KIND];
        marked && u32_at(tail, HEADER) == crc32c(self.inode.seed, entries)
    }

    /// An index has its checksum behind the room for its entries. `None` if there is no room.
    fn is_sound_index(&self, first: bool) -> Option<bool> {
        // The root stands behind the entries of `.` and `..`, and has a header of its own.
        let at = if first { 32 } else { HEADER };
        let limit = usize::from(u16_at(self.bytes, at));
        let count = usize::from(u16_at(self.bytes, at + 2));
        let used = self
            .bytes
            .get(..at + count * 8)
            .filter(|_| count <= limit)?;
        let tail = at + limit * 8;
        let tail = self.bytes.get(tail..tail + 8)?;
        let sum = crc32c(crc32c(self.inode.seed, used), &tail[..4]);
        Some(crc32c(sum, &[0; 4]) == u32_at(tail, 4))
    }
}

/// The length of an entry. Blocks of 64 KiB need more than 16 bits: the lowest two are the highest.
fn record(stored: u16, area: usize) -> usize {
    let stored = usize::from(stored);
    match stored {
        0 | 0xffff if area >= 1 << 16 => area,
        _ if area >= 1 << 16 => stored & !3 | (stored & 3) << 16,
        _ => stored,
    }
}
