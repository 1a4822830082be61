//! Giving all files of a directory other owners: user and group `N` become `base + N mod 65536`, in
//! owners and in access control lists.
//!
//! Every step is beneath the directory and follows no symlink; what is mounted within it is left
//! alone. Files come before the directories that they are in, the directory itself comes last, and a
//! second run changes nothing, so a run that was interrupted is finished by another.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use rustix::io::Errno;

/// How many owners a range has.
const RANGE: u32 = 1 << 16;

/// The attributes that hold access control lists.
const LISTS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// What the kernel takes away when a file gets another owner, beside the set-user-ID bit.
const CAPABILITY: &str = "security.capability";

/// The first of a range of 65536 owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerBase(u32);

/// A number is not the first of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a multiple of 65536")]
pub struct BadBase(pub u32);

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shifted {
    /// How many names lead to files that changed.
    pub changed: u64,
    /// Directories that are mount points: what is in them was left alone.
    pub mounts: Vec<PathBuf>,
}

/// A file could not be given another owner.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", path.display())]
pub struct ShiftError {
    /// What was tried.
    pub what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl OwnerBase {
    /// Checks the number.
    pub fn new(base: u32) -> Result<Self, BadBase> {
        match base % RANGE {
            0 => Ok(Self(base)),
            _ => Err(BadBase(base)),
        }
    }

    /// The first owner.
    pub fn get(self) -> u32 {
        self.0
    }

    fn shift(self, id: u32) -> u32 {
        self.0 | (id % RANGE)
    }
}

/// Shifts everything in `directory`, and the directory itself at the end.
pub fn shift(directory: &Path, base: OwnerBase) -> Result<Shifted, ShiftError> {
    run(CWD, directory, directory, Mounts::LeaveAlone, base)
}

/// The same of a mounted tree that is `image` in messages: file systems that are mounted in it are
/// part of it.
pub fn shift_mounted(
    tree: BorrowedFd<'_>,
    image: &Path,
    base: OwnerBase,
) -> Result<Shifted, ShiftError> {
    run(tree, Path::new("."), image, Mounts::Enter, base)
}

/// What to do where something is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mounts {
    LeaveAlone,
    Enter,
}

fn run(
    at: BorrowedFd<'_>,
    path: &Path,
    shown: &Path,
    mounts: Mounts,
    base: OwnerBase,
) -> Result<Shifted, ShiftError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(at, path, flags, Mode::empty())
        .map_err(|errno| failed("open the directory", shown, errno))?;
    let mut shifting = Shifting {
        root: root.into(),
        directory: shown,
        mounts,
        base,
        result: Shifted::default(),
    };
    shifting.run()?;
    Ok(shifting.result)
}

struct Shifting<'a> {
    root: File,
    directory: &'a Path,
    mounts: Mounts,
    base: OwnerBase,
    result: Shifted,
}

impl Shifting<'_> {
    /// Finds all directories first, then changes them from the deepest on.
    fn run(&mut self) -> Result<(), ShiftError> {
        let mut found = vec![Vec::new()];
        let mut next = 0;
        while let Some(path) = found.get(next).cloned() {
            self.files(&path, &mut found)?;
            next += 1;
        }
        for path in found.into_iter().rev() {
            let shown = self.shown(&path);
            let directory = self.open(&path)?;
            self.own(&directory.into(), &shown)?;
        }
        Ok(())
    }

    /// Changes all but directories in a directory, and adds these to `found`.
    fn files(&mut self, path: &[u8], found: &mut Vec<Vec<u8>>) -> Result<(), ShiftError> {
        let shown = self.shown(path);
        let fail = |errno| failed("read the directory", &shown, errno);
        let directory = self.open(path)?;
        let device = directory.metadata().map_err(|source| ShiftError {
            what: "examine",
            path: shown.clone(),
            source,
        })?;
        for entry in Dir::read_from(&directory).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let name = OsStr::from_bytes(name);
            let shown = shown.join(name);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&directory, name, flags, Mode::empty())
                .map_err(|errno| failed("open", &shown, errno))?;
            let stat =
                rustix::fs::fstat(&file).map_err(|errno| failed("examine", &shown, errno))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                self.own(&file, &shown)?;
            } else if stat.st_dev == device.dev() || self.mounts == Mounts::Enter {
                let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                found.push([path, separator, name.as_bytes()].concat());
            } else {
                self.result.mounts.push(shown);
            }
        }
        Ok(())
    }

    fn open(&self, path: &[u8]) -> Result<File, ShiftError> {
        let inside = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        if self.mounts == Mounts::LeaveAlone {
            resolve |= ResolveFlags::NO_XDEV;
        }
        let inside = OsStr::from_bytes(inside);
        rustix::fs::openat2(&self.root, inside, flags, Mode::empty(), resolve)
            .map(File::from)
            .map_err(|errno| failed("open the directory", &self.shown(path), errno))
    }

    /// Gives one file its new owner, and back what the kernel takes from it for that.
    fn own(&mut self, file: &OwnedFd, shown: &Path) -> Result<(), ShiftError> {
        let fail = |what| move |errno| failed(what, shown, errno);
        let stat = rustix::fs::fstat(file).map_err(fail("examine"))?;
        let (uid, gid) = (self.base.shift(stat.st_uid), self.base.shift(stat.st_gid));
        // A descriptor that only names a file takes neither modes nor attributes; its path does.
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let lists = match link {
            true => Vec::new(),
            false => self
                .lists(&path)
                .map_err(fail("read the access control list of"))?,
        };
        if (uid, gid) == (stat.st_uid, stat.st_gid) && lists.is_empty() {
            return Ok(());
        }
        let capability = match link {
            true => None,
            false => attribute(&path, CAPABILITY).map_err(fail("read the capabilities of"))?,
        };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
            .map_err(fail("set the owner of"))?;
        if !link {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::chmod(&path, mode).map_err(fail("set the mode of"))?;
        }
        let capability = capability.map(|value| (CAPABILITY, value));
        for (name, value) in lists.into_iter().chain(capability) {
            rustix::fs::setxattr(&path, name, &value, XattrFlags::empty())
                .map_err(fail("set an extended attribute of"))?;
        }
        self.result.changed += 1;
        Ok(())
    }

    /// The access control lists that change, as they are to be.
    fn lists(&self, path: &Path) -> Result<Vec<(&'static str, Vec<u8>)>, Errno> {
        let mut changed = Vec::new();
        for name in LISTS {
            let Some(old) = attribute(path, name)? else {
                continue;
            };
            let new = shift_list(&old, self.base);
            if new != old {
                changed.push((name, new));
            }
        }
        Ok(changed)
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        match path.is_empty() {
            true => self.directory.to_owned(),
            false => self.directory.join(OsString::from_vec(path.to_vec())),
        }
    }
}

