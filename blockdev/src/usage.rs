//! Who uses a block device: mounts, swap, devices stacked on it or on its partitions, loop devices; and
//! whoever else has claimed it.
//!
//! Reads `/proc` and `/sys`, and asks the kernel for exclusive use where they tell of no user.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use image_specs::units::{Bytes, Extent};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::mountinfo::unescape;

/// What sysfs counts places on a disk in, whatever its sectors are.
const UNIT: u64 = 512;

/// Something that uses a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// A file system on it is mounted there.
    Mount(PathBuf),
    /// It is swapped to.
    Swap(PathBuf),
    /// Another block device is made of it.
    Holder(String),
    /// It is attached as this loop device.
    Loop(String),
    /// It is a part of the mounted btrfs with this UUID.
    Btrfs(String),
    /// A driver or program has it for itself and does not say its name: ZFS, another mount namespace.
    Claimed,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount(place) => write!(f, "mounted on {}", place.display()),
            Self::Swap(device) => write!(f, "used as swap ({})", device.display()),
            Self::Holder(device) => write!(f, "held by {device}"),
            Self::Loop(device) => write!(f, "attached as {device}"),
            Self::Btrfs(uuid) => write!(f, "part of the mounted btrfs {uuid}"),
            Self::Claimed => f.write_str("in the exclusive use of something that hides its name"),
        }
    }
}

/// What is used, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The partition, counted from 1; `None` where it is the device itself.
    pub partition: Option<u32>,
    /// Where the partition lies for the kernel, whatever the table says; `None` where it is the device
    /// itself, or went away meanwhile.
    pub extent: Option<Extent>,
    /// By whom.
    pub user: User,
}

/// A device, or a partition of one, as sysfs shows it.
struct Part {
    partition: Option<u32>,
    extent: Option<Extent>,
    /// `MAJOR:MINOR`.
    number: String,
    sysfs: PathBuf,
}

impl Part {
    fn of(sysfs: PathBuf) -> Self {
        let told = |name: &str| read(sysfs.join(name)).trim().to_owned();
        let units = |name: &str| told(name).parse::<u64>().ok();
        let bytes = |name: &str| Some(Bytes::new(units(name)?.checked_mul(UNIT)?));
        let extent = bytes("start").zip(bytes("size"));
        Self {
            partition: told("partition").parse().ok(),
            extent: extent.map(|(start, size)| Extent::new(start, size)),
            number: told("dev"),
            sysfs,
        }
    }

    fn used_by(&self, user: User) -> Use {
        Use {
            partition: self.partition,
            extent: self.extent,
            user,
        }
    }
}

/// Everything that uses the block device or one of its partitions; nothing for a regular file.
pub fn users(file: &File) -> io::Result<Vec<User>> {
    match file.metadata()?.file_type().is_block_device() {
        true => Ok(uses(file)?.into_iter().map(|used| used.user).collect()),
        false => Ok(Vec::new()),
    }
}

/// As [`users`], with what each of them uses. A regular file is used through the loop devices that it is
/// attached as.
pub fn uses(file: &File) -> io::Result<Vec<Use>> {
    let metadata = file.metadata()?;
    if let Some(number) = number_in(&metadata) {
        return Ok(device_uses(&number));
    }
    let same = |other: &Metadata| (other.dev(), other.ino()) == (metadata.dev(), metadata.ino());
    let attached = loops(&same).into_iter();
    let numbers = attached.map(|name| read(Path::new("/sys/block").join(name).join("dev")));
    Ok(numbers
        .flat_map(|number| device_uses(number.trim()))
        .collect())
}

fn device_uses(own: &str) -> Vec<Use> {
    let sysfs = Path::new("/sys/dev/block").join(own);
    let disk = Part {
        partition: None,
        extent: None,
        number: own.to_owned(),
        sysfs: sysfs.clone(),
    };
    let mut parts = vec![disk];
    parts.extend(partitions(&sysfs).into_iter().map(Part::of));
    let (table, swap) = (read("/proc/self/mountinfo"), read("/proc/swaps"));
    let mut uses = Vec::new();
    for part in &parts {
        let numbers = [part.number.clone()];
        let mut users = mounts(&table, &numbers);
        users.extend(swaps(&swap, &numbers));
        users.extend(holders(&part.sysfs).into_iter().map(User::Holder));
        if users.is_empty() {
            users.extend(btrfs(&part.sysfs));
        }
        let same = |other: &Metadata| number_in(other).as_ref() == Some(&part.number);
        users.extend(loops(&same).into_iter().map(User::Loop));
        uses.extend(users.into_iter().map(|user| part.used_by(user)));
    }
    let claims = claims(&uses, &parts);
    uses.extend(claims);
    uses
}

