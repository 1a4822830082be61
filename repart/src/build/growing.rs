//! Growing what is mounted from partitions that have become larger than it: encrypted volumes first,
//! then the file systems in them. Only partitions that are marked for it (bit 59 of GPT).
//!
//! [`survey`] reads, [`plan`] decides (purely), [`apply`] grows. Nothing is left half-done: each act ends
//! in the kernel, and what is large enough already is not touched.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use blockdev::dm::{DeviceMapper, DmError, DmName};
use blockdev::grow::{self, Growth};
use blockdev::mapped::Lifetime;
use blockdev::mountinfo::{self, MountEntry};
use blockdev::sysfs::{Block, Number, Sysfs, SysfsError};
use image_specs::partition::FLAG_GROW_FILE_SYSTEM;
use image_specs::units::Bytes;
use luks::unlock::{self, Flags, OpenError, Volume};
use luks::{Header, HeaderError, Strictness};

use super::job::Job;
use crate::plan::Plan;

/// Sectors that device-mapper counts in.
const SECTOR: u64 = 512;

/// More devices than this are not stacked on each other.
const MAX_LAYERS: usize = 32;

/// What was found on a partition that is marked for growing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Counted from 1.
    pub number: u32,
    /// The definition that it follows.
    pub definition: Option<usize>,
    /// The partition's node.
    pub node: PathBuf,
    /// The encrypted volume on it, where one is open.
    pub volume: Option<OpenVolume>,
    /// Where the file system is mounted for writing, and its type.
    pub mount: Option<(PathBuf, String)>,
}

/// An encrypted volume that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenVolume {
    /// Its name in `/dev/mapper`.
    pub name: String,
    /// How large it is.
    pub size: Bytes,
    /// How large it could be.
    pub room: Bytes,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Give the volume all that its partition has.
    Volume {
        /// Its name.
        name: String,
        /// Its partition.
        node: PathBuf,
        /// The definition with its key.
        definition: Option<usize>,
    },
    /// Give the file system all that its device has.
    FileSystem {
        /// Where it is mounted.
        place: PathBuf,
        /// The kernel's name of its type.
        kind: String,
    },
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume { name, .. } => write!(f, "growing the encrypted volume {name}"),
            Self::FileSystem { place, kind } => {
                write!(f, "growing the {kind} on {}", place.display())
            }
        }
    }
}

/// Something cannot be grown.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum GrowingError {
    #[error("cannot find out what is mounted from {}", disk.display())]
    Survey { disk: PathBuf, source: io::Error },
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    #[error("cannot look at the encrypted volume {name}")]
    Mapper { name: String, source: DmError },
    #[error("cannot read the LUKS header on {}", node.display())]
    Header { node: PathBuf, source: HeaderError },
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "the encrypted volume {0} keeps its size, as its key is not known; pass it with --key-file=, or run cryptsetup resize {0}"
    )]
    NoKey(String),
    #[error("cannot resize the encrypted volume {name}")]
    Resize { name: String, source: OpenError },
    #[error("cannot grow the file system on {}", place.display())]
    FileSystem { place: PathBuf, source: io::Error },
}

/// Looks at what lies on the marked partitions of the disk.
pub fn survey(disk: &Path, plan: &Plan, sysfs: &Sysfs) -> Result<Vec<Stack>, GrowingError> {
    let failed = |source| GrowingError::Survey {
        disk: disk.to_owned(),
        source,
    };
    let number = fs::metadata(disk).map_err(failed)?.rdev();
    let disk_block = sysfs.block(Number::from_dev(number))?;
    let mounts = mountinfo::all().map_err(failed)?;
    let mut stacks = Vec::new();
    for partition in plan.listed() {
        let found = partition.found.as_ref();
        let marked = found.is_some_and(|found| found.flags & FLAG_GROW_FILE_SYSTEM != 0);
        let Some(slot) = partition.slot.filter(|_| marked) else {
            continue;
        };
        let number = slot.saturating_add(1);
        if let Some(block) = disk_block.partition_of(number)? {
            let mut stack = look(&block, &mounts)?;
            (stack.number, stack.definition) = (number, partition.definition);
            stacks.push(stack);
        }
    }
    Ok(stacks)
}

