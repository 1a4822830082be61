//! The trees of files: inodes, names, attributes and data, one tree a subvolume.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use filetree::{Content, InodeId, Kind, Metadata, Timestamp, Tree, WriteError};

use super::compression::Compression;
use super::data::{Copy, Csums, Placed, Room};
use super::items::{
    DataExtent, Fields, Key, Numbers, XATTR_TYPE, entry, extref_hash, file_type, inline_extent,
    inode, kind, name_hash,
};
use super::node::{Items, LARGEST};
use super::packed::Packing;
use super::space::Space;
use super::{Btrfs, tree_id};

/// The longest file that is kept within its item.
const LONGEST_INLINE: u64 = 2048;
/// The largest extent.
pub(super) const LARGEST_EXTENT: u64 = 128 << 20;
/// The first number of a file.
const FIRST: u64 = 256;
/// Inode flags of files that are overwritten in place: no checksums, no copies.
const NO_COW: u64 = 3;

/// What the file system holds, on its way into items.
pub(super) struct Contents<'a> {
    sector: u64,
    tree: &'a Tree,
    /// Subvolumes, the top first.
    pub(super) roots: Vec<RootOf>,
    /// Their trees, and the one of checksums.
    pub(super) trees: Vec<Items>,
    /// The data extents, by address.
    pub(super) extents: Vec<DataExtent>,
    /// Items of the root tree that tie subvolumes together.
    pub(super) references: Vec<(Key, Vec<u8>)>,
    pub(super) default_root: u64,
    /// The files with data outside their items.
    files: Vec<FileData>,
}

/// A file with data outside its items.
#[derive(Clone, Copy)]
pub(super) struct FileData {
    /// Which of the trees it is in, and its number there.
    pub(super) tree: usize,
    pub(super) number: u64,
    pub(super) inode: InodeId,
    /// Whether checksums are kept.
    pub(super) checksums: bool,
}

/// A subvolume.
pub(super) struct RootOf {
    pub(super) id: u64,
    pub(super) read_only: bool,
}

/// A subvolume whose files are still to be described.
struct Pending {
    id: u64,
    directory: InodeId,
    path: Vec<u8>,
    no_cow: bool,
}

/// One name of an inode: its directory's number, its place there, itself.
struct Reference {
    parent: u64,
    index: u64,
    name: Vec<u8>,
}

impl<'a> Contents<'a> {
    /// Describes all files; no data is read yet.
    pub(super) fn survey(btrfs: &Btrfs, tree: &'a Tree) -> Result<Self, WriteError> {
        let mut contents = Self {
            sector: btrfs.sector,
            tree,
            roots: Vec::new(),
            trees: Vec::new(),
            extents: Vec::new(),
            references: Vec::new(),
            default_root: tree_id::FS,
            files: Vec::new(),
        };
        let missing = btrfs.subvolumes.iter().find(|sub| {
            let inode = tree.lookup(&sub.path).map(|id| tree.inode(id));
            inode.and_then(|inode| inode.entries()).is_none()
        });
        if let Some(subvolume) = missing {
            let what = "Subvolumes= names it, but there is no such directory; add it to MakeDirectories= or CopyFiles=";
            return Err(unsupported(&subvolume.path, what));
        }
        let mut next = tree_id::FIRST_FREE;
        let mut pending = VecDeque::from([Pending {
            id: tree_id::FS,
            directory: InodeId::ROOT,
            path: Vec::new(),
            no_cow: false,
        }]);
        let mut owners = HashMap::new();
        while let Some(one) = pending.pop_front() {
            let wanted = btrfs
                .subvolumes
                .iter()
                .find(|sub| same_path(&sub.path, &one.path));
            contents.roots.push(RootOf {
                id: one.id,
                read_only: wanted.is_some_and(|sub| sub.read_only),
            });
            if btrfs
                .default
                .as_ref()
                .is_some_and(|path| same_path(path, &one.path))
            {
                contents.default_root = one.id;
            }
            let mut walk = Walk {
                btrfs,
                contents: &mut contents,
                items: Items::new(one.id),
                hashed: HashMap::new(),
                pending: &mut pending,
                next: &mut next,
                owners: &mut owners,
            };
            walk.subvolume(&one)?;
            let mut items = walk.items;
            items.all.sort_by_key(|item| item.0);
            contents.trees.push(items);
        }
        Ok(contents)
    }

