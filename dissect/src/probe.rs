//! Reads what an image is: a partition table with its partitions, or one file system.
//!
//! Nothing here decides what a partition is good for. Entries that lie outside of what the table
//! lets partitions use are left out, as blkid does.

use std::path::PathBuf;

use blockdev::table::{self, FoundTable, Label, ReadTableError};
use blockdev::{BlockDevice, DeviceError};
use image_specs::arch::Architecture;
use image_specs::gpt::{Entry, Table};
use image_specs::guid;
use image_specs::magic;
use image_specs::mbr::Mbr;
use image_specs::partition::Designator;
use image_specs::units::{Bytes, Extent, SectorSize};
use uuid::Uuid;

use crate::assign::Dissected;
use crate::open::Image;

/// File-system types that cannot be written to, whatever the table says.
const READ_ONLY: [&str; 4] = ["cramfs", "erofs", "iso9660", "squashfs"];

/// What was read of an image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Probed {
    /// The path that the image was opened by.
    pub path: PathBuf,
    /// The image's size.
    pub size: Bytes,
    /// The sectors that its table counts in.
    pub sector_size: SectorSize,
    /// The UUID of the table or of the only file system.
    pub uuid: Option<Uuid>,
    /// What is in it.
    pub content: Content,
    /// The GPT, where there is one.
    pub table: Option<Table>,
}

/// What an image holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Partitions.
    Partitions(Vec<Found>),
    /// One file system (or LUKS volume) and no table.
    FileSystem {
        /// Its type, as blkid names it.
        kind: String,
    },
}

/// A partition as the table describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Counted from 1.
    pub number: u32,
    /// What its type says.
    pub kind: Kind,
    /// Its own UUID, which MBR partitions lack.
    pub uuid: Option<Uuid>,
    /// Its label; `None` where it is empty.
    pub label: Option<String>,
    /// The GPT attribute bits.
    pub attributes: u64,
    /// Where it lies.
    pub extent: Extent,
}

/// What a partition type means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its purpose, where the type is known.
    pub designator: Option<Designator>,
    /// The architecture that it is bound to.
    pub architecture: Option<Architecture>,
}

/// An image cannot be read, or is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The partition table is damaged.
    #[error(transparent)]
    Table(#[from] ReadTableError),
    /// Reading failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// There is nothing known in it.
    #[error("{0} has no partition table and no file system that is known; it is no disk image")]
    Nothing(String),
    /// Several things claim the same bytes.
    #[error("the contents of {place} cannot be told")]
    Ambiguous {
        /// The partition or image.
        place: String,
        /// What is there.
        source: magic::Ambiguous,
    },
}

/// Reads the partition table, or else the type of the only file system.
pub fn probe(image: &Image) -> Result<Probed, ProbeError> {
    let device = image.device();
    let mut probed = Probed {
        path: image.path().to_owned(),
        size: device.size(),
        sector_size: device.sector_size(),
        uuid: None,
        content: Content::Partitions(Vec::new()),
        table: None,
    };
    let label = table::read(device)?;
    if let Label::Gpt(FoundTable { table, .. }) = label {
        probed.uuid = Some(table.disk_guid);
        probed.content = Content::Partitions(gpt_partitions(&table, device.size()));
        probed.table = Some(table);
        return Ok(probed);
    }
    let whole = Extent::new(Bytes::ZERO, device.size());
    let found = identify(device, whole, &device.name())?;
    if let Some(found) = found.filter(|found| is_volume(found.kind)) {
        probed.uuid = found.uuid.and_then(|text| guid::parse(&text).ok());
        let kind = found.kind.name().to_owned();
        probed.content = Content::FileSystem { kind };
        return Ok(probed);
    }
    match mbr_partitions(device)? {
        Some(partitions) => probed.content = Content::Partitions(partitions),
        None => return Err(ProbeError::Nothing(device.name())),
    }
    Ok(probed)
}

