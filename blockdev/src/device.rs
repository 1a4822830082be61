//! What can be done to a disk: read, write, zero, flush. Every effect on a target goes through this
//! trait, so that tests can record, replay and cut it.

use std::fmt::Debug;
use std::fs::File;
use std::io;

use image_specs::units::{Bytes, Extent, SectorSize};

use crate::partitions::changes::{Change, TellError};

/// A block device, an image file, or memory.
pub trait BlockDevice: Debug + Send + Sync {
    /// The name to use in messages (a path).
    fn name(&self) -> String;

    /// Size in bytes.
    fn size(&self) -> Bytes;

    /// The logical sector size.
    fn sector_size(&self) -> SectorSize;

    /// Fills all of `buffer` from `offset`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: Bytes) -> Result<(), DeviceError>;

    /// Writes all of `bytes` at `offset`; never past the end.
    fn write_all_at(&mut self, bytes: &[u8], offset: Bytes) -> Result<(), DeviceError>;

    /// Makes the range read as zeros, as holes where the device has them.
    fn zero(&mut self, extent: Extent) -> Result<(), DeviceError>;

    /// Makes the range read as zeros where that takes no longer for a large range than for a small one;
    /// `false` where it would, and then nothing was done.
    fn clear(&mut self, extent: Extent) -> Result<bool, DeviceError> {
        self.zero(extent).map(|()| true)
    }

    /// Tells the device that the range's data is no longer needed. What it reads as afterwards is
    /// not defined. Does nothing where the device knows no such thing.
    fn discard(&mut self, extent: Extent) -> Result<(), DeviceError>;

    /// Copies `size` bytes of `source` from `from` to `to`, sharing blocks where the file system
    /// can, and leaving holes of the source unwritten: the target range must read as zeros before.
    fn copy_from(
        &mut self,
        source: &File,
        from: u64,
        to: Bytes,
        size: Bytes,
    ) -> Result<(), DeviceError>;

    /// Changes the size (regular files and memory only).
    fn set_size(&mut self, size: Bytes) -> Result<(), DeviceError>;

    /// Returns when all writes so far are on stable storage.
    fn flush(&mut self) -> Result<(), DeviceError>;

    /// Tells the kernel that a partition has come, gone or changed. Nothing is told where it makes no
    /// partitions of the device: of files, of memory.
    fn tell(&mut self, change: Change) -> Result<(), TellError> {
        let _ = change;
        Ok(())
    }
}

/// A failed effect: on what, where, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {device} at byte {offset}")]
pub struct DeviceError {
    /// What was tried: `read`, `write`, `flush`, …
    pub action: &'static str,
    /// The device's or file's path.
    pub device: String,
    /// Where.
    pub offset: u64,
    /// Why.
    pub source: io::Error,
}
