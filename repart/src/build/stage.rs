//! What is built or measured before the layout is decided, because its size decides it.
//!
//! A file system of unknown size is built once: into the new image itself where its place is already
//! certain, else into a scratch file beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use blockdev::{BlockDevice, FileDevice};
use filetree::Tree;
use image_specs::units::{Bytes, Extent};

use super::job::Job;
use crate::definition::Definition;
use crate::populate::{self, PopulateError, Spec};

/// What was staged, by the definition's place in the list.
#[derive(Debug, Default)]
pub struct Staged(BTreeMap<usize, StagedContent>);

/// One definition's content.
#[derive(Debug)]
pub enum StagedContent {
    /// Only its size is known yet.
    Sized(Bytes),
    /// It lies in the target, where the partition will be.
    InPlace {
        /// First byte.
        offset: Bytes,
        /// Number of bytes.
        size: Bytes,
    },
    /// It lies in a scratch file.
    File {
        /// The file.
        file: File,
        /// Its size.
        size: Bytes,
    },
}

impl Staged {
    /// The staged content of a definition.
    pub fn get(&self, definition: usize) -> Option<&StagedContent> {
        self.0.get(&definition)
    }

    /// Adds a definition's content.
    pub fn insert(&mut self, definition: usize, content: StagedContent) {
        self.0.insert(definition, content);
    }

    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &StagedContent)> {
        self.0
            .iter()
            .map(|(definition, content)| (*definition, content))
    }
}

impl StagedContent {
    /// Bytes.
    pub fn size(&self) -> Bytes {
        match self {
            Self::Sized(size) | Self::InPlace { size, .. } | Self::File { size, .. } => *size,
        }
    }
}

/// Sector size of a definition's file system: never below the disk's.
pub fn fs_sector(definition: &Definition, job: &Job) -> u64 {
    definition
        .fs_sector_size
        .map_or(job.options.fs_sector, |size| size.max(job.sector.get()))
}

/// Builds a file system in a scratch file, to learn its size.
pub(super) fn in_scratch(
    spec: &Spec<'_>,
    tree: &Tree,
    at_most: u64,
) -> Result<StagedContent, PopulateError> {
    let mut device = scratch_device(spec.scratch, at_most)?;
    let room = Extent::new(Bytes::ZERO, Bytes::new(at_most));
    let size = Bytes::new(populate::write(spec, tree, &mut device, room)?);
    device.set_size(size)?;
    Ok(StagedContent::File {
        file: clone(&device, spec.scratch)?,
        size,
    })
}

/// Moves what lies at `extent` of a new image to a scratch file, and leaves zeros.
pub(super) fn out_of(
    device: &mut dyn BlockDevice,
    extent: Extent,
    scratch: &Path,
) -> Result<StagedContent, PopulateError> {
    let mut moved = scratch_device(scratch, extent.size.get())?;
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    while done < extent.size.get() {
        let left = usize::try_from(extent.size.get() - done).unwrap_or(usize::MAX);
        let chunk = &mut buffer[..left.min(1 << 20)];
        device.read_exact_at(chunk, extent.start.saturating_add(Bytes::new(done)))?;
        moved.write_all_at(chunk, Bytes::new(done))?;
        done += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
    }
    device.zero(extent)?;
    Ok(StagedContent::File {
        file: clone(&moved, scratch)?,
        size: extent.size,
    })
}

fn scratch_device(folder: &Path, size: u64) -> Result<FileDevice, PopulateError> {
    let failed = |source| PopulateError::Scratch {
        path: folder.to_owned(),
        source,
    };
    let file = tempfile::tempfile_in(folder).map_err(failed)?;
    file.set_len(size).map_err(failed)?;
    Ok(FileDevice::from_scratch(file, folder)?)
}

fn clone(device: &FileDevice, folder: &Path) -> Result<File, PopulateError> {
    let failed = |source| PopulateError::Scratch {
        path: folder.to_owned(),
        source,
    };
    device.file().try_clone().map_err(failed)
}
