//! Reads FAT12, FAT16 and FAT32 with long names (Microsoft, "FAT32 File System Specification"), as
//! Linux shows them where systemd mounts them: UTF-8 names, times as UTC, everything for root alone
//! (`utf8,tz=UTC,fmask=0177,dmask=0077`).
//!
//! FAT has no checksums. Of its two tables the first is read, as Linux does.

mod boot;
mod entry;
mod file;
mod name;
mod table;

use std::collections::HashSet;
use std::sync::Arc;

use filetree::reader::{Entry, Place, Visit};
use filetree::{Inode, Kind, Metadata, Name, ReadAt, ReadError, Reader, Timestamp};

use super::source::Source;
use boot::{Boot, Root, Width};
use entry::{RawEntry, Use};
use name::LongName;

/// The root directory has no entry; another file's number is the byte of its entry.
const ROOT: u64 = 0;
/// Bytes of metadata that are read at once. No entry is in two of them.
const BLOCK: u64 = 4096;

/// A FAT12, FAT16 or FAT32 file system.
#[derive(Debug)]
pub struct Vfat {
    volume: Arc<Volume>,
}

#[derive(Debug)]
struct Volume {
    source: Arc<Source>,
    boot: Boot,
}

/// Opens the file system in the `size` bytes of `image`; `None` if it is no FAT.
pub fn open(image: Arc<dyn ReadAt>, size: u64) -> Result<Option<Vfat>, ReadError> {
    let source = Source::new(image, size, "vfat");
    if size < 512 {
        return Ok(None);
    }
    let mut sector = [0; boot::SIZE];
    source.read(0, &mut sector)?;
    let boot = Boot::parse(&sector, size).map_err(|what| source.damaged(0, what))?;
    Ok(boot.map(|boot| Vfat {
        volume: Arc::new(Volume {
            source: Arc::new(source),
            boot,
        }),
    }))
}

impl Reader for Vfat {
    fn root(&self) -> Place {
        place(ROOT)
    }

    fn inode(&self, place: Place) -> Result<Inode, ReadError> {
        let volume = &self.volume;
        if place.inode == ROOT {
            return Ok(Inode::directory(metadata(0o700, Timestamp::default())));
        }
        let entry = volume.file(place)?;
        if entry.is_directory() {
            return Ok(Inode::directory(metadata(0o700, entry.mtime())));
        }
        let mode = if entry.is_read_only() { 0o400 } else { 0o600 };
        let (first, size) = (volume.first(&entry), entry.size.get().into());
        Ok(Inode {
            metadata: metadata(mode, entry.mtime()),
            kind: Kind::File(file::content(Arc::clone(volume), first, size)),
        })
    }

    fn entries(&self, directory: Place, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let volume = &self.volume;
        let mut list = List {
            volume,
            long: LongName::default(),
            visit,
        };
        let first = match (directory.inode, volume.boot.root) {
            (ROOT, Root::Fixed { start, length }) => return list.take(start, length),
            (ROOT, Root::Cluster(first)) => first,
            _ => {
                let entry = volume.file(directory)?;
                if !entry.is_directory() {
                    return Err(volume.source.damaged(directory.inode, "it is no directory"));
                }
                volume.first(&entry)
            }
        };
        if first == 0 {
            return Ok(()); // a directory without a cluster is empty
        }
        let mut visited = HashSet::new();
        for cluster in volume.chain(first) {
            let (cluster, start) = cluster?;
            if !visited.insert(cluster) {
                let what = "a chain of clusters has no end";
                return Err(volume.source.damaged(start, what));
            }
            if !volume.source.claim(cluster.into(), directory.inode) {
                let what = "two directories have one cluster";
                return Err(volume.source.damaged(start, what));
            }
            list.take(start, volume.boot.cluster)?;
        }
        Ok(())
    }
}

/// The entries of a directory, in order.
struct List<'a, 'b> {
    volume: &'a Volume,
    long: LongName,
    visit: &'a mut Visit<'b>,
}

impl List<'_, '_> {
    /// The entries in `length` bytes from `start` on.
    fn take(&mut self, start: u64, length: u64) -> Result<(), ReadError> {
        for at in (start..start + length).step_by(entry::SIZE) {
            let bytes = self.volume.array(at)?;
            let entry: RawEntry = zerocopy::transmute!(bytes);
            match entry.used() {
                Use::LongName => self.long.take(&bytes),
                Use::File => self.file(at, &entry)?,
                Use::Nothing | Use::Dots => self.long = LongName::default(),
            }
        }
        Ok(())
    }

    fn file(&mut self, at: u64, entry: &RawEntry) -> Result<(), ReadError> {
        let long = std::mem::take(&mut self.long).finish(&entry.name);
        let name = long.unwrap_or_else(|| name::short(&entry.name, entry.case));
        let source = &self.volume.source;
        if name.len() > 255 {
            return Err(source.unsupported("a name has more than 255 bytes"));
        }
        let name =
            Name::new(name.as_bytes()).map_err(|_| source.damaged(at, "a name is impossible"))?;
        (self.visit)(Entry {
            name,
            place: place(at),
        })
    }
}

impl Volume {
    /// The entry of a file, whose number is its place.
    fn file(&self, place: Place) -> Result<RawEntry, ReadError> {
        let bytes: [u8; entry::SIZE] = self.array(place.inode)?;
        Ok(zerocopy::transmute!(bytes))
    }

    fn first(&self, entry: &RawEntry) -> u32 {
        entry.cluster(self.boot.width == Width::Fat32)
    }

    /// Some bytes of metadata that do not cross a block.
    fn array<const N: usize>(&self, offset: u64) -> Result<[u8; N], ReadError> {
        let start = offset - offset % BLOCK;
        let length = self.source.size().saturating_sub(start).min(BLOCK);
        let block = self
            .source
            .block(start, usize::try_from(length).unwrap_or(0))?;
        let at = usize::try_from(offset % BLOCK).unwrap_or(0);
        let bytes = block.get(at..).and_then(|rest| rest.first_chunk());
        bytes.copied().ok_or_else(|| {
            let what = "it is cut off";
            self.source.damaged(offset, what)
        })
    }
}

fn place(inode: u64) -> Place {
    Place { volume: 0, inode }
}

fn metadata(mode: u16, mtime: Timestamp) -> Metadata {
    Metadata {
        mode,
        mtime,
        ..Metadata::default()
    }
}

#[cfg(test)]
mod tests;
