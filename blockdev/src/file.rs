//! A disk that is a regular file or a block device.
//!
//! Opened read-only for a dry run, so that the kernel enforces it; locked from opening to drop.
//! Directories, pipes, sockets and character devices are refused before anything is read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use image_specs::units::{Bytes, Extent, SectorSize};
use rustix::fs::{
    FallocateFlags, IFlags, OFlags, SeekFrom, fallocate, ioctl_blksszget, ioctl_getflags,
    ioctl_setflags, seek,
};
use rustix::io::Errno;

use crate::copy::{Copied, copy_range};
use crate::device::{BlockDevice, DeviceError};
use crate::lock::{LockError, LockKind, lock};
use crate::partitions::Wanted;
use crate::partitions::changes::{self, Change, TellError};
use crate::sys;
use crate::sysfs::{Number, Sysfs, SysfsError};
use crate::usage::{self, Use, User};

/// What may be done with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only looking, with a shared lock.
    ReadOnly,
    /// Changing, with an exclusive lock; refused while something else uses the device.
    ReadWrite,
    /// Changing, with an exclusive lock, though parts may be in use: which, [`FileDevice::uses`] says.
    ReadWriteInUse,
}

/// An open image file or block device.
#[derive(Debug)]
pub struct FileDevice {
    path: PathBuf,
    file: File,
    size: Bytes,
    sector: SectorSize,
    block: bool,
    copied: Copied,
}

/// The target cannot be worked on.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {}", path.display())]
pub struct OpenError {
    /// The target.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub why: OpenFailure,
}

