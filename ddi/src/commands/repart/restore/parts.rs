//! The partitions that a table lists, of whatever kind it is, for comparing the one that is there with
//! the one that was kept. Only reads.

use std::collections::BTreeMap;

use blockdev::partitions::Wanted;
use blockdev::table::Label;
use blockdev::{BlockDevice, DeviceError, mbr};
use image_specs::gpt::{Entry, Table};
use image_specs::mbr::{ForeignLabel, Mbr, MbrEntry, MbrTable};
use image_specs::units::{Bytes, Extent, SectorSize};

/// So much of an extended partition the kernel shows.
const SHOWN: Bytes = Bytes::kib(1);
/// Bytes of a boot record.
const RECORD: u64 = 512;

/// A partition, as far as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) extent: Extent,
    pub(super) name: String,
}

/// Partitions by number.
pub(super) type Parts = BTreeMap<u32, Part>;

/// What a table lists.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) parts: Parts,
    /// The extended partition, as short as the kernel shows it.
    extended: Option<Wanted>,
    /// What cannot be read of it, for a person.
    pub(super) unread: Option<String>,
}

impl Listed {
    /// What the label lists that `device` reads as having.
    pub(super) fn read(label: &Label, device: &dyn BlockDevice) -> Result<Self, DeviceError> {
        match label {
            Label::None => Ok(Self::default()),
            Label::Gpt(found) => Ok(gpt(&found.table)),
            Label::Foreign(ForeignLabel::Dos) => match mbr::read(device) {
                Ok(Some(table)) => Ok(dos(&table)),
                Ok(None) => Ok(Self::default()),
                Err(mbr::ReadMbrError::Device(error)) => Err(error),
                Err(error) => primary(device, error.to_string()),
            },
            Label::Foreign(_) => Ok(Self {
                unread: Some("partition tables of this kind are not read".to_owned()),
                ..Self::default()
            }),
        }
    }

    /// What the kernel is to know.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let wanted = |(number, part): (&u32, &Part)| Wanted {
            number: *number,
            extent: part.extent,
        };
        self.parts.iter().map(wanted).chain(self.extended).collect()
    }

    /// Where its partitions lie.
    pub(super) fn extents(&self) -> Vec<Extent> {
        self.parts.values().map(|part| part.extent).collect()
    }
}

fn gpt(table: &Table) -> Listed {
    let part = |(slot, entry): (&u32, &Entry)| {
        let label = entry.label.to_string();
        let part = Part {
            extent: entry.extent(table.sector_size())?,
            name: match label.is_empty() {
                true => entry.kind.to_string(),
                false => label,
            },
        };
        Some((slot.checked_add(1)?, part))
    };
    Listed {
        parts: table.slots().iter().filter_map(part).collect(),
        ..Listed::default()
    }
}

fn dos(table: &MbrTable) -> Listed {
    let sector = table.sector_size();
    let part = |(slot, entry): (&u32, &MbrEntry)| {
        let part = Part {
            extent: entry.extent(sector)?,
            name: entry.kind.nearest().to_string(),
        };
        Some((slot.checked_add(1)?, part))
    };
    let extended = table.extended().and_then(|extended| {
        let extent = extended.extent(sector)?;
        shown(extended.slot, extent, sector)
    });
    Listed {
        parts: table.slots().iter().filter_map(part).collect(),
        extended,
        unread: None,
    }
}

fn shown(slot: u32, extent: Extent, sector: SectorSize) -> Option<Wanted> {
    let size = extent.size.min(SHOWN.max(sector.bytes()));
    Some(Wanted {
        number: slot.checked_add(1)?,
        extent: Extent::new(extent.start, size),
    })
}

/// Of a table whose chain of logical partitions is broken, what the first sector lists.
fn primary(device: &dyn BlockDevice, why: String) -> Result<Listed, DeviceError> {
    let mut start = [0; 512];
    if device.size() >= Bytes::new(RECORD) {
        device.read_exact_at(&mut start, Bytes::ZERO)?;
    }
    let sector = device.sector_size();
    let mut listed = Listed {
        unread: Some(why),
        ..Listed::default()
    };
    let Some(record) = Mbr::parse(&start) else {
        return Ok(listed);
    };
    let extended: Vec<u32> = record.extended().map(|(slot, _)| slot).collect();
    for (slot, place) in (0..).zip(record.partitions) {
        let extent = place.and_then(|place| {
            let size = u64::from(place.sectors).checked_mul(sector.get())?;
            Some(Extent::new(place.first.start(sector)?, Bytes::new(size)))
        });
        let Some(extent) = extent else { continue };
        if extended.contains(&slot) {
            listed.extended = shown(slot, extent, sector);
            continue;
        }
        let name = "primary".to_owned();
        listed.parts.insert(slot + 1, Part { extent, name });
    }
    Ok(listed)
}
