//! The block device that a mounted file system is on, and the disk below that.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, fstatfs, statx};
use rustix::io::Errno;

use crate::sys::btrfs as sys;
use crate::sysfs::{Block, Number, Sysfs, SysfsError};

/// `#define BTRFS_SUPER_MAGIC 0x9123683E`
const BTRFS_SUPER_MAGIC: u64 = 0x9123_683e;

/// More devices than this are neither stacked nor joined.
const MAX_LAYERS: usize = 32;

/// The device of the file system that `directory` is in; `None` where it has none (`tmpfs`) or
/// several (btrfs).
pub fn device(directory: &File) -> io::Result<Option<Number>> {
    let number = Number::from_dev(directory.metadata()?.dev());
    if number.major != 0 {
        return Ok(Some(number));
    }
    match magic(directory)? {
        BTRFS_SUPER_MAGIC => btrfs(directory),
        _ => Ok(None),
    }
}

/// What kind of file system `directory` is in, by the number that `statfs` gives.
pub fn magic(directory: &File) -> io::Result<u64> {
    // The numbers have 32 bits, in a field that is signed and wider on some machines.
    let kind = i128::from(fstatfs(directory)?.f_type) & 0xffff_ffff;
    Ok(u64::try_from(kind).unwrap_or_default())
}

/// Whether `directory` is where a file system (or part of one) is mounted.
pub fn is_mount_root(directory: &File) -> io::Result<bool> {
    let found = statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The disk with the system below `root`: with the file system of `root`, or else with that of `usr`
/// in it. `None` where these are on none, or on several.
pub fn disk_of_system(root: &Path, sysfs: &Sysfs) -> io::Result<Option<Block>> {
    for place in [root.to_owned(), root.join("usr")] {
        let directory = match File::open(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            directory => directory?,
        };
        let Some(number) = device(&directory)? else {
            continue;
        };
        let block = sysfs.block(number).map_err(io::Error::other)?;
        let disk = disk(block).map_err(io::Error::other)?;
        if disk.is_some() {
            return Ok(disk);
        }
    }
    Ok(None)
}

/// The disk that all of a device lies on, whatever is in between: dm-crypt, dm-verity, dm-linear, md.
/// `None` where that are several, or where too many devices are stacked.
pub fn disk(device: Block) -> Result<Option<Block>, SysfsError> {
    let mut disk: Option<Block> = None;
    for part in leaves(device)?.unwrap_or_default() {
        let own = part.disk().unwrap_or(part);
        match &disk {
            Some(other) if *other != own => return Ok(None),
            _ => disk = Some(own),
        }
    }
    Ok(disk)
}

/// The partitions and disks that a device is made of in the end: itself, where it is made of nothing.
/// `None` where too many devices are stacked or joined.
pub fn leaves(device: Block) -> Result<Option<Vec<Block>>, SysfsError> {
    let mut leaves = Vec::new();
    let mut layer = vec![device];
    for _ in 0..MAX_LAYERS {
        let mut below = Vec::new();
        for device in layer {
            let parts = device.made_of()?;
            match parts.is_empty() {
                true => leaves.push(device),
                false => below.extend(parts),
            }
        }
        if below.is_empty() {
            return Ok(Some(leaves));
        }
        if below.len() > MAX_LAYERS {
            return Ok(None);
        }
        layer = below;
    }
    Ok(None)
}

fn btrfs(directory: &File) -> io::Result<Option<Number>> {
    let (count, max_id) = sys::devices(directory)?;
    if count != 1 {
        return Ok(None);
    }
    for id in 1..=max_id {
        let path = match sys::path(directory, id) {
            Err(Errno::NODEV) => continue,
            path => PathBuf::from(OsString::from_vec(path?)),
        };
        return Ok(Some(Number::from_dev(fs::metadata(path)?.rdev())));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A disk with two partitions and another, and what `stack` says is made of what.
    fn machine(stack: &[(&str, &[&str])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let inside = |name: &str| root.path().join(name);
        for part in ["sda/sda1", "sda/sda2", "sdb"] {
            fs::create_dir_all(inside("d").join(part)).unwrap();
        }
        for part in ["sda/sda1", "sda/sda2"] {
            fs::write(inside("d").join(part).join("partition"), "1\n").unwrap();
        }
        for (name, below) in stack {
            let slaves = inside("d").join(name).join("slaves");
            fs::create_dir_all(&slaves).unwrap();
            for (at, below) in below.iter().enumerate() {
                symlink(inside("d").join(below), slaves.join(at.to_string())).unwrap();
            }
        }
        fs::create_dir_all(inside("dev/block")).unwrap();
        let top = stack.last().map_or("sda/sda2", |(name, _)| name);
        symlink(inside("d").join(top), inside("dev/block/9:0")).unwrap();
        root
    }

    #[test]
    fn disks_are_found_below_everything_that_is_on_one() {
        let (one, two) = (&["sda/sda1"][..], &["sda/sda1", "sda/sda2"][..]);
        for (stack, expected) in [
            (&[][..], Some("sda")),
            (&[("dm-0", one)], Some("sda")),
            // A verity device is made of data and hash tree.
            (
                &[("dm-0", one), ("dm-1", &["dm-0", "sda/sda2"])],
                Some("sda"),
            ),
            (&[("md0", two)], Some("sda")),
            (&[("md0", &["sda/sda1", "sdb"])], None),
            (&[("dm-0", &["sdb"])], Some("sdb")),
            (&[("dm-0", &["dm-0"])], None),
        ] {
            let root = machine(stack);
            let sysfs = Sysfs::new(root.path());
            let top = sysfs.block(Number { major: 9, minor: 0 }).unwrap();
            let name = disk(top).unwrap();
            let name = name.map(|disk| disk.attribute("nothing").unwrap_or(format!("{disk:?}")));
            let ends = |wanted: &str| format!("/{wanted}\")");
            match (name, expected) {
                (Some(name), Some(wanted)) => assert!(name.ends_with(&ends(wanted)), "{name}"),
                (name, wanted) => assert_eq!(name.as_deref(), wanted, "{stack:?}"),
            }
        }
    }

    #[test]
    fn what_has_no_device_says_so() {
        assert_eq!(device(&File::open("/proc").unwrap()).unwrap(), None);
        assert_eq!(magic(&File::open("/proc").unwrap()).unwrap(), 0x9fa0);
        for (path, mounted) in [("/", true), ("/proc", true), ("/proc/self", false)] {
            let directory = File::open(path).unwrap();
            assert_eq!(is_mount_root(&directory).unwrap(), mounted, "{path}");
        }
    }
}
