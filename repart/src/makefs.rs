//! One empty file system on a device that has nothing yet (systemd-makefs@.service(8)).
//!
//! [`survey`] opens and locks the device and looks for signatures, [`plan`] decides (purely),
//! [`Plan::apply`] writes. A device on which anything is found is left alone.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use blockdev::file::OpenError;
use blockdev::lock::{LockError, LockKind, lock};
use blockdev::signatures;
use blockdev::sysfs::{Number, Sysfs};
use blockdev::tool::SearchPath;
use blockdev::{Access, BlockDevice, DeviceError, FileDevice};
use filetree::{Metadata, Tree};
use image_specs::magic::Found;
use image_specs::units::{Bytes, Extent};
use uuid::Uuid;

use crate::definition::Format;
use crate::populate::{self, PopulateError, Spec, mkfs};

/// How long others may hold a lock on the device, as udev does when it looks at it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The format's name, as `mkfs.NAME`.
    pub format: &'a str,
    /// The file system's UUID.
    pub uuid: Uuid,
    /// The time that stands for "now", seconds since 1970.
    pub time: i64,
    /// Where programs are searched for.
    pub search: &'a SearchPath,
    /// Where scratch files are made.
    pub scratch: &'a Path,
}

/// A device, locked, and what is on it.
#[derive(Debug)]
pub struct Survey {
    device: FileDevice,
    found: Vec<Found>,
    /// The disk of a partition, which udev and others look at for a lock.
    _disk: Option<File>,
}

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Plan {
    /// Nothing: these are there already, as blkid names them.
    Keep(Vec<&'static str>),
    /// A new file system.
    Make {
        /// Its format.
        format: Format,
        /// Its label: the device's name.
        label: String,
    },
}

/// No file system can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// The device cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The device cannot be read.
    #[error(transparent)]
    Read(#[from] DeviceError),
    /// The disk of the partition cannot be locked.
    #[error("cannot lock the disk of {device}")]
    Lock {
        /// The partition.
        device: String,
        /// Why.
        source: LockError,
    },
    /// A format that is never empty.
    #[error("{0} is read-only: it is made of a tree of files, as ddi repart does it")]
    ReadOnly(String),
    /// A word that is no format.
    #[error("{0:?} is no name of a file system")]
    NoFormat(String),
    /// Writing failed.
    #[error("cannot make {format} on {device}")]
    Make {
        /// The format.
        format: String,
        /// The device.
        device: String,
        /// Why.
        source: PopulateError,
    },
}

/// Opens and locks `path` and looks what is on it.
pub fn survey(path: &Path, sysfs: &Sysfs) -> Result<Survey, MakeError> {
    let device = FileDevice::open_waiting(path, Access::ReadWrite, None, PATIENCE)?;
    let disk = lock_disk(&device, sysfs).map_err(|source| MakeError::Lock {
        device: device.name(),
        source,
    })?;
    let found = signatures::probe(&device, Extent::new(Bytes::ZERO, device.size()))?;
    Ok(Survey {
        device,
        found,
        _disk: disk,
    })
}

/// Decides what is to be done.
pub fn plan(survey: &Survey, wanted: &Wanted<'_>) -> Result<Plan, MakeError> {
    let format = Format::from_name(wanted.format);
    match format {
        Format::Empty => return Err(MakeError::NoFormat(wanted.format.to_owned())),
        Format::Squashfs | Format::Erofs => {
            return Err(MakeError::ReadOnly(wanted.format.to_owned()));
        }
        _ => {}
    }
    if !survey.found.is_empty() {
        let names = survey.found.iter().map(|found| found.kind.name());
        return Ok(Plan::Keep(names.collect()));
    }
    let name = survey.device.path().file_name();
    let label = name.map(|name| name.to_string_lossy().into_owned());
    Ok(Plan::Make {
        format,
        label: label.unwrap_or_default(),
    })
}

impl Plan {
    /// Carries the plan out. Returns whether something was made.
    pub fn apply(&self, survey: Survey, wanted: &Wanted<'_>) -> Result<bool, MakeError> {
        let Self::Make { format, label } = self else {
            return Ok(false);
        };
        let mut device = survey.device;
        let made = make(&mut device, format, label, wanted);
        made.map_err(|source| MakeError::Make {
            format: wanted.format.to_owned(),
            device: device.name(),
            source,
        })?;
        device.flush()?;
        Ok(true)
    }
}

fn make(
    device: &mut FileDevice,
    format: &Format,
    label: &str,
    wanted: &Wanted<'_>,
) -> Result<(), PopulateError> {
    // Its program also clears what is left of older file systems of its kind.
    let btrfs = ["--quiet".to_owned()];
    let spec = Spec {
        format: format.clone(),
        label: label.to_owned(),
        uuid: wanted.uuid,
        sector: device.sector_size().get(),
        compression: None,
        subvolumes: &[],
        default_subvolume: None,
        fsverity: false,
        discard: true,
        time: wanted.time,
        options: if *format == Format::Btrfs {
            &btrfs
        } else {
            &[]
        },
        search: wanted.search,
        scratch: wanted.scratch,
    };
    let whole = Extent::new(Bytes::ZERO, device.size());
    match format {
        Format::Vfat => {
            // The writer leaves out zeros, and nobody knows what the device holds.
            device.zero(whole)?;
            populate::write(&spec, &bare(), device, whole).map(drop)
        }
        Format::Swap => populate::write(&spec, &bare(), device, whole).map(drop),
        _ => mkfs::build(&spec, None, device.path()),
    }
}

/// A root directory with nothing in it.
fn bare() -> Tree {
    Tree::new(Metadata {
        mode: 0o755,
        ..Metadata::default()
    })
}

/// Locks the disk of a partition until the file is closed. The kernel may not tell of one.
fn lock_disk(device: &FileDevice, sysfs: &Sysfs) -> Result<Option<File>, LockError> {
    if !device.is_block_device() {
        return Ok(None);
    }
    let number = device.file().metadata().map_err(LockError::Io)?.rdev();
    let block = sysfs.block(Number::from_dev(number)).ok();
    let disk = block.and_then(|block| block.disk()?.node().ok());
    let Some(disk) = disk else { return Ok(None) };
    let disk = File::open(disk).map_err(LockError::Io)?;
    let end = Instant::now() + PATIENCE;
    loop {
        match lock(&disk, LockKind::Exclusive) {
            Err(LockError::Held(_)) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(50));
            }
            result => return result.map(|()| Some(disk)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn wanted<'a>(format: &'a str, search: &'a SearchPath, scratch: &'a Path) -> Wanted<'a> {
        Wanted {
            format,
            uuid: Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef),
            time: 1_700_000_000,
            search,
            scratch,
        }
    }

    fn device(folder: &Path, bytes: u8) -> std::path::PathBuf {
        let path = folder.join("a-device");
        fs::write(&path, vec![bytes; 64 << 20]).unwrap();
        path
    }

    #[test]
    fn a_second_run_changes_nothing_and_old_bytes_do_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let search = SearchPath::new(None);
        for (format, check) in [
            ("ext4", &["e2fsck", "-fn"][..]),
            ("ext2", &["e2fsck", "-fn"]),
            ("vfat", &["fsck.vfat", "-n"]),
            ("swap", &["swaplabel"]),
        ] {
            let wanted = wanted(format, &search, folder.path());
            let path = device(folder.path(), 0xa5);
            let run = || {
                let survey = survey(&path, &Sysfs::default()).unwrap();
                let plan = plan(&survey, &wanted).unwrap();
                (plan.clone(), plan.apply(survey, &wanted).unwrap())
            };
            let label = "a-device".to_owned();
            let made = Plan::Make {
                format: Format::from_name(format),
                label,
            };
            assert_eq!(run(), (made, true));
            let bytes = fs::read(&path).unwrap();
            let checked = std::process::Command::new(check[0])
                .args(&check[1..])
                .arg(&path)
                .output()
                .unwrap();
            assert!(checked.status.success(), "{format}: {checked:?}");
            assert_eq!(run(), (Plan::Keep(vec![format]), false));
            assert!(fs::read(&path).unwrap() == bytes, "{format}");
        }
    }

    #[test]
    fn what_is_there_stays_whatever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let search = SearchPath::new(None);
        for (magic, at, name) in [
            (&b"LUKS\xba\xbe\0\x02"[..], 0, "crypto_LUKS"),
            (b"EFI PART", 512, "gpt"),
            (b"hsqs", 0, "squashfs"),
        ] {
            let path = device(folder.path(), 0);
            let mut bytes = fs::read(&path).unwrap();
            bytes[at..at + magic.len()].copy_from_slice(magic);
            fs::write(&path, &bytes).unwrap();
            let survey = survey(&path, &Sysfs::default()).unwrap();
            let plan = plan(&survey, &wanted("ext4", &search, folder.path())).unwrap();
            assert_eq!(plan, Plan::Keep(vec![name]));
        }
    }

    #[test]
    fn what_cannot_be_made_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let search = SearchPath::new(None);
        let path = device(folder.path(), 0x5a);
        for (format, text) in [
            (
                "squashfs",
                "squashfs is read-only: it is made of a tree of files, as ddi repart does it",
            ),
            ("empty", "\"empty\" is no name of a file system"),
            ("../x", "cannot make ../x on"),
            ("nonsense", "cannot make nonsense on"),
        ] {
            let wanted = wanted(format, &search, folder.path());
            let survey = survey(&path, &Sysfs::default()).unwrap();
            let result = plan(&survey, &wanted).and_then(|plan| plan.apply(survey, &wanted));
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
            assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0x5a));
        }
    }
}
