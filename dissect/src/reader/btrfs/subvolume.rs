//! Subvolumes, and numbers for their inodes: each subvolume has inodes of its own, from 256 on
//! (btrfs documentation, "On-disk Format": "ROOT_ITEM", "ROOT_REF").

use std::collections::HashMap;
use std::sync::PoisonError;

use filetree::reader::Place;
use filetree::{Name, ReadError};

use super::Volume;
use super::checksum::name_hash;
use super::directory::{self, Target};
use super::field::{narrow, u8_at, u16_at, u32_at, u64_at, wide};
use super::key::{Key, Level, Pointer, kind};
use super::superblock::OFFSET;
use super::tree::Item;

/// The subvolume that there always is.
const TOP: u64 = 5;
/// The root directory of any subvolume, and the first subvolume that is made.
const FIRST: u64 = 256;
/// The last subvolume; behind it are trees that the file system needs itself.
const LAST: u64 = u64::MAX - 255;
/// The tree of the checksums of data.
const CHECKSUMS: u64 = 7;
/// Bytes of a root as old kernels wrote it.
const ROOT_SIZE: usize = 239;

/// Bits of a place that hold the inode; those above hold the index of the subvolume.
const INODE_BITS: u32 = 44;
/// Where the index would be: directories in the place of subvolumes that are not there.
const STUBS: u64 = (1 << (64 - INODE_BITS)) - 1;

/// A tree of files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subvolume {
    pub(super) id: u64,
    pub(super) index: u64,
    pub(super) root: Pointer,
}

/// What a place means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning {
    Inode {
        subvolume: Subvolume,
        inode: u64,
    },
    /// An empty directory, which has the owner of the directory that it is in.
    Stub {
        parent: Place,
    },
}

/// What was found so far; the first subvolume is the one to begin with.
#[derive(Debug, Default)]
pub(super) struct Places {
    subvolumes: Vec<Subvolume>,
    indices: HashMap<u64, u64>,
    stubs: Vec<Place>,
    stub_indices: HashMap<(Place, Name), u64>,
}

impl Volume {
    /// Finds the subvolume that is mounted if none is asked for, and its root directory.
    pub(super) fn default_root(&self) -> Result<Place, ReadError> {
        let key = Key::new(
            self.superblock.root_directory,
            kind::DIR_ITEM,
            name_hash(b"default"),
        );
        let id = match self.item(&self.superblock.root, key)? {
            Some(item) => match directory::find(self, &item, b"default")? {
                Some(Target::Subvolume(id)) => id,
                Some(Target::Inode(_)) => {
                    return Err(self.damaged(&item, "the default is no subvolume"));
                }
                None => TOP,
            },
            None => TOP,
        };
        let missing = || {
            self.source
                .damaged(OFFSET, "the default subvolume is missing")
        };
        let subvolume = self.subvolume(id)?.ok_or_else(missing)?;
        self.place(subvolume, FIRST)
    }

    /// The tree of the checksums of data, if there is one.
    pub(super) fn checksum_root(&self) -> Result<Option<Pointer>, ReadError> {
        Ok(self.root(CHECKSUMS)?.map(|(root, _)| root))
    }

    /// The place of an inode of a subvolume.
    pub(super) fn place(&self, subvolume: Subvolume, inode: u64) -> Result<Place, ReadError> {
        if inode >> INODE_BITS != 0 {
            let what = format!("it has an inode with the number {inode}");
            return Err(self.source.unsupported(&what));
        }
        Ok(Place {
            volume: 0,
            inode: subvolume.index << INODE_BITS | inode,
        })
    }

    /// What a place means.
    pub(super) fn meaning(&self, place: Place) -> Result<Meaning, ReadError> {
        let (index, inode) = (
            place.inode >> INODE_BITS,
            place.inode & ((1 << INODE_BITS) - 1),
        );
        let places = self.places();
        let meaning = if index == STUBS {
            let parent = places.stubs.get(narrow(inode)).copied();
            parent.map(|parent| Meaning::Stub { parent })
        } else {
            let subvolume = places.subvolumes.get(narrow(index)).copied();
            subvolume.map(|subvolume| Meaning::Inode { subvolume, inode })
        };
        meaning.ok_or_else(|| self.source.damaged(OFFSET, "there is no such place"))
    }

