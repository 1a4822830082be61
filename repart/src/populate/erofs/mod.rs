//! EROFS images, uncompressed, written in-process; compressed ones by `mkfs.erofs`.
//!
//! The format is the kernel's (Documentation/filesystems/erofs.rst): superblock with checksum, short
//! and full inodes, ends of files behind their inodes, attributes stored once where files share them,
//! chunks for files with holes. The same tree gives the same bytes. Nothing but the sources of the
//! files is read.

mod chunks;
pub mod compressed;
mod directory;
mod disk;
mod plan;
#[cfg(test)]
mod tests;
mod write;
mod xattr;

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use filetree::{Timestamp, Tree, WriteAt, WriteError, Writer};
use uuid::Uuid;

use super::stream::length;
use plan::Plan;

/// Writes uncompressed EROFS images.
#[derive(Clone, Debug)]
pub struct Erofs {
    /// The file system's UUID.
    pub uuid: Uuid,
    /// When the image was made: files with this time need smaller inodes.
    pub build_time: Timestamp,
    /// Bytes of a block: a power of two from 512 to 65536. Kernels mount up to their page size.
    pub block_size: u32,
}

impl Erofs {
    /// A writer of 4096-byte blocks.
    pub fn new(uuid: Uuid, build_time: Timestamp) -> Self {
        Self {
            uuid,
            build_time,
            block_size: 4096,
        }
    }

    fn plan(&self, tree: &Tree) -> Result<Plan, WriteError> {
        if !self.block_size.is_power_of_two() || !(512..=65536).contains(&self.block_size) {
            return Err(WriteError::Parameters(format!(
                "EROFS cannot have blocks of {} bytes; choose a power of two from 512 to 65536",
                self.block_size
            )));
        }
        let plan = Plan::make(self, tree)?;
        match u32::try_from(plan.blocks) {
            Ok(_) => Ok(plan),
            Err(_) => Err(WriteError::Parameters(format!(
                "the contents need {} blocks, but EROFS has at most 4294967295; leave files out",
                plan.blocks
            ))),
        }
    }
}

impl Writer for Erofs {
    fn size(&self, tree: &Tree) -> Result<Option<u64>, WriteError> {
        let plan = self.plan(tree)?;
        Ok(Some(plan.blocks * u64::from(self.block_size)))
    }

    fn write(&self, tree: &Tree, target: &mut dyn WriteAt) -> Result<u64, WriteError> {
        let plan = self.plan(tree)?;
        let needed = plan.blocks * u64::from(self.block_size);
        let available = target.size();
        if needed > available {
            return Err(WriteError::TooSmall { needed, available });
        }
        write::write(self, &plan, tree, target)?;
        Ok(needed)
    }
}

fn unsupported(path: &[u8], what: &str) -> WriteError {
    WriteError::Unsupported {
        path: PathBuf::from(std::ffi::OsStr::from_bytes(&[b"/", path].concat())),
        what: what.to_owned(),
    }
}
