//! What a path leads to, below a root that no symlink leaves.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{Place, ReadError, Reader};
use crate::tree::{Inode, Kind};

/// Symlinks on the way before it is taken for a loop, as Linux counts.
const MAX_LINKS: usize = 40;

/// Bytes of names still to be looked at: what Linux takes as a path, for each of the links.
const MAX_PENDING: usize = MAX_LINKS * 4096;

/// What to do with a symlink that is the last part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Follow it as the others.
    Yes,
    /// It is what was asked for.
    No,
}

/// What a path leads to.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Where it is.
    pub place: Place,
    /// What is there; a directory comes without its entries.
    pub inode: Inode,
    /// The absolute path without symlinks.
    pub path: PathBuf,
}

/// A path leads nowhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The file system cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A part of it is not there.
    #[error("there is no {} in the image", .0.display())]
    Missing(PathBuf),
    /// Something on the way is no directory.
    #[error("{} in the image is no directory", .0.display())]
    NotDirectory(PathBuf),
    /// Symlinks lead to each other.
    #[error("{} in the image leads through too many symlinks", .0.display())]
    Links(PathBuf),
}

/// Follows `path` (absolute or relative to the root) as the kernel does in a chroot: absolute symlinks
/// start at the root, and `..` of the root is the root.
pub fn resolve(reader: &dyn Reader, path: &[u8], follow: Follow) -> Result<Resolved, ResolveError> {
    let root = reader.root();
    let mut walk = Walk {
        reader,
        asked: path,
        inode: reader.inode(root)?,
        steps: vec![(Vec::new(), root)],
        pending: Vec::new(),
        links: 0,
    };
    walk.push(path)?;
    while let Some(name) = walk.pending.pop() {
        walk.step(name, follow)?;
    }
    Ok(Resolved {
        place: walk.place(),
        path: walk.shown(None),
        inode: walk.inode,
    })
}

struct Walk<'a> {
    reader: &'a dyn Reader,
    asked: &'a [u8],
    /// The last of `steps`.
    inode: Inode,
    /// The names and places so far; the root comes first, nameless.
    steps: Vec<(Vec<u8>, Place)>,
    /// Names still to come, the next one last.
    pending: Vec<Vec<u8>>,
    links: usize,
}

impl Walk<'_> {
    fn push(&mut self, path: &[u8]) -> Result<(), ResolveError> {
        // `a/` and `a/.` ask for a directory, and follow the link that `a` may be.
        if matches!(path, [.., b'/'] | [.., b'/', b'.']) {
            self.pending.push(Vec::new());
        }
        let names = path.split(|byte| *byte == b'/').rev();
        let names = names.filter(|name| !name.is_empty() && *name != b".");
        self.pending.extend(names.map(<[u8]>::to_vec));
        let pending: usize = self.pending.iter().map(Vec::len).sum();
        if pending > MAX_PENDING {
            return Err(ResolveError::Links(self.asked()));
        }
        Ok(())
    }

    fn step(&mut self, name: Vec<u8>, follow: Follow) -> Result<(), ResolveError> {
        if !matches!(self.inode.kind, Kind::Directory(_)) {
            return Err(ResolveError::NotDirectory(self.shown(None)));
        }
        if name.is_empty() {
            return Ok(());
        }
        if name == b".." {
            return self.up();
        }
        let place = self.reader.lookup(self.place(), &name)?;
        let place = place.ok_or_else(|| ResolveError::Missing(self.shown(Some(&name))))?;
        let inode = self.reader.inode(place)?;
        match &inode.kind {
            Kind::Symlink(target) if follow == Follow::Yes || !self.pending.is_empty() => {
                self.link(target)
            }
            _ => {
                self.steps.push((name, place));
                self.inode = inode;
                Ok(())
            }
        }
    }

    fn up(&mut self) -> Result<(), ResolveError> {
        if self.steps.len() > 1 {
            self.steps.pop();
        }
        self.inode = self.reader.inode(self.place())?;
        Ok(())
    }

    fn link(&mut self, target: &[u8]) -> Result<(), ResolveError> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(ResolveError::Links(self.asked()));
        }
        if target.starts_with(b"/") {
            self.steps.truncate(1);
            self.inode = self.reader.inode(self.place())?;
        }
        self.push(target)
    }

    fn place(&self) -> Place {
        let last = self.steps.last();
        last.map_or_else(|| self.reader.root(), |(_, place)| *place)
    }

    fn asked(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(self.asked))
    }

    /// The path so far, with one more name.
    fn shown(&self, name: Option<&[u8]>) -> PathBuf {
        let names = self.steps.iter().skip(1).map(|(name, _)| name.as_slice());
        let mut path = PathBuf::from("/");
        path.extend(names.chain(name).map(OsStr::from_bytes));
        path
    }
}
