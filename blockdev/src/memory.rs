//! A disk in memory that remembers every effect, and fails where it is told to.
//!
//! For tests: the log is what a crash harness replays.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use image_specs::units::{Bytes, Extent, SectorSize};

use crate::copy::next_data;
use crate::device::{BlockDevice, DeviceError};

/// One effect, in the order in which it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes were written.
    Write {
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A range was made to read as zeros.
    Zero(Extent),
    /// A range was given up.
    Discard(Extent),
    /// The size was changed, to so many bytes.
    Resize(u64),
    /// Everything before was brought to stable storage.
    Flush,
}

/// How an effect fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// With `EIO`, nothing done.
    Io,
    /// With `ENOSPC`, nothing done.
    NoSpace,
    /// With `EIO`, after half of the bytes were written.
    Short,
}

/// A disk in memory.
#[derive(Clone, Debug)]
pub struct MemoryDevice {
    bytes: Vec<u8>,
    sector: SectorSize,
    log: Vec<Event>,
    failure: Option<(usize, Failure)>,
    effects: usize,
}

impl MemoryDevice {
    /// A disk of `size` bytes of zeros. Fails with `OutOfMemory` where that is not to be had.
    pub fn new(size: Bytes, sector: SectorSize) -> io::Result<Self> {
        let size = usize::try_from(size.get()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(size)
            .map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(size, 0);
        Ok(Self::from_bytes(bytes, sector))
    }

    /// A disk that holds `bytes`.
    pub fn from_bytes(bytes: Vec<u8>, sector: SectorSize) -> Self {
        Self {
            bytes,
            sector,
            log: Vec::new(),
            failure: None,
            effects: 0,
        }
    }

    /// Lets the effect number `nth` (flushes count too), from 0 and from now, fail, and all after it.
    #[must_use]
    pub fn failing(mut self, nth: usize, failure: Failure) -> Self {
        self.effects = 0;
        self.failure = Some((nth, failure));
        self
    }

    /// What the disk holds.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the disk holds.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Every effect so far.
    pub fn log(&self) -> &[Event] {
        &self.log
    }

    /// Forgets the log: recording begins anew.
    pub fn take_log(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.log)
    }

    fn fail(&self, action: &'static str, offset: u64, source: io::Error) -> DeviceError {
        DeviceError {
            action,
            device: self.name(),
            offset,
            source,
        }
    }

    fn range(
        &self,
        action: &'static str,
        offset: u64,
        size: u64,
    ) -> Result<std::ops::Range<usize>, DeviceError> {
        let end = offset.checked_add(size);
        let range = usize::try_from(offset)
            .ok()
            .zip(end.and_then(|end| usize::try_from(end).ok()))
            .filter(|(_, end)| *end <= self.bytes.len());
        range.map(|(start, end)| start..end).ok_or_else(|| {
            let kind = match action {
                "read" => io::ErrorKind::UnexpectedEof,
                _ => io::ErrorKind::StorageFull,
            };
            self.fail(action, offset, kind.into())
        })
    }

    /// Counts an effect; the way in which it shall fail, if it shall.
    fn count(&mut self) -> Option<Failure> {
        let number = self.effects;
        self.effects += 1;
        let (nth, failure) = self.failure?;
        (number >= nth).then_some(failure)
    }

    fn refuse(&mut self, action: &'static str, offset: u64) -> Result<(), DeviceError> {
        match self.count() {
            None => Ok(()),
            Some(failure) => Err(self.fail(action, offset, failure.error())),
        }
    }

