//! Reads XFS, versions 4 and 5 ("XFS Algorithms & Data Structures", 3rd edition), as Linux shows it
//! in a read-only mount that does not replay the log.
//!
//! Every checksum of metadata that is used is verified, with the owner that the metadata name.

mod acl;
mod attributes;
mod bytes;
mod directory;
mod extents;
mod inode;
mod superblock;

use std::sync::Arc;

use filetree::reader::{Place, Visit};
use filetree::{Content, Inode, Kind, Metadata, ReadAt, ReadError, Reader};

use super::file::{Piece, Pieces};
use super::source::Source;
use bytes::{be64, is_sound};
use inode::{Format, Stored};
use superblock::Superblock;

/// Bytes of what an extent of a symlink has in front in version 5.
const LINK_HEADER: usize = 56;
/// Bytes of the longest target.
const MAX_TARGET: u64 = 1024;

/// An XFS file system.
#[derive(Debug)]
pub struct Xfs {
    volume: Volume,
}

/// What all parts of the reader need.
#[derive(Debug)]
struct Volume {
    source: Arc<Source>,
    superblock: Superblock,
}

/// The kinds of file, in the high bits of the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileType {
    Fifo,
    CharacterDevice,
    Directory,
    BlockDevice,
    Regular,
    Symlink,
    Socket,
}

/// Opens the file system in the `size` bytes of `image`; `None` if it is no XFS.
pub fn open(image: Arc<dyn ReadAt>, size: u64) -> Result<Option<Xfs>, ReadError> {
    open_with(image, size, true)
}

/// The same, but checksums may be left unverified: they keep a fuzzer from what is behind them.
#[doc(hidden)]
pub fn open_with(
    image: Arc<dyn ReadAt>,
    size: u64,
    verify: bool,
) -> Result<Option<Xfs>, ReadError> {
    let source = Source::new(image, size, "xfs");
    let superblock = Superblock::read(&source, verify)?;
    Ok(superblock.map(|superblock| Xfs {
        volume: Volume {
            source: Arc::new(source),
            superblock,
        },
    }))
}

impl Reader for Xfs {
    fn root(&self) -> Place {
        Place {
            volume: 0,
            inode: self.volume.superblock.root,
        }
    }

    fn inode(&self, place: Place) -> Result<Inode, ReadError> {
        let inode = self.stored(place)?;
        Ok(Inode {
            metadata: Metadata {
                mode: inode.mode & 0o7777,
                uid: inode.uid,
                gid: inode.gid,
                mtime: inode.mtime,
                xattrs: attributes::read(&self.volume, &inode)?,
            },
            kind: self.volume.kind(&inode)?,
        })
    }

    fn entries(&self, directory: Place, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let inode = self.stored(directory)?;
        if inode.file_type() != Some(FileType::Directory) {
            return Err(self.volume.damaged(&inode, "it is no directory"));
        }
        directory::entries(&self.volume, &inode, visit)
    }
}

impl Xfs {
    fn stored(&self, place: Place) -> Result<Stored, ReadError> {
        let inode = Stored::read(&self.volume, place.inode)?;
        let is_directory = inode.file_type() == Some(FileType::Directory);
        if place == self.root() && !is_directory {
            return Err(self.volume.damaged(&inode, "the root is no directory"));
        }
        Ok(inode)
    }
}

impl Stored {
    /// `None` where the mode has no kind that there is.
    fn file_type(&self) -> Option<FileType> {
        Some(match self.mode >> 12 {
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
}

impl Volume {
    /// A block of metadata, counted from the beginning of the image, which is known to be within.
    fn block(&self, place: u64) -> Result<Arc<[u8]>, ReadError> {
        let size = self.superblock.block_size;
        self.source.block(place * self.superblock.block_u64(), size)
    }

    /// Notes that a block belongs to an inode.
    fn claim(&self, block: u64, inode: &Stored) -> Result<(), ReadError> {
        if self.source.claim(block, inode.number) {
            return Ok(());
        }
        Err(self.damaged(inode, "two files have one block of metadata"))
    }

    fn kind(&self, inode: &Stored) -> Result<Kind, ReadError> {
        let kind = inode.file_type();
        let kind = kind.ok_or_else(|| self.damaged(inode, "an inode is of an unknown kind"))?;
        let device = || {
            let device = inode.device();
            device.ok_or_else(|| self.damaged(inode, "a device has no number"))
        };
        Ok(match kind {
            FileType::Directory => Kind::Directory(Default::default()),
            FileType::Regular => Kind::File(self.content(inode)?),
            FileType::Symlink => Kind::Symlink(self.target(inode)?),
            FileType::CharacterDevice => Kind::CharacterDevice(device()?),
            FileType::BlockDevice => Kind::BlockDevice(device()?),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
        })
    }

    fn content(&self, inode: &Stored) -> Result<Content, ReadError> {
        if inode.realtime {
            let what = format!(
                "the data of inode {} are on a realtime device",
                inode.number
            );
            return Err(self.source.unsupported(&what));
        }
        let block = self.superblock.block_u64();
        let last = inode.size.div_ceil(block);
        let extents = extents::read(self, inode, inode.data())?.into_iter();
        let within = extents.filter(|extent| extent.logical < last);
        let pieces = within.map(|extent| {
            let start = extent.logical * block;
            let length = extent.length.min(last - extent.logical);
            Piece {
                range: start..(start + length * block).min(inode.size),
                start: extent.physical * block,
            }
        });
        let source = Arc::clone(&self.source);
        Ok(Pieces::new(source, inode.size, pieces.collect()).content())
    }

    /// Where a symlink leads.
    fn target(&self, inode: &Stored) -> Result<Box<[u8]>, ReadError> {
        if inode.size == 0 || inode.size > MAX_TARGET {
            return Err(self.damaged(inode, "the length of a symlink is impossible"));
        }
        let length = usize::try_from(inode.size).unwrap_or(0);
        let data = inode.data();
        let target = match data.format {
            Format::Local => data.bytes.get(..length).map(<[u8]>::to_vec),
            _ => Some(self.remote_target(inode, length)?),
        };
        let target = target.ok_or_else(|| self.damaged(inode, "a symlink is cut off"))?;
        if target.contains(&0) {
            return Err(self.damaged(inode, "a symlink has a NUL"));
        }
        Ok(target.into())
    }

    /// A target in blocks of its own: each extent has a header, and a checksum of its whole.
    fn remote_target(&self, inode: &Stored, length: usize) -> Result<Vec<u8>, ReadError> {
        let header = if self.superblock.version5 {
            LINK_HEADER
        } else {
            0
        };
        let extents = extents::read(self, inode, inode.data())?;
        let mut target = Vec::new();
        for extent in &extents {
            let end = extent.logical + extent.length.min(MAX_TARGET);
            let bytes = extents::blocks(self, inode, &extents, extent.logical..end)?;
            let owned = !self.superblock.checksums
                || bytes.starts_with(b"XSLM")
                    && is_sound(&bytes, 12)
                    && be64(&bytes, 32) == inode.number;
            if !owned {
                return Err(self.damaged(inode, "the checksum of a symlink is wrong"));
            }
            let left = (length - target.len()).min(bytes.len() - header);
            target.extend_from_slice(&bytes[header..header + left]);
            if target.len() == length {
                return Ok(target);
            }
        }
        Err(self.damaged(inode, "a symlink is cut off"))
    }

    fn damaged(&self, inode: &Stored, what: &'static str) -> ReadError {
        self.source.damaged(inode.offset, what)
    }
}

#[cfg(test)]
mod tests;
