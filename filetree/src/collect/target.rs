//! The new file system's side: paths in the tree being built, followed as in a root directory.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::resolve::{Lost, Resolved, Step, resolve};
use super::{CollectError, Collector};
use crate::tree::{BadName, Inode, InodeId, Kind, Metadata, Name, Tree};

impl Collector<'_> {
    /// What `path` leads to in the tree, symlinks followed.
    pub(super) fn resolve(&self, path: &Path) -> Result<Option<InodeId>, CollectError> {
        let found = self.follow(path)?;
        Ok(found.missing.is_empty().then_some(found.at))
    }

    /// The directory and the name for a new file at `path`, missing directories made (0755, root's).
    /// `None` for the root itself.
    pub(super) fn parent_made(
        &mut self,
        path: &Path,
    ) -> Result<Option<(InodeId, Name)>, CollectError> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        let parent = self.directories_made(above)?;
        if !self.tree.is_directory(parent) {
            return Err(CollectError::NotDirectory(above.to_owned()));
        }
        Ok(Some((parent, Name::new(name.as_bytes())?)))
    }

    /// `MakeDirectories=`: what exists stays as it is, even where it is no directory.
    pub(super) fn make_directory(&mut self, path: &Path) -> Result<(), CollectError> {
        self.directories_made(path).map(|_| ())
    }

    /// `MakeSymlinks=`: the directory must be there, the link must not.
    pub(super) fn make_symlink(&mut self, path: &Path, says: &OsStr) -> Result<(), CollectError> {
        let exists = || CollectError::Exists(path.to_owned());
        let (above, name) = path.parent().zip(path.file_name()).ok_or_else(exists)?;
        let parent = self
            .resolve(above)?
            .ok_or_else(|| CollectError::MissingParent(path.to_owned()))?;
        if !self.tree.is_directory(parent) {
            return Err(CollectError::NotDirectory(above.to_owned()));
        }
        let name = Name::new(name.as_bytes())?;
        if self.tree.has(parent, &name) {
            return Err(exists());
        }
        let metadata = self.made(0o777);
        let id = self.tree.add(Inode {
            metadata,
            kind: Kind::Symlink(says.as_bytes().into()),
        });
        self.place(parent, name, id);
        Ok(())
    }

    /// Links a new file into a directory, which so changes now.
    pub(super) fn place(&mut self, parent: InodeId, name: Name, id: InodeId) {
        self.tree.link(parent, name, id);
        let now = self.rules.clamp(self.rules.created);
        self.tree.inode_mut(parent).metadata.mtime = now;
    }

    fn directories_made(&mut self, path: &Path) -> Result<InodeId, CollectError> {
        let found = self.follow(path)?;
        let mut at = found.at;
        if !found.missing.is_empty() && !self.tree.is_directory(at) {
            return Err(CollectError::NotDirectory(path.to_owned()));
        }
        for name in found.missing {
            let name = Name::new(name.as_bytes())?;
            let id = self.tree.add(Inode::directory(self.made(0o755)));
            self.place(at, name, id);
            at = id;
        }
        Ok(at)
    }

    fn made(&self, mode: u16) -> Metadata {
        Metadata {
            mode,
            mtime: self.rules.clamp(self.rules.created),
            ..Metadata::default()
        }
    }

    fn follow(&self, path: &Path) -> Result<Resolved<InodeId>, CollectError> {
        let step = |at: &InodeId, _: &Path, name: &OsStr| step(&self.tree, *at, name);
        resolve(InodeId::ROOT, path, step).map_err(|lost| match lost {
            Lost::Loop => CollectError::Loop(path.to_owned()),
            Lost::NotDirectory => CollectError::NotDirectory(path.to_owned()),
            Lost::Failed(bad) => CollectError::Name(bad),
        })
    }
}

fn step(tree: &Tree, at: InodeId, name: &OsStr) -> Result<Step<InodeId>, BadName> {
    let Some(id) = tree.child(at, &Name::new(name.as_bytes())?) else {
        return Ok(Step::Missing);
    };
    Ok(match &tree.inode(id).kind {
        Kind::Directory(_) => Step::Directory(id),
        Kind::Symlink(target) => Step::Link(OsString::from_vec(target.to_vec())),
        _ => Step::Other(id),
    })
}
