//! Building a [`Tree`] from a partition's populate rules (repart.d: `CopyFiles=`, `ExcludeFiles=`,
//! `ExcludeFilesTarget=`, `MakeDirectories=`, `MakeSymlinks=`).
//!
//! The rules are carried out in systemd's order: copies, then directories, then symlinks, then the
//! root's own attributes. Nothing of the base is written and no file's data is read; symlinks in the
//! base never lead out of it. The same rules on the same files give the same tree, whatever the order
//! in which the host lists directories.

mod exclude;
mod filter;
mod resolve;
mod source;
mod target;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::tree::{InodeId, Kind, Metadata, Name, Timestamp, Tree};

pub use filter::{Holds, keep_only};

use exclude::{Denial, Denied};
use source::{Base, Found};

/// What a file system shall be filled with.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The directory that every source path starts from: `/` or `--copy-source=`.
    pub base: PathBuf,
    /// `CopyFiles=`, in order.
    pub copies: Vec<Copy>,
    /// `ExcludeFiles=`: absolute paths in the base. A trailing `/` keeps the directory itself.
    pub exclude_sources: Vec<PathBuf>,
    /// `ExcludeFilesTarget=`: absolute paths in the new file system. A trailing `/` as above.
    pub exclude_targets: Vec<PathBuf>,
    /// Directories of the new file system on which other partitions will be mounted: kept empty,
    /// unless a copy has exactly this target.
    pub mount_points: Vec<PathBuf>,
    /// `MakeDirectories=`: absolute paths.
    pub directories: Vec<PathBuf>,
    /// `MakeSymlinks=`: absolute path of the link, and what it says.
    pub symlinks: Vec<(PathBuf, OsString)>,
    /// Extended attributes to set on the root directory at the end, by full name.
    pub root_xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Who will own what is copied.
    pub owner: Owner,
    /// The time of what is made rather than copied: the clock's, or `SOURCE_DATE_EPOCH`.
    pub created: Timestamp,
    /// No file gets a later time than this: `SOURCE_DATE_EPOCH`, where it is set.
    pub latest: Option<Timestamp>,
}

/// One line of `CopyFiles=`.
#[derive(Clone, Debug)]
pub struct Copy {
    /// Absolute path in the base.
    pub source: PathBuf,
    /// Absolute path in the new file system.
    pub target: PathBuf,
}

/// Who owns the copied files. What systemd makes itself, a line's single file included, always
/// belongs to root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// Who owns them in the source, as systemd does it; also in builds by an ordinary user, whose
    /// own files so stay theirs.
    #[default]
    Keep,
    /// Root owns everything.
    Root,
    /// Owners (and, alike, groups) move by these ranges; one that no range holds is refused.
    Map(Vec<OwnerRange>),
}

/// `count` owners from `from` on become as many from `to` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "said above")]
pub struct OwnerRange {
    pub from: u32,
    pub to: u32,
    pub count: u32,
}

/// The outcome: the tree, and what a person should hear about.
#[derive(Debug)]
pub struct Collected {
    /// The contents.
    pub tree: Tree,
    /// In the order in which they arose.
    pub notices: Vec<Notice>,
}

/// Something that was left out, though it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Notice {
    /// The source of a line does not exist.
    #[error("skipping CopyFiles={}: there is no such file", .0.display())]
    MissingSource(PathBuf),
    /// A line's source or target is excluded as a whole.
    #[error("skipping CopyFiles={}: it is excluded", .0.display())]
    ExcludedSource(PathBuf),
    /// A file stands where the new file system has a directory already.
    #[error("skipping {}: a directory of this name exists in the new file system", .0.display())]
    UnderDirectory(PathBuf),
    /// The format cannot hold files of this kind.
    #[error("skipping /{}: the file system cannot hold a {kind}", path.display())]
    KindNotHeld {
        /// Path within the new file system, relative.
        path: PathBuf,
        /// Its kind, as a word.
        kind: &'static str,
    },
}

/// Why a tree could not be collected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// A source cannot be examined.
    #[error("cannot {what} {}", path.display())]
    Read {
        /// What was tried: `open`, `read the directory`, …
        what: &'static str,
        /// Path on the host.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path with more symlinks than the kernel would follow.
    #[error("{}: too many levels of symbolic links", .0.display())]
    Loop(PathBuf),
    /// A path that leads through something that is no directory.
    #[error("{}: not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// A source line that is neither a regular file nor a directory.
    #[error("CopyFiles={}: only regular files and directories can be copied by name; copy the directory around it", .0.display())]
    NotCopyable(PathBuf),
    /// Something is there already.
    #[error("cannot create {} in the new file system: it exists already", .0.display())]
    Exists(PathBuf),
    /// The directory for a symlink is missing.
    #[error("cannot create {} in the new file system: its directory does not exist; add it to MakeDirectories=", .0.display())]
    MissingParent(PathBuf),
    /// A directory cannot be merged with what is no directory.
    #[error("cannot copy the directory {}: the new file system has something else in its place", .0.display())]
    OverFile(PathBuf),
    /// No name for a file.
    #[error(transparent)]
    Name(#[from] crate::tree::BadName),
    /// An owner that no range maps.
    #[error("{} belongs to {id}, which no owner range holds", path.display())]
    Owner {
        /// Path on the host.
        path: PathBuf,
        /// Owner or group.
        id: u32,
    },
}

/// Always kept empty in copies of the base.
const ALWAYS_EMPTY: [&str; 6] = ["/proc", "/sys", "/dev", "/tmp", "/run", "/var/tmp"];

/// Carries out `rules`.
pub fn collect(rules: &Rules) -> Result<Collected, CollectError> {
    let root = Metadata {
        mode: 0o755,
        mtime: rules.clamp(rules.created),
        ..Metadata::default()
    };
    let mut collector = Collector {
        rules,
        base: Base::new(&rules.base),
        tree: Tree::new(root),
        notices: Vec::new(),
    };
    collector.adopt_root()?;
    for copy in &rules.copies {
        collector.copy(copy)?;
    }
    for path in &rules.directories {
        collector.make_directory(path)?;
    }
    for (path, target) in &rules.symlinks {
        collector.make_symlink(path, target)?;
    }
    let root = collector.tree.inode_mut(InodeId::ROOT);
    root.metadata.xattrs.extend(rules.root_xattrs.clone());
    Ok(Collected {
        tree: collector.tree,
        notices: collector.notices,
    })
}

impl Rules {
    fn clamp(&self, time: Timestamp) -> Timestamp {
        self.latest.map_or(time, |latest| time.min(latest))
    }
}

/// The state of one collection.
struct Collector<'a> {
    rules: &'a Rules,
    base: Base,
    tree: Tree,
    notices: Vec<Notice>,
}

