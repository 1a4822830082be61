//! A disk that encrypts what is written to it, so that a file system is made and encrypted in one
//! pass.
//!
//! Invariant: a sector of zeros below is one that nobody has written, and reads as zeros (no sector
//! is encrypted to zeros, but by a chance that nobody will see). So what writers expect of a new
//! disk holds, and holes stay holes. At the end [`Encrypting::fill`] encrypts zeros where they are to
//! be read by others.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;

use blockdev::copy::next_data;
use blockdev::io::{DeviceWindow, ReadAt};
use blockdev::{BlockDevice, DeviceError};
use image_specs::units::{Bytes, Extent, SectorSize};

use super::reader::{decrypt, other};
use super::{Cipher, CopyError, Worker, copy};

/// Bytes that are encrypted at once.
const CHUNK: usize = 256 * 1024;

/// The data of an encrypted partition, as a disk of plain text. Its range of the disk below must
/// read as zeros before.
#[derive(Debug)]
pub struct Encrypting<'a> {
    inner: &'a mut dyn BlockDevice,
    extent: Extent,
    cipher: Cipher,
    worker: Worker,
    threads: NonZeroUsize,
    scratch: Vec<u8>,
}

impl<'a> Encrypting<'a> {
    /// Takes the range of `inner` in which a segment lies; a rest that is no whole sector is not
    /// part of it.
    pub fn new(
        inner: &'a mut dyn BlockDevice,
        extent: Extent,
        cipher: Cipher,
        threads: NonZeroUsize,
    ) -> Result<Self, CopyError> {
        let size = extent.size.round_down(cipher.sector_size().grain());
        Ok(Self {
            inner,
            extent: Extent::new(extent.start, size),
            worker: cipher.encryptor()?,
            cipher,
            threads,
            scratch: Vec::new(),
        })
    }

    /// Encrypts zeros into all sectors of `extents` that have not been written: those that are to
    /// read as zeros when the volume is opened. Ranges are rounded to whole sectors.
    pub fn fill(&mut self, extents: &[Extent]) -> Result<(), DeviceError> {
        let sector = self.cipher.sector_size().bytes().get();
        let limit = self.extent.size.get();
        for extent in extents {
            let end = extent.start.get().saturating_add(extent.size.get());
            let end = end.saturating_add(sector - 1).min(limit);
            let mut at = extent.start.get() / sector * sector;
            let end = end / sector * sector;
            while at < end {
                let length = piece(end - at);
                self.fill_chunk(at, length)?;
                at += count(length);
            }
        }
        Ok(())
    }

    /// Encrypts zeros where a piece of whole sectors is still zero.
    fn fill_chunk(&mut self, at: u64, length: usize) -> Result<(), DeviceError> {
        let mut buffer = std::mem::take(&mut self.scratch);
        buffer.resize(length, 0);
        self.inner.read_exact_at(&mut buffer, self.below(at))?;
        let mut changed = false;
        let sector = self.sector();
        for (index, part) in buffer.chunks_exact_mut(sector).enumerate() {
            if is_zero(part) {
                let number = (at + count(index * sector)) / 512;
                let encrypted = self.worker.run(part, number);
                encrypted.map_err(|error| self.failed("encrypt", at, other(error)))?;
                changed = true;
            }
        }
        if changed {
            let place = self.below(at);
            self.inner.write_all_at(&buffer, place)?;
        }
        self.scratch = buffer;
        Ok(())
    }

    fn sector(&self) -> usize {
        usize::try_from(self.cipher.sector_size().get()).unwrap_or(512)
    }

    fn below(&self, offset: u64) -> Bytes {
        self.extent.start.saturating_add(Bytes::new(offset))
    }

    fn failed(&self, action: &'static str, offset: u64, source: io::Error) -> DeviceError {
        DeviceError {
            action,
            device: self.inner.name(),
            offset,
            source,
        }
    }

