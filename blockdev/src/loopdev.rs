//! Loop devices: a file as a block device, for what only the kernel can do with it.
//!
//! A device is bound in one call (`LOOP_CONFIGURE`) and is always set to unbind itself with its last
//! user, so that nothing stays behind when its holder is killed; [`LoopDevice::release`] ends that.
//! While it is set up, a BSD lock keeps udev and others from probing it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use image_specs::units::{Bytes, SectorSize};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::sys::loopdev as sys;

/// Where the kernel gives out devices.
const CONTROL: &str = "/dev/loop-control";
/// How often another process may snatch the device that was to be ours.
const ATTEMPTS: u32 = 64;

/// How a file is to be seen through the device.
#[derive(Clone, Debug)]
pub struct LoopOptions {
    /// The device's logical sectors.
    pub sector: SectorSize,
    /// Where the device begins in the file.
    pub offset: Bytes,
    /// How much of the file it shows; `None` for all that follows.
    pub size_limit: Option<Bytes>,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Whether the kernel is to look for partitions.
    pub scan_partitions: bool,
    /// Whether to pass by the page cache of the file, where its file system can.
    pub direct_io: bool,
    /// A name by which udev makes the device known.
    pub reference: Option<LoopReference>,
}

/// A name of up to 63 bytes, without NUL, that a device carries (`/dev/disk/by-loop-ref/`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopReference(String);

/// A loop device, bound to a file. Unbound when it is dropped, unless something still uses it: then
/// with its last user.
#[derive(Debug)]
pub struct LoopDevice {
    node: PathBuf,
    device: File,
}

/// What a device is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopStatus {
    /// Device number and inode of the backing file.
    pub backing: (u64, u64),
    /// Where it begins in the file.
    pub offset: Bytes,
    /// How much of the file it shows; zero for all.
    pub size_limit: Bytes,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Whether it unbinds itself with its last user.
    pub autoclear: bool,
    /// Whether partitions are looked for.
    pub scan_partitions: bool,
    /// Whether the page cache of the file is passed by.
    pub direct_io: bool,
    /// The name it carries, often the path of the file.
    pub reference: Vec<u8>,
}

/// A loop device cannot be had or changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", device.display())]
pub struct LoopError {
    /// What was tried.
    pub action: &'static str,
    /// With which device.
    pub device: PathBuf,
    /// Why it failed.
    #[source]
    pub why: LoopFailure,
}

/// Why something failed with a loop device.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum LoopFailure {
    #[error("it is not there; loop devices need the kernel's loop module and a /dev of its own")]
    Missing,
    #[error("only root may do that")]
    Denied(#[source] io::Error),
    #[error("other processes took every free loop device first")]
    Busy,
    #[error("it is bound to no file")]
    Unbound,
    #[error("it is no loop device")]
    NoLoopDevice,
    #[error(transparent)]
    Io(io::Error),
}

/// The name is too long or cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name a loop device: one to 63 bytes without NUL are possible")]
pub struct BadReference(pub String);

impl LoopDevice {
    /// Binds a free device to an open file, and keeps it locked until [`Self::unlock`].
    pub fn attach(backing: &File, options: &LoopOptions) -> Result<Self, LoopError> {
        let control = open(Path::new(CONTROL), true)?;
        for attempt in 0..ATTEMPTS {
            let number = sys::free_number(&control)
                .map_err(|error| failed("find a free device by", Path::new(CONTROL), error))?;
            let node = PathBuf::from(format!("/dev/loop{number}"));
            if let Some(device) = bind(&node, backing, options)? {
                return Ok(Self { node, device });
            }
            // Somebody was faster; let them go on.
            thread::sleep(Duration::from_millis(u64::from(attempt.min(20))));
        }
        Err(LoopError {
            action: "find a free device by",
            device: CONTROL.into(),
            why: LoopFailure::Busy,
        })
    }

