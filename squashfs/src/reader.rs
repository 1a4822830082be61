//! Reads a squashfs 4.0 image into a [`Tree`], whose files read their data lazily.
//!
//! An image is hostile until proven otherwise, so this is Rust over the format, not the C library's
//! reader: every place and size is checked before it is used, nothing is believed that the image
//! says of itself twice, loops are impossible (a directory has one place), and what is kept in
//! memory is counted against [`Limits`]. Reading never repairs.
#![forbid(unsafe_code)]

mod data;
mod inode;
mod metadata;
mod superblock;
mod tables;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use filetree::{Content, Inode, InodeId, Kind, Metadata, Name, ReadAt, Timestamp, Tree};

use data::Store;
use inode::{Body, RawInode};
use metadata::{Budget, Cursor, Source};
use superblock::Superblock;
use tables::Tables;

/// How much of memory an image may take, and how deep it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of names, attributes, block lists and the like (about; data is never kept).
    pub memory: u64,
    /// Bytes of the longest path.
    pub path: usize,
}

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The image ends too early, or cannot be read.
    #[error("cannot read the squashfs image at byte {offset}")]
    Read {
        /// From the beginning of the file system, in bytes.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The image is not what the format says.
    #[error("the squashfs image is damaged at byte {offset}: {what}")]
    Damaged {
        /// From the beginning of the file system, in bytes: where it was noticed.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Another version of the format.
    #[error("squashfs version {major}.{minor} is not supported, only 4.0")]
    Version {
        /// Major number.
        major: u16,
        /// Minor number.
        minor: u16,
    },
    /// A compressor that is not there.
    #[error("squashfs images with {0} compression cannot be read: libsquashfs is built without it")]
    Compression(&'static str),
    /// The image is too big to be read.
    #[error(
        "the squashfs image describes more than {0} bytes of names and attributes, or paths that are too long"
    )]
    Limit(u64),
}

impl Default for Limits {
    /// 512 MiB, enough for a few million files; paths as long as Linux takes them.
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            path: 4096,
        }
    }
}

/// Reads the tree of the image that begins at byte `offset` of `image`; `None` if there is no
/// squashfs. The files' contents keep `image` and read it when they are read.
pub fn read(
    image: Arc<dyn ReadAt>,
    offset: u64,
    limits: Limits,
) -> Result<Option<Tree>, ReadError> {
    let mut raw = [0; superblock::SIZE];
    image
        .read_exact_at(&mut raw, offset)
        .map_err(|source| ReadError::Read { offset: 0, source })?;
    let Some(superblock) = Superblock::parse(&raw)? else {
        return Ok(None);
    };
    let mut source = Source::new(image, offset, &superblock)?;
    let mut budget = Budget::new(limits.memory);
    let tables = Tables::read(&mut source, &superblock, &mut budget)?;
    let store = Arc::new(Store::new(&source, &superblock, tables.fragments.clone()));
    let mut reading = Reading {
        superblock,
        source,
        budget,
        tables,
        store,
        limits,
        seen: HashMap::new(),
    };
    reading.tree().map(Some)
}

struct Reading {
    superblock: Superblock,
    source: Source,
    budget: Budget,
    tables: Tables,
    store: Arc<Store>,
    limits: Limits,
    /// By their place: what is in the tree already.
    seen: HashMap<u64, InodeId>,
}

/// A directory whose entries are still to be read.
struct Pending {
    id: InodeId,
    listing: inode::Listing,
    path: usize,
}

impl Reading {
    fn tree(&mut self) -> Result<Tree, ReadError> {
        let root = self.superblock.root;
        let raw = self.inode(root)?;
        let Body::Directory(listing) = raw.body else {
            return Err(self.damaged(root, "the root is no directory"));
        };
        let mut tree = Tree::new(self.metadata(&raw)?);
        self.seen.insert(root, InodeId::ROOT);
        let mut pending = vec![Pending {
            id: InodeId::ROOT,
            listing,
            path: 0,
        }];
        while let Some(directory) = pending.pop() {
            self.directory(&mut tree, &directory, &mut pending)?;
        }
        Ok(tree)
    }

