//! Bytes at an offset: what is read by several threads at once, and what is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use image_specs::units::{Bytes, Extent};

use crate::device::BlockDevice;

/// Bytes that several threads read at once, at any offset.
pub trait ReadAt: Sync {
    /// Fills all of `buffer` with the bytes from `offset` on.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// Where bytes are written. Offset 0 is the start of what is written, wherever that lies.
pub trait WriteAt {
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

/// A range of a reader or writer, as if it were all there is.
#[derive(Debug)]
pub struct Window<T> {
    inner: T,
    extent: Extent,
}

/// A range of a block device to write to.
#[derive(Debug)]
pub struct DeviceWindow<'a> {
    device: &'a mut dyn BlockDevice,
    extent: Extent,
}

impl<T> Window<T> {
    /// The bytes of `inner` within `extent`.
    pub fn new(inner: T, extent: Extent) -> Self {
        Self { inner, extent }
    }
}

impl<'a> DeviceWindow<'a> {
    /// The bytes of `device` within `extent`.
    pub fn new(device: &'a mut dyn BlockDevice, extent: Extent) -> Self {
        Self { device, extent }
    }
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let part = start
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buffer, offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }
}

impl<T: ReadAt> ReadAt for Window<T> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let at = place(self.extent, buffer.len(), offset).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.inner.read_exact_at(buffer, at.get())
    }
}

impl WriteAt for File {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }
}

impl WriteAt for Vec<u8> {
    /// Grows as needed.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start
            .checked_add(bytes.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        if self.len() < end {
            self.resize(end, 0);
        }
        self[start..end].copy_from_slice(bytes);
        Ok(())
    }
}

impl<T: WriteAt + ?Sized> WriteAt for &mut T {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (**self).write_all_at(bytes, offset)
    }
}

impl<T: WriteAt> WriteAt for Window<T> {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = place(self.extent, bytes.len(), offset).ok_or(io::ErrorKind::StorageFull)?;
        self.inner.write_all_at(bytes, at.get())
    }
}

impl WriteAt for DeviceWindow<'_> {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = place(self.extent, bytes.len(), offset).ok_or(io::ErrorKind::StorageFull)?;
        self.device
            .write_all_at(bytes, at)
            .map_err(io::Error::other)
    }
}

/// Where `size` bytes at `offset` of the window lie outside of it; `None` past its end.
fn place(window: Extent, size: usize, offset: u64) -> Option<Bytes> {
    let offset = Bytes::new(offset);
    let end = offset.checked_add(Bytes::new(u64::try_from(size).ok()?))?;
    if end > window.size {
        return None;
    }
    window.start.checked_add(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_where_they_end() {
        let extent = Extent::new(Bytes::new(2), Bytes::new(4));
        let bytes = b"0123456789".to_vec();
        let window = Window::new(&bytes, extent);
        let mut two = [0; 2];
        window.read_exact_at(&mut two, 2).unwrap();
        assert_eq!(&two, b"45");
        assert!(window.read_exact_at(&mut two, 3).is_err());
        assert!(window.read_exact_at(&mut two, u64::MAX).is_err());

        let mut target = vec![0; 10];
        let mut window = Window::new(&mut target, extent);
        window.write_all_at(b"ab", 2).unwrap();
        assert!(window.write_all_at(b"ab", 3).is_err());
        assert_eq!(&target, b"\0\0\0\0ab\0\0\0\0");
    }
}
