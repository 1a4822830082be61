//! A disk's bytes in pages that copies share, so that thousands of states of a large disk take the
//! room of their differences.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use blockdev::{BlockDevice, DeviceError};
use image_specs::units::{Bytes, Extent, SectorSize};

const PAGE: usize = 16 * 1024;

/// The bytes of a disk; a copy shares what is not changed.
#[derive(Clone, Debug)]
pub struct Image {
    pages: Vec<Arc<[u8; PAGE]>>,
    size: usize,
    sector: SectorSize,
}

impl Image {
    /// A disk that holds `bytes`.
    pub fn new(bytes: &[u8], sector: SectorSize) -> Self {
        let zeros = Arc::new([0; PAGE]);
        let page = |chunk: &[u8]| {
            if chunk.iter().all(|byte| *byte == 0) {
                return zeros.clone();
            }
            let mut page = [0; PAGE];
            page[..chunk.len()].copy_from_slice(chunk);
            Arc::new(page)
        };
        Self {
            pages: bytes.chunks(PAGE).map(page).collect(),
            size: bytes.len(),
            sector,
        }
    }

    /// All bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes(0..self.size)
    }

    /// The bytes of a range.
    pub fn bytes(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(range.len());
        for (page, part) in parts(range) {
            bytes.extend_from_slice(&self.pages[page][part]);
        }
        bytes
    }

    /// Whether both hold the same in a range. What they share is not looked at.
    pub fn is_same(&self, other: &Self, range: Range<usize>) -> bool {
        parts(range).all(|(page, part)| {
            let (mine, theirs) = (&self.pages[page], &other.pages[page]);
            Arc::ptr_eq(mine, theirs) || mine[part.clone()] == theirs[part]
        })
    }

    pub(super) fn change(&mut self, range: Range<usize>, change: &mut dyn FnMut(usize, &mut [u8])) {
        let start = range.start;
        for (page, part) in parts(range) {
            let done = (page * PAGE + part.start) - start;
            change(done, &mut Arc::make_mut(&mut self.pages[page])[part]);
        }
    }

    pub(super) fn resize(&mut self, size: usize) {
        if size < self.size {
            let end = self.pages.len() * PAGE;
            self.change(size..end, &mut |_, bytes| bytes.fill(0));
        }
        self.pages.resize(size.div_ceil(PAGE), Arc::new([0; PAGE]));
        self.size = size;
    }

    fn range(
        &self,
        action: &'static str,
        offset: Bytes,
        size: usize,
    ) -> Result<Range<usize>, DeviceError> {
        let start = usize::try_from(offset.get()).unwrap_or(usize::MAX);
        let end = start.saturating_add(size);
        if end > self.size {
            return Err(self.failed(action, offset, io::ErrorKind::UnexpectedEof));
        }
        Ok(start..end)
    }

    fn failed(&self, action: &'static str, offset: Bytes, kind: io::ErrorKind) -> DeviceError {
        DeviceError {
            action,
            device: self.name(),
            offset: offset.get(),
            source: kind.into(),
        }
    }
}

/// The pages of a range, each with the part of it that is meant.
fn parts(range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let pages = match range.is_empty() {
        true => 0..0,
        false => range.start / PAGE..range.end.div_ceil(PAGE),
    };
    pages.map(move |page| {
        let base = page * PAGE;
        let part = range.start.max(base) - base..range.end.min(base + PAGE) - base;
        (page, part)
    })
}

impl BlockDevice for Image {
    fn name(&self) -> String {
        "a disk after a power cut".to_owned()
    }

    fn size(&self) -> Bytes {
        Bytes::new(u64::try_from(self.size).unwrap_or(u64::MAX))
    }

    fn sector_size(&self) -> SectorSize {
        self.sector
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: Bytes) -> Result<(), DeviceError> {
        let range = self.range("read", offset, buffer.len())?;
        buffer.copy_from_slice(&self.bytes(range));
        Ok(())
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: Bytes) -> Result<(), DeviceError> {
        let range = self.range("write", offset, bytes.len())?;
        self.change(range, &mut |done, part| {
            part.copy_from_slice(&bytes[done..done + part.len()]);
        });
        Ok(())
    }

    fn zero(&mut self, extent: Extent) -> Result<(), DeviceError> {
        let size = usize::try_from(extent.size.get()).unwrap_or(usize::MAX);
        let range = self.range("zero", extent.start, size)?;
        self.change(range, &mut |_, part| part.fill(0));
        Ok(())
    }

    fn discard(&mut self, extent: Extent) -> Result<(), DeviceError> {
        let size = usize::try_from(extent.size.get()).unwrap_or(usize::MAX);
        let range = self.range("discard", extent.start, size)?;
        self.change(range, &mut |_, part| part.fill(blockdev::memory::DISCARDED));
        Ok(())
    }

    fn copy_from(
        &mut self,
        source: &File,
        from: u64,
        to: Bytes,
        size: Bytes,
    ) -> Result<(), DeviceError> {
        use std::os::unix::fs::FileExt;

        let mut bytes = vec![0; usize::try_from(size.get()).unwrap_or(0)];
        let read = source.read_exact_at(&mut bytes, from);
        read.map_err(|error| self.failed("read the source of", to, error.kind()))?;
        self.write_all_at(&bytes, to)
    }

    fn set_size(&mut self, size: Bytes) -> Result<(), DeviceError> {
        let small = usize::try_from(size.get());
        let size = small.map_err(|_| self.failed("resize", size, io::ErrorKind::OutOfMemory))?;
        self.resize(size);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_differ_where_they_were_changed() {
        let sector = SectorSize::S512;
        let mut bytes: Vec<u8> = (0..3 * PAGE + 5)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        let first = Image::new(&bytes, sector);
        assert_eq!(first.to_vec(), bytes);
        let mut second = first.clone();
        let at = PAGE - 3;
        second.write_all_at(&[7; 10], offset(at)).unwrap();
        bytes[at..at + 10].fill(7);
        assert_eq!(second.to_vec(), bytes);
        assert!(!first.is_same(&second, at..at + 10));
        assert!(first.is_same(&second, 0..at));
        assert!(first.is_same(&second, at + 10..bytes.len()));
        assert!(second.write_all_at(&[7; 10], offset(bytes.len())).is_err());
        second.set_size(offset(10)).unwrap();
        second.set_size(offset(20)).unwrap();
        assert_eq!(second.to_vec()[10..], [0; 10]);
    }

    fn offset(at: usize) -> Bytes {
        Bytes::new(u64::try_from(at).unwrap())
    }
}
