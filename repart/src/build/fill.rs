//! Writing the contents of one partition, wherever they are to go.

use std::io::Read;

use blockdev::{BlockDevice, DeviceError};
use image_specs::units::{Bytes, Extent};

use super::apply::{Materials, StepError};
use super::encrypt::{self, EncryptError, Encrypted};
use super::job::Job;
use super::sources::BlockSource;
use super::stage::StagedContent;
use super::unzeroed::Unzeroed;
use crate::definition::{Definition, Encrypt};
use crate::plan::PlannedPartition;
use crate::populate;
use crate::ranges::Ranges;

/// One partition, and what its contents are made of.
#[derive(Debug)]
pub(super) struct Filling<'a> {
    pub(super) job: &'a Job,
    pub(super) materials: &'a Materials<'a>,
    /// The definition's place in the list.
    pub(super) at: usize,
    pub(super) definition: &'a Definition,
    pub(super) partition: PlannedPartition,
}

impl Filling<'_> {
    /// Writes the partition, which reads as zeros; says what is known of it if it is encrypted now.
    pub(super) fn write_all(
        &self,
        device: &mut dyn BlockDevice,
    ) -> Result<Option<Encrypted>, StepError> {
        match self.definition.encryption.mode {
            Encrypt::Off => self.write(device, self.partition.extent()).map(|_| None),
            _ => encrypt::write(self, &self.job.keys, device).map(Some),
        }
    }

    /// The same where the partition may still hold anything.
    pub(super) fn write_over_old(
        &self,
        device: &mut dyn BlockDevice,
    ) -> Result<Option<Encrypted>, StepError> {
        let mut over = Unzeroed::new(device);
        let extent = self.partition.extent();
        if self.definition.encryption.mode != Encrypt::Off {
            let done = encrypt::write(self, &self.job.keys, &mut over)?;
            // What is left out behind the header is free.
            let header = Extent::new(extent.start, luks::DATA_OFFSET.min(extent.size));
            over.fill(header, &Ranges::default())?;
            return Ok(Some(done));
        }
        let covered = self.write(&mut over, extent)?;
        let free = match &self.definition.format {
            Some(format) => populate::free::free(format, &mut over, extent, covered),
            None => Ok(Ranges::default()),
        };
        let free = free.map_err(EncryptError::FreeSpace)?;
        over.fill(
            Extent::new(extent.start, Bytes::new(covered).min(extent.size)),
            &free,
        )?;
        Ok(None)
    }

    /// Writes the contents to `room` of `device`, which reads as zeros; gives how many bytes of it
    /// they cover.
    pub(super) fn write(
        &self,
        device: &mut dyn BlockDevice,
        room: Extent,
    ) -> Result<u64, StepError> {
        if let Some(StagedContent::File { file, size }) = self.materials.staged.get(self.at) {
            if *size > room.size {
                return Err(StepError::Unprepared);
            }
            device.copy_from(file, 0, room.start, *size)?;
            return Ok(size.get());
        }
        match self.materials.sources.get(&self.at) {
            Some(source) => blocks(source, device, room),
            None => self.file_system(device, room),
        }
    }

    fn file_system(&self, device: &mut dyn BlockDevice, room: Extent) -> Result<u64, StepError> {
        let tree = self.materials.trees.get(&self.at);
        let tree = tree.ok_or(StepError::Unprepared)?;
        let spec = populate::Spec::new(self.definition, &self.partition, self.job);
        Ok(populate::write(&spec, tree, device, room)?)
    }
}

fn blocks(
    source: &BlockSource,
    device: &mut dyn BlockDevice,
    room: Extent,
) -> Result<u64, StepError> {
    let Some(size) = source.size else {
        stream(source, device, room)?;
        return Ok(room.size.get());
    };
    let size = size.min(room.size);
    require_length(source, size)?;
    device.copy_from(&source.file, source.offset.get(), room.start, size)?;
    Ok(size.get())
}

/// Refuses a source that has become smaller since it was measured.
pub(super) fn require_length(source: &BlockSource, size: Bytes) -> Result<(), StepError> {
    let length = source.file.metadata();
    let length = length.map_or(u64::MAX, |metadata| metadata.len());
    let end = source.offset.saturating_add(size).get();
    if length < end && length > 0 {
        return Err(StepError::Shrunk {
            path: source.path.clone(),
            expected: end,
            found: length,
        });
    }
    Ok(())
}

/// A character device has no holes and no size: it fills the partition.
fn stream(
    source: &BlockSource,
    device: &mut dyn BlockDevice,
    room: Extent,
) -> Result<(), StepError> {
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    while done < room.size.get() {
        let left = usize::try_from(room.size.get() - done).unwrap_or(usize::MAX);
        let part = left.min(buffer.len());
        let chunk = &mut buffer[..part];
        let failed = |error| DeviceError {
            action: "read",
            device: source.path.display().to_string(),
            offset: done,
            source: error,
        };
        (&source.file).read_exact(chunk).map_err(failed)?;
        device.write_all_at(chunk, room.start.saturating_add(Bytes::new(done)))?;
        done += u64::try_from(part).unwrap_or(u64::MAX);
    }
    Ok(())
}
