//! Reads a squashfs 4.0 image in place, inode by inode; files read their data lazily.
//!
//! An image is hostile until proven otherwise, so this is Rust over the format, not the C library's
//! reader: every place and size is checked before it is used, nothing is believed that the image
//! says of itself twice, and what one inode may take of memory is bounded by the image's size. What
//! is the same for all formats (loops, limits, paths) is [`filetree::reader`]'s. Reading never repairs.
#![forbid(unsafe_code)]

mod data;
mod inode;
mod metadata;
mod superblock;
mod tables;

use std::sync::Arc;

use filetree::reader::{Entry, Place, Visit};
use filetree::{
    Content, Inode, Kind, Limits, Metadata, Name, ReadAt, ReadError, Reader, Timestamp,
};

use data::Cache;
use inode::{Body, DirectoryHeader, Listing, RawInode};
use metadata::{Budget, Cursor, Source};
use superblock::Superblock;
use tables::Tables;

/// The name in messages.
const FORMAT: &str = "squashfs";

/// A squashfs image, opened. Several threads may read it.
#[derive(Debug)]
pub struct Squashfs(Arc<Image>);

#[derive(Debug)]
struct Image {
    superblock: Superblock,
    source: Source,
    tables: Tables,
    cache: Cache,
    /// Bytes that one inode may take.
    memory: u64,
}

/// Opens the file system at the beginning of `image`, which has `size` bytes; `None` if it is no
/// squashfs. The readers of the files keep `image`.
pub fn open(image: Arc<dyn ReadAt>, size: u64) -> Result<Option<Squashfs>, ReadError> {
    let mut raw = [0; superblock::SIZE];
    image
        .read_exact_at(&mut raw, 0)
        .map_err(|source| ReadError::Read {
            format: FORMAT,
            offset: 0,
            source,
        })?;
    let Some(superblock) = Superblock::parse(&raw)? else {
        return Ok(None);
    };
    if superblock.size > size {
        return Err(damaged(
            40,
            "it says that it is bigger than what it is stored in",
        ));
    }
    let source = Source::new(image, &superblock)?;
    let tables = Tables::read(&source, &superblock)?;
    Ok(Some(Squashfs(Arc::new(Image {
        superblock,
        source,
        tables,
        cache: Cache::default(),
        memory: Limits::for_image(size).memory,
    }))))
}

impl Reader for Squashfs {
    fn root(&self) -> Place {
        place(self.0.superblock.root)
    }

    fn inode(&self, place: Place) -> Result<Inode, ReadError> {
        let image = &*self.0;
        let mut budget = Budget::new(image.memory);
        let raw = image.inode(place.inode, &mut budget)?;
        let metadata = image.metadata(&raw, &mut budget)?;
        let kind = match raw.body {
            Body::Directory(_) => Kind::Directory(Default::default()),
            Body::File(file) => {
                let size = file.size;
                let (file, data) = data::File::new(Arc::clone(&self.0), file)?;
                match size {
                    0 => Kind::File(Content::from_bytes([])),
                    _ => Kind::File(Content::from_reader(Arc::new(file), size, data)),
                }
            }
            Body::Symlink(target) => Kind::Symlink(target.into()),
            Body::CharacterDevice(number) => Kind::CharacterDevice(number),
            Body::BlockDevice(number) => Kind::BlockDevice(number),
            Body::Fifo => Kind::Fifo,
            Body::Socket => Kind::Socket,
        };
        Ok(Inode { metadata, kind })
    }

    fn entries(&self, directory: Place, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let image = &*self.0;
        let mut budget = Budget::new(image.memory);
        match image.inode(directory.inode, &mut budget)?.body {
            Body::Directory(listing) => {
                budget.take(listing.size.into())?;
                image.entries(listing, visit)
            }
            _ => Err(damaged(
                directory.inode,
                "what should be a directory is none",
            )),
        }
    }
}

impl Image {
    fn inode(&self, place: u64, budget: &mut Budget) -> Result<RawInode, ReadError> {
        RawInode::read(&self.source, &self.superblock, place, budget)
    }

    fn metadata(&self, raw: &RawInode, budget: &mut Budget) -> Result<Metadata, ReadError> {
        let id = |index: u16| self.tables.ids.get(usize::from(index)).copied();
        let (Some(uid), Some(gid)) = (id(raw.uid), id(raw.gid)) else {
            return Err(damaged(0, "an owner is missing in the table"));
        };
        Ok(Metadata {
            mode: raw.mode & 0o7777,
            uid,
            gid,
            mtime: Timestamp {
                seconds: i64::from(raw.mtime),
                nanoseconds: 0,
            },
            xattrs: self.tables.xattrs(&self.source, raw.xattrs, budget)?,
        })
    }

    fn entries(&self, listing: Listing, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let start = self
            .superblock
            .directories
            .checked_add(u64::from(listing.block))
            .ok_or(damaged(0, "a directory lies outside the image"))?;
        let mut cursor = Cursor::new(start, listing.offset);
        let mut left = u64::from(listing.size);
        let too_long = damaged(start, "a directory is longer than its inode says");
        while left > 0 {
            let header = DirectoryHeader::read(&self.source, &mut cursor)?;
            let Some(after) = left.checked_sub(DirectoryHeader::SIZE) else {
                return Err(too_long);
            };
            left = after;
            for _ in 0..header.count {
                let (size, name, inode) = header.entry(&self.source, &mut cursor)?;
                let Some(after) = left.checked_sub(size) else {
                    return Err(too_long);
                };
                left = after;
                let name = Name::new(&name)
                    .map_err(|_| damaged(start, "a directory has an impossible name"))?;
                visit(Entry {
                    name,
                    place: place(inode),
                })?;
            }
        }
        Ok(())
    }
}

fn place(inode: u64) -> Place {
    Place { volume: 0, inode }
}

fn damaged(offset: u64, what: &'static str) -> ReadError {
    ReadError::Damaged {
        format: FORMAT,
        offset,
        what,
    }
}

#[cfg(test)]
mod tests;
