//! Leaving out what a format cannot hold.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::Notice;
use crate::tree::{InodeId, Kind, Tree};

/// What a format can hold besides directories and regular files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Symbolic links.
    pub symlinks: bool,
    /// Devices, named pipes and sockets.
    pub special: bool,
    /// Owner, group, permission bits and extended attributes.
    pub owners: bool,
}

impl Holds {
    /// A file system of Unix.
    pub const ALL: Self = Self {
        symlinks: true,
        special: true,
        owners: true,
    };
    /// FAT and its like.
    pub const FILES_ONLY: Self = Self {
        symlinks: false,
        special: false,
        owners: false,
    };

    fn holds(self, kind: &Kind) -> bool {
        match kind {
            Kind::Directory(_) | Kind::File(_) => true,
            Kind::Symlink(_) => self.symlinks,
            Kind::CharacterDevice(_) | Kind::BlockDevice(_) | Kind::Fifo | Kind::Socket => {
                self.special
            }
        }
    }
}

/// Takes out of `tree` what the format cannot hold, and tells of each file left out. Owners that
/// cannot be held become root's without a word, as there is nobody to whom they would matter.
pub fn keep_only(tree: &mut Tree, holds: Holds) -> Vec<Notice> {
    if holds == Holds::ALL {
        return Vec::new();
    }
    let mut notices = Vec::new();
    for (path, id) in tree.walk() {
        let kind = &tree.inode(id).kind;
        if !holds.holds(kind) {
            notices.push(Notice::KindNotHeld {
                path: PathBuf::from(OsString::from_vec(path)),
                kind: word(kind),
            });
        }
    }
    for id in tree.ids() {
        prune(tree, id, holds);
    }
    notices
}

fn prune(tree: &mut Tree, id: InodeId, holds: Holds) {
    if !holds.owners {
        let metadata = &mut tree.inode_mut(id).metadata;
        (metadata.uid, metadata.gid) = (0, 0);
        metadata.xattrs.clear();
    }
    let Some(entries) = tree.inode(id).entries() else {
        return;
    };
    let kept = entries
        .iter()
        .filter(|(_, child)| holds.holds(&tree.inode(**child).kind))
        .map(|(name, child)| (name.clone(), *child))
        .collect();
    tree.inode_mut(id).kind = Kind::Directory(kept);
}

fn word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory(_) => "directory",
        Kind::File(_) => "regular file",
        Kind::Symlink(_) => "symbolic link",
        Kind::CharacterDevice(_) => "character device",
        Kind::BlockDevice(_) => "block device",
        Kind::Fifo => "named pipe",
        Kind::Socket => "socket",
    }
}
