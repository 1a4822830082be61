//! ext2, ext3 and ext4: `mke2fs` makes the empty file system, with all that its configuration and
//! options say; its contents are written in-process, so they belong to whom the tree says, whoever
//! runs it, and data are written once.
//!
//! Directories are plain lists; the kernel reads them all, and indexes none that it did not make.
//! The same tree on the same empty file system gives the same bytes.

mod bytes;
mod checksum;
mod directory;
mod fill;
mod free;
mod inode;
mod mapping;
#[cfg(test)]
mod tests;
mod volume;
mod xattr;

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use blockdev::tool::{Program, ToolError};
use filetree::{Kind, Tree, WriteAt, WriteError};
use uuid::Uuid;

use super::stream::length;
use crate::window::Window;
pub use free::free;

/// A target whose bytes can be read back.
pub trait Disk: WriteAt {
    /// Fills all of `buffer` with the bytes from `offset` on.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Disk for Window<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        Window::read_exact_at(self, buffer, offset)
    }
}

/// What `mke2fs` is told.
#[derive(Clone, Debug)]
pub struct Ext<'a> {
    /// Cut to 16 bytes.
    pub label: &'a str,
    /// The file system's UUID, which seeds its hashes too.
    pub uuid: Uuid,
    /// Sector size in bytes.
    pub sector: u64,
    /// Seconds since 1970 that stand for "now".
    pub time: i64,
    /// Whether to discard the target first.
    pub discard: bool,
    /// Whether files can have fs-verity.
    pub verity: bool,
    /// Words added at the end of the command line.
    pub options: &'a [String],
}

/// Where a file system goes.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// All of a file or device.
    Whole(&'a Path),
    /// A part of one. Options that change the block size cannot be given with it.
    Part {
        /// The file or device.
        path: &'a Path,
        /// First byte.
        offset: u64,
        /// Bytes.
        size: u64,
    },
}

impl Ext<'_> {
    /// Makes an empty file system with `program`, which is `mkfs.ext2`, `mkfs.ext3` or `mkfs.ext4`.
    /// Only the bytes of `place` are written.
    pub fn format(&self, program: &Program, place: Place<'_>) -> Result<(), ToolError> {
        program
            .run()
            .args(self.arguments(place))
            .env("MKE2FS_DEVICE_SECTSIZE", self.sector.to_string())
            .env("E2FSPROGS_FAKE_TIME", self.time.to_string())
            .output()
            .map(drop)
    }

    fn arguments(&self, place: Place<'_>) -> Vec<OsString> {
        let discard = if self.discard { "discard" } else { "nodiscard" };
        let mut extended = format!("{discard},lazy_itable_init=1,hash_seed={}", self.uuid);
        if let Place::Part { offset, .. } = place {
            extended.push_str(&format!(",offset={offset}"));
        }
        let label = (0..=16).rev().find_map(|end| self.label.get(..end));
        let (label, uuid) = (label.unwrap_or("").to_owned(), self.uuid.to_string());
        let words = [
            "-F", "-q", "-L", &label, "-U", &uuid, "-I", "256", "-m", "0", "-E",
        ];
        let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        arguments.push(extended.into());
        arguments.extend(["-b", "4096", "-T", "default"].map(OsString::from));
        if self.verity {
            arguments.extend(["-O", "verity"].map(OsString::from));
        }
        match place {
            Place::Whole(path) => arguments.push(path.into()),
            Place::Part { path, size, .. } => {
                arguments.push(path.into());
                arguments.push(format!("{}k", size / 1024).into());
            }
        }
        arguments.extend(self.options.iter().map(OsString::from));
        arguments
    }
}

/// Puts `tree` into the empty file system that [`Ext::format`] has made on `disk`. All else on the
/// disk must read as zeros.
pub fn fill(tree: &Tree, disk: &mut dyn Disk) -> Result<(), WriteError> {
    fill::fill(tree, disk)
}

/// How many bytes a file system for `tree` is to have with `Minimize=guess`: half more than what is
/// stored, and room for the inodes and the journal that `mke2fs` makes by default.
pub fn minimum_size(tree: &Tree) -> u64 {
    const BLOCK: u64 = 4096;
    let mut blocks = 0u64;
    for inode in tree.ids().map(|id| tree.inode(id)) {
        blocks = blocks.saturating_add(match &inode.kind {
            Kind::File(content) => {
                let data = content.data().iter();
                let blocks = data.map(|range| range.end.div_ceil(BLOCK) - range.start / BLOCK);
                let blocks: u64 = blocks.sum();
                // One extent covers 128 MiB at best; a map block holds 340 of them.
                blocks + blocks / 1024 + length(content.data().len()) / 170
            }
            Kind::Directory(entries) => {
                let bytes = entries
                    .keys()
                    .map(|name| 12 + length(name.as_bytes().len()));
                1 + bytes.sum::<u64>() / (BLOCK - 280)
            }
            Kind::Symlink(target) if target.len() >= 60 => 1,
            _ => 0,
        });
        blocks = blocks.saturating_add(u64::from(!inode.metadata.xattrs.is_empty()));
    }
    let stored = blocks.saturating_mul(BLOCK);
    // mke2fs gives one inode to 16 KiB.
    let inodes = (length(tree.len()) + 16).saturating_mul(16384);
    let size = stored.saturating_add(stored / 2).max(inodes);
    let journal = match size >> 20 {
        0..128 => 4 << 20,
        128..1024 => 16 << 20,
        1024..2048 => 32 << 20,
        2048..4096 => 64 << 20,
        _ => 128 << 20,
    };
    let needed = stored
        .saturating_add(stored / 16)
        .saturating_add(journal + (4 << 20));
    size.max(needed.saturating_add(needed / 32))
        .next_multiple_of(BLOCK)
}

fn unsupported(path: &[u8], what: &str) -> WriteError {
    WriteError::Unsupported {
        path: PathBuf::from(std::ffi::OsStr::from_bytes(&[b"/", path].concat())),
        what: what.to_owned(),
    }
}

fn backend(what: &str) -> WriteError {
    WriteError::Backend {
        what: what.to_owned(),
        source: None,
    }
}
