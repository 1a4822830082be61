//! Copies a file, a directory or bytes into a mounted tree.
//!
//! A file appears whole or not at all: it is written under another name first. Paths in the tree are
//! resolved with its root as the root, and below the target no link is followed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use blockdev::mount::Tree;
use rustix::fs::{
    AtFlags, Dev, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, lgetxattr, llistxattr, lsetxattr, mkdirat, mknodat, openat, renameat, statat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

/// The longest value and list of extended attributes that Linux has.
const MAX_XATTR: usize = 64 * 1024;

/// Whom copied files belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// To whom they belonged.
    Keep,
    /// To this user and group.
    Give(u32, u32),
}

/// Something cannot be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The target names no file.
    #[error("{} does not end with the name of a file", .0.display())]
    NoName(PathBuf),
    /// The directory to copy into cannot be opened.
    #[error("cannot open {} in the image", path.display())]
    Parent {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory stands where a file is to be.
    #[error("{} in the image is a directory; name the file in it", .0.display())]
    IsDirectory(PathBuf),
    /// Reading failed.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write {} in the image", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Writes all of `bytes` to the file `target`, with mode 0644 where it is new.
pub fn write_file(tree: &Tree, bytes: &mut dyn Read, target: &Path) -> Result<(), CopyError> {
    let place = Place::find(tree, target)?;
    place.refuse_directory()?;
    let mode = place.stat().map_or(0o644, |stat| stat.st_mode & 0o7777);
    let scratch = place.scratch();
    let mut write = || -> io::Result<()> {
        let mut file = place.create(&scratch, mode)?;
        io::copy(bytes, &mut file)?;
        place.rename(&scratch)
    };
    let written = write();
    place.clean_up(&scratch, written.is_err());
    written.map_err(|source| place.failed(source))
}

/// Copies `source`, a file or a directory with all below it, to `target`. Mode, times and extended
/// attributes stay the same. A directory is merged into one that is there; what else stands in the
/// way is replaced.
pub fn copy_in(
    tree: &Tree,
    source: &Path,
    target: &Path,
    ownership: Ownership,
) -> Result<(), CopyError> {
    let metadata = look(source)?;
    if !metadata.is_dir() {
        let place = Place::find(tree, target)?;
        place.refuse_directory()?;
        return place.copy(source, &metadata, ownership);
    }
    let directory = match tree.open_directory(target) {
        Ok(directory) => directory,
        Err(_) => {
            let place = Place::find(tree, target)?;
            place.copy(source, &metadata, ownership)?;
            place.enter()?
        }
    };
    merge(source, directory, target, ownership)
}

/// Copies what is in directories, one after the other; their times are set when they are full.
fn merge(
    source: &Path,
    directory: OwnedFd,
    target: &Path,
    ownership: Ownership,
) -> Result<(), CopyError> {
    let mut waiting = vec![(source.to_owned(), directory, target.to_owned())];
    let mut made = Vec::new();
    while let Some((from, into, path)) = waiting.pop() {
        let failed = |error| CopyError::Read {
            path: from.clone(),
            source: error,
        };
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(&from).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort();
        for name in names {
            let one = from.join(&name);
            let metadata = look(&one)?;
            let place = Place {
                directory: into.try_clone().map_err(failed)?,
                path: path.join(&name),
                name,
            };
            place.copy(&one, &metadata, ownership)?;
            if metadata.is_dir() {
                waiting.push((one, place.enter()?, place.path.clone()));
                made.push((place, metadata));
            }
        }
    }
    for (place, metadata) in made.iter().rev() {
        place
            .set_times(&place.name, metadata)
            .map_err(|error| place.failed(error))?;
    }
    Ok(())
}

fn look(path: &Path) -> Result<Metadata, CopyError> {
    fs::symlink_metadata(path).map_err(|source| CopyError::Read {
        path: path.to_owned(),
        source,
    })
}

/// A name in an open directory of the tree.
struct Place {
    directory: OwnedFd,
    name: OsString,
    /// For messages.
    path: PathBuf,
}

impl Place {
    fn find(tree: &Tree, target: &Path) -> Result<Self, CopyError> {
        let last = target.components().next_back();
        let Some(Component::Normal(name)) = last else {
            return Err(CopyError::NoName(target.to_owned()));
        };
        let parent = target.parent().filter(|path| !path.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("/"));
        let directory = tree.open_directory(parent);
        let directory = directory.map_err(|source| CopyError::Parent {
            path: parent.to_owned(),
            source,
        })?;
        Ok(Self {
            directory,
            name: name.to_owned(),
            path: target.to_owned(),
        })
    }

    fn stat(&self) -> Option<rustix::fs::Stat> {
        statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    fn is_directory(&self) -> bool {
        self.stat()
            .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    fn refuse_directory(&self) -> Result<(), CopyError> {
        match self.is_directory() {
            true => Err(CopyError::IsDirectory(self.path.clone())),
            false => Ok(()),
        }
    }

    /// Opens the directory of this name; a link is none.
    fn enter(&self) -> Result<OwnedFd, CopyError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(&self.directory, &self.name, flags, Mode::empty());
        opened.map_err(|error| self.failed(error.into()))
    }

    /// A name that nothing else has.
    fn scratch(&self) -> OsString {
        let mut name = OsString::from(".#ddi-");
        name.push(std::process::id().to_string());
        name.push("-");
        let room = 255_usize.saturating_sub(name.len());
        let bytes = self.name.as_encoded_bytes();
        name.push(String::from_utf8_lossy(&bytes[..bytes.len().min(room / 3)]).as_ref());
        name
    }

    fn create(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let _ = unlinkat(&self.directory, name, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.directory, name, flags, Mode::from_raw_mode(0o600))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(file.into())
    }

    fn rename(&self, from: &OsStr) -> io::Result<()> {
        Ok(renameat(
            &self.directory,
            from,
            &self.directory,
            &self.name,
        )?)
    }

    fn clean_up(&self, scratch: &OsStr, failed: bool) {
        if failed {
            let _ = unlinkat(&self.directory, scratch, AtFlags::empty());
        }
    }

    /// Copies one inode; of a directory, only itself.
    fn copy(
        &self,
        source: &Path,
        metadata: &Metadata,
        ownership: Ownership,
    ) -> Result<(), CopyError> {
        if metadata.is_dir() {
            let made = self
                .make_directory()
                .and_then(|()| self.take_over(&self.name, source, metadata, ownership));
            return made.map_err(|error| self.failed(error));
        }
        if self.is_directory() {
            return Err(CopyError::IsDirectory(self.path.clone()));
        }
        let scratch = self.scratch();
        let written = self
            .write(&scratch, source, metadata)
            .and_then(|()| self.take_over(&scratch, source, metadata, ownership))
            .and_then(|()| self.rename(&scratch));
        self.clean_up(&scratch, written.is_err());
        written.map_err(|error| self.failed(error))
    }

    fn make_directory(&self) -> io::Result<()> {
        if self.is_directory() {
            return Ok(());
        }
        let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
        Ok(mkdirat(
            &self.directory,
            &self.name,
            Mode::from_raw_mode(0o700),
        )?)
    }

    fn write(&self, name: &OsStr, source: &Path, metadata: &Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        if kind.is_file() {
            let mut from = File::open(source)?;
            let mut file = self.create(name, 0o600)?;
            io::copy(&mut from, &mut file)?;
            return Ok(());
        }
        let _ = unlinkat(&self.directory, name, AtFlags::empty());
        if kind.is_symlink() {
            let target = fs::read_link(source)?;
            return Ok(symlinkat(target, &self.directory, name)?);
        }
        let (kind, device): (FileType, Dev) = if kind.is_fifo() {
            (FileType::Fifo, 0)
        } else if kind.is_socket() {
            (FileType::Socket, 0)
        } else if kind.is_block_device() {
            (FileType::BlockDevice, metadata.rdev())
        } else {
            (FileType::CharacterDevice, metadata.rdev())
        };
        Ok(mknodat(
            &self.directory,
            name,
            kind,
            Mode::from_raw_mode(0o600),
            device,
        )?)
    }

    /// Owner, mode, attributes, times. What the file system cannot store is left out.
    fn take_over(
        &self,
        name: &OsStr,
        source: &Path,
        metadata: &Metadata,
        ownership: Ownership,
    ) -> io::Result<()> {
        let (uid, gid) = match ownership {
            Ownership::Keep => (metadata.uid(), metadata.gid()),
            Ownership::Give(uid, gid) => (uid, gid),
        };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let none = AtFlags::SYMLINK_NOFOLLOW;
        lenient(chownat(&self.directory, name, Some(uid), Some(gid), none))?;
        if !metadata.is_symlink() {
            let mode = Mode::from_raw_mode(metadata.mode() & 0o7777);
            lenient(chmodat(&self.directory, name, mode, AtFlags::empty()))?;
        }
        self.copy_attributes(name, source)?;
        self.set_times(name, metadata)
    }

    fn copy_attributes(&self, name: &OsStr, source: &Path) -> io::Result<()> {
        let parent = format!("/proc/self/fd/{}", self.directory.as_fd().as_raw_fd());
        let target = Path::new(&parent).join(name);
        let mut list = vec![0; MAX_XATTR];
        let length = match llistxattr(source, &mut list) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut value = vec![0; MAX_XATTR];
        for name in list[..length].split(|byte| *byte == 0) {
            if name.is_empty() {
                continue;
            }
            let length = lgetxattr(source, name, &mut value)?;
            let set = lsetxattr(&target, name, &value[..length], XattrFlags::empty());
            lenient(set)?;
        }
        Ok(())
    }

    fn set_times(&self, name: &OsStr, metadata: &Metadata) -> io::Result<()> {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: metadata.atime(),
                tv_nsec: metadata.atime_nsec(),
            },
            last_modification: Timespec {
                tv_sec: metadata.mtime(),
                tv_nsec: metadata.mtime_nsec(),
            },
        };
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        Ok(utimensat(&self.directory, name, &times, nofollow)?)
    }

    fn failed(&self, source: io::Error) -> CopyError {
        CopyError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

/// File systems without owners, modes or attributes are no obstacle.
fn lenient(done: rustix::io::Result<()>) -> io::Result<()> {
    match done {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}
