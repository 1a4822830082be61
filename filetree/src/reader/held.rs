//! A tree in memory, read as an image is.

use super::{Entry, Place, ReadError, Reader, Visit};
use crate::tree::{Inode, InodeId, Kind, Tree};

impl Reader for Tree {
    fn root(&self) -> Place {
        place(InodeId::ROOT)
    }

    fn inode(&self, place: Place) -> Result<Inode, ReadError> {
        let inode = self.find(place)?;
        Ok(match inode.kind {
            Kind::Directory(_) => Inode::directory(inode.metadata.clone()),
            _ => inode.clone(),
        })
    }

    fn entries(&self, directory: Place, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let entries = self.find(directory)?.entries();
        entries.into_iter().flatten().try_for_each(|(name, id)| {
            visit(Entry {
                name: name.clone(),
                place: place(*id),
            })
        })
    }

    fn lookup(&self, directory: Place, name: &[u8]) -> Result<Option<Place>, ReadError> {
        let entries = self.find(directory)?.entries();
        Ok(entries
            .and_then(|entries| entries.get(name))
            .map(|id| place(*id)))
    }
}

impl Tree {
    fn find(&self, place: Place) -> Result<&Inode, ReadError> {
        let id = usize::try_from(place.inode)
            .ok()
            .and_then(|index| self.id(index));
        let id = id.ok_or(ReadError::Damaged {
            format: "tree",
            offset: place.inode,
            what: "it has no such inode",
        })?;
        Ok(self.inode(id))
    }
}

fn place(id: InodeId) -> Place {
    Place {
        volume: 0,
        inode: u64::try_from(id.index()).unwrap_or(u64::MAX),
    }
}
