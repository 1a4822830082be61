//! Copying files out of a tree onto the host, into what may be there already.
//!
//! Directories that exist are merged and stay as they are, other files are replaced, each in one
//! moment. Whatever the tree and the target hold, nothing is written outside of the target: every
//! step below it is one `openat2` that stays beneath and follows no symlink, and every new file is
//! made under a name of its own and renamed. Holes stay holes.

mod file;
mod place;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::content::ContentError;
use crate::tree::{DeviceNumber, Inode, InodeId, Kind, Tree};
use place::{Place, Temporary};

pub use file::extract_file;

/// Who owns what is copied out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Who owns it in the tree, which only root can set.
    Keep,
    /// Whoever copies.
    Caller,
}

/// A file could not be copied out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// It could not be made.
    #[error("cannot {what} {}", path.display())]
    Write {
        /// What was tried.
        what: &'static str,
        /// The file on the host.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else is where it shall be.
    #[error("{} exists and is {found}, so no {wanted} can be put there", path.display())]
    InTheWay {
        /// The file on the host.
        path: PathBuf,
        /// What is there.
        found: &'static str,
        /// What was to be there.
        wanted: &'static str,
    },
    /// Its bytes could not be read.
    #[error("cannot read the data of {}", path.display())]
    Content {
        /// The file on the host.
        path: PathBuf,
        /// Why.
        source: ContentError,
    },
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Extracted {
    /// What could not be copied; everything else was.
    pub failed: Vec<ExtractError>,
    /// Extended attributes that this user may not set, or the file system does not hold: path on the
    /// host, and name.
    pub unset: Vec<(PathBuf, Vec<u8>)>,
}

/// Copies all of `tree` into the directory `target`, which is made where it is missing.
///
/// A symlink at `target` itself is not followed; those on the way there are.
pub fn extract(
    tree: &Tree,
    target: &Path,
    ownership: Ownership,
) -> Result<Extracted, ExtractError> {
    let (root, made) = open_target(target)?;
    let mut extraction = Extraction {
        tree,
        place: Place::new(root, target),
        ownership,
        first: HashMap::new(),
        made: Vec::new(),
        result: Extracted::default(),
    };
    if made {
        extraction.made.push((Vec::new(), InodeId::ROOT));
    }
    extraction.run();
    Ok(extraction.result)
}

fn open_target(target: &Path) -> Result<(File, bool), ExtractError> {
    let made = match rustix::fs::mkdirat(CWD, target, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(failed("create the directory", target, errno.into())),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, target, flags, Mode::empty()) {
        Ok(root) => Ok((root.into(), made)),
        Err(Errno::NOTDIR | Errno::LOOP) => Err(ExtractError::InTheWay {
            path: target.to_owned(),
            found: "no directory",
            wanted: "directory",
        }),
        Err(errno) => Err(failed("open the directory", target, errno.into())),
    }
}

struct Extraction<'a> {
    tree: &'a Tree,
    place: Place,
    ownership: Ownership,
    /// For each inode, the path under which it was made first.
    first: HashMap<InodeId, Vec<u8>>,
    /// Directories that were made, parents first: they get their mode and time at the end.
    made: Vec<(Vec<u8>, InodeId)>,
    result: Extracted,
}

impl Extraction<'_> {
    fn run(&mut self) {
        let mut blocked: Option<Vec<u8>> = None;
        for (path, id) in self.tree.walk() {
            if path.is_empty()
                || blocked
                    .as_ref()
                    .is_some_and(|above| path.starts_with(above))
            {
                continue;
            }
            if let Err(error) = self.entry(&path, id) {
                self.result.failed.push(error);
                if self.tree.inode(id).entries().is_some() {
                    blocked = Some([&path, b"/".as_slice()].concat());
                }
            }
        }
        for (path, id) in std::mem::take(&mut self.made).into_iter().rev() {
            if let Err(error) = self.finish_directory(&path, id) {
                self.result.failed.push(error);
            }
        }
    }

    fn entry(&mut self, path: &[u8], id: InodeId) -> Result<(), ExtractError> {
        let inode = self.tree.inode(id);
        if inode.entries().is_some() {
            if self.place.make_directory(path)? {
                self.made.push((path.to_owned(), id));
            }
            return Ok(());
        }
        if let Some(first) = self.first.get(&id).cloned() {
            return self.place.link(&first, path);
        }
        self.file(path, inode)?;
        self.first.insert(id, path.to_owned());
        Ok(())
    }

    /// Anything but a directory: made under another name, described, renamed.
    fn file(&mut self, path: &[u8], inode: &Inode) -> Result<(), ExtractError> {
        let shown = self.place.shown(path);
        let parent = self.place.parent(path)?;
        let unset = &mut self.result.unset;
        let temporary = match &inode.kind {
            Kind::File(content) => {
                let (temporary, made) = Temporary::file(parent, &shown)?;
                file::fill(&made, content, &shown)?;
                file::describe(&made, &inode.metadata, self.ownership, &shown, unset)?;
                temporary
            }
            Kind::Symlink(target) => {
                let target = OsStr::from_bytes(target);
                Temporary::make(parent, &shown, |name| {
                    rustix::fs::symlinkat(target, parent, name)
                })?
            }
            other => {
                let (kind, number) = node(other);
                let device = rustix::fs::makedev(number.major, number.minor);
                Temporary::make(parent, &shown, |name| {
                    let mode = Mode::from_raw_mode(0o600);
                    rustix::fs::mknodat(parent, name, kind, mode, device)
                })?
            }
        };
        if !matches!(inode.kind, Kind::File(_)) {
            temporary.describe(inode, self.ownership, &shown, unset)?;
        }
        temporary.rename(path, &shown)
    }

    fn finish_directory(&mut self, path: &[u8], id: InodeId) -> Result<(), ExtractError> {
        let shown = self.place.shown(path);
        let directory = self.place.open(path)?;
        let metadata = &self.tree.inode(id).metadata;
        let unset = &mut self.result.unset;
        file::describe(&directory, metadata, self.ownership, &shown, unset)
    }
}

fn node(kind: &Kind) -> (FileType, DeviceNumber) {
    let none = DeviceNumber { major: 0, minor: 0 };
    match kind {
        Kind::CharacterDevice(number) => (FileType::CharacterDevice, *number),
        Kind::BlockDevice(number) => (FileType::BlockDevice, *number),
        Kind::Socket => (FileType::Socket, none),
        _ => (FileType::Fifo, none),
    }
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> ExtractError {
    ExtractError::Write {
        what,
        path: path.to_owned(),
        source,
    }
}

/// The last name of a path in a tree.
fn name(path: &[u8]) -> &OsStr {
    let start = path.iter().rposition(|byte| *byte == b'/');
    OsStr::from_bytes(&path[start.map_or(0, |slash| slash + 1)..])
}

/// An `AT_` flag that every change to a file by its name goes with.
const NO_FOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

#[cfg(test)]
mod tests;