impl Collector<'_> {
    /// Gives the root directory mode, times and attributes of the first directory copied onto it.
    fn adopt_root(&mut self) -> Result<(), CollectError> {
        for copy in self
            .rules
            .copies
            .iter()
            .filter(|copy| is_root(&copy.target))
        {
            let Some(found) = self.base.find(&copy.source)? else {
                continue;
            };
            if found.metadata.is_dir() {
                let metadata = self.metadata(&found)?;
                self.tree.inode_mut(InodeId::ROOT).metadata = Metadata {
                    uid: 0,
                    gid: 0,
                    ..metadata
                };
                break;
            }
        }
        Ok(())
    }

    fn copy(&mut self, copy: &Copy) -> Result<(), CollectError> {
        let Some(found) = self.base.find(&copy.source)? else {
            let notice = Notice::MissingSource(copy.source.clone());
            self.notices.push(notice);
            return Ok(());
        };
        let Some(denied) = Denied::for_copy(self.rules, &self.base, copy)? else {
            return self.skip_excluded(copy);
        };
        if found.metadata.is_dir() {
            match denied.of(&found.metadata) {
                Some(Denial::Whole) => self.skip_excluded(copy),
                _ => self.copy_directory(&found, copy, &denied),
            }
        } else if found.metadata.is_file() {
            // systemd takes a directory from below /tmp, but never a single file.
            let hidden = ALWAYS_EMPTY.iter().any(|dir| copy.source.starts_with(dir));
            match hidden || denied.of(&found.metadata).is_some() {
                true => self.skip_excluded(copy),
                false => self.copy_file(&found, &copy.target),
            }
        } else {
            Err(CollectError::NotCopyable(copy.source.clone()))
        }
    }

    fn skip_excluded(&mut self, copy: &Copy) -> Result<(), CollectError> {
        let notice = Notice::ExcludedSource(copy.source.clone());
        self.notices.push(notice);
        Ok(())
    }

    fn copy_file(&mut self, found: &Found, target: &Path) -> Result<(), CollectError> {
        let Some((parent, name)) = self.parent_made(target)? else {
            return Err(CollectError::Exists(target.to_owned()));
        };
        if self.tree.has(parent, &name) {
            return Err(CollectError::Exists(target.to_owned()));
        }
        let mut inode = self.inode(found)?;
        (inode.metadata.uid, inode.metadata.gid) = (0, 0);
        let id = self.tree.add(inode);
        self.place(parent, name, id);
        Ok(())
    }

    fn copy_directory(
        &mut self,
        found: &Found,
        copy: &Copy,
        denied: &Denied,
    ) -> Result<(), CollectError> {
        let target = match self.resolve(&copy.target)? {
            Some(id) if self.tree.inode(id).entries().is_some() => id,
            Some(_) => return Err(CollectError::NotDirectory(copy.target.clone())),
            None => self.new_directory(found, &copy.target)?,
        };
        match denied.of(&found.metadata) {
            Some(_) => Ok(()),
            None => self.copy_contents(&found.path, target, denied),
        }
    }

    fn new_directory(&mut self, found: &Found, target: &Path) -> Result<InodeId, CollectError> {
        let exists = || CollectError::Exists(target.to_owned());
        let (parent, name) = self.parent_made(target)?.ok_or_else(exists)?;
        if self.tree.has(parent, &name) {
            return Err(CollectError::OverFile(target.to_owned()));
        }
        let inode = self.inode(found)?;
        let id = self.tree.add(inode);
        self.place(parent, name, id);
        Ok(id)
    }
}

/// Whether a normalised absolute path is `/`.
fn is_root(path: &Path) -> bool {
    path.file_name().is_none()
}

impl Tree {
    fn child(&self, parent: InodeId, name: &Name) -> Option<InodeId> {
        self.inode(parent).entries()?.get(name).copied()
    }

    fn has(&self, parent: InodeId, name: &Name) -> bool {
        self.child(parent, name).is_some()
    }

    fn is_directory(&self, id: InodeId) -> bool {
        matches!(self.inode(id).kind, Kind::Directory(_))
    }
}

#[cfg(test)]
mod tests;
