//! Making a new image file that appears at its name only when it is whole.
//!
//! The file has no name while it is made (`O_TMPFILE`), so nothing is left behind even where the
//! process is killed. Where the file system cannot do that, it has a temporary name beside the target,
//! which is removed on failure.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use image_specs::units::{Bytes, SectorSize};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::device::BlockDevice;
use crate::file::{FileDevice, OpenFailure, wrong_kind};
use crate::lock::{LockKind, lock};

const MODE: u32 = 0o666; // less the umask
const ATTEMPTS: u32 = 64;

/// An image file that is being made. Dropped without [`NewImage::finish`], it is gone.
#[derive(Debug)]
pub struct NewImage {
    device: FileDevice,
    target: PathBuf,
    temporary: Option<Temporary>,
}

/// A new image file could not be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum CreateError {
    #[error("{} exists already; remove it, or say --empty=force to write over it", .0.display())]
    Exists(PathBuf),
    #[error("{} is {kind}; give the name of the image file to make", path.display())]
    WrongKind { path: PathBuf, kind: &'static str },
    #[error("there is no folder {}; make it first", .0.display())]
    NoFolder(PathBuf),
    #[error("{} is no name for a file", .0.display())]
    NoName(PathBuf),
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot open {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: OpenFailure,
    },
}

/// A file name that is removed on drop.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // There is nobody to tell, and the file is not in anybody's way.
        let _ = fs::remove_file(&self.0);
    }
}

impl NewImage {
    /// Begins an image of `size` bytes of zeros that is to appear as `target`, which must not exist.
    pub fn create(target: &Path, size: Bytes, sector: SectorSize) -> Result<Self, CreateError> {
        refuse_existing(target)?;
        let folder = folder_of(target)?;
        if matches!(folder.try_exists(), Ok(false)) {
            return Err(CreateError::NoFolder(folder.to_owned()));
        }
        let failed = failure("create", target);
        let (file, temporary) = match nameless(folder).map_err(&failed)? {
            Some(file) => (file, None),
            None => {
                let (file, temporary) = beside(target).map_err(&failed)?;
                (file, Some(temporary))
            }
        };
        Self::prepare(file, temporary, target, (size, sector))
    }

    fn prepare(
        file: File,
        temporary: Option<Temporary>,
        target: &Path,
        (size, sector): (Bytes, SectorSize),
    ) -> Result<Self, CreateError> {
        file.set_len(size.get())
            .map_err(failure("resize", target))?;
        let open = |source| CreateError::Open {
            path: target.to_owned(),
            source,
        };
        lock(&file, LockKind::Exclusive).map_err(|error| open(error.into()))?;
        let device = FileDevice::from_file(target, file, Some(sector)).map_err(open)?;
        Ok(Self {
            device,
            target: target.to_owned(),
            temporary,
        })
    }

    /// The image.
    pub fn device_ref(&self) -> &FileDevice {
        &self.device
    }

    /// The image, to be written.
    pub fn device(&mut self) -> &mut FileDevice {
        &mut self.device
    }

    /// Brings the image to stable storage and gives it its name, unless somebody else took that
    /// meanwhile. The lock stays with the returned device.
    pub fn finish(mut self) -> Result<FileDevice, CreateError> {
        let flushed = self.device.flush();
        flushed.map_err(|error| failure("flush", &self.target)(error.source))?;
        let named = match &self.temporary {
            None => link(self.device.file(), &self.target),
            Some(Temporary(path)) => rename(path, &self.target),
        };
        match named {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(CreateError::Exists(self.target)),
            Err(error) => return Err(failure("name", &self.target)(error.into())),
        }
        if let Some(temporary) = self.temporary.take() {
            std::mem::forget(temporary); // the name is gone
        }
        // Not every file system can flush a directory; the file itself is safe.
        let _ = folder_of(&self.target).map(|folder| File::open(folder).and_then(|f| f.sync_all()));
        Ok(self.device)
    }
}

fn refuse_existing(target: &Path) -> Result<(), CreateError> {
    let Ok(link) = fs::symlink_metadata(target) else {
        return Ok(());
    };
    let path = target.to_owned();
    // A link that leads nowhere is in the way, too.
    let kind = match fs::metadata(target) {
        Ok(metadata) => wrong_kind(metadata.file_type()),
        Err(_) if link.is_symlink() => Some("a symbolic link that leads nowhere"),
        Err(_) => None,
    };
    match kind {
        Some(kind) => Err(CreateError::WrongKind { path, kind }),
        None => Err(CreateError::Exists(path)),
    }
}