/// Whoever has a device for itself, as the kernel alone knows: opening it exclusively fails. A claim on
/// a partition shows on its disk, too, so the disk is asked only where nothing else explains it.
fn claims(uses: &[Use], parts: &[Part]) -> Vec<Use> {
    let explained: Vec<Option<u32>> = uses.iter().map(|used| used.partition).collect();
    if explained.contains(&None) {
        return Vec::new();
    }
    let claimed = |part: &&Part| !explained.contains(&part.partition) && is_claimed(&part.sysfs);
    let (disk, partitions) = parts.split_at(1);
    let mut found: Vec<_> = partitions.iter().filter(claimed).collect();
    if found.is_empty() && uses.is_empty() {
        found.extend(disk.iter().filter(claimed));
    }
    let claim = |part: &Part| part.used_by(User::Claimed);
    found.into_iter().map(claim).collect()
}

fn is_claimed(sysfs: &Path) -> bool {
    let uevent = read(sysfs.join("uevent"));
    let name = uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="));
    let flags = OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    name.is_some_and(|name| {
        let node = Path::new("/dev").join(name);
        matches!(open(node, flags, Mode::empty()), Err(Errno::BUSY))
    })
}

/// The loop devices whose file is this one.
fn loops(same: &dyn Fn(&Metadata) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for device in names(Path::new("/sys/block")) {
        let file = fs::read(device.join("loop/backing_file")).unwrap_or_default();
        let path = Path::new(OsStr::from_bytes(file.trim_ascii_end()));
        if !file.is_empty() && fs::metadata(path).is_ok_and(|other| same(&other)) {
            let name = device.file_name().unwrap_or_default();
            found.push(name.to_string_lossy().into_owned());
        }
    }
    found
}

/// The mounted btrfs that the device is part of: the kernel lists devices by their names.
fn btrfs(sysfs: &Path) -> Option<User> {
    let name = fs::canonicalize(sysfs).ok()?.file_name()?.to_owned();
    let all = names(Path::new("/sys/fs/btrfs"));
    let found = all
        .into_iter()
        .find(|one| one.join("devices").join(&name).exists())?;
    Some(User::Btrfs(
        found.file_name()?.to_string_lossy().into_owned(),
    ))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn partitions(device: &Path) -> Vec<PathBuf> {
    let mut found = names(device);
    found.retain(|path| path.join("partition").exists());
    found
}

fn holders(device: &Path) -> Vec<String> {
    let holders = names(&device.join("holders"));
    let names = holders.iter().filter_map(|path| path.file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// The mounts of the devices with these `MAJOR:MINOR` numbers.
fn mounts(mountinfo: &str, numbers: &[String]) -> Vec<User> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let number = fields.nth(2)?;
        let place = fields.nth(1)?;
        // A btrfs has a number that is no device's.
        let source = || fields.skip_while(|field| *field != "-").nth(2);
        let by_source = || source().and_then(number_of);
        let uses = match number.starts_with("0:") {
            false => numbers.iter().any(|own| own == number),
            true => by_source().is_some_and(|number| numbers.contains(&number)),
        };
        uses.then(|| User::Mount(unescape(place.as_bytes())))
    });
    mounts.collect()
}

/// The number of the device with this node, as tables in `/proc` write both.
fn number_of(node: &str) -> Option<String> {
    number_in(&fs::metadata(unescape(node.as_bytes())).ok()?)
}

fn number_in(metadata: &Metadata) -> Option<String> {
    let number = metadata.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let is_device = metadata.file_type().is_block_device();
    is_device.then(|| format!("{major}:{minor}"))
}

fn swaps(table: &str, numbers: &[String]) -> Vec<User> {
    let devices = table.lines().skip(1).filter_map(|line| {
        let node = line.split_ascii_whitespace().next()?;
        let uses = number_of(node).is_some_and(|number| numbers.contains(&number));
        uses.then(|| User::Swap(unescape(node.as_bytes())))
    });
    devices.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_number() {
        let table = "29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                     30 29 8:2 /sub /mnt/a\\040b rw - ext4 /dev/sda2 rw\n\
                     31 29 0:5 / /dev rw - devtmpfs udev rw\n\
                     garbage\n";
        let numbers = ["8:2".to_owned(), "8:3".to_owned()];
        assert_eq!(mounts(table, &numbers), [User::Mount("/mnt/a b".into())]);
    }

    #[test]
    fn regular_files_have_no_users() {
        assert_eq!(users(&tempfile::tempfile().unwrap()).unwrap(), []);
    }
}
