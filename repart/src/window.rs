//! The part of a disk that one partition takes: nothing is read or written outside it.

use std::io;

use blockdev::BlockDevice;
use filetree::WriteAt;
use image_specs::units::{Bytes, Extent};

/// A partition's bytes. Offset 0 is the partition's first byte.
#[derive(Debug)]
pub struct Window<'a> {
    device: &'a mut dyn BlockDevice,
    extent: Extent,
}

impl<'a> Window<'a> {
    /// The bytes of `extent` on `device`.
    pub fn new(device: &'a mut dyn BlockDevice, extent: Extent) -> Self {
        Self { device, extent }
    }

    /// Fills all of `buffer` with the bytes from `offset` on.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let at = self.locate(buffer.len(), offset)?;
        self.device
            .read_exact_at(buffer, at)
            .map_err(io::Error::other)
    }

    /// The device's offset for `length` bytes at `offset`, if they lie within.
    fn locate(&self, length: usize, offset: u64) -> io::Result<Bytes> {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let within = offset
            .checked_add(length)
            .is_some_and(|end| end <= self.extent.size.get());
        let at = self.extent.start.checked_add(Bytes::new(offset));
        at.filter(|_| within).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "{length} bytes at {offset} do not lie within the partition's {} bytes",
                    self.extent.size.get()
                ),
            )
        })
    }
}

impl WriteAt for Window<'_> {
    fn size(&self) -> u64 {
        self.extent.size.get()
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = self.locate(bytes.len(), offset)?;
        self.device
            .write_all_at(bytes, at)
            .map_err(io::Error::other)
    }
}