    fn check(&self, action: &'static str, offset: Bytes, size: u64) -> Result<(), DeviceError> {
        let end = offset.checked_add(Bytes::new(size));
        match end.is_some_and(|end| end <= self.extent.size) {
            true => Ok(()),
            false => {
                let beyond = match action {
                    "read" => io::ErrorKind::UnexpectedEof,
                    _ => io::ErrorKind::StorageFull,
                };
                Err(self.failed(action, offset.get(), beyond.into()))
            }
        }
    }

    /// Encrypts whole sectors and writes them.
    fn write_sectors(&mut self, bytes: &[u8], at: u64) -> Result<(), DeviceError> {
        let mut buffer = std::mem::take(&mut self.scratch);
        buffer.clear();
        buffer.extend_from_slice(bytes);
        let encrypted = self.worker.run(&mut buffer, at / 512);
        encrypted.map_err(|error| self.failed("encrypt", at, other(error)))?;
        let place = self.below(at);
        let written = self.inner.write_all_at(&buffer, place);
        self.scratch = buffer;
        written
    }

    /// Writes within one sector: it is read, changed and written.
    fn write_within(&mut self, bytes: &[u8], at: u64) -> Result<(), DeviceError> {
        let sector = self.sector();
        let inside = usize::try_from(at % count(sector)).unwrap_or(0);
        let start = at - count(inside);
        let mut whole = vec![0; sector];
        self.read_exact_at(&mut whole, Bytes::new(start))?;
        whole[inside..inside + bytes.len()].copy_from_slice(bytes);
        self.write_sectors(&whole, start)
    }

    /// Copies a range that has data; whole sectors with all processors.
    fn copy_data(
        &mut self,
        source: &File,
        from: u64,
        to: u64,
        size: u64,
    ) -> Result<(), DeviceError> {
        let sector = count(self.sector());
        let first = to.next_multiple_of(sector).min(to + size);
        let last = ((to + size) / sector * sector).max(first);
        self.copy_edge(source, from, to, first - to)?;
        self.copy_sectors(source, from, to, first..last)?;
        self.copy_edge(source, from + (last - to), last, to + size - last)
    }

    /// Copies whole sectors of the source whose byte `from` belongs to `to`.
    fn copy_sectors(
        &mut self,
        source: &File,
        from: u64,
        to: u64,
        sectors: Range<u64>,
    ) -> Result<(), DeviceError> {
        if sectors.is_empty() {
            return Ok(());
        }
        let shifted = Shifted { source, from, to };
        let size = Bytes::new(sectors.end - sectors.start);
        let extents = [Extent::new(Bytes::new(sectors.start), size)];
        let mut window = DeviceWindow::new(self.inner, self.extent);
        let copied = copy(&self.cipher, &shifted, &mut window, &extents, self.threads);
        copied.map_err(|error| self.failed("copy to", sectors.start, io::Error::other(error)))
    }

    fn copy_edge(
        &mut self,
        source: &File,
        from: u64,
        to: u64,
        size: u64,
    ) -> Result<(), DeviceError> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let read = ReadAt::read_exact_at(source, &mut bytes, from);
        read.map_err(|error| self.failed("copy to", to, error))?;
        self.write_all_at(&bytes, Bytes::new(to))
    }
}

/// A source whose bytes from `from` on are read at `to`.
struct Shifted<'a> {
    source: &'a File,
    from: u64,
    to: u64,
}

impl ReadAt for Shifted<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let at = offset
            .checked_sub(self.to)
            .and_then(|at| at.checked_add(self.from));
        let at = at.ok_or(io::ErrorKind::UnexpectedEof)?;
        ReadAt::read_exact_at(self.source, buffer, at)
    }
}

