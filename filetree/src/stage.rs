//! Laying a tree out as real files, for programs that take a directory.
//!
//! Nothing is hard-linked to its source, so that modes and owners are the tree's and not the
//! source's; data is cloned where the file system can do so, and holes stay holes.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::content::{Content, ContentError, OpenContent};
use crate::tree::{DeviceNumber, Inode, InodeId, Kind, Metadata, Timestamp, Tree};

/// By whom the files are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// By root: everything is as the tree says.
    Root,
    /// By anybody: what only root may set is left out and told, files are readable and writable and
    /// directories passable for their owner, and devices are empty files. Whoever reads the
    /// directory must take the metadata from the tree.
    User,
}

/// What an ordinary user could not make as the tree says, apart from owner and mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmade {
    /// Devices that are empty regular files.
    pub devices: Vec<PathBuf>,
    /// Extended attributes that are missing: path and full name.
    pub xattrs: Vec<(PathBuf, Vec<u8>)>,
}

/// Why a tree could not be laid out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// A file could not be made.
    #[error("cannot {what} {}", path.display())]
    Write {
        /// What was tried.
        what: &'static str,
        /// The file in the staging directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A source could not be read.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// Lays `tree` out in `directory`, which must exist and be empty, and which becomes the root.
pub fn stage(tree: &Tree, directory: &Path, by: Privilege) -> Result<Unmade, StageError> {
    let mut stager = Stager {
        tree,
        directory,
        by,
        made: vec![None; tree.len()],
        unmade: Unmade::default(),
    };
    let mut directories = Vec::new();
    for (path, id) in tree.walk() {
        let inside = Path::new(std::ffi::OsStr::from_bytes(&path)).to_owned();
        stager.make(&inside, id)?;
        if tree.inode(id).entries().is_some() {
            directories.push((inside, id));
        }
    }
    // A directory's time and mode can only be given once nothing more is put into it.
    for (inside, id) in directories.into_iter().rev() {
        stager.describe(&inside, tree.inode(id))?;
    }
    Ok(stager.unmade)
}

struct Stager<'a> {
    tree: &'a Tree,
    directory: &'a Path,
    by: Privilege,
    /// For each inode, the first path under which it was made.
    made: Vec<Option<PathBuf>>,
    unmade: Unmade,
}

impl Stager<'_> {
    fn make(&mut self, inside: &Path, id: InodeId) -> Result<(), StageError> {
        let path = self.directory.join(inside);
        if let Some(first) = &self.made[id.index()] {
            return fs::hard_link(self.directory.join(first), &path).map_err(failed("link", &path));
        }
        self.made[id.index()] = Some(inside.to_owned());
        let inode = self.tree.inode(id);
        match &inode.kind {
            Kind::Directory(_) if inside.as_os_str().is_empty() => return Ok(()),
            Kind::Directory(_) => {
                return fs::create_dir(&path).map_err(failed("create the directory", &path));
            }
            Kind::File(content) => copy(content, &path)?,
            Kind::Symlink(target) => {
                let target = Path::new(std::ffi::OsStr::from_bytes(target));
                std::os::unix::fs::symlink(target, &path).map_err(failed("link", &path))?;
            }
            Kind::Fifo => node(&path, FileType::Fifo, None)?,
            Kind::Socket => node(&path, FileType::Socket, None)?,
            Kind::CharacterDevice(number) => {
                self.device(inside, FileType::CharacterDevice, *number)?
            }
            Kind::BlockDevice(number) => self.device(inside, FileType::BlockDevice, *number)?,
        }
        self.describe(inside, inode)
    }

    fn device(
        &mut self,
        inside: &Path,
        kind: FileType,
        number: DeviceNumber,
    ) -> Result<(), StageError> {
        let path = self.directory.join(inside);
        if self.by == Privilege::Root {
            return node(&path, kind, Some(number));
        }
        self.unmade.devices.push(inside.to_owned());
        File::create_new(&path)
            .map(drop)
            .map_err(failed("create", &path))
    }

    fn describe(&mut self, inside: &Path, inode: &Inode) -> Result<(), StageError> {
        let path = self.directory.join(inside);
        if self.by == Privilege::Root {
            own(&path, &inode.metadata)?;
        }
        if !matches!(inode.kind, Kind::Symlink(_)) {
            let mode = fs::Permissions::from_mode(self.mode(inode));
            fs::set_permissions(&path, mode).map_err(failed("set the mode of", &path))?;
        }
        // After the owner: changing that takes capabilities away.
        self.attributes(inside, &path, &inode.metadata)?;
        let time = timespec(inode.metadata.mtime);
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed("set the time of", &path)(errno.into()))
    }

    fn mode(&self, inode: &Inode) -> u32 {
        let mode = u32::from(inode.metadata.mode);
        match (self.by, &inode.kind) {
            (Privilege::Root, _) => mode,
            (Privilege::User, Kind::Directory(_)) => mode & 0o1777 | 0o700,
            (Privilege::User, _) => mode & 0o1777 | 0o600,
        }
    }

    fn attributes(
        &mut self,
        inside: &Path,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(), StageError> {
        for (name, value) in &metadata.xattrs {
            match rustix::fs::lsetxattr(path, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) => (),
                Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP)
                    if self.by == Privilege::User =>
                {
                    self.unmade.xattrs.push((inside.to_owned(), name.clone()));
                }
                Err(errno) => {
                    return Err(failed("set an extended attribute of", path)(errno.into()));
                }
            }
        }
        Ok(())
    }
}