    /// Bytes that the files take outside their items.
    pub(super) fn data_bytes(&self) -> u64 {
        let files = self
            .files
            .iter()
            .filter_map(|file| self.content(file.inode));
        files
            .flat_map(|content| ranges(content, self.sector))
            .map(|(start, end)| end - start)
            .sum()
    }

    pub(super) fn content(&self, id: InodeId) -> Option<&'a Content> {
        match &self.tree.inode(id).kind {
            Kind::File(content) => Some(content),
            _ => None,
        }
    }

    /// Copies all data to the image, where there is one, and adds the items that say where it is.
    pub(super) fn write(
        &mut self,
        image: Option<&File>,
        space: &mut Space,
        compression: Option<Compression>,
    ) -> Result<(), WriteError> {
        let files = std::mem::take(&mut self.files);
        let csums = match compression {
            Some(compression) => Packing {
                sector: self.sector,
                contents: self,
                compression,
                image,
                space,
            }
            .all(&files)?,
            None => self.copy(&files, image, space)?,
        };
        for tree in &mut self.trees {
            tree.all.sort_by_key(|item| item.0);
        }
        self.trees.push(csums.items());
        Ok(())
    }

    fn copy(
        &mut self,
        files: &[FileData],
        image: Option<&File>,
        space: &mut Space,
    ) -> Result<Csums, WriteError> {
        let mut csums = Csums::default();
        let mut room = Room { chunk: 0 };
        for file in files {
            let Some(content) = self.content(file.inode) else {
                continue;
            };
            let mut copy = Copy::new(content, image)?;
            for extent in self.place(file, content, &mut room, space)? {
                copy.extent(&extent, file.checksums.then_some(&mut csums), self.sector)?;
            }
            copy.finish()?;
        }
        Ok(csums)
    }

    /// Takes space for one file, and notes it in both trees.
    fn place(
        &mut self,
        file: &FileData,
        content: &Content,
        room: &mut Room,
        space: &mut Space,
    ) -> Result<Vec<Placed>, WriteError> {
        let mut placed = Vec::new();
        for (mut at, end) in ranges(content, self.sector) {
            while at < end {
                let (address, place, length) =
                    room.take((end - at).min(LARGEST_EXTENT), self.sector, space);
                if length == 0 {
                    return Err(WriteError::Parameters(
                        "the data has no room left".to_owned(),
                    ));
                }
                let extent = DataExtent {
                    root: self.trees[file.tree].owner,
                    inode: file.number,
                    offset: at,
                    start: address,
                    length,
                    plain: length,
                    compression: 0,
                };
                self.trees[file.tree]
                    .add(Key(file.number, kind::EXTENT_DATA, at), extent.in_file());
                self.extents.push(extent);
                placed.push(Placed { extent, place });
                at += length;
            }
        }
        Ok(placed)
    }
}

/// The describing of one subvolume.
struct Walk<'w, 'a> {
    btrfs: &'w Btrfs,
    contents: &'w mut Contents<'a>,
    items: Items,
    /// Where the items are whose keys may be shared.
    hashed: HashMap<Key, usize>,
    pending: &'w mut VecDeque<Pending>,
    /// The next subvolume's number.
    next: &'w mut u64,
    /// In which subvolume each inode is.
    owners: &'w mut HashMap<InodeId, u64>,
}

impl Walk<'_, '_> {
    fn subvolume(&mut self, one: &Pending) -> Result<(), WriteError> {
        let mut numbers = HashMap::from([(one.directory, FIRST)]);
        let mut names: BTreeMap<u64, Vec<Reference>> = BTreeMap::new();
        names.insert(
            FIRST,
            vec![Reference {
                parent: FIRST,
                index: 0,
                name: b"..".to_vec(),
            }],
        );
        let mut order = vec![(one.directory, one.path.clone())];
        let mut at = 0;
        while let Some((directory, path)) = order.get(at).cloned() {
            at += 1;
            let tree = self.contents.tree;
            let number = numbers[&directory];
            for (index, (name, child)) in
                (2u64..).zip(tree.inode(directory).entries().into_iter().flatten())
            {
                let below = joined(&path, name.as_bytes());
                let target = if self.is_subvolume(*child, &below) {
                    self.enter(one, (number, index), (*child, name.as_bytes()), below)
                } else {
                    let known = u64::try_from(numbers.len()).unwrap_or(u64::MAX) + FIRST;
                    let inode = *numbers.entry(*child).or_insert_with(|| {
                        order.push((*child, below.clone()));
                        known
                    });
                    if *self.owners.entry(*child).or_insert(one.id) != one.id {
                        return Err(unsupported(
                            &below,
                            "a hard link cannot lead from one subvolume into another",
                        ));
                    }
                    let reference = Reference {
                        parent: number,
                        index,
                        name: name.as_bytes().to_vec(),
                    };
                    names.entry(inode).or_default().push(reference);
                    Key(inode, kind::INODE, 0)
                };
                let item = entry(
                    target,
                    file_type(&tree.inode(*child).kind),
                    name.as_bytes(),
                    b"",
                );
                self.items
                    .add(Key(number, kind::DIR_INDEX, index), item.clone());
                self.add_hashed(
                    Key(number, kind::DIR_ITEM, name_hash(name.as_bytes())),
                    &item,
                );
            }
        }
        self.describe_all(order, &numbers, names, one.no_cow)
    }