/// Shifts the named users and groups of an access control list as the kernel hands it out: a version
/// of 32 bits, then entries of a tag and permissions (16 bits each) and an ID (32 bits), all little
/// endian. What is not of that form stays as it is.
fn shift_list(list: &[u8], base: OwnerBase) -> Vec<u8> {
    /// The tags of entries for a named user and a named group.
    const NAMED: [[u8; 2]; 2] = [[0x02, 0], [0x08, 0]];
    let mut new = list.to_vec();
    let entries = match new.get_mut(4..) {
        Some(entries) => entries,
        None => return new,
    };
    for entry in entries.chunks_exact_mut(8) {
        if NAMED.iter().any(|tag| entry.starts_with(tag)) {
            let id = [entry[4], entry[5], entry[6], entry[7]];
            let id = base.shift(u32::from_le_bytes(id));
            entry[4..].copy_from_slice(&id.to_le_bytes());
        }
    }
    new
}

/// An attribute's value; `None` where it is not there, or cannot be on such a file.
fn attribute(path: &Path, name: &str) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0; 64 << 10];
    match rustix::fs::getxattr(path, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn failed(what: &'static str, path: &Path, errno: Errno) -> ShiftError {
    ShiftError {
        what,
        path: path.to_owned(),
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn named_users_and_groups_are_shifted() {
        let base = OwnerBase::new(0x0008_0000).unwrap();
        let entry = |tag: u8, id: u32| {
            let mut entry = vec![tag, 0, 7, 0];
            entry.extend(id.to_le_bytes());
            entry
        };
        let list = |user, group| {
            let mut list = vec![2, 0, 0, 0];
            for (tag, id) in [(1, u32::MAX), (2, user), (8, group), (32, u32::MAX)] {
                list.extend(entry(tag, id));
            }
            list
        };
        let old = list(5, 0x0003_0006);
        assert_eq!(shift_list(&old, base), list(0x0008_0005, 0x0008_0006));
        assert_eq!(shift_list(b"\x02\0", base), b"\x02\0");
        assert!(OwnerBase::new(1).is_err());
    }

    #[test]
    fn everything_is_shifted_once_and_nothing_outside() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        fs::create_dir_all(inside.join("a/b")).unwrap();
        fs::write(&outside, "").unwrap();
        fs::write(inside.join("a/b/file"), "").unwrap();
        symlink(&outside, inside.join("a/link")).unwrap();
        let file = inside.join("a/b/file");
        if !rustix::process::getuid().is_root() {
            // The owner that it has already can be given to a file by anybody: nothing to do.
            let base = OwnerBase::new(rustix::process::getuid().as_raw() & !0xffff).unwrap();
            assert_eq!(shift(&inside, base).unwrap(), Shifted::default());
            return;
        }
        chown(&file, Some(7), Some(0x0005_0008)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
        let base = OwnerBase::new(0x0008_0000).unwrap();
        assert_eq!(shift(&inside, base).unwrap().changed, 5);
        let found = fs::metadata(&file).unwrap();
        assert_eq!((found.uid(), found.gid()), (0x0008_0007, 0x0008_0008));
        assert_eq!(found.mode() & 0o7777, 0o4755);
        let link = fs::symlink_metadata(inside.join("a/link")).unwrap();
        assert_eq!(link.uid(), 0x0008_0000);
        assert_eq!(fs::metadata(&outside).unwrap().uid(), 0);
        assert_eq!(shift(&inside, base).unwrap(), Shifted::default());
    }
}
