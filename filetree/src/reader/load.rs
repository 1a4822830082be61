//! Everything that a reader has, as a [`Tree`].

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{Entry, Limits, Place, ReadError, Reader};
use crate::tree::{Inode, InodeId, Kind, Tree};

/// What an inode takes in memory beside its names and attributes (about).
const INODE: u64 = 256;
/// The same for an entry of a directory.
const ENTRY: u64 = 96;

/// Reads all inodes and names. The contents of files stay where they are.
pub fn load(reader: &dyn Reader, limits: Limits) -> Result<Tree, ReadError> {
    load_from(reader, reader.root(), limits)
}

/// The same of a directory and what is below it; `root` becomes the root of the tree.
pub fn load_from(reader: &dyn Reader, root: Place, limits: Limits) -> Result<Tree, ReadError> {
    let mut loading = Loading {
        reader,
        limits,
        left: limits.memory,
        seen: HashMap::from([(root, InodeId::ROOT)]),
        tree: Tree::new(Default::default()),
        pending: vec![Directory {
            id: InodeId::ROOT,
            place: root,
            path: Vec::new(),
        }],
    };
    let inode = loading.inode(root)?;
    if inode.entries().is_none() {
        return Err(ReadError::Root);
    }
    *loading.tree.inode_mut(InodeId::ROOT) = inode;
    while let Some(directory) = loading.pending.pop() {
        loading.directory(&directory)?;
    }
    Ok(loading.tree)
}

struct Loading<'a> {
    reader: &'a dyn Reader,
    limits: Limits,
    left: u64,
    seen: HashMap<Place, InodeId>,
    tree: Tree,
    /// Directories whose entries are still to be read.
    pending: Vec<Directory>,
}

struct Directory {
    id: InodeId,
    place: Place,
    path: Vec<u8>,
}

impl Loading<'_> {
    fn directory(&mut self, directory: &Directory) -> Result<(), ReadError> {
        let mut entries = Vec::new();
        let (mut left, all) = (self.left, self.limits.memory);
        self.reader.entries(directory.place, &mut |entry| {
            let length = entry.name.as_bytes().len();
            take(&mut left, all, ENTRY + u64::try_from(length).unwrap_or(0))?;
            entries.push(entry);
            Ok(())
        })?;
        self.left = left;
        for entry in entries {
            self.entry(directory, entry)?;
        }
        Ok(())
    }

    fn entry(&mut self, directory: &Directory, entry: Entry) -> Result<(), ReadError> {
        let mut path = directory.path.clone();
        path.push(b'/');
        path.extend_from_slice(entry.name.as_bytes());
        if path.len() > self.limits.path {
            return Err(ReadError::Path(self.limits.path));
        }
        let known = self.tree.inode(directory.id).entries();
        if known.is_some_and(|known| known.contains_key(&entry.name)) {
            return Err(ReadError::Twice(shown(&path)));
        }
        let id = match self.seen.get(&entry.place).copied() {
            Some(id) if self.tree.inode(id).entries().is_some() => {
                return Err(ReadError::Loop(shown(&path)));
            }
            Some(id) => id,
            None => self.add(entry.place, path)?,
        };
        self.tree.link(directory.id, entry.name, id);
        Ok(())
    }

    fn add(&mut self, place: Place, path: Vec<u8>) -> Result<InodeId, ReadError> {
        let inode = self.inode(place)?;
        let is_directory = inode.entries().is_some();
        let id = self.tree.add(inode);
        self.seen.insert(place, id);
        if is_directory {
            self.pending.push(Directory { id, place, path });
        }
        Ok(id)
    }

    fn inode(&mut self, place: Place) -> Result<Inode, ReadError> {
        let inode = self.reader.inode(place)?;
        let xattrs = inode.metadata.xattrs.iter();
        let mut size: usize = xattrs.map(|(name, value)| name.len() + value.len()).sum();
        size += match &inode.kind {
            Kind::Symlink(target) => target.len(),
            Kind::File(content) => content.memory(),
            _ => 0,
        };
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        take(
            &mut self.left,
            self.limits.memory,
            size.saturating_add(INODE),
        )?;
        Ok(inode)
    }
}

fn take(left: &mut u64, all: u64, bytes: u64) -> Result<(), ReadError> {
    *left = left.checked_sub(bytes).ok_or(ReadError::Memory(all))?;
    Ok(())
}

fn shown(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}