    fn store(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let range = self.range("write", offset, length)?;
        self.bytes[range].copy_from_slice(bytes);
        self.log.push(Event::Write {
            offset,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }
}

impl Failure {
    fn error(self) -> io::Error {
        match self {
            Self::NoSpace => io::Error::from(rustix::io::Errno::NOSPC),
            Self::Io | Self::Short => io::Error::from(rustix::io::Errno::IO),
        }
    }
}

impl BlockDevice for MemoryDevice {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn size(&self) -> Bytes {
        Bytes::new(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }

    fn sector_size(&self) -> SectorSize {
        self.sector
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: Bytes) -> Result<(), DeviceError> {
        let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let range = self.range("read", offset.get(), length)?;
        buffer.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: Bytes) -> Result<(), DeviceError> {
        let Some(failure) = self.count() else {
            return self.store(offset.get(), bytes);
        };
        if failure == Failure::Short {
            self.store(offset.get(), &bytes[..bytes.len() / 2])?;
        }
        Err(self.fail("write", offset.get(), failure.error()))
    }

    fn zero(&mut self, extent: Extent) -> Result<(), DeviceError> {
        self.refuse("zero", extent.start.get())?;
        let range = self.range("zero", extent.start.get(), extent.size.get())?;
        self.bytes[range].fill(0);
        self.log.push(Event::Zero(extent));
        Ok(())
    }

    /// Discarded bytes read as 0xDD here: nobody may rely on zeros.
    fn discard(&mut self, extent: Extent) -> Result<(), DeviceError> {
        self.refuse("discard", extent.start.get())?;
        let range = self.range("discard", extent.start.get(), extent.size.get())?;
        self.bytes[range].fill(DISCARDED);
        self.log.push(Event::Discard(extent));
        Ok(())
    }

    fn copy_from(
        &mut self,
        source: &File,
        from: u64,
        to: Bytes,
        size: Bytes,
    ) -> Result<(), DeviceError> {
        let end = from.saturating_add(size.get());
        let mut at = from;
        let failed = |error: io::Error| DeviceError {
            action: "read the source of",
            device: "memory".to_owned(),
            offset: to.get(),
            source: error,
        };
        while let Some(data) = next_data(source, at, end).map_err(|error| failed(error.into()))? {
            let stop = data.end.min(data.start + COPY_STEP);
            let mut buffer = vec![0; usize::try_from(stop - data.start).unwrap_or(0)];
            source
                .read_exact_at(&mut buffer, data.start)
                .map_err(failed)?;
            let target = to.saturating_add(Bytes::new(data.start - from));
            self.write_all_at(&buffer, target)?;
            at = stop;
        }
        Ok(())
    }

    fn set_size(&mut self, size: Bytes) -> Result<(), DeviceError> {
        self.refuse("resize", size.get())?;
        let length = usize::try_from(size.get())
            .map_err(|_| self.fail("resize", size.get(), io::ErrorKind::OutOfMemory.into()))?;
        self.bytes.resize(length, 0);
        self.log.push(Event::Resize(size.get()));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.refuse("flush", 0)?;
        self.log.push(Event::Flush);
        Ok(())
    }
}

/// What discarded bytes read as.
pub const DISCARDED: u8 = 0xdd;
const COPY_STEP: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> MemoryDevice {
        MemoryDevice::new(Bytes::new(4096), SectorSize::S512).unwrap()
    }

    #[test]
    fn effects_are_logged_in_order() {
        let mut disk = disk();
        let extent = Extent::new(Bytes::new(512), Bytes::new(512));
        disk.write_all_at(b"abc", Bytes::new(511)).unwrap();
        disk.zero(extent).unwrap();
        disk.flush().unwrap();
        disk.discard(extent).unwrap();
        assert_eq!(
            disk.log(),
            [
                Event::Write {
                    offset: 511,
                    bytes: b"abc".to_vec()
                },
                Event::Zero(extent),
                Event::Flush,
                Event::Discard(extent),
            ]
        );
        assert_eq!(disk.bytes()[510..514], [0, b'a', DISCARDED, DISCARDED]);
    }

    #[test]
    fn nothing_goes_past_the_end() {
        let mut disk = disk();
        assert!(disk.write_all_at(b"ab", Bytes::new(4095)).is_err());
        assert!(disk.read_exact_at(&mut [0; 2], Bytes::MAX).is_err());
        assert!(
            disk.zero(Extent::new(Bytes::new(4096), Bytes::new(1)))
                .is_err()
        );
        assert!(disk.log().is_empty());
    }

    #[test]
    fn failures_come_where_they_were_asked_for() {
        for (failure, written) in [(Failure::Io, 0), (Failure::NoSpace, 0), (Failure::Short, 2)] {
            let mut disk = disk().failing(1, failure);
            disk.write_all_at(b"x", Bytes::new(0)).unwrap();
            let error = disk.write_all_at(b"yyyy", Bytes::new(8)).unwrap_err();
            assert_eq!(error.source.raw_os_error(), failure.error().raw_os_error());
            assert_eq!(
                disk.bytes()[8..12].iter().filter(|b| **b != 0).count(),
                written
            );
            assert!(disk.flush().is_err());
        }
    }
}