    /// The place of what `name` in `directory` leads to. Where a snapshot has the name of a
    /// subvolume that was not taken along, the kernel shows an empty directory.
    pub(super) fn target(
        &self,
        (parent, directory): (Subvolume, u64),
        name: &Name,
        target: Target,
    ) -> Result<Place, ReadError> {
        let id = match target {
            Target::Inode(inode) => return self.place(parent, inode),
            Target::Subvolume(id) => id,
        };
        if self.refers((parent.id, directory), name, id)?
            && let Some(subvolume) = self.subvolume(id)?
        {
            return self.place(subvolume, FIRST);
        }
        let parent = self.place(parent, directory)?;
        self.stub(parent, name)
    }

    /// Whether the subvolume `id` is really there under this name.
    fn refers(
        &self,
        (parent, directory): (u64, u64),
        name: &Name,
        id: u64,
    ) -> Result<bool, ReadError> {
        /// Bytes before the name.
        const HEADER: usize = 18;
        let key = Key::new(parent, kind::ROOT_REF, id);
        let Some(item) = self.item(&self.superblock.root, key)? else {
            return Ok(false);
        };
        let bytes = item.bytes();
        let length = usize::from(u16_at(bytes, 16));
        let stored = bytes.get(HEADER..HEADER + length);
        let stored = stored.ok_or_else(|| self.damaged(&item, "a subvolume's name is cut off"))?;
        Ok(u64_at(bytes, 0) == directory && stored == name.as_bytes())
    }

    /// The subvolume with this number; `None` if there is none, or it is being deleted.
    fn subvolume(&self, id: u64) -> Result<Option<Subvolume>, ReadError> {
        if let Some(known) = self.places().known(id) {
            return Ok(Some(known));
        }
        if id != TOP && !(FIRST..=LAST).contains(&id) {
            return Err(self
                .source
                .damaged(OFFSET, "the number of a subvolume is impossible"));
        }
        let Some((root, _)) = self.root(id)?.filter(|(_, references)| *references != 0) else {
            return Ok(None);
        };
        self.places()
            .add(id, root)
            .map(Some)
            .ok_or_else(|| self.source.unsupported("it has too many subvolumes"))
    }

    /// The root of a tree, and how many references there are to it.
    fn root(&self, id: u64) -> Result<Option<(Pointer, u32)>, ReadError> {
        // A snapshot has the number of its transaction in its key; the last one counts.
        let last = Key::new(id, kind::ROOT, u64::MAX);
        let found = self.before(&self.superblock.root, last)?.next()?;
        let found = found.filter(|item| (item.key.object, item.key.kind) == (id, kind::ROOT));
        found.map(|item| self.parse_root(&item)).transpose()
    }

    fn parse_root(&self, item: &Item) -> Result<(Pointer, u32), ReadError> {
        let bytes = item.bytes();
        if bytes.len() < ROOT_SIZE {
            return Err(self.damaged(item, "a tree's root is cut off"));
        }
        let level = Level::new(u8_at(bytes, 238)).map_err(|what| self.damaged(item, what))?;
        let root = Pointer::to_root(u64_at(bytes, 176), u64_at(bytes, 160), level);
        Ok((root, u32_at(bytes, 216)))
    }

    fn stub(&self, parent: Place, name: &Name) -> Result<Place, ReadError> {
        let mut places = self.places();
        let places = &mut *places;
        let index = places
            .stub_indices
            .entry((parent, name.clone()))
            .or_insert_with(|| {
                places.stubs.push(parent);
                wide(places.stubs.len() - 1)
            });
        Ok(Place {
            volume: 0,
            inode: STUBS << INODE_BITS | *index,
        })
    }

    fn places(&self) -> std::sync::MutexGuard<'_, Places> {
        // It is whole after every step.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn known(&self, id: u64) -> Option<Subvolume> {
        let index = self.indices.get(&id)?;
        self.subvolumes.get(narrow(*index)).copied()
    }

    /// `None` if there is no number left.
    fn add(&mut self, id: u64, root: Pointer) -> Option<Subvolume> {
        if let Some(known) = self.known(id) {
            return Some(known);
        }
        let index = wide(self.subvolumes.len());
        let subvolume = Subvolume { id, index, root };
        (index < STUBS).then(|| {
            self.indices.insert(id, index);
            self.subvolumes.push(subvolume);
            subvolume
        })
    }
}
