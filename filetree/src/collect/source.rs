//! The host's side: finding sources inside their base, and describing files.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::exclude::{Denial, Denied};
use super::resolve::{Lost, Step, resolve};
use super::{CollectError, Collector, Notice, Owner};
use crate::content::Content;
use crate::tree::{DeviceNumber, Inode, InodeId, Kind, Metadata, Name, Timestamp};

/// The directory that bounds all sources.
pub(super) struct Base(PathBuf);

/// A file of the host.
pub(super) struct Found {
    /// Its path on the host, free of symlinks below the base.
    pub(super) path: PathBuf,
    /// Its own metadata.
    pub(super) metadata: fs::Metadata,
}

impl Base {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Follows an absolute `path` inside the base; `None` where nothing is there.
    pub(super) fn find(&self, path: &Path) -> Result<Option<Found>, CollectError> {
        let outcome = resolve(None, path, |_, above, name| self.step(above, name));
        let found = match outcome {
            Ok(found) => found,
            Err(Lost::Loop) => return Err(CollectError::Loop(path.to_owned())),
            Err(Lost::NotDirectory) => return Ok(None),
            Err(Lost::Failed(source)) => return Err(read("examine", path, source)),
        };
        if !found.missing.is_empty() {
            return Ok(None);
        }
        let path = self.on_host(&found.path);
        let metadata = match found.at {
            Some(metadata) => metadata,
            None => match fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(read("examine", &path, error)),
            },
        };
        Ok(Some(Found { path, metadata }))
    }

    fn step(&self, above: &Path, name: &OsStr) -> io::Result<Step<Option<fs::Metadata>>> {
        let path = self.on_host(above).join(name);
        Ok(match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Step::Missing,
            Err(error) => return Err(error),
            Ok(found) if found.is_symlink() => Step::Link(fs::read_link(&path)?.into_os_string()),
            Ok(found) if found.is_dir() => Step::Directory(Some(found)),
            Ok(found) => Step::Other(Some(found)),
        })
    }

    fn on_host(&self, inside: &Path) -> PathBuf {
        match inside.strip_prefix("/") {
            Ok(rest) if rest.as_os_str().is_empty() => self.0.clone(),
            Ok(rest) => self.0.join(rest),
            Err(_) => self.0.join(inside),
        }
    }
}

impl Collector<'_> {
    /// Copies what is in the directory `source` into the directory `target`, all levels.
    pub(super) fn copy_contents(
        &mut self,
        source: &Path,
        target: InodeId,
        denied: &Denied,
    ) -> Result<(), CollectError> {
        let mut links = HashMap::new();
        let mut pending = vec![(source.to_owned(), target)];
        while let Some((source, target)) = pending.pop() {
            for found in entries(&source)? {
                let denial = denied.of(&found.metadata);
                if denial == Some(Denial::Whole) {
                    continue;
                }
                let directory = found.metadata.is_dir();
                let id = self.copy_entry(&found, target, &mut links)?;
                if let Some(id) = id.filter(|_| directory && denial.is_none()) {
                    pending.push((found.path, id));
                }
            }
        }
        Ok(())
    }

    /// Copies one file, or merges one directory without its contents.
    fn copy_entry(
        &mut self,
        found: &Found,
        parent: InodeId,
        links: &mut HashMap<(u64, u64), InodeId>,
    ) -> Result<Option<InodeId>, CollectError> {
        let name = Name::new(found.path.file_name().unwrap_or_default().as_bytes())?;
        let there = self.tree.child(parent, &name);
        let there_directory = there.filter(|id| self.tree.is_directory(*id));
        match (found.metadata.is_dir(), there, there_directory) {
            (true, _, Some(id)) => return Ok(Some(id)),
            (true, Some(_), None) => return Err(CollectError::OverFile(found.path.clone())),
            (false, _, Some(_)) => {
                let notice = Notice::UnderDirectory(found.path.clone());
                self.notices.push(notice);
                return Ok(None);
            }
            _ => (),
        }
        let key = (found.metadata.dev(), found.metadata.ino());
        let linked = !found.metadata.is_dir() && found.metadata.nlink() > 1;
        let id = match links.get(&key).filter(|_| linked) {
            Some(id) => *id,
            None => {
                let inode = self.inode(found)?;
                self.tree.add(inode)
            }
        };
        if linked {
            links.insert(key, id);
        }
        self.tree.link(parent, name, id);
        Ok(Some(id))
    }

    /// Describes a file of the host.
    pub(super) fn inode(&self, found: &Found) -> Result<Inode, CollectError> {
        Ok(Inode {
            metadata: self.metadata(found)?,
            kind: kind(found)?,
        })
    }

    pub(super) fn metadata(&self, found: &Found) -> Result<Metadata, CollectError> {
        let from = &found.metadata;
        Ok(Metadata {
            mode: u16::try_from(from.mode() & 0o7777).unwrap_or(0),
            uid: self.owner(from.uid(), &found.path)?,
            gid: self.owner(from.gid(), &found.path)?,
            mtime: self.rules.clamp(Timestamp {
                seconds: from.mtime(),
                nanoseconds: u32::try_from(from.mtime_nsec()).unwrap_or(0),
            }),
            xattrs: xattrs(&found.path)?,
        })
    }

    fn owner(&self, id: u32, path: &Path) -> Result<u32, CollectError> {
        match &self.rules.owner {
            Owner::Keep => Ok(id),
            Owner::Root => Ok(0),
            Owner::Map(ranges) => ranges
                .iter()
                .find_map(|range| {
                    let offset = id.checked_sub(range.from)?;
                    (offset < range.count).then(|| range.to.checked_add(offset))?
                })
                .ok_or_else(|| CollectError::Owner {
                    path: path.to_owned(),
                    id,
                }),
        }
    }
}