    fn describe_all(
        &mut self,
        order: Vec<(InodeId, Vec<u8>)>,
        numbers: &HashMap<InodeId, u64>,
        mut names: BTreeMap<u64, Vec<Reference>>,
        no_cow: bool,
    ) -> Result<(), WriteError> {
        for (id, path) in order {
            let number = numbers[&id];
            let references = names.remove(&number).unwrap_or_default();
            self.describe((id, number), &references, no_cow)
                .map_err(|what| unsupported(&path, &what))?;
        }
        Ok(())
    }

    fn is_subvolume(&self, id: InodeId, path: &[u8]) -> bool {
        self.contents.tree.inode(id).entries().is_some()
            && self
                .btrfs
                .subvolumes
                .iter()
                .any(|sub| same_path(&sub.path, path))
    }

    /// Ties a new subvolume to its directory, and leaves it for later.
    fn enter(
        &mut self,
        above: &Pending,
        (directory, index): (u64, u64),
        (child, name): (InodeId, &[u8]),
        path: Vec<u8>,
    ) -> Key {
        let id = *self.next;
        *self.next += 1;
        let item = Fields::default()
            .u64(directory)
            .u64(index)
            .u16(name.len())
            .put(name)
            .0;
        let references = &mut self.contents.references;
        references.push((Key(above.id, kind::ROOT_REF, id), item.clone()));
        references.push((Key(id, kind::ROOT_BACKREF, above.id), item));
        let wanted = self
            .btrfs
            .subvolumes
            .iter()
            .find(|sub| same_path(&sub.path, &path));
        self.pending.push_back(Pending {
            id,
            directory: child,
            no_cow: wanted.is_some_and(|sub| sub.no_cow),
            path,
        });
        Key(id, kind::ROOT, u64::MAX)
    }

    fn describe(
        &mut self,
        (id, number): (InodeId, u64),
        names: &[Reference],
        no_cow: bool,
    ) -> Result<(), String> {
        let tree = self.contents.tree;
        let file = tree.inode(id);
        let mut numbers = Numbers {
            size: 0,
            bytes: 0,
            links: u32::try_from(names.len()).map_err(|_| "it has too many names")?,
            flags: 0,
        };
        match &file.kind {
            Kind::Directory(entries) => {
                numbers.links = 1;
                let names: usize = entries.keys().map(|name| name.as_bytes().len()).sum();
                numbers.size = 2 * u64::try_from(names).unwrap_or(u64::MAX);
                numbers.flags = if no_cow { NO_COW } else { 0 };
            }
            Kind::File(content) => self.file((id, number), content, no_cow, &mut numbers)?,
            Kind::Symlink(target) => {
                if target.is_empty() || target.len() > 4095 {
                    return Err("btrfs symbolic links say 1 to 4095 bytes".to_owned());
                }
                numbers.size = u64::try_from(target.len()).unwrap_or(0);
                numbers.bytes = numbers.size;
                self.items
                    .add(Key(number, kind::EXTENT_DATA, 0), inline_extent(target));
            }
            _ => (),
        }
        let item = inode(&file.metadata, &file.kind, &numbers, self.btrfs.time);
        self.items.add(Key(number, kind::INODE, 0), item);
        self.references(number, names);
        self.attributes(number, &file.metadata)
    }

