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
            Self::Swap(device) => write!(f, "{} is used as swap", device.display()),
            Self::Holder(device) => write!(f, "held by {device}"),
        }
    }
}

/// Everything that uses the block device or one of its partitions; nothing for a regular file.
pub fn users(file: &File) -> io::Result<Vec<User>> {
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
    let mut numbers = vec![own];
    let mut holders = holders(&sysfs);
    for partition in partitions(&sysfs) {
        numbers.extend(fs::read_to_string(partition.join("dev")).map(|dev| dev.trim().to_owned()));
        holders.extend(self::holders(&partition));
    }
    let mut users = mounts(&read("/proc/self/mountinfo"), &numbers);
    users.extend(swaps(&read("/proc/swaps"), &numbers));
    users.extend(holders.into_iter().map(User::Holder));
    Ok(users)
}

fn read(path: &str) -> String {
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
        numbers
            .iter()
            .any(|own| own == number)
            .then(|| User::Mount(unescape(place.as_bytes())))
    });
    mounts.collect()
}

fn swaps(table: &str, numbers: &[String]) -> Vec<User> {
    let devices = table.lines().skip(1).filter_map(|line| {
        let path = unescape(line.split_ascii_whitespace().next()?.as_bytes());
        let number = fs::metadata(&path).ok()?.rdev();
        let number = format!(
            "{}:{}",
            rustix::fs::major(number),
            rustix::fs::minor(number)
        );
        numbers.contains(&number).then_some(User::Swap(path))
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
