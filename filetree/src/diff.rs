//! Comparing two trees, path by path.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::content::{Content, ContentError};
use crate::tree::{Inode, InodeId, Kind, Metadata, Tree};

/// One difference at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Relative path; empty for the root.
    pub path: PathBuf,
    /// What differs.
    pub change: Change,
}

/// What differs between an old and a new file of the same path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Only the new tree has it.
    Added,
    /// Only the old tree has it.
    Removed,
    /// It is another kind of file.
    Kind,
    /// The permission bits.
    Mode,
    /// Owner or group.
    Owner,
    /// The time of the last change.
    Mtime,
    /// The value or existence of this extended attribute.
    Xattr(Vec<u8>),
    /// The length.
    Size,
    /// The bytes, at the same length.
    Data,
    /// Where the holes are.
    Holes,
    /// What a symlink says.
    Target,
    /// The device number.
    Device,
    /// Which other paths are the same inode.
    Links,
}

/// Every difference from `old` to `new`, by path. Files are read only where both have one of the
/// same length.
pub fn diff(old: &Tree, new: &Tree) -> Result<Vec<Difference>, ContentError> {
    let (old, new) = (Paths::of(old), Paths::of(new));
    let all: BTreeSet<_> = old.by_path.keys().chain(new.by_path.keys()).collect();
    let mut differences = Vec::new();
    for path in all {
        let changes = match (old.by_path.get(path), new.by_path.get(path)) {
            (Some(_), None) => vec![Change::Removed],
            (None, _) => vec![Change::Added],
            (Some(a), Some(b)) => {
                let mut changes = inodes(old.tree.inode(*a), new.tree.inode(*b))?;
                if old.first[a] != new.first[b] {
                    changes.push(Change::Links);
                }
                changes
            }
        };
        differences.extend(changes.into_iter().map(|change| Difference {
            path: PathBuf::from(OsString::from_vec(path.clone())),
            change,
        }));
    }
    Ok(differences)
}

struct Paths<'a> {
    tree: &'a Tree,
    by_path: BTreeMap<Vec<u8>, InodeId>,
    /// The first path of each inode: equal in both trees where the hard links are.
    first: BTreeMap<InodeId, Vec<u8>>,
}

impl<'a> Paths<'a> {
    fn of(tree: &'a Tree) -> Self {
        let by_path: BTreeMap<_, _> = tree.walk().collect();
        let mut first = BTreeMap::new();
        for (path, id) in &by_path {
            first.entry(*id).or_insert_with(|| path.clone());
        }
        Self {
            tree,
            by_path,
            first,
        }
    }
}

fn inodes(old: &Inode, new: &Inode) -> Result<Vec<Change>, ContentError> {
    if std::mem::discriminant(&old.kind) != std::mem::discriminant(&new.kind) {
        return Ok(vec![Change::Kind]);
    }
    let mut changes = metadata(&old.metadata, &new.metadata);
    match (&old.kind, &new.kind) {
        (Kind::File(a), Kind::File(b)) => changes.extend(contents(a, b)?),
        (Kind::Symlink(a), Kind::Symlink(b)) if a != b => changes.push(Change::Target),
        (Kind::CharacterDevice(a), Kind::CharacterDevice(b))
        | (Kind::BlockDevice(a), Kind::BlockDevice(b))
            if a != b =>
        {
            changes.push(Change::Device);
        }
        _ => (),
    }
    Ok(changes)
}

fn metadata(old: &Metadata, new: &Metadata) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.mode != new.mode {
        changes.push(Change::Mode);
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        changes.push(Change::Owner);
    }
    if old.mtime != new.mtime {
        changes.push(Change::Mtime);
    }
    let names: BTreeSet<_> = old.xattrs.keys().chain(new.xattrs.keys()).collect();
    changes.extend(
        names
            .into_iter()
            .filter(|name| old.xattrs.get(*name) != new.xattrs.get(*name))
            .map(|name| Change::Xattr(name.clone())),
    );
    changes
}

fn contents(old: &Content, new: &Content) -> Result<Vec<Change>, ContentError> {
    if old.size() != new.size() {
        return Ok(vec![Change::Size]);
    }
    let mut changes = Vec::new();
    if !same_bytes(old, new)? {
        changes.push(Change::Data);
    }
    if old.data() != new.data() {
        changes.push(Change::Holes);
    }
    Ok(changes)
}

fn same_bytes(old: &Content, new: &Content) -> Result<bool, ContentError> {
    let (a, b) = (old.open()?, new.open()?);
    let mut same = true;
    let mut offset = 0;
    let mut other = Vec::new();
    let mut failed = None;
    a.read_chunks(old.size(), |chunk| {
        other.resize(chunk.len(), 0);
        if let Err(error) = b.read_exact_at(&mut other, offset) {
            failed.get_or_insert(error);
        }
        same &= chunk == other;
        offset = offset.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(same),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Name;

    #[test]
    fn every_aspect_is_seen() {
        let file = |text: &[u8]| Inode {
            metadata: Metadata::default(),
            kind: Kind::File(Content::from_bytes(text)),
        };
        let name = |text: &str| Name::new(text.as_bytes()).unwrap();
        let mut old = Tree::new(Metadata::default());
        for each in ["a", "b", "c", "d", "gone"] {
            let id = old.add(file(b"same"));
            assert!(old.link(InodeId::ROOT, name(each), id));
        }
        let mut new = old.clone();
        assert_eq!(diff(&old, &new).unwrap(), []);

        let a = new.lookup(b"a").unwrap();
        let metadata = &mut new.inode_mut(a).metadata;
        (metadata.mode, metadata.gid, metadata.mtime.seconds) = (1, 1, 1);
        metadata.xattrs.insert(b"user.x".to_vec(), Vec::new());
        new.inode_mut(new.lookup(b"b").unwrap()).kind = file(b"diff").kind;
        new.inode_mut(new.lookup(b"c").unwrap()).kind = Kind::Fifo;
        assert!(new.link(InodeId::ROOT, name("d"), a));
        let id = new.add(file(b""));
        assert!(new.link(InodeId::ROOT, name("new"), id));
        let Kind::Directory(entries) = &mut new.inode_mut(InodeId::ROOT).kind else {
            panic!();
        };
        entries.remove(&b"gone"[..]);

        let all: Vec<_> = diff(&old, &new)
            .unwrap()
            .into_iter()
            .map(|difference| {
                (
                    difference.path.to_str().unwrap().to_owned(),
                    difference.change,
                )
            })
            .collect();
        let xattr = || Change::Xattr(b"user.x".to_vec());
        let expected = [
            ("a", Change::Mode),
            ("a", Change::Owner),
            ("a", Change::Mtime),
            ("a", xattr()),
            ("b", Change::Data),
            ("c", Change::Kind),
            ("d", Change::Mode),
            ("d", Change::Owner),
            ("d", Change::Mtime),
            ("d", xattr()),
            ("d", Change::Links),
            ("gone", Change::Removed),
            ("new", Change::Added),
        ]
        .map(|(path, change)| (path.to_owned(), change));
        assert_eq!(all, expected);
    }
}