/// Looks into the partitions whose type is not yet told by the table, and makes those read-only
/// that cannot be written.
pub fn file_systems(image: &Image, dissected: &mut Dissected) -> Result<(), ProbeError> {
    for partition in dissected.partitions.values_mut() {
        if partition.file_system.is_none() {
            let place = format!("partition {}", partition.designator);
            let found = identify(image.device(), partition.extent, &place)?;
            partition.file_system = found.map(|found| found.kind.name().to_owned());
        }
        let kind = partition.file_system.as_deref();
        if kind.is_some_and(|kind| READ_ONLY.contains(&kind)) {
            partition.writable = false;
        }
        partition.grow &= partition.writable;
    }
    Ok(())
}

/// Whether a whole image can be this: a file system or LUKS volume.
fn is_volume(kind: magic::Kind) -> bool {
    use magic::Kind::{
        Btrfs, Erofs, Exfat, Ext2, Ext3, Ext4, F2fs, Luks1, Luks2, Squashfs, Vfat, Xfs,
    };
    matches!(
        kind,
        Btrfs | Erofs | Ext2 | Ext3 | Ext4 | Exfat | F2fs | Luks1 | Luks2 | Squashfs | Vfat | Xfs
    )
}

fn gpt_partitions(table: &Table, size: Bytes) -> Vec<Found> {
    let fits = |entry: &Entry| {
        let extent = entry.extent(table.sector_size())?;
        let inside = entry.first >= table.first_usable()
            && entry.last <= table.last_usable()
            && extent.end()? <= size;
        inside.then_some(extent)
    };
    let found = |(slot, entry): (&u32, &Entry)| {
        let label = entry.label.text().filter(|text| !text.is_empty());
        Some(Found {
            number: slot.checked_add(1)?,
            kind: Kind {
                designator: entry.kind.designator(),
                architecture: entry.kind.architecture(),
            },
            uuid: Some(entry.uuid),
            label,
            attributes: entry.attributes,
            extent: fits(entry)?,
        })
    };
    table.slots().iter().filter_map(found).collect()
}

/// The primary partitions of an MBR; `None` where there is none.
fn mbr_partitions(device: &dyn BlockDevice) -> Result<Option<Vec<Found>>, ProbeError> {
    if device.size() < Bytes::new(512) {
        return Ok(None);
    }
    let mut start = [0; 512];
    device.read_exact_at(&mut start, Bytes::ZERO)?;
    let Some(mbr) = Mbr::parse(&start) else {
        return Ok(None);
    };
    let mut found = Vec::new();
    for (number, partition) in (1..).zip(mbr.partitions) {
        let Some(partition) = partition else { continue };
        let designator = match (partition.kind, partition.status) {
            (0x83, 0x80) => Some(Designator::LinuxGeneric),
            (0xea, _) => Some(Designator::Xbootldr),
            _ => None,
        };
        // MBR sectors have 512 bytes, and their numbers 32 bits.
        let extent = Extent::new(
            Bytes::new(partition.first.get() * 512),
            Bytes::new(u64::from(partition.sectors) * 512),
        );
        let inside = extent.end().is_some_and(|end| end <= device.size());
        if !inside || extent.size.is_zero() {
            continue;
        }
        found.push(Found {
            number,
            kind: Kind {
                designator,
                architecture: None,
            },
            uuid: None,
            label: None,
            attributes: 0,
            extent,
        });
    }
    Ok(Some(found))
}

/// The one thing that a range of the image holds; `None` where nothing is known.
fn identify(
    device: &dyn BlockDevice,
    part: Extent,
    place: &str,
) -> Result<Option<magic::Found>, ProbeError> {
    let found = magic::probe(part.size, &mut |offset, buffer| {
        let at = part.start.saturating_add(Bytes::new(offset));
        device.read_exact_at(buffer, at)
    })?;
    match magic::identify(&found) {
        Ok(one) => Ok(one.cloned()),
        Err(source) => Err(ProbeError::Ambiguous {
            place: place.to_owned(),
            source,
        }),
    }
}
