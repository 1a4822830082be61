//! The block device that a mounted file system is on.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, fstatfs, statx};
use rustix::io::Errno;

use crate::sys::btrfs as sys;
use crate::sysfs::Number;

/// `#define BTRFS_SUPER_MAGIC 0x9123683E`
const BTRFS_SUPER_MAGIC: u64 = 0x9123_683e;

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
    use super::*;

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
