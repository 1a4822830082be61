//! Reading a file system in place, without the kernel.
//!
//! A [`Reader`] is what one format has to say: its root, an inode, the entries of a directory. What is
//! the same for all formats is done here once: [`load`] reads everything into a
//! [`Tree`](crate::Tree), [`resolve`] follows a path and its symlinks without ever leaving the root,
//! [`Grafted`] puts several file systems together as mounts would.
//!
//! An image is hostile until proven otherwise: a reader checks each place and size before it uses it,
//! never recurses, and hands entries on one by one, so that [`Limits`] hold before memory is taken.
//! Reading never repairs.

mod graft;
mod held;
mod load;
mod resolve;

use std::fmt::Debug;
use std::io;

pub use graft::Grafted;
pub use load::{load, load_from};
pub use resolve::{Follow, ResolveError, Resolved, resolve};

use crate::tree::{Inode, Name};

/// Where an inode is, in numbers that only its reader understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which of several file systems: 0 in a reader of one.
    pub volume: u16,
    /// The inode's number or position. Two names with one place are hard links.
    pub inode: u64,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name; never `.` or `..`.
    pub name: Name,
    /// The inode that it leads to.
    pub place: Place,
}

/// What is called with each entry of a directory; an error ends the reading.
pub type Visit<'a> = dyn FnMut(Entry) -> Result<(), ReadError> + 'a;

/// A file system that is read one inode at a time.
pub trait Reader: Debug + Send + Sync {
    /// The root directory.
    fn root(&self) -> Place;

    /// An inode. A directory comes without its entries; a file's content reads the image when it is
    /// read.
    fn inode(&self, place: Place) -> Result<Inode, ReadError>;

    /// Hands on the entries of a directory, as they are stored, without `.` and `..`.
    fn entries(&self, directory: Place, visit: &mut Visit<'_>) -> Result<(), ReadError>;

    /// The inode of one name in a directory.
    fn lookup(&self, directory: Place, name: &[u8]) -> Result<Option<Place>, ReadError> {
        let mut found = None;
        self.entries(directory, &mut |entry| {
            if entry.name.as_bytes() == name {
                found.get_or_insert(entry.place);
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// How much of memory a file system may take, and how deep it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of names, attributes, block lists and the like (about; data is never kept).
    pub memory: u64,
    /// Bytes of the longest path.
    pub path: usize,
}

impl Default for Limits {
    /// 512 MiB, enough for a few million files; paths as long as Linux takes them.
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            path: 4096,
        }
    }
}

impl Limits {
    /// For an image of `size` bytes: a small one cannot describe much, whatever it says.
    pub fn for_image(size: u64) -> Self {
        let memory = size.saturating_mul(8).saturating_add(32 << 20);
        Self {
            memory: memory.min(1 << 30),
            ..Self::default()
        }
    }
}

/// Why a file system cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The image ends too early, or cannot be read.
    #[error("cannot read the {format} file system at byte {offset}")]
    Read {
        /// The format's name.
        format: &'static str,
        /// From the beginning of the file system, in bytes.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The image is not what the format says.
    #[error("the {format} file system is damaged at byte {offset}: {what}")]
    Damaged {
        /// The format's name.
        format: &'static str,
        /// From the beginning of the file system, in bytes: where it was noticed.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A sound file system with something that this reader does not know.
    #[error("this {format} file system cannot be read without mounting it: {what}")]
    Unsupported {
        /// The format's name.
        format: &'static str,
        /// What is not known.
        what: String,
    },
    /// The root is a file of another kind.
    #[error("the root of the file system is no directory")]
    Root,
    /// It describes more than may be kept in memory.
    #[error("the file system describes more than {0} bytes of names and attributes")]
    Memory(u64),
    /// Paths are longer than Linux takes them, or a directory is within itself.
    #[error("the file system has a path of more than {0} bytes")]
    Path(usize),
    /// A directory has several places, so the file system has no end.
    #[error("the file system has the directory {} in two places", .0.display())]
    Loop(std::path::PathBuf),
    /// A directory has a name twice.
    #[error("the file system has two files by the name of {}", .0.display())]
    Twice(std::path::PathBuf),
}

impl ReadError {
    /// An error of reading, for the data of files, which are read later.
    pub fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::Read { source, .. } => source.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }
}

#[cfg(test)]
mod tests;
