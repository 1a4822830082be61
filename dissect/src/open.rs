//! Opens an image, read-only, and finds the sectors that its table counts in.

use std::path::Path;

use blockdev::table::{self, ReadTableError};
use blockdev::{Access, BlockDevice, FileDevice};
use image_specs::units::{Extent, SectorSize};
use veritysetup::io::Window;

/// An open image file or whole disk.
#[derive(Debug)]
pub struct Image {
    device: FileDevice,
}

/// An image cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file or device cannot be used.
    #[error(transparent)]
    Device(#[from] blockdev::file::OpenError),
    /// The sector size cannot be told.
    #[error(transparent)]
    Table(#[from] ReadTableError),
}

impl Image {
    /// Opens an image; `sector` is looked for where it is not given.
    pub fn open(path: &Path, sector: Option<SectorSize>) -> Result<Self, OpenError> {
        let mut device = FileDevice::open(path, Access::ReadOnly, sector)?;
        if sector.is_none()
            && !device.is_block_device()
            && let Some(found) = table::probe_sector_size(&device)?
        {
            device.set_sector_size(found);
        }
        Ok(Self { device })
    }

    /// The whole image.
    pub fn device(&self) -> &dyn BlockDevice {
        &self.device
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        self.device.path()
    }

    /// The open file or device.
    pub fn file(&self) -> &std::fs::File {
        self.device.file()
    }

    /// Whether it is a block device, not a regular file.
    pub fn is_block_device(&self) -> bool {
        self.device.is_block_device()
    }

    /// A part of the image, to be hashed by several threads.
    pub fn window(&self, extent: Extent) -> Window<&std::fs::File> {
        Window::new(self.device.file(), extent)
    }
}
