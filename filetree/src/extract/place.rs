//! The target directory: everything below it is reached by steps that cannot leave it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::file::{note_unset, timespec};
use super::{ExtractError, NO_FOLLOW, Ownership, failed, name};
use crate::tree::{Inode, Kind};

/// How often another name is tried for a file that is being made.
const TRIES: u32 = 1000;

/// The target directory.
pub(super) struct Place {
    root: File,
    path: PathBuf,
    /// The directory that was used last, as most files are in one with the next.
    last: Option<(Vec<u8>, File)>,
}

/// A file that has another name until it is ready; removed where that never comes.
pub(super) struct Temporary<'a> {
    parent: &'a File,
    name: OsString,
    renamed: bool,
}

impl Place {
    pub(super) fn new(root: File, path: &Path) -> Self {
        Self {
            root,
            path: path.to_owned(),
            last: None,
        }
    }

    /// A path of the tree on the host, for messages.
    pub(super) fn shown(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    /// Opens a directory below the target, without following any symlink.
    pub(super) fn open(&self, path: &[u8]) -> Result<File, ExtractError> {
        let path_or_dot = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let path_or_dot = OsStr::from_bytes(path_or_dot);
        let opened = rustix::fs::openat2(&self.root, path_or_dot, flags, Mode::empty(), resolve);
        match opened {
            Ok(directory) => Ok(directory.into()),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(self.in_the_way(path, "no directory")),
            Err(errno) => Err(failed(
                "open the directory",
                &self.shown(path),
                errno.into(),
            )),
        }
    }

    /// The directory that a path of the tree is in.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<&File, ExtractError> {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let above = &path[..slash.unwrap_or(0)];
        let known = self.last.take().filter(|(path, _)| path == above);
        let (path, directory) = match known {
            Some(known) => known,
            None => (above.to_owned(), self.open(above)?),
        };
        let (_, directory) = self.last.insert((path, directory));
        Ok(directory)
    }

    /// Makes a directory; `false` where it was there.
    pub(super) fn make_directory(&mut self, path: &[u8]) -> Result<bool, ExtractError> {
        let parent = self.parent(path)?;
        match rustix::fs::mkdirat(parent, name(path), Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => self.open(path).map(|_| false),
            Err(errno) => Err(failed(
                "create the directory",
                &self.shown(path),
                errno.into(),
            )),
        }
    }

    /// Gives the file at `first` a second name.
    pub(super) fn link(&mut self, first: &[u8], path: &[u8]) -> Result<(), ExtractError> {
        let shown = self.shown(path);
        let slash = first.iter().rposition(|byte| *byte == b'/');
        let source = self.open(&first[..slash.unwrap_or(0)])?;
        let parent = self.parent(path)?;
        let temporary = Temporary::make(parent, &shown, |new| {
            rustix::fs::linkat(&source, name(first), parent, new, AtFlags::empty())
        })?;
        temporary.rename(path, &shown)
    }

    fn in_the_way(&self, path: &[u8], found: &'static str) -> ExtractError {
        ExtractError::InTheWay {
            path: self.shown(path),
            found,
            wanted: "directory",
        }
    }
}

impl<'a> Temporary<'a> {
    /// An empty regular file that only its owner may read.
    pub(super) fn file(parent: &'a File, shown: &Path) -> Result<(Self, File), ExtractError> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut made = None;
        let temporary = Self::make(parent, shown, |name| {
            let mode = Mode::RUSR | Mode::WUSR;
            let file = rustix::fs::openat(parent, name, flags, mode)?;
            made = Some(File::from(file));
            Ok(())
        })?;
        match made {
            Some(file) => Ok((temporary, file)),
            None => Err(failed("create", shown, Errno::IO.into())),
        }
    }

    /// Makes a file by a name that nothing has.
    pub(super) fn make(
        parent: &'a File,
        shown: &Path,
        mut make: impl FnMut(&OsStr) -> Result<(), Errno>,
    ) -> Result<Self, ExtractError> {
        for number in 0..TRIES {
            let name = OsString::from(format!(".#ddi-{number}"));
            match make(&name) {
                Ok(()) => {
                    return Ok(Self {
                        parent,
                        name,
                        renamed: false,
                    });
                }
                Err(Errno::EXIST) => (),
                Err(errno) => return Err(failed("create", shown, errno.into())),
            }
        }
        Err(failed("create", shown, Errno::EXIST.into()))
    }

    /// Owner, mode, attributes and time of what is no regular file and no directory.
    pub(super) fn describe(
        &self,
        inode: &Inode,
        ownership: Ownership,
        shown: &Path,
        unset: &mut Vec<(PathBuf, Vec<u8>)>,
    ) -> Result<(), ExtractError> {
        let fail = |what| move |errno: Errno| failed(what, shown, errno.into());
        let metadata = &inode.metadata;
        if ownership == Ownership::Keep {
            let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
            rustix::fs::chownat(self.parent, &self.name, Some(uid), Some(gid), NO_FOLLOW)
                .map_err(fail("set the owner of"))?;
        }
        if !matches!(inode.kind, Kind::Symlink(_)) {
            self.set_mode(metadata.mode, shown)?;
        }
        // No call sets an attribute of a name in a directory; this leads there all the same.
        let path = Path::new("/proc/self/fd").join(self.parent.as_raw_fd().to_string());
        let path = path.join(&self.name);
        for (key, value) in &metadata.xattrs {
            let set = rustix::fs::lsetxattr(&path, key.as_slice(), value, XattrFlags::empty());
            note_unset(set, key, shown, unset)?;
        }
        let time = timespec(metadata.mtime);
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(self.parent, &self.name, &times, NO_FOLLOW)
            .map_err(fail("set the time of"))
    }

    /// Sets the mode of a pipe, socket or device. Nobody else can have put a symlink into its place
    /// unless the directory is theirs; it is looked at all the same.
    fn set_mode(&self, mode: u16, shown: &Path) -> Result<(), ExtractError> {
        let fail = |errno: Errno| failed("set the mode of", shown, errno.into());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(self.parent, &self.name, flags, Mode::empty()).map_err(fail)?;
        let found = rustix::fs::fstat(&file).map_err(fail)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            return Err(fail(Errno::LOOP));
        }
        let path = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode.into())).map_err(fail)
    }

    /// Gives it its name, in place of any other file of that name.
    pub(super) fn rename(mut self, path: &[u8], shown: &Path) -> Result<(), ExtractError> {
        match rustix::fs::renameat(self.parent, &self.name, self.parent, name(path)) {
            Ok(()) => {
                // Where both names are one file already, nothing was renamed.
                self.renamed = true;
                self.remove();
                Ok(())
            }
            Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => Err(ExtractError::InTheWay {
                path: shown.to_owned(),
                found: "a directory",
                wanted: "file",
            }),
            Err(errno) => Err(failed("rename a file to", shown, errno.into())),
        }
    }
}

impl Temporary<'_> {
    /// Nothing can be done about a leftover, and why the file is not wanted is told already.
    fn remove(&self) {
        let _ = rustix::fs::unlinkat(self.parent, &self.name, AtFlags::empty());
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            self.remove();
        }
    }
}
