//! Filling a fresh XFS (version 5) that mkfs.xfs has made, in place and as any user.
//!
//! mkfs.xfs decides geometry, log and features; here inodes, directories, attributes and data are
//! added, then the free-space and inode trees and the counters are rewritten. Inodes are numbered in
//! the order of the tree's walk and space is taken in order, so the same tree gives the same bytes.
//! Reference: "XFS Algorithms & Data Structures" (kernel.org). Needs no reverse-mapping tree, parent
//! pointers or large extent counters: mkfs.xfs is asked for none.

mod attr;
mod data;
mod dir;
mod fork;
mod group;
mod inode;
mod superblock;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use filetree::{InodeId, Kind, Timestamp, Tree, WriteError};

use fork::Fork;
use group::Group;
use superblock::Superblock;

/// Fills the file system in `image`. `time` is the files' time of creation.
pub fn fill(tree: &Tree, image: &File, time: Timestamp) -> Result<(), WriteError> {
    let superblock = Superblock::read(image)?;
    let mut groups = Vec::new();
    for number in 0..superblock.groups {
        groups.push(Group::read(image, &superblock, number)?);
    }
    let mut filler = Filler {
        tree,
        image,
        time,
        superblock,
        groups,
        numbers: HashMap::new(),
        parents: HashMap::new(),
    };
    filler.number_inodes()?;
    filler.write_inodes()?;
    filler.finish()
}

/// Whether mkfs.xfs has made a file system whose files note their directories (xfsprogs 6.10), which
/// cannot be filled here.
pub fn has_parent_pointers(image: &File) -> Result<bool, WriteError> {
    const PARENT_POINTERS: u32 = 1 << 7;
    let mut incompat = [0; 4];
    image
        .read_exact_at(&mut incompat, 216)
        .map_err(unreadable)?;
    Ok(u32::from_be_bytes(incompat) & PARENT_POINTERS != 0)
}

struct Filler<'a> {
    tree: &'a Tree,
    image: &'a File,
    time: Timestamp,
    superblock: Superblock,
    groups: Vec<Group>,
    /// XFS's inode numbers.
    numbers: HashMap<InodeId, u64>,
    parents: HashMap<InodeId, InodeId>,
}

/// A run of blocks: in a file or attribute fork from `offset` on, on the disk from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    /// First block within the fork.
    offset: u64,
    /// First block on disk, counted through the groups.
    start: u64,
    /// Blocks.
    count: u64,
}