    /// Takes over a device that is bound already; dropping it leaves that as it is.
    pub fn open(node: &Path) -> Result<Self, LoopError> {
        let wrong = || LoopError {
            action: "use",
            device: node.to_owned(),
            why: LoopFailure::NoLoopDevice,
        };
        let device = open(node, false)?;
        let metadata = device
            .metadata()
            .map_err(|error| LoopError::io("use", node, error))?;
        if !metadata.file_type().is_block_device() {
            return Err(wrong());
        }
        let found = Self {
            node: node.to_owned(),
            device,
        };
        match found.status() {
            Err(LoopError {
                why: LoopFailure::Io(error),
                ..
            }) if Errno::from_io_error(&error) == Some(Errno::NOTTY) => Err(wrong()),
            Err(error) => Err(error),
            Ok(_) => Ok(found),
        }
    }

    /// The device's path, `/dev/loopN`.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// The open device.
    pub fn file(&self) -> &File {
        &self.device
    }

    /// What it is bound to, and how.
    pub fn status(&self) -> Result<LoopStatus, LoopError> {
        let info = self.info()?;
        let name = info.file_name.split(|byte| *byte == 0).next();
        Ok(LoopStatus {
            backing: (info.device, info.inode),
            offset: Bytes::new(info.offset),
            size_limit: Bytes::new(info.size_limit),
            read_only: info.flags & sys::READ_ONLY != 0,
            autoclear: info.flags & sys::AUTOCLEAR != 0,
            scan_partitions: info.flags & sys::PARTSCAN != 0,
            direct_io: info.flags & sys::DIRECT_IO != 0,
            reference: name.unwrap_or_default().to_vec(),
        })
    }

    /// Whether the device unbinds itself with its last user from now on.
    pub fn set_autoclear(&self, on: bool) -> Result<(), LoopError> {
        let mut info = self.info()?;
        info.flags = match on {
            true => info.flags | sys::AUTOCLEAR,
            false => info.flags & !sys::AUTOCLEAR,
        };
        sys::set_status(&self.device, info)
            .map_err(|error| failed("change the flags of", &self.node, error))
    }

    /// Ends the lock: the device is ready, and others may look at it.
    pub fn unlock(&self) -> Result<(), LoopError> {
        flock(&self.device, FlockOperation::Unlock)
            .map_err(|error| failed("unlock", &self.node, error))
    }

    /// Unbinds the device now, or with its last other user.
    pub fn close(self) -> Result<(), LoopError> {
        match sys::clear(&self.device) {
            Ok(()) => Ok(()),
            // It was gone already.
            Err(Errno::NXIO) => Ok(()),
            Err(error) => Err(failed("unbind", &self.node, error)),
        }
    }

    /// Lets the device stay when nobody uses it: it ends by `--detach` or `losetup -d`.
    pub fn release(self) -> Result<PathBuf, LoopError> {
        self.set_autoclear(false)?;
        Ok(self.node)
    }

    fn info(&self) -> Result<sys::Info, LoopError> {
        sys::status(&self.device).map_err(|error| failed("look at", &self.node, error))
    }
}

/// The loop devices that are bound to this file or block device, by inode.
pub fn devices_of(file: &File) -> io::Result<Vec<PathBuf>> {
    let metadata = file.metadata()?;
    let identity = (metadata.dev(), metadata.ino());
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        let bound = entry.path().join("loop/backing_file").exists();
        let node = Path::new("/dev").join(entry.file_name());
        if !bound {
            continue;
        }
        let Ok(device) = LoopDevice::open(&node) else {
            continue; // it went away while we looked
        };
        if device
            .status()
            .is_ok_and(|status| status.backing == identity)
        {
            found.push(node);
        }
    }
    found.sort();
    Ok(found)
}

impl LoopOptions {
    /// All of a file, with partitions, writable, with direct I/O.
    pub fn new(sector: SectorSize) -> Self {
        Self {
            sector,
            offset: Bytes::ZERO,
            size_limit: None,
            read_only: false,
            scan_partitions: true,
            direct_io: true,
            reference: None,
        }
    }

