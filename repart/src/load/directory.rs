//! Listing and reading below a root directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use image_specs::search::{Found, Kind, Listing};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::LoadError;

/// The directory that absolute paths begin at.
#[derive(Debug)]
pub(super) struct Root {
    /// `None` for the host's own.
    inside: Option<(OwnedFd, PathBuf)>,
}

/// More than any definition needs.
const LARGEST: u64 = 16 * 1024 * 1024;

impl Root {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, LoadError> {
        let Some(path) = path.filter(|path| *path != Path::new("/")) else {
            return Ok(Self { inside: None });
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| LoadError::new("root directory", path, error.into()))?;
        let inside = Some((root, path.to_owned()));
        Ok(Self { inside })
    }

    /// The path as the host sees it.
    pub(super) fn outside(&self, path: &Path) -> PathBuf {
        match &self.inside {
            Some((_, root)) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// Lists a directory; one that does not exist is empty.
    pub(super) fn list(&self, path: &Path) -> Result<Listing<PathBuf>, LoadError> {
        let fail = |error: Errno| LoadError::new("directory", &self.outside(path), error.into());
        let mut listing = Listing {
            files: Vec::new(),
            drop_ins: BTreeMap::new(),
        };
        for name in self.names(path).map_err(fail)? {
            let inside = path.join(&name);
            match name.strip_suffix(".d") {
                Some(main) if main.ends_with(".conf") => {
                    let files = self.files(&inside).map_err(fail)?;
                    listing.drop_ins.insert(main.to_owned(), files);
                }
                _ => listing.files.extend(self.found(&inside, name)),
            }
        }
        Ok(listing)
    }

    /// The files of a drop-in folder; none where it is no folder.
    fn files(&self, path: &Path) -> Result<Vec<Found<PathBuf>>, Errno> {
        let names = match self.names(path) {
            Err(Errno::NOTDIR) => Vec::new(),
            other => other?,
        };
        let found = names
            .into_iter()
            .filter_map(|name| self.found(&path.join(&name), name));
        Ok(found.collect())
    }

    fn names(&self, path: &Path) -> Result<Vec<String>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match self.open_path(path, flags) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    /// What a name stands for; `None` for folders, dangling links and the like.
    fn found(&self, path: &Path, name: String) -> Option<Found<PathBuf>> {
        let kind = if self.is_link_to_null(path) {
            Kind::Mask
        } else {
            let file = self.open_path(path, OFlags::PATH | OFlags::CLOEXEC).ok()?;
            let stat = rustix::fs::fstat(file).ok()?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile if stat.st_size == 0 => Kind::Mask,
                FileType::RegularFile => Kind::File,
                FileType::CharacterDevice if is_null(&stat) => Kind::Mask,
                _ => return None,
            }
        };
        let place = path.to_owned();
        Some(Found { name, kind, place })
    }

    /// Whether the path is a link that says `/dev/null`, whatever the root has there.
    fn is_link_to_null(&self, path: &Path) -> bool {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(link) = self.open_path(path, flags) else {
            return false;
        };
        let target = rustix::fs::readlinkat(link, "", Vec::new());
        target.is_ok_and(|target| target.as_bytes() == b"/dev/null")
    }

    /// Reads a file.
    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, LoadError> {
        let fail = |error| LoadError::new("file", &self.outside(path), error);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = self
            .open_path(path, flags)
            .map_err(|error| fail(error.into()))?;
        let mut text = Vec::new();
        let mut file = File::from(file).take(LARGEST + 1);
        let length = file.read_to_end(&mut text).map_err(fail)?;
        if u64::try_from(length).is_ok_and(|length| length > LARGEST) {
            return Err(fail(io::Error::from(io::ErrorKind::FileTooLarge)));
        }
        Ok(text)
    }

    fn open_path(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        match &self.inside {
            None => rustix::fs::openat(CWD, path, flags, Mode::empty()),
            Some((root, _)) => {
                rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
            }
        }
    }
}

fn is_null(stat: &Stat) -> bool {
    let device = stat.st_rdev;
    (rustix::fs::major(device), rustix::fs::minor(device)) == (1, 3)
}
