//! Reads ext2, ext3 and ext4 (kernel documentation, filesystems/ext4, "Data Structures and
//! Algorithms"), as Linux shows them in a read-only mount that does not replay the journal.
//!
//! Every checksum of metadata that the file system has is verified when the metadata is used.

mod acl;
mod checksum;
mod directory;
mod inode;
mod map;
mod superblock;
mod xattr;

use std::sync::Arc;

use filetree::reader::{Place, Visit};
use filetree::{Content, Inode, Kind, Metadata, ReadAt, ReadError, Reader};

use super::file::{self, Piece, Pieces};
use super::source::Source;
use inode::{FileType, Stored, flags};
use superblock::{Superblock, block_u64};

const ROOT: u32 = 2;

/// An ext2, ext3 or ext4 file system.
#[derive(Debug)]
pub struct Ext4 {
    volume: Volume,
}

/// What all parts of the reader need.
#[derive(Debug)]
struct Volume {
    source: Arc<Source>,
    superblock: Superblock,
}

/// Opens the file system in the `size` bytes of `image`; `None` if it is none of these.
pub fn open(image: Arc<dyn ReadAt>, size: u64) -> Result<Option<Ext4>, ReadError> {
    open_with(image, size, true)
}

/// The same, but checksums may be left unverified: they keep a fuzzer from what is behind them.
#[doc(hidden)]
pub fn open_with(
    image: Arc<dyn ReadAt>,
    size: u64,
    verify: bool,
) -> Result<Option<Ext4>, ReadError> {
    let source = Source::new(image, size, "ext4");
    let superblock = Superblock::read(&source, verify)?;
    Ok(superblock.map(|superblock| Ext4 {
        volume: Volume {
            source: Arc::new(source),
            superblock,
        },
    }))
}

impl Reader for Ext4 {
    fn root(&self) -> Place {
        Place {
            volume: 0,
            inode: ROOT.into(),
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
                xattrs: xattr::read(&self.volume, &inode)?,
            },
            kind: self.volume.kind(&inode)?,
        })
    }

    fn entries(&self, directory: Place, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let inode = self.stored(directory)?;
        if inode.file_type() != Some(FileType::Directory) {
            return Err(self
                .volume
                .source
                .damaged(inode.offset, "it is no directory"));
        }
        directory::entries(&self.volume, &inode, visit)
    }
}

impl Ext4 {
    fn stored(&self, place: Place) -> Result<Stored, ReadError> {
        let number = u32::try_from(place.inode).unwrap_or(0);
        let inode = Stored::read(&self.volume, number)?;
        if number == ROOT && inode.file_type() != Some(FileType::Directory) {
            let source = &self.volume.source;
            return Err(source.damaged(inode.offset, "the root is no directory"));
        }
        Ok(inode)
    }
}

impl Volume {
    /// A block of metadata.
    fn block(&self, number: u64) -> Result<Arc<[u8]>, ReadError> {
        let offset = self.superblock.offset(number).ok_or_else(|| {
            let what = "a block is not within the file system";
            self.source.damaged(superblock::OFFSET, what)
        })?;
        self.source.block(offset, self.superblock.block_size)
    }

    /// Notes that a block belongs to an inode.
    fn claim(&self, block: u64, inode: &Stored) -> Result<(), ReadError> {
        if self.source.claim(block, inode.number.into()) {
            return Ok(());
        }
        let what = "two files have one block of metadata";
        Err(self.source.damaged(inode.offset, what))
    }

    fn kind(&self, inode: &Stored) -> Result<Kind, ReadError> {
        let kind = inode.file_type().ok_or_else(|| {
            self.source
                .damaged(inode.offset, "an inode is of an unknown kind")
        })?;
        Ok(match kind {
            FileType::Directory => Kind::Directory(Default::default()),
            FileType::Regular => Kind::File(self.content(inode)?),
            FileType::Symlink => Kind::Symlink(self.target(inode)?),
            FileType::CharacterDevice => Kind::CharacterDevice(inode.device()),
            FileType::BlockDevice => Kind::BlockDevice(inode.device()),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
        })
    }

    fn content(&self, inode: &Stored) -> Result<Content, ReadError> {
        self.readable(inode)?;
        if inode.has(flags::INLINE) {
            return Ok(file::short(self.inline(inode)?, inode.size));
        }
        let block = block_u64(self.superblock.block_size);
        let pieces = map::read(self, inode)?.into_iter().map(|extent| {
            let start = extent.logical * block;
            Piece {
                range: start..(start + extent.length * block).min(inode.size),
                start: extent.physical * block,
            }
        });
        let source = Arc::clone(&self.source);
        Ok(Pieces::new(source, inode.size, pieces.collect()).content())
    }

    /// Where a symlink leads.
    fn target(&self, inode: &Stored) -> Result<Box<[u8]>, ReadError> {
        self.readable(inode)?;
        let damaged = |what| self.source.damaged(inode.offset, what);
        let length = usize::try_from(inode.size).unwrap_or(usize::MAX);
        if length == 0 || length >= self.superblock.block_size.min(4096) {
            return Err(damaged("the length of a symlink is impossible"));
        }
        let target = if inode.has(flags::INLINE) {
            self.inline(inode)?.get(..length).map(<[u8]>::to_vec)
        } else if self.is_short(inode) {
            inode.map.get(..length).map(<[u8]>::to_vec)
        } else {
            let mut target = vec![0; length];
            let content = self.content(inode)?;
            let open = content
                .open()
                .map_err(|_| damaged("a symlink is cut off"))?;
            open.read_exact_at(&mut target, 0)
                .map_err(|_| damaged("a symlink is cut off"))?;
            Some(target)
        };
        let target = target.ok_or_else(|| damaged("a symlink is cut off"))?;
        if target.contains(&0) {
            return Err(damaged("a symlink has a NUL"));
        }
        Ok(target.into())
    }

    /// Whether a symlink's target is in the place of its map.
    fn is_short(&self, inode: &Stored) -> bool {
        if self.superblock.attribute_inodes {
            return inode.size < 60;
        }
        let attributes = match inode.attribute_block {
            0 => 0,
            _ => self.superblock.cluster_size / 512,
        };
        u64::from(inode.sectors) == attributes
    }

    /// What a file has within its inode: in the place of its map, and more behind its fields.
    fn inline(&self, inode: &Stored) -> Result<Vec<u8>, ReadError> {
        let rest = xattr::inline_data(self, inode)?;
        Ok([&inode.map, rest].concat())
    }

    fn readable(&self, inode: &Stored) -> Result<(), ReadError> {
        if !inode.has(flags::ENCRYPTED) {
            return Ok(());
        }
        let what = format!("the file of inode {} is encrypted", inode.number);
        Err(self.source.unsupported(&what))
    }
}

#[cfg(test)]
mod tests;