fn look(partition: &Block, mounts: &[MountEntry]) -> Result<Stack, GrowingError> {
    let mut volume = None;
    let mut top = partition.clone();
    for _ in 0..MAX_LAYERS {
        let mut holders = top.holders()?.into_iter();
        let (Some(next), None) = (holders.next(), holders.next()) else {
            break;
        };
        let uuid = next.mapper_uuid().unwrap_or_default();
        if uuid.starts_with("CRYPT-LUKS2-") {
            volume = open_volume(&next, &top)?;
        }
        top = next;
    }
    let number = top.number()?;
    Ok(Stack {
        number: 0,
        definition: None,
        node: partition.node()?,
        volume,
        mount: mounts.iter().find_map(|entry| writable(entry, number)),
    })
}

/// How large the volume is, and could be: its table tells where its data begin.
fn open_volume(volume: &Block, below: &Block) -> Result<Option<OpenVolume>, GrowingError> {
    let Some(name) = volume.attribute("dm/name") else {
        return Ok(None);
    };
    let name = name.trim().to_owned();
    // A name that has escapes is none that we would be asked to grow.
    let Ok(dm_name) = DmName::new(&name) else {
        return Ok(None);
    };
    let failed = |source| GrowingError::Mapper {
        name: name.clone(),
        source,
    };
    let table = DeviceMapper::open().and_then(|mapper| mapper.table(&dm_name));
    let table = table.map_err(failed)?;
    let [target] = &table[..] else {
        return Ok(None);
    };
    let offset = target.parameters.split(' ').nth(4);
    let offset: Option<u64> = offset.and_then(|sectors| sectors.parse().ok());
    let (Some(offset), "crypt") = (offset, target.kind.as_str()) else {
        return Ok(None);
    };
    let offset = Bytes::new(offset.saturating_mul(SECTOR));
    Ok(Some(OpenVolume {
        size: volume.size()?,
        room: below.size()?.saturating_sub(offset),
        name,
    }))
}

fn writable(entry: &MountEntry, number: Number) -> Option<(PathBuf, String)> {
    // A btrfs has a number that is no device's.
    let device = match entry.device {
        (0, _) => fs::metadata(&entry.source)
            .ok()
            .map(|node| Number::from_dev(node.rdev()))?,
        (major, minor) => Number { major, minor },
    };
    let has = |options: &str| options.split(',').any(|word| word == "rw");
    let writable = has(&entry.options) && has(&entry.super_options);
    (device == number && writable).then(|| (entry.place.clone(), entry.kind.clone()))
}

/// Volumes that are smaller than their room by more than a sector of theirs, and what is mounted. Whether
/// a file system is large enough only the kernel knows; growing it once more changes nothing. Pure.
pub fn plan(stacks: &[Stack]) -> Vec<Act> {
    let mut acts = Vec::new();
    for stack in stacks {
        if let Some(volume) = &stack.volume
            && volume.room.get() / 4096 > volume.size.get() / 4096
        {
            acts.push(Act::Volume {
                name: volume.name.clone(),
                node: stack.node.clone(),
                definition: stack.definition,
            });
        }
        if let Some((place, kind)) = &stack.mount {
            acts.push(Act::FileSystem {
                place: place.clone(),
                kind: kind.clone(),
            });
        }
    }
    acts
}

/// Carries one act out; what a person should hear, where anything has changed.
pub fn apply(
    act: &Act,
    job: &Job,
    strictness: &Strictness,
) -> Result<Option<String>, GrowingError> {
    match act {
        Act::Volume {
            name,
            node,
            definition,
        } => resize(name, node, *definition, (job, strictness)).map(Some),
        Act::FileSystem { place, kind } => file_system(place, kind),
    }
}

