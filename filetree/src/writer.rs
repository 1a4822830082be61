//! The face of every in-process file-system writer.

use std::io;

use crate::content::ContentError;
use crate::tree::Tree;

/// Where a file system is written: a window of a device or file, whose offset 0 is the first byte of
/// the file system. Writing past its end is an error, never a write elsewhere.
pub trait WriteAt {
    /// Bytes from offset 0 that may be written.
    fn size(&self) -> u64;

    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

/// Writes file systems of one format, with the parameters that the implementing value holds.
///
/// The same parameters and tree give the same bytes.
pub trait Writer {
    /// How many bytes the file system will take, where that is known before it is written.
    fn size(&self, tree: &Tree) -> Result<Option<u64>, WriteError>;

    /// Writes the file system and returns how many bytes of the target it covers.
    ///
    /// The target must read as zeros before: a writer leaves out what stays zero.
    fn write(&self, tree: &Tree, target: &mut dyn WriteAt) -> Result<u64, WriteError>;
}

/// Why a file system could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The target took no bytes.
    #[error("cannot write the file system")]
    Target(#[source] io::Error),
    /// A source file could not be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The contents do not fit.
    #[error(
        "the contents need {needed} bytes, but only {available} are there; enlarge SizeMinBytes= or leave files out"
    )]
    TooSmall {
        /// Bytes that the contents need, at least.
        needed: u64,
        /// Bytes of the target.
        available: u64,
    },
    /// The format cannot hold what the tree has.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The path within the tree.
        path: std::path::PathBuf,
        /// What cannot be stored and what to do.
        what: String,
    },
    /// The format cannot be written with these parameters.
    #[error("{0}")]
    Parameters(String),
    /// The library or program that writes the format failed.
    #[error("writing the file system failed: {what}")]
    Backend {
        /// What was being done, and the backend's own word.
        what: String,
        /// Its cause, where there is one.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}
