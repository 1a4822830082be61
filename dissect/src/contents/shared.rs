//! A file system without modes, mounted for everybody to read: systemd keeps only the ESP and the
//! extended boot loader partition to root.

use std::sync::Arc;

use filetree::reader::{Place, Visit};
use filetree::{Inode, Kind, ReadError, Reader};

/// What reads as root's alone, shown as the kernel shows it with its default mask of 0022.
#[derive(Debug)]
pub(super) struct Shared(pub(super) Arc<dyn Reader>);

impl Reader for Shared {
    fn root(&self) -> Place {
        self.0.root()
    }

    fn inode(&self, place: Place) -> Result<Inode, ReadError> {
        let mut inode = self.0.inode(place)?;
        let writable = inode.metadata.mode & 0o200 != 0 || matches!(inode.kind, Kind::Directory(_));
        inode.metadata.mode = if writable { 0o755 } else { 0o555 };
        Ok(inode)
    }

    fn entries(&self, directory: Place, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        self.0.entries(directory, visit)
    }

    fn lookup(&self, directory: Place, name: &[u8]) -> Result<Option<Place>, ReadError> {
        self.0.lookup(directory, name)
    }
}
