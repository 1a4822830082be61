//! Reads btrfs (btrfs documentation, "On-disk Format") on one device, as Linux shows it in a
//! read-only mount that does not replay the log (`rescue=nologreplay`).
//!
//! The root is the default subvolume's. Subvolumes and snapshots below it are directories. Every
//! block of metadata is checked when it is used, and every sector of data that has a checksum; where
//! there is a copy, it serves if the first is damaged.

mod checksum;
mod chunk;
mod compression;
mod data;
mod directory;
mod extent;
mod field;
mod file;
mod inode;
mod key;
mod lzo;
mod subvolume;
mod superblock;
mod tree;

use std::sync::{Arc, Mutex};

use filetree::reader::{Place, Visit};
use filetree::{Inode, Metadata, Name, ReadAt, ReadError, Reader};

use super::cache::Cache;
use super::source::Source;
use chunk::Chunks;
use data::Sums;
use extent::Packed;
use key::Pointer;
use subvolume::{Meaning, Places};
use superblock::Superblock;
use tree::Item;

const FORMAT: &str = "btrfs";
/// Bytes of decompressed data that are kept at most (about).
const UNPACKED: usize = 2 << 20;

/// A btrfs on one device.
#[derive(Debug)]
pub struct Btrfs {
    volume: Arc<Volume>,
    root: Place,
}

/// What all parts of the reader need.
#[derive(Debug)]
struct Volume {
    source: Source,
    superblock: Superblock,
    chunks: Chunks,
    places: Mutex<Places>,
    /// The tree of the checksums of data.
    checksums: Option<Pointer>,
    /// Data that was decompressed.
    unpacked: Cache<(Packed, Sums)>,
    verify: bool,
}

/// Opens the btrfs in the `size` bytes of `image`; `None` if it is none.
///
/// [`ReadError::Unsupported`] says why a sound one cannot be read: several devices, RAID, zones, or a
/// feature that is not known.
pub fn open(image: Arc<dyn ReadAt>, size: u64) -> Result<Option<Btrfs>, ReadError> {
    open_with(image, size, true)
}

/// The same, but checksums may be left unverified: they keep a fuzzer from what is behind them.
#[doc(hidden)]
pub fn open_with(
    image: Arc<dyn ReadAt>,
    size: u64,
    verify: bool,
) -> Result<Option<Btrfs>, ReadError> {
    let source = Source::new(image, size, FORMAT);
    let Some(superblock) = Superblock::read(&source, verify)? else {
        return Ok(None);
    };
    let mut volume = Volume {
        chunks: Chunks::of_superblock(&source, &superblock)?,
        source,
        superblock,
        places: Mutex::default(),
        checksums: None,
        unpacked: Cache::new(UNPACKED),
        verify,
    };
    volume.chunks = Chunks::read(&volume)?;
    volume.checksums = volume.checksum_root()?;
    let root = volume.default_root()?;
    let volume = Arc::new(volume);
    Ok(Some(Btrfs { volume, root }))
}

impl Reader for Btrfs {
    fn root(&self) -> Place {
        self.root
    }

    fn inode(&self, place: Place) -> Result<Inode, ReadError> {
        match self.volume.meaning(place)? {
            Meaning::Inode { subvolume, inode } => inode::read(&self.volume, subvolume, inode),
            Meaning::Stub { parent } => self.stub(parent),
        }
    }

    fn entries(&self, directory: Place, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        match self.volume.meaning(directory)? {
            Meaning::Inode { subvolume, inode } => {
                inode::check_directory(&self.volume, subvolume, inode)?;
                directory::entries(&self.volume, (subvolume, inode), visit)
            }
            Meaning::Stub { .. } => Ok(()),
        }
    }

    fn lookup(&self, directory: Place, name: &[u8]) -> Result<Option<Place>, ReadError> {
        let Ok(name) = Name::new(name) else {
            return Ok(None);
        };
        match self.volume.meaning(directory)? {
            Meaning::Inode { subvolume, inode } => {
                directory::lookup(&self.volume, (subvolume, inode), &name)
            }
            Meaning::Stub { .. } => Ok(None),
        }
    }
}

impl Btrfs {
    /// The directory in the place of a subvolume that is not there. The kernel gives it the time of
    /// looking; it has the time of the directory that it is in here.
    fn stub(&self, parent: Place) -> Result<Inode, ReadError> {
        let Metadata {
            uid, gid, mtime, ..
        } = self.inode(parent)?.metadata;
        Ok(Inode::directory(Metadata {
            mode: 0o755,
            uid,
            gid,
            mtime,
            ..Metadata::default()
        }))
    }
}

impl Volume {
    /// The error that an item is not as the format says.
    fn damaged(&self, item: &Item, what: &'static str) -> ReadError {
        self.source.damaged(item.position(), what)
    }
}
