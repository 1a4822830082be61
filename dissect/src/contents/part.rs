//! The bytes of a partition, for readers that outlive the image they were opened by.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use filetree::ReadAt;
use image_specs::units::Extent;

use crate::open::Image;

/// A range of an image, as if it were all there is.
#[derive(Clone, Debug)]
pub(super) struct Part {
    file: Arc<File>,
    extent: Extent,
}

/// What a file system lies on.
pub(super) struct Volume {
    pub(super) data: Arc<dyn ReadAt>,
    /// In bytes.
    pub(super) size: u64,
}

impl Part {
    pub(super) fn new(image: &Image, extent: Extent) -> io::Result<Self> {
        Ok(Self::of(image.file().try_clone()?, extent))
    }

    pub(super) fn of(file: File, extent: Extent) -> Self {
        Self {
            file: Arc::new(file),
            extent,
        }
    }
}

impl ReadAt for Part {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let inside = offset
            .checked_add(length)
            .is_some_and(|end| end <= self.extent.size.get());
        let at = self.extent.start.get().checked_add(offset);
        match at.filter(|_| inside) {
            Some(at) => self.file.read_exact_at(buffer, at),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl veritysetup::io::ReadAt for Part {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        ReadAt::read_exact_at(self, buffer, offset)
    }
}