fn copy(content: &Content, path: &Path) -> Result<(), StageError> {
    let target = File::create_new(path).map_err(failed("create", path))?;
    let source = content.open()?;
    let cloned = source
        .file()
        .is_some_and(|file| rustix::fs::ioctl_ficlone(&target, file).is_ok());
    if !cloned {
        target
            .set_len(content.size())
            .map_err(failed("set the size of", path))?;
        for range in content.data() {
            copy_range(&source, &target, range.clone(), path)?;
        }
    }
    Ok(source.finish()?)
}

/// Copies within the kernel where that works, else through memory.
fn copy_range(
    source: &OpenContent,
    target: &File,
    mut range: std::ops::Range<u64>,
    path: &Path,
) -> Result<(), StageError> {
    while let Some(file) = source.file().filter(|_| !range.is_empty()) {
        let (mut from, mut to) = (range.start, range.start);
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(file, Some(&mut from), target, Some(&mut to), length) {
            Ok(copied) if copied > 0 => range.start = from,
            _ => break,
        }
    }
    let mut buffer = vec![0; 128 << 10];
    while !range.is_empty() {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let part = &mut buffer[..length.min(128 << 10)];
        source.read_exact_at(part, range.start)?;
        target
            .write_all_at(part, range.start)
            .map_err(failed("write", path))?;
        range.start += u64::try_from(part.len()).unwrap_or(u64::MAX);
    }
    Ok(())
}

fn node(path: &Path, kind: FileType, number: Option<DeviceNumber>) -> Result<(), StageError> {
    let device = number.map_or(0, |number| rustix::fs::makedev(number.major, number.minor));
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), device)
        .map_err(|errno| failed("create", path)(errno.into()))
}

fn own(path: &Path, metadata: &Metadata) -> Result<(), StageError> {
    let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
    rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| failed("set the owner of", path)(errno.into()))
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    }
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> StageError {
    move |source| StageError::Write {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::{Copy, Owner, Rules, collect};
    use crate::diff::{Change, diff};
    use crate::tree::Name;

    fn collected(base: &Path) -> Tree {
        let rules = Rules {
            base: base.to_owned(),
            copies: vec![Copy {
                source: "/".into(),
                target: "/".into(),
            }],
            exclude_sources: Vec::new(),
            exclude_targets: Vec::new(),
            mount_points: Vec::new(),
            directories: Vec::new(),
            symlinks: Vec::new(),
            root_xattrs: Default::default(),
            owner: Owner::Keep,
            created: Timestamp::default(),
            latest: None,
        };
        collect(&rules).unwrap().tree
    }

    fn tree() -> Tree {
        let metadata = |mode| Metadata {
            mode,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            mtime: Timestamp {
                seconds: 1_000_000_000,
                nanoseconds: 7,
            },
            xattrs: [(b"user.a".to_vec(), b"\0b".to_vec())].into(),
        };
        let mut tree = Tree::new(metadata(0o755));
        let mut add = |parent, name: &str, mode, kind, xattrs: bool| {
            let mut metadata = metadata(mode);
            if !xattrs {
                metadata.xattrs.clear();
            }
            let id = tree.add(Inode { metadata, kind });
            let name = Name::new(name.as_bytes()).unwrap();
            assert!(tree.link(parent, name, id));
            id
        };
        let dir = add(
            InodeId::ROOT,
            "d",
            0o500,
            Kind::Directory(Default::default()),
            true,
        );
        add(
            dir,
            "f",
            0o444,
            Kind::File(Content::from_bytes(*b"text")),
            true,
        );
        add(
            dir,
            "l",
            0o777,
            Kind::Symlink(b"no where"[..].into()),
            false,
        );
        add(InodeId::ROOT, "p", 0o600, Kind::Fifo, false);
        let holes = std::sync::Arc::new(Pattern);
        let range = Vec::from([1 << 20..(1 << 20) + 4096]);
        let sparse = Content::from_reader(holes, 4 << 20, range);
        let file = add(dir, "s", 0o600, Kind::File(sparse), true);
        assert!(tree.link(InodeId::ROOT, Name::new(b"hard").unwrap(), file));
        tree
    }

    #[derive(Debug)]
    struct Pattern;

    impl crate::content::ReadAt for Pattern {
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            for (at, byte) in (offset..).zip(buffer) {
                *byte = u8::from(((1 << 20)..(1 << 20) + 4096).contains(&at));
            }
            Ok(())
        }
    }

    #[test]
    fn what_is_laid_out_is_collected_again() {
        let dir = tempfile::tempdir().unwrap();
        let tree = tree();
        let (first, second) = (dir.path().join("1"), dir.path().join("2"));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        let by = match rustix::process::getuid().is_root() {
            true => Privilege::Root,
            false => Privilege::User,
        };
        let unmade = stage(&tree, &first, by).unwrap();
        assert_eq!(unmade, Unmade::default());
        let mut differences = diff(&tree, &collected(&first)).unwrap();
        // A collected root directory is root's, whoever owned the folder.
        differences.retain(|found| {
            by == Privilege::Root || !matches!(found.change, Change::Mode | Change::Owner)
        });
        assert_eq!(differences, []);

        // From files, as another user would: readable, and the sources are not touched.
        let again = collected(&first);
        stage(&again, &second, Privilege::User).unwrap();
        let differences = diff(&again, &collected(&second)).unwrap();
        let paths: Vec<_> = differences.iter().map(|found| &found.change).collect();
        assert!(
            paths.iter().all(|change| **change == Change::Mode),
            "{differences:?}"
        );
    }
}
