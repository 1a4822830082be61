//! A disk as it was when its table was kept, to read that table with whoever reads tables.
//!
//! Invariant: nothing is ever written through it.

use std::fs::File;
use std::io;

use image_specs::table_backup::TableBackup;
use image_specs::units::{Bytes, Extent, SectorSize};

use crate::device::{BlockDevice, DeviceError};

/// A disk that reads as it was when its table was kept. Nothing can be written.
#[derive(Debug)]
pub struct View<'a> {
    backup: &'a TableBackup,
    disk: Option<&'a dyn BlockDevice>,
}

impl<'a> View<'a> {
    /// Only what was kept; all else reads as zeros.
    pub fn alone(backup: &'a TableBackup) -> Self {
        Self { backup, disk: None }
    }

    /// What was kept, and for all else the disk of today: what is there once the table is back.
    pub fn over(backup: &'a TableBackup, disk: &'a dyn BlockDevice) -> Self {
        let disk = Some(disk);
        Self { backup, disk }
    }

    fn refuse(&self, action: &'static str, offset: Bytes) -> DeviceError {
        DeviceError {
            action,
            device: self.name(),
            offset: offset.get(),
            source: io::Error::from(io::ErrorKind::ReadOnlyFilesystem),
        }
    }
}

impl BlockDevice for View<'_> {
    fn name(&self) -> String {
        format!("the table that was kept of {}", self.backup.device)
    }

    fn size(&self) -> Bytes {
        self.backup.disk_size
    }

    fn sector_size(&self) -> SectorSize {
        self.backup.sector
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: Bytes) -> Result<(), DeviceError> {
        match self.disk {
            Some(disk) => disk.read_exact_at(buffer, offset)?,
            None => buffer.fill(0),
        }
        let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let end = offset.saturating_add(Bytes::new(length));
        let index = |at: Bytes, base: Bytes| usize::try_from(at.saturating_sub(base).get()).ok();
        for range in &self.backup.ranges {
            let from = range.offset.max(offset);
            let until = range.extent().end().unwrap_or(Bytes::MAX).min(end);
            let place = |base| Some(index(from, base)?..index(until, base)?);
            let kept = place(range.offset).and_then(|place| range.bytes.get(place));
            let there = place(offset).and_then(|place| buffer.get_mut(place));
            if let (Some(there), Some(kept), true) = (there, kept, from < until) {
                there.copy_from_slice(kept);
            }
        }
        Ok(())
    }

    fn write_all_at(&mut self, _: &[u8], offset: Bytes) -> Result<(), DeviceError> {
        Err(self.refuse("write", offset))
    }

    fn zero(&mut self, extent: Extent) -> Result<(), DeviceError> {
        Err(self.refuse("zero", extent.start))
    }

    fn discard(&mut self, extent: Extent) -> Result<(), DeviceError> {
        Err(self.refuse("discard", extent.start))
    }

    fn copy_from(&mut self, _: &File, _: u64, to: Bytes, _: Bytes) -> Result<(), DeviceError> {
        Err(self.refuse("write", to))
    }

    fn set_size(&mut self, size: Bytes) -> Result<(), DeviceError> {
        Err(self.refuse("resize", size))
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}
