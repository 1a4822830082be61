//! Growing a mounted file system over all of its device (systemd-growfs@.service(8)).
//!
//! [`survey`] looks at the mount, [`plan`] decides (purely), [`Plan::apply`] grows. Volumes of
//! dm-crypt between the file system and the partition keep their size; the plan says so.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use blockdev::backing;
use blockdev::grow::{self, Growth};
use blockdev::sysfs::{Block, Sysfs, SysfsError};
use image_specs::units::Bytes;
use rustix::fs::fstatvfs;

/// How a device-mapper device for encryption introduces itself.
const CRYPT: &str = "CRYPT-";

/// The kernel gives no btrfs another size below this.
const BTRFS_SMALLEST: Bytes = Bytes::mib(256);

/// More devices than this are not stacked on each other.
const MAX_LAYERS: usize = 32;

/// A mounted file system and its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Where it is mounted.
    pub place: PathBuf,
    /// What kind it is; `None` where it is none that grows.
    pub kind: Option<Kind>,
    /// The size of its blocks.
    pub block: Bytes,
    /// The size of its device.
    pub device: Bytes,
    /// The dm-crypt volumes that it lies in, from the top.
    pub encrypted: Vec<PathBuf>,
}

/// A kind of file system that grows while it is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext2, ext3 or ext4.
    Ext,
    /// btrfs.
    Btrfs,
    /// xfs.
    Xfs,
}

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Plan {
    /// Where the file system is mounted.
    pub place: PathBuf,
    /// Its kind.
    pub kind: Kind,
    /// The size of its device.
    pub device: Bytes,
    /// The size that it will have: whole blocks.
    pub size: Bytes,
    /// dm-crypt volumes that are left as they are.
    pub left: Vec<PathBuf>,
}

/// A file system cannot be grown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrowError {
    /// It cannot be looked at.
    #[error("cannot examine {}", place.display())]
    Examine {
        /// Where.
        place: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing is mounted there.
    #[error("{} is not a mount point", .0.display())]
    NoMount(PathBuf),
    /// It is on no block device, or on several.
    #[error("the file system on {} is not on one block device", .0.display())]
    NoDevice(PathBuf),
    /// The kernel does not tell about the device.
    #[error("cannot tell the device of {}", place.display())]
    Device {
        /// Where.
        place: PathBuf,
        /// Why.
        source: SysfsError,
    },
    /// It is no file system that grows.
    #[error("the file system on {} cannot grow while it is mounted; ext4, btrfs and xfs can", .0.display())]
    Unsupported(PathBuf),
    /// The kernel grows no such small one.
    #[error("the btrfs on {} has a device of {device} bytes; it grows from 256M on", place.display())]
    TooSmall {
        /// Where it is mounted.
        place: PathBuf,
        /// The size of its device.
        device: u64,
    },
    /// The kernel refused.
    #[error("cannot grow {} to {size} bytes", place.display())]
    Grow {
        /// Where.
        place: PathBuf,
        /// How far.
        size: u64,
        /// Why.
        source: io::Error,
    },
}

/// Looks at the file system that is mounted on `place`.
pub fn survey(place: &Path, sysfs: &Sysfs) -> Result<(File, Survey), GrowError> {
    let failed = |source| GrowError::Examine {
        place: place.to_owned(),
        source,
    };
    let root = File::open(place).map_err(failed)?;
    if !backing::is_mount_root(&root).map_err(failed)? {
        return Err(GrowError::NoMount(place.to_owned()));
    }
    let number = backing::device(&root).map_err(failed)?;
    let number = number.ok_or_else(|| GrowError::NoDevice(place.to_owned()))?;
    let statistics = fstatvfs(&root).map_err(|error| failed(error.into()))?;
    let told = |source| GrowError::Device {
        place: place.to_owned(),
        source,
    };
    let device = sysfs.block(number).map_err(told)?;
    let survey = Survey {
        place: place.to_owned(),
        kind: Kind::of(backing::magic(&root).map_err(failed)?),
        block: Bytes::new(statistics.f_bsize),
        device: device.size().map_err(told)?,
        encrypted: encrypted(device).map_err(told)?,
    };
    Ok((root, survey))
}