    fn file(
        &mut self,
        (id, number): (InodeId, u64),
        content: &Content,
        no_cow: bool,
        numbers: &mut Numbers,
    ) -> Result<(), String> {
        numbers.size = content.size();
        numbers.flags = if no_cow { NO_COW } else { 0 };
        let whole = content.data() == [0..content.size()];
        if whole && !no_cow && content.size() <= LONGEST_INLINE {
            let mut bytes = vec![0; usize::try_from(content.size()).unwrap_or(0)];
            let read = content.open().and_then(|open| {
                open.read_exact_at(&mut bytes, 0)?;
                open.finish()
            });
            read.map_err(|error| error.to_string())?;
            numbers.bytes = content.size();
            self.items
                .add(Key(number, kind::EXTENT_DATA, 0), inline_extent(&bytes));
            return Ok(());
        }
        let ranges = ranges(content, self.contents.sector);
        numbers.bytes = ranges.iter().map(|(start, end)| end - start).sum();
        let tree = self.contents.trees.len();
        self.contents.files.push(FileData {
            tree,
            number,
            inode: id,
            checksums: !no_cow,
        });
        Ok(())
    }

    /// The names of an inode, by directory; those that make an item too long go into items of their
    /// own.
    fn references(&mut self, number: u64, names: &[Reference]) {
        let mut short: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for one in names {
            let item = Fields::default()
                .u64(one.index)
                .u16(one.name.len())
                .put(&one.name)
                .0;
            let all = short.entry(one.parent).or_default();
            if all.len() + item.len() <= LARGEST / 4 {
                all.extend_from_slice(&item);
                continue;
            }
            let item = Fields::default().u64(one.parent).put(&item).0;
            let hash = extref_hash(one.parent, &one.name);
            self.add_hashed(Key(number, kind::INODE_EXTREF, hash), &item);
        }
        for (parent, item) in short {
            self.items.add(Key(number, kind::INODE_REF, parent), item);
        }
    }

    fn attributes(&mut self, number: u64, metadata: &Metadata) -> Result<(), String> {
        for (name, value) in &metadata.xattrs {
            let item = entry(Key::default(), XATTR_TYPE, name, value);
            if item.len() > LARGEST || name.len() > 255 {
                let name = String::from_utf8_lossy(name);
                return Err(format!(
                    "btrfs cannot hold the extended attribute {name}: it is too long"
                ));
            }
            self.add_hashed(Key(number, kind::XATTR, name_hash(name)), &item);
        }
        Ok(())
    }

    /// Adds an item whose key is a hash: equal ones share one.
    fn add_hashed(&mut self, key: Key, item: &[u8]) {
        match self.hashed.get(&key) {
            Some(at) => self.items.all[*at].1.extend_from_slice(item),
            None => {
                self.hashed.insert(key, self.items.all.len());
                self.items.add(key, item.to_vec());
            }
        }
    }
}

/// The root directory of a tree that is no subvolume.
pub(super) fn empty_root(items: &mut Items, number: u64, time: Timestamp) {
    let metadata = Metadata {
        mode: 0o755,
        mtime: time,
        ..Metadata::default()
    };
    let numbers = Numbers {
        size: 0,
        bytes: 16384,
        links: 1,
        flags: 0,
    };
    let directory = Kind::Directory(Default::default());
    items.add(
        Key(number, kind::INODE, 0),
        inode(&metadata, &directory, &numbers, time),
    );
    let reference = Fields::default().u64(0).u16(2u16).put(b"..").0;
    items.add(Key(number, kind::INODE_REF, number), reference);
}

/// The sectors of a file that hold data, in bytes.
pub(super) fn ranges(content: &Content, sector: u64) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    for data in content.data() {
        let (start, end) = (
            data.start / sector * sector,
            data.end.next_multiple_of(sector),
        );
        match all.last_mut() {
            Some(last) if last.1 >= start => last.1 = last.1.max(end),
            _ => all.push((start, end)),
        }
    }
    all
}

fn same_path(one: &[u8], other: &[u8]) -> bool {
    fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
        path.split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
    }
    names(one).eq(names(other))
}

fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        [] => name.to_vec(),
        _ => [path, b"/", name].concat(),
    }
}

fn unsupported(path: &[u8], what: &str) -> WriteError {
    WriteError::Unsupported {
        path: PathBuf::from(std::ffi::OsStr::from_bytes(path)),
        what: what.to_owned(),
    }
}