impl BlockDevice for Encrypting<'_> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn size(&self) -> Bytes {
        self.extent.size
    }

    fn sector_size(&self) -> SectorSize {
        self.cipher.sector_size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: Bytes) -> Result<(), DeviceError> {
        self.check("read", offset, count(buffer.len()))?;
        // Sectors that are zero below are put back to zero once they have been "decrypted".
        let sector = self.sector();
        let mut unwritten = Vec::new();
        let mut worker = self
            .cipher
            .decryptor()
            .map_err(|error| self.failed("read", offset.get(), other(error)))?;
        let decrypted = decrypt(&mut worker, buffer, offset.get(), |sectors, at| {
            let read = self.inner.read_exact_at(sectors, self.below(at));
            for (index, part) in sectors.chunks_exact(sector).enumerate() {
                if is_zero(part) {
                    unwritten.push(at + count(index * sector));
                }
            }
            read.map_err(io::Error::other)
        });
        decrypted.map_err(|error| self.failed("read", offset.get(), error))?;
        for start in unwritten {
            let from = start.saturating_sub(offset.get());
            let to = (start + count(sector)).saturating_sub(offset.get());
            let range = usize::try_from(from).unwrap_or(0)
                ..usize::try_from(to).unwrap_or(0).min(buffer.len());
            if let Some(part) = buffer.get_mut(range) {
                part.fill(0);
            }
        }
        Ok(())
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: Bytes) -> Result<(), DeviceError> {
        self.check("write", offset, count(bytes.len()))?;
        let sector = self.sector();
        let mut at = offset.get();
        let mut rest = bytes;
        while !rest.is_empty() {
            let inside = usize::try_from(at % count(sector)).unwrap_or(0);
            let length = match inside {
                0 if rest.len() >= sector => (rest.len() - rest.len() % sector).min(CHUNK),
                _ => rest.len().min(sector - inside),
            };
            let (part, behind) = rest.split_at(length);
            match length.is_multiple_of(sector) {
                true => self.write_sectors(part, at)?,
                false => self.write_within(part, at)?,
            }
            rest = behind;
            at += count(length);
        }
        Ok(())
    }

    fn zero(&mut self, extent: Extent) -> Result<(), DeviceError> {
        self.check("zero", extent.start, extent.size.get())?;
        let sector = count(self.sector());
        let start = extent.start.get();
        let end = start + extent.size.get();
        let first = start.next_multiple_of(sector).min(end);
        let last = (end / sector * sector).max(first);
        let zeros = vec![0; self.sector()];
        let part = |size: u64| {
            usize::try_from(size)
                .ok()
                .and_then(|size| zeros.get(..size))
        };
        self.write_all_at(part(first - start).unwrap_or_default(), extent.start)?;
        self.write_all_at(part(end - last).unwrap_or_default(), Bytes::new(last))?;
        let below = Extent::new(self.below(first), Bytes::new(last - first));
        self.inner.zero(below)
    }

    fn discard(&mut self, extent: Extent) -> Result<(), DeviceError> {
        self.check("discard", extent.start, extent.size.get())?;
        let below = Extent::new(self.below(extent.start.get()), extent.size);
        self.inner.discard(below)
    }

    fn copy_from(
        &mut self,
        source: &File,
        from: u64,
        to: Bytes,
        size: Bytes,
    ) -> Result<(), DeviceError> {
        self.check("copy to", to, size.get())?;
        let end = from.saturating_add(size.get());
        let mut at = from;
        loop {
            let data = next_data(source, at, end)
                .map_err(|error| self.failed("copy to", to.get(), error.into()))?;
            let Some(data) = data else {
                return Ok(());
            };
            let target = to.get() + (data.start - from);
            self.copy_data(source, data.start, target, data.end - data.start)?;
            at = data.end;
        }
    }

    fn set_size(&mut self, _: Bytes) -> Result<(), DeviceError> {
        Err(self.failed("resize", 0, io::ErrorKind::Unsupported.into()))
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.inner.flush()
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn piece(left: u64) -> usize {
    usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)
}