/// Decides how far the file system grows.
pub fn plan(survey: &Survey) -> Result<Plan, GrowError> {
    let kind = survey.kind;
    let kind = kind.ok_or_else(|| GrowError::Unsupported(survey.place.clone()))?;
    if kind == Kind::Btrfs && survey.device < BTRFS_SMALLEST {
        return Err(GrowError::TooSmall {
            place: survey.place.clone(),
            device: survey.device.get(),
        });
    }
    let block = survey.block.get().max(1);
    Ok(Plan {
        place: survey.place.clone(),
        kind,
        device: survey.device,
        size: Bytes::new(survey.device.get() / block * block),
        left: survey.encrypted.clone(),
    })
}

impl Plan {
    /// Grows the file system, of which `root` is a directory.
    pub fn apply(&self, root: &File) -> Result<(), GrowError> {
        let grown = grow::grow(root, self.kind.name(), self.device);
        match grown.map_err(|source| GrowError::Grow {
            place: self.place.clone(),
            size: self.size.get(),
            source,
        })? {
            Growth::Grown => Ok(()),
            Growth::Unsupported => Err(GrowError::Unsupported(self.place.clone())),
        }
    }
}

impl Kind {
    /// The kind that has this number in `linux/magic.h`.
    fn of(magic: u64) -> Option<Self> {
        match magic {
            0xef53 => Some(Self::Ext),
            0x9123_683e => Some(Self::Btrfs),
            0x5846_5342 => Some(Self::Xfs),
            _ => None,
        }
    }

    /// The kernel's name of what mounts it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext => "ext4",
            Self::Btrfs => "btrfs",
            Self::Xfs => "xfs",
        }
    }
}

/// The dm-crypt volumes in a stack of devices of which each is on one other.
fn encrypted(top: Block) -> Result<Vec<PathBuf>, SysfsError> {
    let mut found = Vec::new();
    let mut device = top;
    for _ in 0..MAX_LAYERS {
        let uuid = device.mapper_uuid();
        if uuid.is_some_and(|uuid| uuid.starts_with(CRYPT)) {
            found.push(device.node()?);
        }
        let mut below = device.made_of()?.into_iter();
        let (Some(only), None) = (below.next(), below.next()) else {
            break;
        };
        device = only;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_are_planned() {
        let survey = |kind, block, device| Survey {
            place: "/x".into(),
            kind,
            block: Bytes::new(block),
            device: Bytes::new(device),
            encrypted: vec!["/dev/dm-0".into()],
        };
        for (block, device, size) in [(4096, 10_000, 8192), (1024, 10_240, 10_240), (0, 7, 7)] {
            let plan = plan(&survey(Some(Kind::Ext), block, device)).unwrap();
            assert_eq!((plan.device.get(), plan.size.get()), (device, size));
            assert_eq!(plan.left, [Path::new("/dev/dm-0")]);
        }
        let small = survey(Some(Kind::Btrfs), 4096, (256 << 20) - 1);
        assert!(matches!(plan(&small), Err(GrowError::TooSmall { .. })));
        let error = plan(&survey(None, 512, 512)).unwrap_err();
        assert!(matches!(error, GrowError::Unsupported(_)));
    }

    #[test]
    fn what_is_no_mount_of_a_device_is_refused() {
        for (place, text) in [
            ("/proc/self", "/proc/self is not a mount point"),
            (
                "/proc",
                "the file system on /proc is not on one block device",
            ),
            ("/gone", "cannot examine /gone"),
        ] {
            let error = survey(Path::new(place), &Sysfs::default()).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }
}
