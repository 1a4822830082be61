//! Reads an erofs in place, as mkfs.erofs writes it: with or without compression.
//!
//! Format: `fs/erofs/erofs_fs.h` of Linux 6.18 and Documentation/filesystems/erofs.rst. What an image
//! shows is what the kernel shows; images whose data is on several devices are refused. Every place
//! and length is checked before it is used; what decompression gives is bounded by the extent that
//! asks for it. Reading never repairs.

mod bytes;
mod cache;
mod chunks;
mod compressed;
mod data;
mod decompress;
mod directory;
mod inode;
mod superblock;
mod xattr;

use std::sync::Arc;

use filetree::reader::{Place, Visit};
use filetree::{Content, Inode, Kind, Limits, ReadAt, ReadError, Reader};

use bytes::length;
use cache::Cache;
use data::{Data, File};
use decompress::Decompressors;
use inode::{RawInode, Shape};
use superblock::Superblock;

/// The name in messages.
const FORMAT: &str = "erofs";

/// In the number of an inode: it is in the metadata box.
const IN_BOX: u64 = 1 << 63;

/// Bytes of the longest target of a symlink that the kernel shows.
const LONGEST_TARGET: u64 = 4095;

/// An erofs, opened. Several threads may read it.
#[derive(Debug)]
pub struct Erofs(Arc<Image>);

#[derive(Debug)]
struct Image {
    bytes: Arc<dyn ReadAt>,
    size: u64,
    superblock: Superblock,
    /// The file of inodes and attributes, if there is one.
    metabox: Option<Data>,
    /// The file that holds ends of others, if there is one.
    packed: Option<Data>,
    /// Long prefixes of attributes.
    prefixes: Vec<Vec<u8>>,
    decompressors: Decompressors,
    cache: Cache,
}

/// Where metadata is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Area {
    Image,
    Box,
}

/// Opens the file system at the beginning of `image`, which has `size` bytes; `None` if it is no
/// erofs.
pub fn open(image: Arc<dyn ReadAt>, size: u64) -> Result<Option<Erofs>, ReadError> {
    let mut raw = [0; superblock::SIZE];
    read(&*image, size, &mut raw, superblock::PLACE)?;
    let Some(superblock) = Superblock::parse(&raw)? else {
        return Ok(None);
    };
    let mut image = Image {
        bytes: image,
        size,
        superblock,
        metabox: None,
        packed: None,
        prefixes: Vec::new(),
        decompressors: Decompressors::default(),
        cache: Cache::default(),
    };
    image.check()?;
    image.metabox = image.special(image.superblock.metabox)?;
    image.packed = image.special(image.superblock.packed)?;
    image.prefixes = xattr::prefixes(&image)?;
    Ok(Some(Erofs(Arc::new(image))))
}

impl Reader for Erofs {
    fn root(&self) -> Place {
        place(self.0.superblock.root)
    }

    fn inode(&self, place: Place) -> Result<Inode, ReadError> {
        let image = &self.0;
        let raw = RawInode::read(image, place.inode)?;
        let metadata = raw.metadata(image)?;
        let kind = match raw.shape {
            Shape::Directory => Kind::Directory(Default::default()),
            Shape::File if raw.size == 0 => Kind::File(Content::from_bytes([])),
            Shape::File => {
                let data = Data::new(image, &raw)?;
                let ranges = data.ranges(image)?;
                let file = File::new(Arc::clone(image), data);
                Kind::File(Content::from_reader(Arc::new(file), raw.size, ranges))
            }
            Shape::Symlink => Kind::Symlink(image.target(&raw)?.into()),
            Shape::CharacterDevice(number) => Kind::CharacterDevice(number),
            Shape::BlockDevice(number) => Kind::BlockDevice(number),
            Shape::Fifo => Kind::Fifo,
            Shape::Socket => Kind::Socket,
        };
        Ok(Inode { metadata, kind })
    }

    fn entries(&self, directory: Place, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        directory::Blocks::open(&self.0, directory.inode)?.entries(visit)
    }

    fn lookup(&self, directory: Place, name: &[u8]) -> Result<Option<Place>, ReadError> {
        directory::Blocks::open(&self.0, directory.inode)?.lookup(name)
    }
}

impl Image {
    /// Compares the checksum of the superblock.
    fn check(&self) -> Result<(), ReadError> {
        let Some(expected) = self.superblock.checksum else {
            return Ok(());
        };
        let block = self.superblock.block();
        let rest = block.checked_sub(superblock::PLACE);
        let rest = rest.filter(|rest| *rest > 0).unwrap_or(block);
        let mut bytes = vec![0; length(rest)];
        self.read(Area::Image, &mut bytes, superblock::PLACE)?;
        match superblock::checksum(&bytes) == expected {
            true => Ok(()),
            false => Err(damaged(
                superblock::PLACE,
                "the superblock's checksum is wrong",
            )),
        }
    }

    /// A file that no name leads to.
    fn special(&self, inode: Option<u64>) -> Result<Option<Data>, ReadError> {
        let Some(inode) = inode else { return Ok(None) };
        let raw = RawInode::read(self, inode)?;
        Data::special(self, &raw).map(Some)
    }

    /// Fills `buffer` with metadata from a place that lies wholly in its area.
    fn read(&self, area: Area, buffer: &mut [u8], at: u64) -> Result<(), ReadError> {
        match (area, &self.metabox) {
            (Area::Image, _) => read(&*self.bytes, self.size, buffer, at),
            (Area::Box, Some(metabox)) => metabox.read(self, buffer, at),
            (Area::Box, None) => Err(damaged(at, "the metadata box is missing")),
        }
    }

    /// How much there is of an area.
    fn size(&self, area: Area) -> u64 {
        match (area, &self.metabox) {
            (Area::Image, _) => self.size,
            (Area::Box, metabox) => metabox.as_ref().map_or(0, Data::size),
        }
    }

    fn target(&self, raw: &RawInode) -> Result<Vec<u8>, ReadError> {
        if raw.size > LONGEST_TARGET {
            return Err(damaged(raw.place, "a symlink's target is too long"));
        }
        let mut target = vec![0; length(raw.size)];
        Data::new(self, raw)?.read(self, &mut target, 0)?;
        match target.contains(&0) {
            true => Err(damaged(raw.place, "a symlink's target holds a NUL byte")),
            false => Ok(target),
        }
    }

    /// Bytes that one inode may take of memory.
    fn memory(&self) -> u64 {
        Limits::for_image(self.size).memory
    }
}

fn read(image: &dyn ReadAt, size: u64, buffer: &mut [u8], at: u64) -> Result<(), ReadError> {
    let end = at.checked_add(bytes::wide(buffer.len()));
    if end.is_none_or(|end| end > size) {
        return Err(damaged(at, "a place lies behind the image's end"));
    }
    image
        .read_exact_at(buffer, at)
        .map_err(|source| ReadError::Read {
            format: FORMAT,
            offset: at,
            source,
        })
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

fn unsupported(what: String) -> ReadError {
    ReadError::Unsupported {
        format: FORMAT,
        what,
    }
}

#[cfg(test)]
mod tests;
