//! Undoing what somebody else has made: mounts with the devices below them, and loop devices with
//! unused verity and LUKS devices on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use blockdev::dm::{BadName, DeviceMapper, DmError, DmFailure, DmInfo, DmName};
use blockdev::loopdev::{self, LoopDevice, LoopError, LoopFailure};
use blockdev::mount::{self, MountError};
use blockdev::mountinfo::{self, MountEntry};

/// How long a device that has lost its last user may take to go.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(2);

/// What the names of unlocked devices end in, as systemd has it.
pub(super) const DECRYPTED: &str = "-decrypted";

/// More devices than this are not stacked on each other.
const MAX_LAYERS: usize = 16;

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
    /// A verity or LUKS device stays.
    #[error(transparent)]
    Dm(#[from] DmError),
    /// A device has a name that we cannot use.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A loop device stays.
    #[error(transparent)]
    Loop(#[from] LoopError),
}

/// Unmounts what is at `place` and below, and ends the loop, verity and LUKS devices that this was on,
/// as far as nothing else uses them.
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
        below.add(&sysfs_of(entry), 0);
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
        // Held, so that it does not unbind itself when what is on it goes.
        let held = match LoopDevice::open(device) {
            Err(error) if is_gone(&error) && !is_loop => continue,
            held => held?,
        };
        let mut stack = Stack::default();
        stack.add_users(&sysfs(fs::metadata(device).map_err(look)?.rdev()));
        stack.end()?;
        held.close()?;
    }
    Ok(devices)
}

/// Devices below a mount, or on a disk.
#[derive(Debug, Default)]
struct Stack {
    /// Names of device-mapper devices, each with its layer: smaller ones are above and go first.
    mapped: BTreeMap<String, usize>,
    /// Nodes of loop devices.
    loops: BTreeSet<PathBuf>,
}

impl Stack {
    /// Adds a device, which has `layer` devices above it, and all that it is made of.
    fn add(&mut self, device: &Path, layer: usize) {
        let Ok(device) = fs::canonicalize(device) else {
            return; // of no block device
        };
        if layer > MAX_LAYERS {
            return;
        }
        self.add_mapped(&device, layer);
        for slave in entries(&device.join("slaves")) {
            self.add(&slave, layer + 1);
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
    fn add_users(&mut self, disk: &Path) {
        let mut parts = entries(disk);
        parts.retain(|path| path.join("partition").exists());
        parts.push(disk.to_owned());
        for part in parts {
            self.add_holders(&part, MAX_LAYERS);
        }
    }

    /// Adds the devices made of this one, all above `layer`.
    fn add_holders(&mut self, device: &Path, layer: usize) {
        let Some(above) = layer.checked_sub(1) else {
            return;
        };
        for holder in entries(&device.join("holders")) {
            self.add_mapped(&holder, above);
            self.add_holders(&holder, above);
        }
    }

    /// Adds a device of device-mapper. One that is found on several ways lies below all of them, as
    /// seen from a mount; as seen from the disk it has the layer of the first.
    fn add_mapped(&mut self, device: &Path, layer: usize) {
        if let Some(name) = mapped_name(device) {
            let known = self.mapped.entry(name).or_insert(layer);
            *known = layer.max(*known);
        }
    }

    /// Ends those that nobody uses: first the upper ones.
    fn end(self) -> Result<(), DetachError> {
        if !self.mapped.is_empty() {
            let mapper = DeviceMapper::open()?;
            let mut mapped: Vec<_> = self.mapped.into_iter().collect();
            mapped.sort_by_key(|(_, layer)| *layer);
            for (name, _) in mapped {
                remove_unused(&mapper, &DmName::new(&name)?)?;
            }
        }
        for node in &self.loops {
            match LoopDevice::open(node).and_then(LoopDevice::close) {
                Ok(()) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Whether the loop device has unbound itself meanwhile.
fn is_gone(error: &LoopError) -> bool {
    matches!(error.why, LoopFailure::Unbound | LoopFailure::Missing)
}

/// Whether a device is one that images are opened through. Other LUKS devices on a loop device are
/// somebody's own.
fn is_of_image(info: &DmInfo) -> bool {
    let (name, uuid) = (info.name.as_str(), info.uuid.as_str());
    let unlocked = |name: &str| name.ends_with(DECRYPTED);
    let crypt = uuid.starts_with("CRYPT-LUKS") && unlocked(name);
    // What stores the tags of an authenticated volume, by cryptsetup's naming.
    let tags = uuid.starts_with("CRYPT-SUBDEV-") || uuid.starts_with("CRYPT-INTEGRITY-");
    let below = name.strip_suffix("_dif").is_some_and(unlocked);
    uuid.starts_with("CRYPT-VERITY-") || crypt || (tags && below)
}

/// Removes a device of ours that nobody has open, after its own removal had its time.
fn remove_unused(mapper: &DeviceMapper, name: &DmName) -> Result<(), DmError> {
    let end = Instant::now() + PATIENCE;
    while let Some(info) = mapper.info(name)? {
        if info.open_count > 0 || !is_of_image(&info) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_of_images_are_taken_away() {
        for (name, uuid, ours) in [
            (
                "loop0p1-decrypted",
                "CRYPT-LUKS2-00-loop0p1-decrypted",
                true,
            ),
            (
                "loop0-7-decrypted",
                "CRYPT-LUKS1-00-loop0-7-decrypted",
                true,
            ),
            (
                "loop0p1-decrypted_dif",
                "CRYPT-SUBDEV-INTEGRITY-00-loop0p1-decrypted_dif",
                true,
            ),
            ("aabb-verity", "CRYPT-VERITY-00-aabb-verity", true),
            ("mine", "CRYPT-LUKS2-00-mine", false),
            ("mine_dif", "CRYPT-SUBDEV-INTEGRITY-00-mine_dif", false),
            ("x-decrypted", "LVM-x", false),
        ] {
            let info = DmInfo {
                name: name.to_owned(),
                uuid: uuid.to_owned(),
                minor: 0,
                open_count: 0,
                active: true,
                read_only: false,
                deferred_remove: false,
            };
            assert_eq!(is_of_image(&info), ours, "{name}");
        }
    }
}
