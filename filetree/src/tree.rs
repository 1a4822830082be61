//! The contents of a file system as one value.
//!
//! A [`Tree`] is a table of inodes; a directory maps names to entries of that table, so a hard link
//! is a second name for the same inode. Names are bytes, sorted bytewise, so every walk and every
//! image made from a tree has one order. Pure, but for reading a file's data through [`Content`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::content::Content;

/// A file system's contents. Inode 0 is the root directory.
#[derive(Clone, Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
}

/// The number of an inode in its [`Tree`] (not on any disk).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(usize);

/// A file of any kind, without its names.
#[derive(Clone, Debug)]
pub struct Inode {
    /// Owner, mode, times and extended attributes.
    pub metadata: Metadata,
    /// What it is, and what is in it.
    pub kind: Kind,
}

/// Who owns a file, what may be done with it, and when it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with set-user-ID, set-group-ID and sticky: at most 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of the data.
    pub mtime: Timestamp,
    /// Extended attributes by their full name (`security.capability`, `user.x`, `system.posix_acl_access`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A moment, as seconds since 1970 (UTC) and nanoseconds below 10⁹.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds after that second, below 10⁹.
    pub nanoseconds: u32,
}

/// What an inode is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A directory, by name. Names hold no `/` and no NUL and are neither empty nor `.` nor `..`.
    Directory(BTreeMap<Name, InodeId>),
    /// A regular file.
    File(Content),
    /// A symbolic link with its target, which is never followed.
    Symlink(Box<[u8]>),
    /// A character device.
    CharacterDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// A device's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name")]
pub struct DeviceNumber {
    pub major: u32,
    pub minor: u32,
}

/// A checked file name: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

/// Bytes that are no file name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{:?} is not a file name: it must have 1 to 255 bytes, no '/' and no NUL, and not be '.' or '..'", String::from_utf8_lossy(.0))]
pub struct BadName(pub Vec<u8>);

impl Name {
    /// Checks a file name.
    pub fn new(bytes: &[u8]) -> Result<Self, BadName> {
        let bad = bytes.is_empty()
            || bytes.len() > 255
            || bytes == b"."
            || bytes == b".."
            || bytes.iter().any(|byte| matches!(byte, 0 | b'/'));
        if bad {
            Err(BadName(bytes.to_vec()))
        } else {
            Ok(Self(bytes.into()))
        }
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl InodeId {
    /// The root directory.
    pub const ROOT: Self = Self(0);

    /// The place in the tree's table of inodes, to index tables of one's own by.
    pub const fn index(self) -> usize {
        self.0
    }
}

impl Inode {
    /// An empty directory.
    pub fn directory(metadata: Metadata) -> Self {
        Self {
            metadata,
            kind: Kind::Directory(BTreeMap::new()),
        }
    }

    /// The entries, if this is a directory.
    pub fn entries(&self) -> Option<&BTreeMap<Name, InodeId>> {
        match &self.kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        }
    }
}

impl Tree {
    /// A tree of an empty root directory.
    pub fn new(root: Metadata) -> Self {
        Self {
            inodes: vec![Inode::directory(root)],
        }
    }

    /// The inode with this number.
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0]
    }

    /// The inode with this number, to be changed.
    pub fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.0]
    }

    /// The number at an index of the table.
    pub(crate) fn id(&self, index: usize) -> Option<InodeId> {
        (index < self.inodes.len()).then_some(InodeId(index))
    }

    /// Every inode number. Inodes that no name leads to any more are among them: ask
    /// [`Tree::link_counts`] or walk where that matters.
    pub fn ids(&self) -> impl Iterator<Item = InodeId> + use<> {
        (0..self.inodes.len()).map(InodeId)
    }

    /// How many inodes the table has.
    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Whether the table is empty (it never is: the root is there).
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty()
    }

    /// Adds an inode that no name leads to yet.
    pub fn add(&mut self, inode: Inode) -> InodeId {
        self.inodes.push(inode);
        InodeId(self.inodes.len() - 1)
    }

    /// Gives `child` the name `name` in `parent`, in place of what had it before.
    ///
    /// Returns `false`, with nothing changed, where `parent` is no directory.
    pub fn link(&mut self, parent: InodeId, name: Name, child: InodeId) -> bool {
        let Kind::Directory(entries) = &mut self.inodes[parent.0].kind else {
            return false;
        };
        entries.insert(name, child);
        true
    }

    /// What `path` (relative or absolute, `/` between names) leads to, with no symlink followed.
    pub fn lookup(&self, path: &[u8]) -> Option<InodeId> {
        path.split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .try_fold(InodeId::ROOT, |at, name| {
                self.inode(at).entries()?.get(name).copied()
            })
    }

    /// Every path with its inode, parents first, siblings in the order of their names' bytes.
    /// Paths are relative: the root's is empty. An inode with several names comes several times.
    pub fn walk(&self) -> Walk<'_> {
        Walk {
            tree: self,
            pending: vec![(Vec::new(), InodeId::ROOT)],
        }
    }

    /// For every inode, by its index: how many names lead to it, and for a directory how many links
    /// a file system counts (2 + sub-directories). 0 for what is not reachable.
    pub fn link_counts(&self) -> Vec<u32> {
        let mut counts = vec![0u32; self.inodes.len()];
        counts[0] = 2;
        for (path, id) in self.walk() {
            let directory = self.inode(id).entries();
            if !path.is_empty() {
                counts[id.0] += if directory.is_some() { 2 } else { 1 };
            }
            for child in directory.into_iter().flatten().map(|(_, child)| child) {
                if self.inode(*child).entries().is_some() {
                    counts[id.0] += 1;
                }
            }
        }
        counts
    }
}

/// The iterator of [`Tree::walk`].
#[derive(Debug)]
pub struct Walk<'a> {
    tree: &'a Tree,
    pending: Vec<(Vec<u8>, InodeId)>,
}

impl Iterator for Walk<'_> {
    type Item = (Vec<u8>, InodeId);

    fn next(&mut self) -> Option<Self::Item> {
        let (path, id) = self.pending.pop()?;
        if let Some(entries) = self.tree.inode(id).entries() {
            for (name, child) in entries.iter().rev() {
                let mut below = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(name.as_bytes());
                self.pending.push((below, *child));
            }
        }
        Some((path, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_are_checked() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        assert!(Name::new(b"...").is_ok());
        assert!(Name::new(&[0xff; 255]).is_ok());
    }

    #[test]
    fn walk_is_sorted_and_counts_links() {
        let mut tree = Tree::new(Metadata::default());
        let dir = tree.add(Inode::directory(Metadata::default()));
        let fifo = tree.add(Inode {
            metadata: Metadata::default(),
            kind: Kind::Fifo,
        });
        assert!(tree.link(InodeId::ROOT, name("b"), dir));
        assert!(tree.link(InodeId::ROOT, name("a"), fifo));
        assert!(tree.link(dir, name("c"), fifo));
        assert!(!tree.link(fifo, name("x"), dir));
        let paths: Vec<_> = tree
            .walk()
            .map(|(path, _)| String::from_utf8(path).unwrap())
            .collect();
        assert_eq!(paths, ["", "a", "b", "b/c"]);
        assert_eq!(tree.link_counts(), [3, 2, 2]);
        assert_eq!(tree.lookup(b"/b//c"), Some(fifo));
        assert_eq!(tree.lookup(b"b/d"), None);
    }
}
