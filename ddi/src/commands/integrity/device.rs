//! Block devices for the kernel, made of files where need be.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use blockdev::loopdev::{LoopDevice, LoopOptions};
use blockdev::sysfs::{Number, Sysfs};
use image_specs::units::{Bytes, SectorSize};
use rustix::fs::{Advice, OFlags, fadvise};

use crate::exit::{Exit, Failure};

/// A block device in use.
#[derive(Debug)]
pub(crate) struct Node {
    file: File,
    number: Number,
    /// Goes with its last user, which device-mapper is from then on.
    _loop: Option<LoopDevice>,
}

impl Node {
    /// Opens a block device, or binds a file to a loop device.
    pub(crate) fn open(path: &Path, sector: SectorSize) -> Result<Self, Failure> {
        Self::open_as(path, sector, true)
    }

    /// The same, to be read only.
    pub(crate) fn open_read_only(path: &Path, sector: SectorSize) -> Result<Self, Failure> {
        Self::open_as(path, sector, false)
    }

    fn open_as(path: &Path, sector: SectorSize, write: bool) -> Result<Self, Failure> {
        let file = open(path, write)?;
        let metadata = file.metadata()?;
        if metadata.file_type().is_block_device() {
            return Ok(Self {
                number: Number::from_dev(metadata.rdev()),
                file,
                _loop: None,
            });
        }
        let mut options = LoopOptions::new(sector);
        options.scan_partitions = false;
        options.read_only = !write;
        let device = LoopDevice::attach(&file, &options)?;
        device.unlock()?;
        let node = device.node().to_owned();
        let number = Number::from_dev(std::fs::metadata(&node)?.rdev());
        Ok(Self {
            file: open(&node, write)?,
            number,
            _loop: Some(device),
        })
    }

    pub(crate) fn number(&self) -> Number {
        self.number
    }

    /// The open device.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn size(&self) -> Result<Bytes, Failure> {
        Ok(Sysfs::default().block(self.number)?.size()?)
    }
}

/// Opens a file or block device.
pub(crate) fn open(path: &Path, write: bool) -> Result<File, Failure> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path);
    let file = opened.map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::Refused,
            io::ErrorKind::ResourceBusy => Exit::InUse,
            _ => Exit::NoDevice,
        };
        Failure::message(format!("cannot open {}: {error}", path.display())).with_exit(exit)
    })?;
    let kind = file.metadata()?.file_type();
    match kind.is_block_device() || kind.is_file() {
        true => Ok(file),
        false => Err(Failure::message(format!(
            "{} is neither a block device nor a file",
            path.display()
        ))
        .with_exit(Exit::NoDevice)),
    }
}

/// The first bytes of a device, as the kernel may have written them by itself meanwhile.
pub(super) fn start(file: &File) -> io::Result<[u8; 512]> {
    // What this machine remembers of the device may be older.
    fadvise(file, 0, None, Advice::DontNeed)?;
    let mut start = [0; 512];
    file.read_exact_at(&mut start, 0)?;
    Ok(start)
}
