//! A disk that cannot be cleared quickly, for writers that leave out zeros.
//!
//! What is left out is noted, and written as zeros at the end, but for what the new contents call free:
//! so the time goes with the contents, not with the size. Invariant: what nobody has written through
//! this reads as zeros.

use std::fs::File;

use blockdev::copy::next_data;
use blockdev::{BlockDevice, DeviceError};
use image_specs::units::{Bytes, Extent, SectorSize};

use crate::ranges::Ranges;

/// The disk, and what of it has been written.
#[derive(Debug)]
pub(super) struct Unzeroed<'a> {
    inner: &'a mut dyn BlockDevice,
    written: Ranges,
}

impl<'a> Unzeroed<'a> {
    pub(super) fn new(inner: &'a mut dyn BlockDevice) -> Self {
        Self {
            inner,
            written: Ranges::default(),
        }
    }

    /// Writes zeros to all of `extent` that has not been written and is not `free`.
    pub(super) fn fill(&mut self, extent: Extent, free: &Ranges) -> Result<(), DeviceError> {
        for gap in self.written.without(range(extent)) {
            for part in free.without(gap) {
                let (start, size) = (Bytes::new(part.start), Bytes::new(part.end - part.start));
                self.inner.zero(Extent::new(start, size))?;
            }
        }
        Ok(())
    }

    fn note(&mut self, start: Bytes, size: u64) {
        self.written
            .insert(start.get()..start.get().saturating_add(size));
    }
}

impl BlockDevice for Unzeroed<'_> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn size(&self) -> Bytes {
        self.inner.size()
    }

    fn sector_size(&self) -> SectorSize {
        self.inner.sector_size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: Bytes) -> Result<(), DeviceError> {
        self.inner.read_exact_at(buffer, offset)?;
        let start = offset.get();
        for gap in self
            .written
            .without(start..start.saturating_add(length(buffer)))
        {
            let place = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
            if let Some(part) = buffer.get_mut(place(gap.start)..place(gap.end)) {
                part.fill(0);
            }
        }
        Ok(())
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: Bytes) -> Result<(), DeviceError> {
        self.inner.write_all_at(bytes, offset)?;
        self.note(offset, length(bytes));
        Ok(())
    }

    fn zero(&mut self, extent: Extent) -> Result<(), DeviceError> {
        self.written.remove(range(extent));
        Ok(())
    }

    fn discard(&mut self, extent: Extent) -> Result<(), DeviceError> {
        self.inner.discard(extent)
    }

    fn copy_from(
        &mut self,
        source: &File,
        from: u64,
        to: Bytes,
        size: Bytes,
    ) -> Result<(), DeviceError> {
        let end = from.saturating_add(size.get());
        let failed = |source: rustix::io::Errno| DeviceError {
            action: "read the source of",
            device: self.inner.name(),
            offset: from,
            source: source.into(),
        };
        let mut pieces = Vec::new();
        let mut at = from;
        while let Some(data) = next_data(source, at, end).map_err(failed)? {
            at = data.end;
            pieces.push(data);
        }
        for piece in pieces {
            let place = to.saturating_add(Bytes::new(piece.start - from));
            let size = piece.end - piece.start;
            self.inner
                .copy_from(source, piece.start, place, Bytes::new(size))?;
            self.note(place, size);
        }
        Ok(())
    }

    fn set_size(&mut self, size: Bytes) -> Result<(), DeviceError> {
        self.inner.set_size(size)
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.inner.flush()
    }
}

fn range(extent: Extent) -> std::ops::Range<u64> {
    let start = extent.start.get();
    start..start.saturating_add(extent.size.get())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use blockdev::MemoryDevice;

    use super::*;

    #[test]
    fn old_bytes_show_only_where_they_may() {
        let mut disk = MemoryDevice::new(Bytes::mib(1), SectorSize::S512).unwrap();
        disk.write_all_at(&vec![0xaa; 1 << 20], Bytes::ZERO)
            .unwrap();
        let mut device = Unzeroed::new(&mut disk);
        let source = tempfile::tempfile().unwrap();
        source.set_len(128 << 10).unwrap();
        source.write_all_at(&[7; 4096], 64 << 10).unwrap();
        let at = |kib: u64| Bytes::new(kib << 10);
        device.copy_from(&source, 0, at(256), at(128)).unwrap();
        device.write_all_at(&[1; 512], at(512)).unwrap();
        device.write_all_at(&[2; 512], at(600)).unwrap();
        device.zero(Extent::new(at(600), Bytes::new(512))).unwrap();
        let mut read = [9; 1024];
        device.read_exact_at(&mut read, at(512)).unwrap();
        assert_eq!((read[0], read[511], read[512], read[1023]), (1, 1, 0, 0));
        let mut free = Ranges::default();
        free.insert(at(700).get()..at(800).get());
        device.fill(Extent::new(at(256), at(768)), &free).unwrap();
        let expected = |offset: u64| match offset >> 10 {
            0..256 | 700..800 => 0xaa,
            320..324 => 7,
            512 if offset < (512 << 10) + 512 => 1,
            _ => 0,
        };
        for (offset, byte) in (0..).zip(disk.bytes()) {
            assert_eq!(*byte, expected(offset), "{offset}");
        }
    }
}