    fn directory(
        &mut self,
        tree: &mut Tree,
        directory: &Pending,
        pending: &mut Vec<Pending>,
    ) -> Result<(), ReadError> {
        let Some(start) = self
            .superblock
            .directories
            .checked_add(u64::from(directory.listing.block))
        else {
            return Err(self.damaged(0, "a directory lies outside the image"));
        };
        let mut cursor = Cursor::new(start, directory.listing.offset);
        let mut left = u64::from(directory.listing.size);
        while left > 0 {
            let header = inode::DirectoryHeader::read(&mut self.source, &mut cursor)?;
            left = self.shrink(left, inode::DirectoryHeader::SIZE, start)?;
            for _ in 0..header.count {
                let (size, name, place) = header.entry(&mut self.source, &mut cursor)?;
                left = self.shrink(left, size, start)?;
                let name = Name::new(&name)
                    .map_err(|_| self.damaged(start, "a directory has an impossible name"))?;
                self.entry(tree, directory, (name, place), pending)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        tree: &mut Tree,
        directory: &Pending,
        (name, place): (Name, u64),
        pending: &mut Vec<Pending>,
    ) -> Result<(), ReadError> {
        let length = name.as_bytes().len();
        let path = directory.path.saturating_add(length).saturating_add(1);
        if path > self.limits.path {
            return Err(ReadError::Limit(self.limits.memory));
        }
        self.budget.take(96 + u64::try_from(length).unwrap_or(0))?;
        let id = match self.seen.get(&place).copied() {
            Some(id) if tree.inode(id).entries().is_some() => {
                return Err(self.damaged(place, "a directory is in two places"));
            }
            Some(id) => id,
            None => self.add(tree, place, path, pending)?,
        };
        let known = tree
            .inode(directory.id)
            .entries()
            .is_some_and(|entries| entries.contains_key(&name));
        if known {
            return Err(self.damaged(place, "a directory has a name twice"));
        }
        tree.link(directory.id, name, id);
        Ok(())
    }

    fn add(
        &mut self,
        tree: &mut Tree,
        place: u64,
        path: usize,
        pending: &mut Vec<Pending>,
    ) -> Result<InodeId, ReadError> {
        let raw = self.inode(place)?;
        let metadata = self.metadata(&raw)?;
        let mut below = None;
        let kind = match raw.body {
            Body::Directory(listing) => {
                below = Some(listing);
                Kind::Directory(Default::default())
            }
            Body::File(file) => {
                let size = file.size;
                let (file, data) = data::File::new(Arc::clone(&self.store), file)?;
                Kind::File(match size {
                    0 => Content::from_bytes([]),
                    _ => Content::from_reader(Arc::new(file), size, data),
                })
            }
            Body::Symlink(target) => Kind::Symlink(target.into()),
            Body::CharacterDevice(number) => Kind::CharacterDevice(number),
            Body::BlockDevice(number) => Kind::BlockDevice(number),
            Body::Fifo => Kind::Fifo,
            Body::Socket => Kind::Socket,
        };
        let id = tree.add(Inode { metadata, kind });
        self.seen.insert(place, id);
        if let Some(listing) = below {
            pending.push(Pending { id, listing, path });
        }
        Ok(id)
    }

    fn inode(&mut self, place: u64) -> Result<RawInode, ReadError> {
        self.budget.take(256)?;
        RawInode::read(&mut self.source, &self.superblock, place, &mut self.budget)
    }

    fn metadata(&mut self, raw: &RawInode) -> Result<Metadata, ReadError> {
        let id = |index: u16| self.tables.ids.get(usize::from(index)).copied();
        let (Some(uid), Some(gid)) = (id(raw.uid), id(raw.gid)) else {
            return Err(self.damaged(0, "an owner is missing in the table"));
        };
        let xattrs = self
            .tables
            .xattrs
            .set(&mut self.source, raw.xattrs, &mut self.budget)?;
        Ok(Metadata {
            mode: raw.mode & 0o7777,
            uid,
            gid,
            mtime: Timestamp {
                seconds: i64::from(raw.mtime),
                nanoseconds: 0,
            },
            xattrs,
        })
    }

    fn shrink(&self, left: u64, by: u64, offset: u64) -> Result<u64, ReadError> {
        left.checked_sub(by)
            .ok_or_else(|| self.damaged(offset, "a directory is longer than its inode says"))
    }

    fn damaged(&self, offset: u64, what: &'static str) -> ReadError {
        ReadError::Damaged { offset, what }
    }
}

#[cfg(test)]
mod tests;
