//! Names in directories, by hash and by number, and extended attributes, which are stored as names
//! are (btrfs documentation, "On-disk Format": "DIR_ITEM").

use filetree::reader::{Entry, Place, Visit};
use filetree::{Name, ReadError};

use super::Volume;
use super::checksum::name_hash;
use super::field::{u8_at, u16_at};
use super::key::{Key, kind};
use super::subvolume::Subvolume;
use super::tree::Item;

/// Bytes of an entry before its name.
const HEADER: usize = 30;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An inode of the same subvolume.
    Inode(u64),
    /// Another subvolume.
    Subvolume(u64),
}

/// One of the entries of an item.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    location: Key,
    /// What kind of file it is, or that it is an attribute.
    pub(super) kind: u8,
    pub(super) name: &'a [u8],
    /// The value of an attribute.
    pub(super) value: &'a [u8],
}

/// Hands on the entries, in the order in which they were made.
pub(super) fn entries(
    volume: &Volume,
    (subvolume, directory): (Subvolume, u64),
    visit: &mut Visit<'_>,
) -> Result<(), ReadError> {
    let mut items = volume.items(&subvolume.root, Key::new(directory, kind::DIR_INDEX, 0))?;
    while let Some(item) = items.next()? {
        if (item.key.object, item.key.kind) != (directory, kind::DIR_INDEX) {
            break;
        }
        for stored in stored(volume, &item)? {
            let name = Name::new(stored.name)
                .map_err(|_| volume.damaged(&item, "a name is impossible"))?;
            let target = stored.target(volume, &item)?;
            let place = volume.target((subvolume, directory), &name, target)?;
            visit(Entry { name, place })?;
        }
    }
    Ok(())
}

/// The place of one name.
pub(super) fn lookup(
    volume: &Volume,
    (subvolume, directory): (Subvolume, u64),
    name: &Name,
) -> Result<Option<Place>, ReadError> {
    let hash = name_hash(name.as_bytes());
    let key = Key::new(directory, kind::DIR_ITEM, hash);
    let Some(item) = volume.item(&subvolume.root, key)? else {
        return Ok(None);
    };
    match find(volume, &item, name.as_bytes())? {
        Some(target) => volume
            .target((subvolume, directory), name, target)
            .map(Some),
        None => Ok(None),
    }
}

/// What `name` leads to, if it is among the names of one hash.
pub(super) fn find(volume: &Volume, item: &Item, name: &[u8]) -> Result<Option<Target>, ReadError> {
    let stored = stored(volume, item)?;
    let found = stored.iter().find(|stored| stored.name == name);
    found.map(|stored| stored.target(volume, item)).transpose()
}

/// All entries of an item.
pub(super) fn stored<'a>(volume: &Volume, item: &'a Item) -> Result<Vec<Stored<'a>>, ReadError> {
    let mut all = Vec::new();
    let mut rest = item.bytes();
    while !rest.is_empty() {
        let (stored, behind) =
            Stored::parse(rest).ok_or_else(|| volume.damaged(item, "a name is cut off"))?;
        all.push(stored);
        rest = behind;
    }
    Ok(all)
}

impl<'a> Stored<'a> {
    /// The first entry, and what is behind it.
    fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let (name, rest) = rest.split_at_checked(u16_at(header, 27).into())?;
        let (value, rest) = rest.split_at_checked(u16_at(header, 25).into())?;
        let stored = Self {
            location: Key::at(header, 0),
            kind: u8_at(header, 29),
            name,
            value,
        };
        Some((stored, rest))
    }

    fn target(&self, volume: &Volume, item: &Item) -> Result<Target, ReadError> {
        match self.location.kind {
            kind::INODE => Ok(Target::Inode(self.location.object)),
            kind::ROOT => Ok(Target::Subvolume(self.location.object)),
            _ => Err(volume.damaged(item, "a name leads to no inode")),
        }
    }
}
