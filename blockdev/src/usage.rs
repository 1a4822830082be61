//! Who uses a block device: mounts, swap, and devices stacked on it or on its partitions.
//!
//! Reads `/proc` and `/sys`; what they do not tell is taken for unused.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::mountinfo::unescape;

/// Something that uses a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// A file system on it is mounted there.
    Mount(PathBuf),
    /// It is swapped to.
    Swap(PathBuf),
    /// Another block device is made of it.
    Holder(String),
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount(place) => write!(f, "mounted on {}", place.display()),
            Self::Swap(device) => write!(f, "used as swap ({})", device.display()),
            Self::Holder(device) => write!(f, "held by {device}"),
        }
    }
}

/// What is used, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The partition, counted from 1; `None` where it is the device itself.
    pub partition: Option<u32>,
    /// By whom.
    pub user: User,
}

/// Everything that uses the block device or one of its partitions; nothing for a regular file.
pub fn users(file: &File) -> io::Result<Vec<User>> {
    Ok(uses(file)?.into_iter().map(|used| used.user).collect())
}

/// As [`users`], with what each of them uses.
pub fn uses(file: &File) -> io::Result<Vec<Use>> {
    let metadata = file.metadata()?;
    if !metadata.file_type().is_block_device() {
        return Ok(Vec::new());
    }
    let number = metadata.rdev();
    let own = format!(
        "{}:{}",
        rustix::fs::major(number),
        rustix::fs::minor(number)
    );
    let sysfs = Path::new("/sys/dev/block").join(&own);
    let mut parts = vec![(None, own, sysfs.clone())];
    for partition in partitions(&sysfs) {
        let told = |name: &str| read(partition.join(name)).trim().to_owned();
        parts.push((told("partition").parse().ok(), told("dev"), partition));
    }
    let (table, swap) = (read("/proc/self/mountinfo"), read("/proc/swaps"));
    let mut uses = Vec::new();
    for (partition, number, sysfs) in parts {
        let numbers = [number];
        let mut users = mounts(&table, &numbers);
        users.extend(swaps(&swap, &numbers));
        users.extend(holders(&sysfs).into_iter().map(User::Holder));
        uses.extend(users.into_iter().map(|user| Use { partition, user }));
    }
    Ok(uses)
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
    let path = unescape(node.as_bytes());
    let metadata = fs::metadata(path).ok()?;
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
