//! `CopyBlocks=auto` and `CopyBlocks=DIRECTORY`: the partitions that the running system uses. Reads only.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use blockdev::backing;
use blockdev::file::OpenError;
use blockdev::sysfs::{Block, Sysfs, SysfsError};
use blockdev::table::{self, Label, ReadTableError};
use blockdev::{DeviceError, FileDevice};
use image_specs::partition::{Designator, PartitionType};
use uuid::Uuid;

/// A partition that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Its node.
    pub node: PathBuf,
    /// Its UUID.
    pub uuid: Uuid,
}

/// No partition is meant, or more than one.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum InUseError {
    #[error(
        "CopyBlocks=auto finds partitions of the running system: root, usr, what belongs to their verity sets, esp, xbootldr; there is none for {0}"
    )]
    Purpose(PartitionType),
    #[error(
        "the running system uses no partition of type {kind} at {places}; name what is to be copied"
    )]
    None { kind: PartitionType, places: String },
    #[error("the running system uses several partitions of type {kind}: {}; name the one to copy", list(.nodes))]
    Several {
        kind: PartitionType,
        nodes: Vec<PathBuf>,
    },
    #[error("{} is on no block device, or on several; name what is to be copied", .0.display())]
    NoDevice(PathBuf),
    #[error("cannot look at {}", path.display())]
    Look { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Table(#[from] ReadTableError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Where partitions of this type are in use.
fn places(kind: PartitionType) -> Option<&'static [&'static str]> {
    Some(match kind.designator()? {
        Designator::Root | Designator::RootVerity | Designator::RootVeritySig => &["/"],
        Designator::Usr | Designator::UsrVerity | Designator::UsrVeritySig => &["/usr"],
        Designator::Esp => &["/efi", "/boot"],
        Designator::Xbootldr => &["/boot"],
        _ => return None,
    })
}

/// The partition of exactly this type that the system below `root` uses, through whatever is made of it.
pub fn find(kind: PartitionType, root: &Path, sysfs: &Sysfs) -> Result<InUse, InUseError> {
    let places = places(kind).ok_or(InUseError::Purpose(kind))?;
    for place in places {
        let place = root.join(place.trim_start_matches('/'));
        let Some(device) = block_of(&place, sysfs)? else {
            continue;
        };
        let mut found = among(kind, device)?;
        match found.len() {
            0 => {}
            1 => return Ok(found.remove(0)),
            _ => {
                let nodes = found.into_iter().map(|one| one.node).collect();
                return Err(InUseError::Several { kind, nodes });
            }
        }
    }
    let places = places.join(" or ");
    Err(InUseError::None { kind, places })
}

/// The device of the file system that a directory is in.
pub fn device_of(directory: &Path, sysfs: &Sysfs) -> Result<PathBuf, InUseError> {
    let block = block_of(directory, sysfs)?;
    let block = block.ok_or_else(|| InUseError::NoDevice(directory.to_owned()))?;
    Ok(block.node()?)
}

fn block_of(directory: &Path, sysfs: &Sysfs) -> Result<Option<Block>, InUseError> {
    let failed = |source| InUseError::Look {
        path: directory.to_owned(),
        source,
    };
    let open = match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        open => open.map_err(failed)?,
    };
    let number = backing::device(&open).map_err(failed)?;
    Ok(number.map(|number| sysfs.block(number)).transpose()?)
}

/// The partitions of this type that a device is made of. A signature is made into nothing: it is looked
/// for on the disk that the rest is on.
fn among(kind: PartitionType, device: Block) -> Result<Vec<InUse>, InUseError> {
    let beside = matches!(
        kind.designator(),
        Some(Designator::RootVeritySig | Designator::UsrVeritySig)
    );
    let mut found: Vec<InUse> = Vec::new();
    for part in backing::leaves(device)?.unwrap_or_default() {
        let Some((number, disk)) = part.partition().zip(part.disk()) else {
            continue;
        };
        let device = FileDevice::peek(&disk.node()?)?;
        let Label::Gpt(table) = table::read(&device)? else {
            continue;
        };
        for (slot, entry) in table.table.slots() {
            let its = slot.saturating_add(1);
            if entry.kind != kind || !(beside || its == number) {
                continue;
            }
            if let Some(block) = disk.partition_of(its)? {
                let one = InUse {
                    node: block.node()?,
                    uuid: entry.uuid,
                };
                if !found.contains(&one) {
                    found.push(one);
                }
            }
        }
    }
    Ok(found)
}

fn list(nodes: &[PathBuf]) -> String {
    let names: Vec<String> = nodes
        .iter()
        .map(|node| node.display().to_string())
        .collect();
    names.join(", ")
}