impl Filler<'_> {
    fn number_inodes(&mut self) -> Result<(), WriteError> {
        self.numbers.insert(InodeId::ROOT, self.superblock.root);
        let mut order = Vec::new();
        for (_, id) in self.tree.walk() {
            for child in self.tree.inode(id).entries().into_iter().flatten() {
                self.parents.insert(*child.1, id);
            }
            if let Entry::Vacant(new) = self.numbers.entry(id) {
                new.insert(0);
                order.push(id);
            }
        }
        let mut group = 0;
        for id in order {
            let number = loop {
                match self
                    .groups
                    .get_mut(group)
                    .map(|group| group.take_inode(&self.superblock))
                {
                    Some(Some(number)) => break number,
                    Some(None) => group += 1,
                    None => return Err(self.too_small()),
                }
            };
            self.numbers.insert(id, number);
        }
        // Before data takes all the room.
        let superblock = &self.superblock;
        let mut groups = self.groups.iter_mut();
        match groups.all(|group| group.take_tree(superblock).is_some()) {
            true => Ok(()),
            false => Err(self.too_small()),
        }
    }

    fn write_inodes(&mut self) -> Result<(), WriteError> {
        let counts = self.tree.link_counts();
        let mut written = vec![false; self.tree.len()];
        for (path, id) in self.tree.walk() {
            if std::mem::replace(&mut written[id.index()], true) {
                continue;
            }
            let unsupported = |what: String| {
                use std::os::unix::ffi::OsStrExt;
                WriteError::Unsupported {
                    path: PathBuf::from(std::ffi::OsStr::from_bytes(&path)),
                    what,
                }
            };
            self.write_inode(id, counts[id.index()], &unsupported)?;
        }
        Ok(())
    }

    fn write_inode(
        &mut self,
        id: InodeId,
        links: u32,
        unsupported: &dyn Fn(String) -> WriteError,
    ) -> Result<(), WriteError> {
        let number = self.numbers[&id];
        let inode = self.tree.inode(id);
        let attributes = attr::Attributes::of(&inode.metadata.xattrs).map_err(unsupported)?;
        let mut body = inode::Body::new(self.superblock.literal(), attributes.inline_size());
        match &inode.kind {
            Kind::Directory(entries) => {
                let parent = self.parents.get(&id).copied().unwrap_or(InodeId::ROOT);
                let entries = entries
                    .iter()
                    .map(|(name, child)| dir::Entry {
                        name: name.as_bytes(),
                        number: self.numbers[child],
                        kind: dir::kind(&self.tree.inode(*child).kind),
                    })
                    .collect();
                let parent = self.numbers[&parent];
                self.directory(
                    &mut body,
                    dir::Directory::new(number, parent, entries),
                    unsupported,
                )?;
            }
            Kind::File(content) => self.file(&mut body, content)?,
            Kind::Symlink(target) => self.symlink(&mut body, number, target, unsupported)?,
            Kind::CharacterDevice(device) | Kind::BlockDevice(device) => {
                if device.major >= 1 << 14 || device.minor >= 1 << 18 {
                    return Err(unsupported("XFS cannot hold this device number".to_owned()));
                }
                body.data = Fork::Device(device.major << 18 | device.minor);
            }
            Kind::Fifo | Kind::Socket => body.data = Fork::Device(0),
        }
        if !attributes.is_empty() {
            body.attributes = match body.inline_attributes(&attributes) {
                Some(inline) => Fork::Local(inline),
                None => self.attribute_leaf(number, &attributes, unsupported)?,
            };
            self.superblock.uses_attributes = true;
        }
        let bytes = inode::encode(
            &self.superblock,
            &inode::Core {
                number,
                links,
                metadata: &inode.metadata,
                kind: &inode.kind,
                created: self.time,
            },
            &body,
        );
        let at = self.superblock.inode_at(number);
        self.write(&bytes, at)
    }

    fn directory(
        &mut self,
        body: &mut inode::Body,
        directory: dir::Directory<'_>,
        unsupported: &dyn Fn(String) -> WriteError,
    ) -> Result<(), WriteError> {
        if let Some(short) = directory
            .short_form()
            .filter(|short| short.len() <= body.room())
        {
            body.size = u64::try_from(short.len()).unwrap_or(0);
            body.data = Fork::Local(short);
            return Ok(());
        }
        let size = self.superblock.block_size();
        let blocks = directory.blocks(size).ok_or_else(|| {
            unsupported("XFS directories of so many files are not supported".to_owned())
        })?;
        body.size = blocks.data_size;
        let mut extents = Vec::new();
        for (offset, run) in blocks.runs {
            let count = u64::try_from(run.len()).unwrap_or(u64::MAX);
            let new = self.allocate(offset, count)?;
            let places = new.iter().flat_map(|extent| extent.start_blocks());
            for (mut block, place) in run.into_iter().zip(places) {
                dir::seal(&mut block, &self.superblock, place, directory.number);
                let at = self.superblock.block_at(place);
                self.write(&block.0, at)?;
            }
            extents.extend(new);
        }
        body.set_extents(extents)
            .map_err(|()| unsupported("the free space is in too many pieces".to_owned()))
    }

    /// Takes `count` blocks for a fork from `offset` on, in as few runs as there are.
    fn allocate(&mut self, mut offset: u64, mut count: u64) -> Result<Vec<Extent>, WriteError> {
        let mut extents = Vec::new();
        for pass in [true, false] {
            for group in &mut self.groups {
                while count > 0 {
                    // At first only whole runs: a file in one piece is better than in two.
                    let wanted = if pass { count..count + 1 } else { 1..count + 1 };
                    let Some((start, got)) = group.take(wanted) else {
                        break;
                    };
                    let start = self.superblock.block_number(group.number, start);
                    extents.extend(
                        Extent {
                            offset,
                            start,
                            count: got,
                        }
                        .cut(),
                    );
                    offset += got;
                    count -= got;
                }
            }
        }
        match count {
            0 => Ok(extents),
            _ => Err(self.too_small()),
        }
    }

    fn too_small(&self) -> WriteError {
        let block = self.superblock.block_size();
        let files = self
            .tree
            .ids()
            .filter_map(|id| match &self.tree.inode(id).kind {
                Kind::File(content) => Some(
                    content
                        .data()
                        .iter()
                        .map(|part| part.end - part.start)
                        .sum::<u64>(),
                ),
                _ => None,
            });
        let data: u64 = files.sum();
        let inodes = u64::try_from(self.tree.len())
            .unwrap_or(u64::MAX)
            .saturating_mul(1024);
        let available = self.superblock.blocks * block;
        WriteError::TooSmall {
            needed: data.saturating_add(inodes).max(available + block),
            available,
        }
    }

    fn finish(mut self) -> Result<(), WriteError> {
        for group in &self.groups {
            group
                .write(self.image, &self.superblock)
                .map_err(WriteError::Target)?;
            for bytes in group.spare_inodes(&self.superblock) {
                self.write(&bytes.1, bytes.0)?;
            }
        }
        self.superblock
            .renew_inodes(self.image, self.time)
            .map_err(WriteError::Target)?;
        self.superblock
            .write(self.image, &self.groups)
            .map_err(WriteError::Target)
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), WriteError> {
        self.image
            .write_all_at(bytes, at)
            .map_err(WriteError::Target)
    }
}

impl Extent {
    /// The numbers of its blocks.
    fn start_blocks(self) -> Range<u64> {
        self.start..self.start + self.count
    }

    /// The same in pieces that a record can hold.
    fn cut(self) -> impl Iterator<Item = Self> {
        const MOST: u64 = (1 << 21) - 1;
        (0..self.count.div_ceil(MOST)).map(move |index| Self {
            offset: self.offset + index * MOST,
            start: self.start + index * MOST,
            count: (self.count - index * MOST).min(MOST),
        })
    }
}

/// What mkfs.xfs has made is not what was asked of it.
fn foreign(what: &str) -> WriteError {
    WriteError::Backend {
        what: format!("cannot fill the file system that mkfs.xfs has made: {what}"),
        source: None,
    }
}

fn unreadable(source: io::Error) -> WriteError {
    WriteError::Backend {
        what: "cannot read the file system that mkfs.xfs has made".to_owned(),
        source: Some(Box::new(source)),
    }
}

#[cfg(test)]
mod tests;