/// Why a target cannot be worked on.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum OpenFailure {
    #[error("it is {0}; give an image file or a block device")]
    WrongKind(&'static str),
    #[error("it is in use: {}", list(.0))]
    InUse(Vec<User>),
    #[error("it is write-protected")]
    ReadOnly,
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("it has sectors of {0} bytes, which a partition table cannot count in")]
    SectorSize(u32),
    #[error("its sectors have {device} bytes; they cannot be taken for {asked}")]
    OtherSectorSize { device: u64, asked: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl OpenError {
    /// Whether it failed only because another process holds a lock.
    pub fn is_locked(&self) -> bool {
        matches!(self.why, OpenFailure::Lock(LockError::Held(_)))
    }
}

impl FileDevice {
    /// Opens an existing image file or block device and locks it. A file is counted in sectors of
    /// `sector` (512 bytes where `None`), a block device in its own, which `sector` must not
    /// contradict.
    pub fn open(
        path: &Path,
        access: Access,
        sector: Option<SectorSize>,
    ) -> Result<Self, OpenError> {
        let opened = open_checked(path, access).and_then(|file| {
            let mut device = Self::from_file(path, file, sector)?;
            device.lock(access)?;
            // Somebody may have grown the file before the lock was ours.
            device.size = measure(&device.file)?;
            Ok(device)
        });
        opened.map_err(|why| OpenError {
            path: path.to_owned(),
            why,
        })
    }

    /// Opens a disk for a look, without a lock: this process may have locked it itself.
    pub fn peek(path: &Path) -> Result<Self, OpenError> {
        let opened = open_checked(path, Access::ReadOnly);
        let opened = opened.and_then(|file| Self::from_file(path, file, None));
        opened.map_err(|why| OpenError {
            path: path.to_owned(),
            why,
        })
    }

    /// Opens as [`FileDevice::open`] does, but gives those who hold a lock `patience` to end: udev
    /// and its like look at every disk for a moment.
    pub fn open_waiting(
        path: &Path,
        access: Access,
        sector: Option<SectorSize>,
        patience: Duration,
    ) -> Result<Self, OpenError> {
        let end = Instant::now() + patience;
        loop {
            match Self::open(path, access, sector) {
                Err(error) if error.is_locked() && Instant::now() < end => {
                    thread::sleep(Duration::from_millis(50));
                }
                result => return result,
            }
        }
    }

    /// Takes over a scratch file that nobody else knows, open for reading and writing; `folder` is
    /// what messages name.
    pub fn from_scratch(file: File, folder: &Path) -> Result<Self, OpenError> {
        Self::from_file(folder, file, None).map_err(|why| OpenError {
            path: folder.to_owned(),
            why,
        })
    }

    /// Takes over a file that is already open for reading and writing; no lock is taken.
    pub(crate) fn from_file(
        path: &Path,
        file: File,
        sector: Option<SectorSize>,
    ) -> Result<Self, OpenFailure> {
        let block = file.metadata()?.file_type().is_block_device();
        let sector = match block {
            true => device_sector(&file, sector)?,
            false => sector.unwrap_or(SectorSize::S512),
        };
        Ok(Self {
            path: path.to_owned(),
            size: measure(&file)?,
            file,
            sector,
            block,
            copied: Copied::default(),
        })
    }

    /// Whether it is a block device, not a regular file.
    pub fn is_block_device(&self) -> bool {
        self.block
    }

    /// Who uses the device or one of its partitions now; nobody uses a regular file.
    pub fn uses(&self) -> io::Result<Vec<Use>> {
        usage::uses(&self.file)
    }

    /// The partitions that the kernel knows of the device; `None` where it makes none of it.
    pub fn known_partitions(&self) -> Result<Option<Vec<Wanted>>, SysfsError> {
        match self.block {
            true => changes::known(&self.file),
            false => Ok(None),
        }
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What all [`BlockDevice::copy_from`] so far have shared and written.
    pub fn copied(&self) -> Copied {
        self.copied
    }

    /// Lets the file system share and copy the file's blocks on write, or not: only where it knows
    /// such a thing, and only while the file is empty.
    pub fn set_copy_on_write(&self, on: bool) {
        if let Ok(flags) = ioctl_getflags(&self.file) {
            let wanted = match on {
                true => flags - IFlags::NOCOW,
                false => flags | IFlags::NOCOW,
            };
            if wanted != flags {
                // A wish: file systems without copy-on-write refuse it.
                let _ = ioctl_setflags(&self.file, wanted);
            }
        }
    }

    /// Counts the file in other sectors from now on (a table of another sector size was found).
    /// A block device keeps its own: `false` where that differs.
    pub fn set_sector_size(&mut self, sector: SectorSize) -> bool {
        if !self.block {
            self.sector = sector;
        }
        self.sector == sector
    }

    fn lock(&self, access: Access) -> Result<(), OpenFailure> {
        match access {
            Access::ReadOnly => Ok(lock(&self.file, LockKind::Shared)?),
            Access::ReadWriteInUse => Ok(lock(&self.file, LockKind::Exclusive)?),
            Access::ReadWrite => {
                lock(&self.file, LockKind::Exclusive)?;
                let users = usage::users(&self.file)?;
                match users.is_empty() {
                    true => Ok(()),
                    false => Err(OpenFailure::InUse(users)),
                }
            }
        }
    }

    fn failed(&self, action: &'static str, offset: u64, source: io::Error) -> DeviceError {
        DeviceError {
            action,
            device: self.name(),
            offset,
            source,
        }
    }

    /// Refuses ranges that pass the end, so that a file never grows by a write.
    fn check_range(
        &self,
        action: &'static str,
        offset: Bytes,
        size: u64,
    ) -> Result<(), DeviceError> {
        let end = offset.checked_add(Bytes::new(size));
        match end.is_some_and(|end| end <= self.size) {
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

    fn write_zeros(&self, extent: Extent) -> Result<(), DeviceError> {
        let zeros = vec![0; 1 << 20];
        let mut at = extent.start.get();
        let mut left = extent.size.get();
        while left > 0 {
            let step = zeros.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.file
                .write_all_at(&zeros[..step], at)
                .map_err(|error| self.failed("zero", at, error))?;
            let step = u64::try_from(step).unwrap_or(left);
            at += step;
            left -= step;
        }
        Ok(())
    }

    /// Deallocates, or has the device write zeros; `false` where it can do neither.
    fn punch(&self, extent: Extent) -> Result<bool, DeviceError> {
        if self.fallocate(FallocateFlags::PUNCH_HOLE, extent)? {
            return Ok(true);
        }
        // Of a block device the kernel punches only what that clears by itself, in no time.
        Ok(self.block && self.fallocate(FallocateFlags::ZERO_RANGE, extent)?)
    }

    /// `false` where the file system or device does not know how.
    fn fallocate(&self, mode: FallocateFlags, extent: Extent) -> Result<bool, DeviceError> {
        let (start, size) = (extent.start.get(), extent.size.get());
        let mode = mode | FallocateFlags::KEEP_SIZE;
        loop {
            return match fallocate(&self.file, mode, start, size) {
                Ok(()) => Ok(true),
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::NODEV) => Ok(false),
                Err(error) => Err(self.failed("zero", start, error.into())),
            };
        }
    }
}

impl BlockDevice for FileDevice {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn size(&self) -> Bytes {
        self.size
    }

    fn sector_size(&self) -> SectorSize {
        self.sector
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: Bytes) -> Result<(), DeviceError> {
        self.check_range("read", offset, length(buffer))?;
        self.file
            .read_exact_at(buffer, offset.get())
            .map_err(|error| self.failed("read", offset.get(), error))
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: Bytes) -> Result<(), DeviceError> {
        self.check_range("write", offset, length(bytes))?;
        self.file
            .write_all_at(bytes, offset.get())
            .map_err(|error| self.failed("write", offset.get(), error))
    }

    fn zero(&mut self, extent: Extent) -> Result<(), DeviceError> {
        self.check_range("zero", extent.start, extent.size.get())?;
        if extent.size.is_zero() || self.punch(extent)? {
            return Ok(());
        }
        self.write_zeros(extent)
    }

    fn clear(&mut self, extent: Extent) -> Result<bool, DeviceError> {
        self.check_range("zero", extent.start, extent.size.get())?;
        if !self.block {
            return self.zero(extent).map(|()| true);
        }
        Ok(extent.size.is_zero() || self.fallocate(FallocateFlags::PUNCH_HOLE, extent)?)
    }

    fn discard(&mut self, extent: Extent) -> Result<(), DeviceError> {
        self.check_range("discard", extent.start, extent.size.get())?;
        if extent.size.is_zero() {
            return Ok(());
        }
        if !self.block {
            return self.punch(extent).map(|_| ());
        }
        match sys::discard(&self.file, extent.start.get(), extent.size.get()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOTTY) => Ok(()),
            Err(error) => Err(self.failed("discard", extent.start.get(), error.into())),
        }
    }

    fn copy_from(
        &mut self,
        source: &File,
        from: u64,
        to: Bytes,
        size: Bytes,
    ) -> Result<(), DeviceError> {
        self.check_range("write", to, size.get())?;
        let copied = copy_range(source, from, &self.file, to.get(), size.get());
        let copied = copied.map_err(|failure| match failure.reading {
            true => self.failed("read the source of", failure.offset, failure.source),
            false => self.failed("write", failure.offset, failure.source),
        })?;
        self.copied.shared += copied.shared;
        self.copied.written += copied.written;
        Ok(())
    }

    fn set_size(&mut self, size: Bytes) -> Result<(), DeviceError> {
        if self.block {
            let never = io::Error::from(Errno::OPNOTSUPP);
            return Err(self.failed("resize", size.get(), never));
        }
        if i64::try_from(size.get()).is_err() {
            let never = io::Error::from(Errno::FBIG);
            return Err(self.failed("resize", size.get(), never));
        }
        self.file
            .set_len(size.get())
            .map_err(|error| self.failed("resize", size.get(), error))?;
        self.size = size;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.file
            .sync_data()
            .map_err(|error| self.failed("flush", 0, error))
    }

    fn tell(&mut self, change: Change) -> Result<(), TellError> {
        match self.block {
            true => changes::tell(&self.file, change),
            false => Ok(()),
        }
    }
}

/// Opens without waiting for the other end of a pipe, and without taking a terminal.
fn open_checked(path: &Path, access: Access) -> Result<File, OpenFailure> {
    // A look before opening: opening alone has effects on some devices.
    let metadata = std::fs::metadata(path)?;
    check_kind(&metadata)?;
    if access != Access::ReadOnly && is_protected(&metadata) {
        return Err(OpenFailure::ReadOnly);
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .write(access != Access::ReadOnly)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)?;
    check_kind(&file.metadata()?)?;
    Ok(file)
}

/// Whether the kernel refuses to write to the block device; of some it says so only when that is tried.
fn is_protected(metadata: &std::fs::Metadata) -> bool {
    let block = Sysfs::default().block(Number::from_dev(metadata.rdev()));
    metadata.file_type().is_block_device() && block.is_ok_and(|block| block.is_read_only())
}

fn check_kind(metadata: &std::fs::Metadata) -> Result<(), OpenFailure> {
    wrong_kind(metadata.file_type()).map_or(Ok(()), |kind| Err(OpenFailure::WrongKind(kind)))
}

/// What stands in an image's place, where it is neither a file nor a block device.
pub(crate) fn wrong_kind(kind: std::fs::FileType) -> Option<&'static str> {
    Some(if kind.is_file() || kind.is_block_device() {
        return None;
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() {
        "a character device"
    } else {
        "no file that holds data"
    })
}

fn device_sector(file: &File, asked: Option<SectorSize>) -> Result<SectorSize, OpenFailure> {
    let bytes = ioctl_blksszget(file).map_err(io::Error::from)?;
    let own = SectorSize::new(u64::from(bytes)).ok_or(OpenFailure::SectorSize(bytes))?;
    match asked {
        Some(asked) if asked != own => Err(OpenFailure::OtherSectorSize {
            device: own.get(),
            asked: asked.get(),
        }),
        _ => Ok(own),
    }
}

fn measure(file: &File) -> io::Result<Bytes> {
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok(Bytes::new(metadata.size())),
        false => Ok(Bytes::new(seek(file, SeekFrom::End(0))?)),
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn list(users: &[User]) -> String {
    let names: Vec<String> = users.iter().map(User::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn image(dir: &Path, size: u64) -> PathBuf {
        let path = dir.join("image.raw");
        File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    #[test]
    fn what_is_no_disk_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, kind) in [
            (dir.path(), "a directory"),
            (&pipe, "a pipe"),
            (&socket, "a socket"),
            (Path::new("/dev/null"), "a character device"),
        ] {
            for access in [Access::ReadOnly, Access::ReadWrite] {
                let error = FileDevice::open(path, access, None).unwrap_err();
                assert!(
                    matches!(error.why, OpenFailure::WrongKind(found) if found == kind),
                    "{path:?}: {error:?}"
                );
                assert!(error.to_string().contains(&path.display().to_string()));
            }
        }
        let missing = FileDevice::open(&dir.path().join("x"), Access::ReadOnly, None).unwrap_err();
        assert!(
            matches!(missing.why, OpenFailure::Io(error) if error.kind() == io::ErrorKind::NotFound)
        );
    }

    #[test]
    fn read_only_is_kept_by_the_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let path = image(dir.path(), 4096);
        let mut disk = FileDevice::open(&path, Access::ReadOnly, None).unwrap();
        assert!(disk.write_all_at(b"x", Bytes::ZERO).is_err());
        assert!(disk.set_size(Bytes::new(1)).is_err());
        assert_eq!(disk.size(), Bytes::new(4096));
        let second = FileDevice::open(&path, Access::ReadOnly, None);
        assert!(second.is_ok(), "readers share");
        let error = FileDevice::open(&path, Access::ReadWrite, None).unwrap_err();
        assert!(matches!(error.why, OpenFailure::Lock(LockError::Held(_))));
    }

    #[test]
    fn zeroing_makes_holes_and_reads_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let path = image(dir.path(), 1 << 20);
        let mut disk = FileDevice::open(&path, Access::ReadWrite, None).unwrap();
        disk.write_all_at(&vec![1; 1 << 20], Bytes::ZERO).unwrap();
        disk.flush().unwrap();
        disk.zero(Extent::new(Bytes::new(100), Bytes::new((1 << 20) - 200)))
            .unwrap();
        assert!(disk.file().metadata().unwrap().blocks() * 512 <= 16384);
        let mut bytes = vec![9; 1 << 20];
        disk.read_exact_at(&mut bytes, Bytes::ZERO).unwrap();
        assert!(bytes[..100].iter().all(|byte| *byte == 1));
        assert!(bytes[100..(1 << 20) - 100].iter().all(|byte| *byte == 0));
        disk.write_zeros(Extent::new(Bytes::ZERO, Bytes::new(100)))
            .unwrap();
        disk.read_exact_at(&mut bytes, Bytes::ZERO).unwrap();
        assert!(bytes[..100].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_lock_that_ends_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = image(dir.path(), 4096);
        let holder = FileDevice::open(&path, Access::ReadWrite, None).unwrap();
        let short = FileDevice::open_waiting(&path, Access::ReadOnly, None, Duration::ZERO);
        assert!(short.unwrap_err().is_locked());
        let ended = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(holder);
        });
        FileDevice::open_waiting(&path, Access::ReadWrite, None, Duration::from_secs(60)).unwrap();
        ended.join().unwrap();
    }

    #[test]
    fn nothing_is_written_past_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = image(dir.path(), 1000);
        let mut disk = FileDevice::open(&path, Access::ReadWrite, None).unwrap();
        assert!(disk.write_all_at(b"xy", Bytes::new(999)).is_err());
        assert!(
            disk.zero(Extent::new(Bytes::new(999), Bytes::new(2)))
                .is_err()
        );
        let source = File::open("/dev/zero").unwrap();
        assert!(
            disk.copy_from(&source, 0, Bytes::new(999), Bytes::new(2))
                .is_err()
        );
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1000);
    }
}
