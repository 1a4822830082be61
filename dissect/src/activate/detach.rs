//! Undoing what somebody else has made: mounts with the devices below them, and loop devices with
//! unused verity devices on them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use blockdev::dm::{BadName, DeviceMapper, DmError, DmFailure, DmName};
use blockdev::loopdev::{self, LoopDevice, LoopError, LoopFailure};
use blockdev::mount::{self, MountError};
use blockdev::mountinfo::{self, MountEntry};

/// How long a device that has lost its last user may take to go.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(2);

/// Something cannot be undone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetachError {
    /// Nothing is mounted there.
    #[error("{} is not a mount point", .0.display())]
    NotMounted(PathBuf),
    /// No loop device shows this file.
    #[error("no loop device is bound to {}", .0.display())]
    NotAttached(PathBuf),
    /// The path or the tables of the kernel cannot be read.
    #[error("cannot look at {}", path.display())]
    Look {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Unmounting failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A verity device stays.
    #[error(transparent)]
    Dm(#[from] DmError),
    /// A device has a name that we cannot use.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A loop device stays.
    #[error(transparent)]
    Loop(#[from] LoopError),
}

/// Unmounts what is at `place` and below, and ends the loop and verity devices that this was on, as
/// far as nothing else uses them.
pub fn unmount(place: &Path) -> Result<(), DetachError> {
    let look = |source| DetachError::Look {
        path: place.to_owned(),
        source,
    };
    // Not the target of a symbolic link at its end: that is another place.
    let place = fs::canonicalize(place).map_err(look)?;
    let mounts = mountinfo::below(&place).map_err(look)?;
    if !mounts.iter().any(|entry| entry.place == place) {
        return Err(DetachError::NotMounted(place));
    }
    let mut below = Stack::default();
    for entry in &mounts {
        below.add(&sysfs_of(entry));
    }
    mount::unmount_all(&place)?;
    below.end()
}

/// Ends the loop device `path`, or all that are bound to the file `path`; gives their nodes. With one
/// that is in use still, that is done when its last user has gone.
pub fn detach(path: &Path) -> Result<Vec<PathBuf>, DetachError> {
    let look = |source| DetachError::Look {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(look)?;
    let is_loop = metadata.file_type().is_block_device() && is_loop(metadata.rdev());
    let devices = match is_loop {
        true => vec![path.to_owned()],
        false => {
            let file = File::open(path).map_err(look)?;
            loopdev::devices_of(&file).map_err(look)?
        }
    };
    if devices.is_empty() {
        return Err(DetachError::NotAttached(path.to_owned()));
    }
    for device in &devices {
        let mut stack = Stack::default();
        stack.add_holders(&sysfs(fs::metadata(device).map_err(look)?.rdev()));
        stack.end()?;
        LoopDevice::open(device)?.close()?;
    }
    Ok(devices)
}

/// Devices below a mount.
#[derive(Debug, Default)]
struct Stack {
    /// Names of device-mapper devices.
    mapped: BTreeSet<String>,
    /// Nodes of loop devices.
    loops: BTreeSet<PathBuf>,
}

impl Stack {
    /// Adds a device, and all that it is made of.
    fn add(&mut self, device: &Path) {
        let Ok(device) = fs::canonicalize(device) else {
            return; // of no block device
        };
        self.mapped.extend(mapped_name(&device));
        for slave in entries(&device.join("slaves")) {
            self.add(&slave);
        }
        let disk = match device.join("partition").exists() {
            true => device.parent().map(Path::to_owned),
            false => Some(device),
        };
        let disk = disk.filter(|disk| disk.join("loop").exists());
        let node = disk.and_then(|disk| Some(Path::new("/dev").join(disk.file_name()?)));
        self.loops.extend(node);
    }

    /// Adds the devices made of this disk and of its partitions.
    fn add_holders(&mut self, disk: &Path) {
        let mut parts = entries(disk);
        parts.retain(|path| path.join("partition").exists());
        parts.push(disk.to_owned());
        for part in parts {
            for holder in entries(&part.join("holders")) {
                self.mapped.extend(mapped_name(&holder));
            }
        }
    }

    /// Ends those that nobody uses: first the upper ones.
    fn end(self) -> Result<(), DetachError> {
        if !self.mapped.is_empty() {
            let mapper = DeviceMapper::open()?;
            for name in &self.mapped {
                remove_unused(&mapper, &DmName::new(name)?)?;
            }
        }
        for node in &self.loops {
            match LoopDevice::open(node).and_then(LoopDevice::close) {
                Ok(()) => {}
                Err(error) if matches!(error.why, LoopFailure::Unbound | LoopFailure::Missing) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Removes a verity device that nobody has open, after its own removal had its time.
fn remove_unused(mapper: &DeviceMapper, name: &DmName) -> Result<(), DmError> {
    let end = Instant::now() + PATIENCE;
    while let Some(info) = mapper.info(name)? {
        if info.open_count > 0 || !info.uuid.starts_with("CRYPT-VERITY-") {
            return Ok(());
        }
        if info.deferred_remove && Instant::now() < end {
            thread::sleep(PAUSE);
            continue;
        }
        match mapper.remove(name) {
            Err(error) if !matches!(error.why, DmFailure::Missing | DmFailure::Busy) => {
                return Err(error);
            }
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Where sysfs describes the device of a mount. btrfs and others have numbers of their own, so the
/// source is looked at, too, where it is a path that means the same to everyone.
fn sysfs_of(entry: &MountEntry) -> PathBuf {
    let source = Some(&entry.source).filter(|source| source.starts_with("/dev"));
    let source = source.and_then(|source| fs::metadata(source).ok());
    let block = source.filter(|metadata| metadata.file_type().is_block_device());
    match (entry.device, block) {
        ((0, _), Some(metadata)) => sysfs(metadata.rdev()),
        ((major, minor), _) => PathBuf::from(format!("/sys/dev/block/{major}:{minor}")),
    }
}

fn sysfs(number: u64) -> PathBuf {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

fn is_loop(number: u64) -> bool {
    let name = fs::canonicalize(sysfs(number));
    name.is_ok_and(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix("loop")
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

fn mapped_name(device: &Path) -> Option<String> {
    let name = fs::read_to_string(device.join("dm/name")).ok()?;
    Some(name.trim_end().to_owned())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
