//! Directories: blocks that each begin with a table of entries, names behind it, sorted.

use filetree::reader::{Entry, Place, Visit};
use filetree::{Name, ReadError};

use super::bytes::{length, u16_at, u64_at};
use super::data::Data;
use super::inode::{RawInode, Shape};
use super::{Image, damaged, place};

/// Bytes of an entry without its name.
const ENTRY: usize = 12;

/// A directory's blocks.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    image: &'a Image,
    data: Data,
    /// Of the inode, for messages.
    place: u64,
}

impl<'a> Blocks<'a> {
    pub(super) fn open(image: &'a Image, inode: u64) -> Result<Self, ReadError> {
        let raw = RawInode::read(image, inode)?;
        if raw.shape != Shape::Directory {
            return Err(damaged(raw.place, "what should be a directory is none"));
        }
        // All its names would not fit, so it need not be read.
        if raw.size > image.memory() {
            return Err(ReadError::Memory(image.memory()));
        }
        Ok(Self {
            image,
            data: Data::new(image, &raw)?,
            place: raw.place,
        })
    }

    /// Hands on all entries but `.` and `..`.
    pub(super) fn entries(&self, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let mut bytes = Vec::new();
        for index in 0..self.count() {
            let block = self.block(index, &mut bytes)?;
            for at in 0..block.count {
                let name = block.name(at)?;
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let name = Name::new(name)
                    .map_err(|_| damaged(self.place, "a directory has an impossible name"))?;
                let place = block.place(at);
                visit(Entry { name, place })?;
            }
        }
        Ok(())
    }

    /// Finds a name as the kernel does: by halves, as names are sorted.
    pub(super) fn lookup(&self, name: &[u8]) -> Result<Option<Place>, ReadError> {
        let mut bytes = Vec::new();
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            let block = self.block(middle, &mut bytes)?;
            if name < block.name(0)? {
                high = middle;
                continue;
            }
            if let Some(found) = block.find(name)? {
                return Ok(Some(found));
            }
            low = middle + 1;
        }
        Ok(None)
    }

    fn count(&self) -> u64 {
        self.data.size().div_ceil(self.image.superblock.block())
    }

    fn block<'b>(&self, index: u64, bytes: &'b mut Vec<u8>) -> Result<Block<'b>, ReadError> {
        let size = self.image.superblock.block();
        let begin = index * size;
        bytes.resize(length((self.data.size() - begin).min(size)), 0);
        self.data.read(self.image, bytes, begin)?;
        let first = usize::from(u16_at(bytes, 8));
        if first < ENTRY || first % ENTRY != 0 || first >= bytes.len() {
            return Err(damaged(self.place, "a directory's table is damaged"));
        }
        Ok(Block {
            bytes,
            count: first / ENTRY,
            directory: self.place,
        })
    }
}

struct Block<'a> {
    bytes: &'a [u8],
    /// How many entries it has: one at least.
    count: usize,
    directory: u64,
}

impl Block<'_> {
    fn name(&self, index: usize) -> Result<&[u8], ReadError> {
        let begin = self.offset(index);
        let last = index + 1 == self.count;
        let end = match last {
            true => self.bytes.len(),
            false => self.offset(index + 1),
        };
        let name = self.bytes.get(begin..end);
        let name = name.filter(|_| begin >= self.count * ENTRY).ok_or(damaged(
            self.directory,
            "a directory's names are not in order",
        ))?;
        // The last name ends with the block, or with a NUL byte.
        let used = name.iter().position(|byte| *byte == 0);
        Ok(&name[..used.filter(|_| last).unwrap_or(name.len())])
    }

    fn find(&self, name: &[u8]) -> Result<Option<Place>, ReadError> {
        for index in 0..self.count {
            if self.name(index)? == name {
                return Ok(Some(self.place(index)));
            }
        }
        Ok(None)
    }

    fn place(&self, index: usize) -> Place {
        place(u64_at(self.bytes, index * ENTRY))
    }

    fn offset(&self, index: usize) -> usize {
        usize::from(u16_at(self.bytes, index * ENTRY + 8))
    }
}
