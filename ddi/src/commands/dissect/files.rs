//! The files of an image, or of a directory that stands for one.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use dissect::contents;
use filetree::collect::{self, Copy};
use filetree::reader::{self, Follow, Place, Resolved};
use filetree::{Content, InodeId, Kind, Limits, Owner, Reader, Rules, Timestamp, Tree};

use super::open::{self, Opened};
use super::{DissectArgs, keys};
use crate::exit::Failure;
use crate::ui::Ui;

/// Files that are read in place.
pub(super) struct Files {
    reader: Box<dyn Reader>,
    limits: Limits,
}

impl Files {
    /// Opens the image or directory at `path`.
    pub(super) fn open(args: &DissectArgs, ui: &Ui, path: &Path) -> Result<Self, Failure> {
        if path.is_dir() {
            return Ok(Self {
                reader: Box::new(directory(path)?),
                limits: Limits::default(),
            });
        }
        Self::of(args, ui, &open::open(args, path)?)
    }

    /// The files of an image that is open.
    pub(super) fn of(args: &DissectArgs, ui: &Ui, opened: &Opened) -> Result<Self, Failure> {
        let certificates = open::certificates(args)?;
        let keys = args.unlocking.all(ui)?;
        let access = opened.access(&certificates, &keys);
        let files = contents::open(&opened.image, &opened.dissected, access);
        let files = files.map_err(keys::explained)?;
        Ok(Self {
            reader: Box::new(files),
            limits: Limits::for_image(opened.dissected.size.get()),
        })
    }

    /// What is read.
    pub(super) fn reader(&self) -> &dyn Reader {
        &*self.reader
    }

    /// All of them.
    pub(super) fn tree(&self) -> Result<Tree, Failure> {
        Ok(reader::load(&*self.reader, self.limits)?)
    }

    /// A directory and what is below it.
    pub(super) fn tree_at(&self, place: Place) -> Result<Tree, Failure> {
        Ok(reader::load_from(&*self.reader, place, self.limits)?)
    }

    /// What a path leads to, symlinks followed as in a root directory.
    pub(super) fn find(&self, path: &Path) -> Result<Resolved, Failure> {
        let path = path.as_os_str().as_bytes();
        Ok(reader::resolve(&*self.reader, path, Follow::Yes)?)
    }
}

/// The regular file that was found, or why it is none.
pub(super) fn regular(found: &Resolved) -> Result<&Content, Failure> {
    let what = match &found.inode.kind {
        Kind::File(content) => return Ok(content),
        Kind::Directory(_) => "a directory",
        Kind::Symlink(_) => "a symlink",
        Kind::CharacterDevice(_) | Kind::BlockDevice(_) => "a device node",
        Kind::Fifo => "a named pipe",
        Kind::Socket => "a socket",
    };
    let path = found.path.display();
    Err(Failure::message(format!(
        "{path} in the image is {what}, not a regular file"
    )))
}

/// A directory of the host as a tree.
fn directory(path: &Path) -> Result<Tree, Failure> {
    let rules = Rules {
        base: fs::canonicalize(path)?,
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
    let mut tree = collect::collect(&rules)?.tree;
    // Rules make the root anew; here it is a directory like the others.
    let found = fs::metadata(path)?;
    let root = &mut tree.inode_mut(InodeId::ROOT).metadata;
    (root.uid, root.gid) = (found.uid(), found.gid());
    Ok(tree)
}