    fn info(&self) -> sys::Info {
        let mut info = sys::Info::new();
        info.offset = self.offset.get();
        info.size_limit = self.size_limit.map_or(0, Bytes::get);
        let flags = [
            (self.read_only, sys::READ_ONLY),
            (self.scan_partitions, sys::PARTSCAN),
            (self.direct_io, sys::DIRECT_IO),
            (true, sys::AUTOCLEAR),
        ];
        let set = flags.iter().filter(|(wanted, _)| *wanted);
        info.flags = set.fold(0, |all, (_, flag)| all | flag);
        let name = self.reference.iter().flat_map(|name| name.0.bytes());
        for (place, byte) in info.file_name.iter_mut().zip(name) {
            *place = byte;
        }
        info
    }
}

impl LoopReference {
    /// Takes a name as it is.
    pub fn new(name: &str) -> Result<Self, BadReference> {
        let fits = (1..64).contains(&name.len()) && !name.contains('\0');
        fits.then(|| Self(name.to_owned()))
            .ok_or_else(|| BadReference(name.to_owned()))
    }

    /// Cuts a file's name to what fits.
    pub fn of_file_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy();
        let end = (0..=63).rev().find(|end| name.is_char_boundary(*end));
        Self::new(name.get(..end?).unwrap_or(&name)).ok()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tries one device; `None` where another process has it.
fn bind(node: &Path, backing: &File, options: &LoopOptions) -> Result<Option<File>, LoopError> {
    let device = match open(node, !options.read_only) {
        Ok(device) => device,
        Err(error) => {
            let busy = matches!(&error.why, LoopFailure::Io(source)
                if Errno::from_io_error(source) == Some(Errno::BUSY));
            return if busy { Ok(None) } else { Err(error) };
        }
    };
    match flock(&device, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(failed("lock", node, error)),
    }
    let sector = u32::try_from(options.sector.get()).unwrap_or(512);
    match sys::configure(&device, backing, sector, &options.info()) {
        Ok(()) => Ok(Some(device)),
        Err(Errno::BUSY | Errno::AGAIN) => Ok(None),
        Err(error) => Err(failed("bind the image to", node, error)),
    }
}

fn open(node: &Path, write: bool) -> Result<File, LoopError> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(node);
    opened.map_err(|error| LoopError::io("open", node, error))
}

fn failed(action: &'static str, device: &Path, error: Errno) -> LoopError {
    LoopError::io(action, device, error.into())
}

impl LoopError {
    fn io(action: &'static str, device: &Path, error: io::Error) -> Self {
        let why = match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NODEV) => LoopFailure::Missing,
            Some(Errno::PERM | Errno::ACCESS) => LoopFailure::Denied(error),
            Some(Errno::NXIO) => LoopFailure::Unbound,
            _ => LoopFailure::Io(error),
        };
        Self {
            action,
            device: device.to_owned(),
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_short() {
        for good in ["a", "rootdisk.raw", &"x".repeat(63)] {
            assert_eq!(LoopReference::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a\0b", &"x".repeat(64)] {
            assert_eq!(LoopReference::new(bad), Err(BadReference(bad.into())));
        }
        let long = format!("/images/{}é.raw", "x".repeat(62));
        let cut = LoopReference::of_file_name(Path::new(&long)).unwrap();
        assert_eq!(cut.as_str(), "x".repeat(62), "no half characters");
    }

    #[test]
    fn what_is_no_loop_device_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = LoopDevice::open(file.path()).unwrap_err();
        assert!(matches!(error.why, LoopFailure::NoLoopDevice), "{error:?}");
        let error = LoopDevice::open(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(error.why, LoopFailure::NoLoopDevice), "{error:?}");
        let error = LoopDevice::open(Path::new("/dev/no-such")).unwrap_err();
        assert!(matches!(error.why, LoopFailure::Missing), "{error:?}");
    }
}