/// The files in a directory, by name.
fn entries(directory: &Path) -> Result<Vec<Found>, CollectError> {
    let fail = |source| read("read the directory", directory, source);
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let path = entry.path();
        // Relative to the open directory: cheaper than by path, and it follows no link.
        let metadata = entry
            .metadata()
            .map_err(|source| read("examine", &path, source))?;
        all.push(Found { path, metadata });
    }
    all.sort_unstable_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    Ok(all)
}

fn kind(found: &Found) -> Result<Kind, CollectError> {
    let of = found.metadata.file_type();
    Ok(if of.is_dir() {
        Kind::Directory(BTreeMap::new())
    } else if of.is_symlink() {
        let target = fs::read_link(&found.path)
            .map_err(|source| read("read the link", &found.path, source))?;
        Kind::Symlink(target.into_os_string().into_vec().into())
    } else if of.is_fifo() {
        Kind::Fifo
    } else if of.is_socket() {
        Kind::Socket
    } else if of.is_char_device() {
        Kind::CharacterDevice(device(&found.metadata))
    } else if of.is_block_device() {
        Kind::BlockDevice(device(&found.metadata))
    } else {
        let data = data_ranges(&found.path, &found.metadata)?;
        Kind::File(Content::from_file(
            found.path.clone(),
            &found.metadata,
            data,
        ))
    })
}

fn device(metadata: &fs::Metadata) -> DeviceNumber {
    DeviceNumber {
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
    }
}

/// The parts of a file that are no holes. The file is opened only where its blocks say it has any.
fn data_ranges(path: &Path, metadata: &fs::Metadata) -> Result<Vec<Range<u64>>, CollectError> {
    let size = metadata.len();
    if size == 0 {
        return Ok(Vec::new());
    }
    if metadata.blocks().saturating_mul(512) >= size {
        return Ok(vec![0..size]);
    }
    let file = File::open(path).map_err(|source| read("open", path, source))?;
    match seek_ranges(&file, size) {
        Ok(ranges) => Ok(ranges),
        // A file system that knows no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(vec![0..size]),
        Err(errno) => Err(read("find the holes of", path, errno.into())),
    }
}

fn seek_ranges(file: &File, size: u64) -> Result<Vec<Range<u64>>, Errno> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            other => other?,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        if start >= end {
            break;
        }
        match ranges.last_mut() {
            Some(last) if last.end >= start => last.end = end,
            _ => ranges.push(start..end),
        }
        at = end;
    }
    Ok(ranges)
}

/// All extended attributes that may be read: one refused to this user is left out, as systemd does.
fn xattrs(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, CollectError> {
    let fail = |errno: Errno| read("list the extended attributes of", path, errno.into());
    // The usual list is empty: one call, and no memory.
    let mut small = [0u8; 1024];
    let names = match rustix::fs::llistxattr(path, &mut small[..]) {
        Ok(0) => return Ok(BTreeMap::new()),
        Ok(length) => small[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut large = vec![0; 65536];
            let length = rustix::fs::llistxattr(path, &mut large[..]).map_err(fail)?;
            large.truncate(length);
            large
        }
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(BTreeMap::new()),
        Err(errno) => return Err(fail(errno)),
    };
    let mut all = BTreeMap::new();
    let mut value = vec![0; 65536];
    // XFS shows root its ACLs a second time, in its own form.
    let real = |name: &&[u8]| !name.is_empty() && !name.starts_with(b"trusted.SGI_ACL_");
    for name in names.split(|byte| *byte == 0).filter(real) {
        match rustix::fs::lgetxattr(path, name, &mut value[..]) {
            Ok(length) => {
                all.insert(name.to_vec(), value[..length].to_vec());
            }
            Err(Errno::PERM | Errno::ACCESS | Errno::NODATA | Errno::OPNOTSUPP) => (),
            Err(errno) => return Err(read("read the extended attributes of", path, errno.into())),
        }
    }
    Ok(all)
}

pub(super) fn read(what: &'static str, path: &Path, source: io::Error) -> CollectError {
    CollectError::Read {
        what,
        path: path.to_owned(),
        source,
    }
}
