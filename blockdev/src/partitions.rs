//! Partitions of a block device as the kernel knows them: those that an image's table names, all of
//! them, with exactly these bounds.
//!
//! The kernel reads tables by its own rules, later than we, or not at all: what it lacks is added,
//! what it sees otherwise is replaced (`BLKPG`).

pub mod changes;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use image_specs::units::{Bytes, Extent};
use rustix::io::Errno;

use crate::sys::partition as sys;

/// How long a node may take to appear.
const PATIENCE: Duration = Duration::from_secs(5);

/// A partition that must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Counted from 1.
    pub number: u32,
    /// Where it lies.
    pub extent: Extent,
}

/// A partition cannot be made known.
#[derive(Debug, thiserror::Error)]
#[error("cannot make partition {number} of {} known to the kernel", disk.display())]
pub struct PartitionError {
    /// The disk.
    pub disk: PathBuf,
    /// The partition.
    pub number: u32,
    /// Why.
    #[source]
    pub why: PartitionFailure,
}

/// Why a partition is not there.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum PartitionFailure {
    #[error("its place is more than the kernel can count")]
    Range,
    #[error("another partition overlaps with it")]
    Overlap,
    #[error("{} does not appear; a /dev of type devtmpfs is needed", .0.display())]
    NoNode(PathBuf),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The node of a partition: `/dev/sda1`, `/dev/loop0p1`.
pub fn node(disk: &Path, number: u32) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    let digit = name.as_encoded_bytes().last();
    if digit.is_some_and(u8::is_ascii_digit) {
        name.push("p");
    }
    name.push(number.to_string());
    name.into()
}

/// Makes sure that each wanted partition is known with these bounds, and gives their nodes in order.
pub fn ensure(disk: &File, path: &Path, wanted: &[Wanted]) -> Result<Vec<PathBuf>, PartitionError> {
    let one = |wanted: &Wanted| {
        let found = ensure_one(disk, path, *wanted);
        found.map_err(|why| PartitionError {
            disk: path.to_owned(),
            number: wanted.number,
            why,
        })
    };
    wanted.iter().map(one).collect()
}

fn ensure_one(disk: &File, path: &Path, wanted: Wanted) -> Result<PathBuf, PartitionFailure> {
    let number = i32::try_from(wanted.number).map_err(|_| PartitionFailure::Range)?;
    let start = signed(wanted.extent.start)?;
    let size = signed(wanted.extent.size)?;
    match known(disk, wanted.number)? {
        Some(extent) if extent == wanted.extent => {}
        other => {
            if other.is_some() {
                sys::delete(disk, number).map_err(io::Error::from)?;
            }
            match sys::add(disk, number, start, size) {
                Ok(()) => {}
                // The kernel was faster.
                Err(Errno::BUSY) if known(disk, wanted.number)? == Some(wanted.extent) => {}
                Err(Errno::BUSY) => return Err(PartitionFailure::Overlap),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }
    wait_for(&node(path, wanted.number))
}

/// The bounds that the kernel knows; `None` where it does not know the partition.
fn known(disk: &File, number: u32) -> io::Result<Option<Extent>> {
    let device = disk.metadata()?.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let sysfs = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let name = fs::canonicalize(&sysfs)?;
    let name = name.file_name().unwrap_or_default();
    let child = sysfs.join(node(Path::new(name), number));
    let bytes = |field: &str| -> Option<Bytes> {
        let text = fs::read_to_string(child.join(field)).ok()?;
        let sectors: u64 = text.trim().parse().ok()?;
        sectors.checked_mul(512).map(Bytes::new)
    };
    let bounds = (bytes("start"), bytes("size"));
    Ok(match bounds {
        (Some(start), Some(size)) => Some(Extent::new(start, size)),
        _ => None,
    })
}

fn wait_for(node: &Path) -> Result<PathBuf, PartitionFailure> {
    let end = Instant::now() + PATIENCE;
    while !node.exists() {
        if Instant::now() > end {
            return Err(PartitionFailure::NoNode(node.to_owned()));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(node.to_owned())
}

fn signed(bytes: Bytes) -> Result<i64, PartitionFailure> {
    i64::try_from(bytes.get()).map_err(|_| PartitionFailure::Range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_is_kept_from_the_number() {
        for (disk, first) in [
            ("/dev/sda", "/dev/sda1"),
            ("/dev/loop0", "/dev/loop0p1"),
            ("/dev/nvme0n1", "/dev/nvme0n1p1"),
        ] {
            assert_eq!(node(Path::new(disk), 1), Path::new(first));
        }
    }
}