fn resize(
    name: &str,
    node: &Path,
    definition: Option<usize>,
    (job, strictness): (&Job, &Strictness),
) -> Result<String, GrowingError> {
    let device = File::open(node).map_err(|source| GrowingError::Open {
        path: node.to_owned(),
        source,
    })?;
    let failed = |source| GrowingError::Header {
        node: node.to_owned(),
        source,
    };
    let size = size_of(&device).map_err(|source| GrowingError::Open {
        path: node.to_owned(),
        source,
    })?;
    let no_key = || GrowingError::NoKey(name.to_owned());
    let header = Header::load(&device, size, strictness).map_err(failed)?;
    let header = header.ok_or_else(no_key)?;
    let passphrase = definition.and_then(|at| job.keys.passphrases.get(&at));
    let key = passphrase.and_then(|passphrase| header.unlock(passphrase).ok());
    let key = key.ok_or_else(no_key)?;
    let mapper = |source| GrowingError::Mapper {
        name: name.to_owned(),
        source,
    };
    let dm_name = DmName::new(name).map_err(|_| no_key())?;
    let kernel = DeviceMapper::open().map_err(mapper)?;
    let table = kernel.table(&dm_name).map_err(mapper)?;
    let discards = |target: &blockdev::dm::Target| target.parameters.contains(" allow_discards");
    let volume = Volume {
        header: &header,
        key: &key,
        device: &device,
        read_only: false,
        flags: Flags {
            discards: table.iter().any(discards),
            ..Flags::of(&header)
        },
        lifetime: Lifetime::UntilRemoved,
    };
    let resized = unlock::resize(&kernel, &dm_name, &volume);
    let sectors = resized.map_err(|source| GrowingError::Resize {
        name: name.to_owned(),
        source,
    })?;
    let size = Bytes::new(sectors.saturating_mul(SECTOR));
    Ok(format!("The encrypted volume {name} has {size} now."))
}

fn size_of(mut device: &File) -> io::Result<Bytes> {
    use std::io::{Seek, SeekFrom};
    device.seek(SeekFrom::End(0)).map(Bytes::new)
}

fn file_system(place: &Path, kind: &str) -> Result<Option<String>, GrowingError> {
    let failed = |source| GrowingError::FileSystem {
        place: place.to_owned(),
        source,
    };
    let root = File::open(place).map_err(failed)?;
    let number = blockdev::backing::device(&root).map_err(failed)?;
    let Some(number) = number else {
        return Ok(None);
    };
    let device = Sysfs::default().block(number)?.size()?;
    let size = || -> io::Result<Bytes> {
        let found = rustix::fs::fstatvfs(&root)?;
        Ok(Bytes::new(found.f_blocks.saturating_mul(found.f_frsize)))
    };
    let before = size().map_err(failed)?;
    if grow::grow(&root, kind, device).map_err(failed)? == Growth::Unsupported {
        return Ok(Some(format!(
            "The {kind} on {} cannot grow while it is mounted; ext4, btrfs and xfs can.",
            place.display()
        )));
    }
    let after = size().map_err(failed)?;
    let told = format!(
        "The {kind} on {} has grown from {before} to {after}.",
        place.display()
    );
    Ok((after > before).then_some(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_come_before_what_is_in_them() {
        let volume = |size: u64, room: u64| OpenVolume {
            name: "secret".to_owned(),
            size: Bytes::new(size),
            room: Bytes::new(room),
        };
        let stack = |volume, mount: Option<&str>| Stack {
            number: 1,
            definition: Some(3),
            node: "/dev/sda1".into(),
            volume,
            mount: mount.map(|place| (place.into(), "ext4".to_owned())),
        };
        let grows = Act::Volume {
            name: "secret".to_owned(),
            node: "/dev/sda1".into(),
            definition: Some(3),
        };
        let file_system = Act::FileSystem {
            place: "/x".into(),
            kind: "ext4".to_owned(),
        };
        for (stacks, expected) in [
            (vec![stack(None, None)], vec![]),
            (vec![stack(None, Some("/x"))], vec![file_system.clone()]),
            (
                vec![stack(Some(volume(4096, 8192)), Some("/x"))],
                vec![grows.clone(), file_system.clone()],
            ),
            (vec![stack(Some(volume(4096, 8191)), None)], vec![]),
            (vec![stack(Some(volume(8192, 4096)), None)], vec![]),
        ] {
            assert_eq!(plan(&stacks), expected);
        }
    }
}