fn folder_of(target: &Path) -> Result<&Path, CreateError> {
    if target.file_name().is_none() {
        return Err(CreateError::NoName(target.to_owned()));
    }
    match target.parent() {
        Some(folder) if folder != Path::new("") => Ok(folder),
        _ => Ok(Path::new(".")),
    }
}

fn failure(action: &'static str, path: &Path) -> impl Fn(io::Error) -> CreateError {
    let path = path.to_owned();
    move |source| CreateError::Io {
        action,
        path: path.clone(),
        source,
    }
}

/// A file without a name in `folder`; `None` where the file system cannot make one.
fn nameless(folder: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::from_raw_mode(MODE)) {
        Ok(fd) => Ok(Some(fd.into())),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn link(file: &File, target: &Path) -> rustix::io::Result<()> {
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, source, CWD, target, AtFlags::SYMLINK_FOLLOW)
}

/// A file with a fresh name beside `target`.
fn beside(target: &Path) -> io::Result<(File, Temporary)> {
    let mut name = std::ffi::OsString::from(".#");
    name.push(target.file_name().unwrap_or_default());
    let process = std::process::id();
    for attempt in 0..ATTEMPTS {
        let mut unique = name.clone();
        unique.push(format!(".{process}-{attempt}"));
        let path = target.with_file_name(unique);
        let made = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&path);
        match made {
            Ok(file) => return Ok((file, Temporary(path))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Renames without replacing, with a hard link where the file system knows no such rename.
fn rename(from: &Path, to: &Path) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())?;
            rustix::fs::unlinkat(CWD, from, AtFlags::empty())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }

    /// Both ways of making a file, as the file system at hand may only take one.
    fn begin(target: &Path, named: bool) -> NewImage {
        let size = Bytes::new(8192);
        match named {
            false => NewImage::create(target, size, SectorSize::S512).unwrap(),
            true => {
                let (file, temporary) = beside(target).unwrap();
                NewImage::prepare(file, Some(temporary), target, (size, SectorSize::S512)).unwrap()
            }
        }
    }

    #[test]
    fn the_name_appears_at_the_end() {
        for named in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("x.raw");
            let mut image = begin(&target, named);
            image.device().write_all_at(b"abc", Bytes::new(1)).unwrap();
            assert!(!target.exists());
            drop(image.finish().unwrap());
            assert_eq!(names(folder.path()), ["x.raw"]);
            let bytes = fs::read(&target).unwrap();
            assert_eq!((bytes.len(), &bytes[..4]), (8192, &b"\0abc"[..]));
        }
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        for named in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            drop(begin(&folder.path().join("x.raw"), named));
            assert!(names(folder.path()).is_empty());
        }
    }

    #[test]
    fn nothing_is_replaced() {
        for named in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("x.raw");
            let image = begin(&target, named);
            fs::write(&target, "mine").unwrap();
            assert!(matches!(image.finish(), Err(CreateError::Exists(path)) if path == target));
            assert_eq!(fs::read(&target).unwrap(), b"mine");
            assert_eq!(names(folder.path()), ["x.raw"]);
            let error = NewImage::create(&target, Bytes::new(512), SectorSize::S512).unwrap_err();
            assert!(matches!(error, CreateError::Exists(_)));
        }
    }

    #[test]
    fn folders_that_are_not_there_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("no/x.raw");
        let error = NewImage::create(&target, Bytes::new(512), SectorSize::S512).unwrap_err();
        let CreateError::NoFolder(missing) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*missing, folder.path().join("no"));
    }

    #[test]
    fn nobody_is_told_to_remove_what_is_no_image() {
        let folder = tempfile::tempdir().unwrap();
        for (path, kind) in [
            (folder.path(), "a directory"),
            (Path::new("/"), "a directory"),
            (Path::new(".."), "a directory"),
            (Path::new("/dev/null"), "a character device"),
        ] {
            let error = NewImage::create(path, Bytes::new(512), SectorSize::S512).unwrap_err();
            assert!(error.to_string().contains(kind), "{error}");
        }
    }
}
