//! Partitions that are dm-integrity devices: superblock, journal, tags and contents in one pass, without
//! root and device-mapper.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use blockdev::file::OpenError;
use blockdev::io::{DeviceWindow, Window};
use blockdev::{BlockDevice, FileDevice};
use image_specs::units::{Bytes, Extent};
use luks::integrity::offline::{Before, OfflineError};

use super::apply::StepError;
use super::fill::{self, Filling};
use super::stage::{self, StagedContent};
use crate::integrity;

/// Why a partition cannot be given tags.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the causes say it")]
#[non_exhaustive]
pub enum IntegrityError {
    #[error("cannot make an integrity device of the partition")]
    Offline(#[from] OfflineError),
    #[error("cannot keep the contents in a scratch file in {}", folder.display())]
    Scratch { folder: PathBuf, source: io::Error },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the contents have {size} bytes, and the integrity device offers {room}")]
    TooBig { size: u64, room: u64 },
}

/// What is read to be written with its tags.
struct Contents {
    file: Window<File>,
    size: Bytes,
}

/// Writes the device with its contents to the partition.
pub(super) fn write(
    filling: &Filling<'_>,
    before: Before,
    device: &mut dyn BlockDevice,
) -> Result<(), StepError> {
    let (definition, job) = (filling.definition, filling.job);
    let extent = filling.partition.extent();
    let sector = stage::fs_sector(definition, job);
    let key = job.keys.integrity.get(&filling.at).cloned();
    let salt = job.options.seed.integrity_salt(filling.partition.uuid);
    let format = integrity::format(definition, sector, key);
    let room = integrity::inner_size(definition, sector, extent.size);
    let room = room.map_err(IntegrityError::from)?;
    let formatted = format
        .fit(extent.size, salt)
        .map_err(IntegrityError::from)?;
    let contents = Contents::of(filling, room)?;
    let mut target = DeviceWindow::new(device, extent);
    formatted
        .write(
            (&contents.file, contents.size),
            &mut target,
            before,
            &mut |_| true,
        )
        .map_err(IntegrityError::from)?;
    Ok(())
}

impl Contents {
    /// What is in a file already is read from there; a file system is made in a scratch file, as its
    /// blocks are not written in the order in which they lie.
    fn of(filling: &Filling<'_>, room: Bytes) -> Result<Self, StepError> {
        let clone = |file: &File| {
            file.try_clone().map_err(|source| IntegrityError::Scratch {
                folder: filling.job.environment.scratch.clone(),
                source,
            })
        };
        let materials = filling.materials;
        if let Some(StagedContent::File { file, size }) = materials.staged.get(filling.at) {
            return Self::new(clone(file)?, Extent::new(Bytes::ZERO, *size), room);
        }
        let source = materials.sources.get(&filling.at);
        if let Some((source, size)) = source.and_then(|source| Some((source, source.size?))) {
            fill::require_length(source, size)?;
            return Self::new(clone(&source.file)?, Extent::new(source.offset, size), room);
        }
        let mut device = scratch(filling, room)?;
        filling.write(&mut device, Extent::new(Bytes::ZERO, room))?;
        let whole = Extent::new(Bytes::ZERO, room);
        Self::new(clone(device.file())?, whole, room)
    }

    fn new(file: File, extent: Extent, room: Bytes) -> Result<Self, StepError> {
        let size = extent.size;
        if size > room {
            let (size, room) = (size.get(), room.get());
            return Err(IntegrityError::TooBig { size, room }.into());
        }
        let file = Window::new(file, extent);
        Ok(Self { file, size })
    }
}

fn scratch(filling: &Filling<'_>, size: Bytes) -> Result<FileDevice, IntegrityError> {
    let folder = &filling.job.environment.scratch;
    let made = tempfile::tempfile_in(folder).and_then(|file| {
        file.set_len(size.get())?;
        Ok(file)
    });
    let file = made.map_err(|source| IntegrityError::Scratch {
        folder: folder.clone(),
        source,
    })?;
    Ok(FileDevice::from_scratch(file, folder)?)
}
