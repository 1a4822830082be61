//! The tables that a plan ends, and the partitions that only they know. Reads the disk, changes nothing.

use blockdev::table::{self, Label};
use blockdev::{BlockDevice, DeviceError, mbr, signatures};
use image_specs::gpt::Table;
use image_specs::magic::Kind;
use image_specs::mbr::{ForeignLabel, Mbr, MbrEntry, MbrTable};
use image_specs::units::{Bytes, Extent, SectorSize};

use super::overwrite::{Lost, Place, Weight};
use crate::plan::Plan;

/// A GPT disk that lists partitions in its boot record as well.
pub(super) const HYBRID: &str = "hybrid";
/// A GPT that nobody finds any more: damaged, or without its guard.
const GPT: &str = "gpt";
pub(super) const TABLES: [&str; 6] = [GPT, "dos", "bsd", "sgi", "sun", HYBRID];
const GUARD: u8 = 0xee;

/// A table that a GPT ends without that being asked for.
pub(super) fn other_table(label: &Label) -> Option<Lost> {
    let name = match label {
        Label::Foreign(ForeignLabel::Dos) => "dos",
        Label::Foreign(ForeignLabel::Bsd) => "bsd",
        Label::Foreign(ForeignLabel::Sgi) => "sgi",
        Label::Foreign(ForeignLabel::Sun) => "sun",
        Label::Gpt(found) if found.hybrid => HYBRID,
        _ => return None,
    };
    Some(Lost {
        name,
        label: None,
        at: Bytes::ZERO,
        place: Place::Disk,
        weight: Weight::Contents,
    })
}

/// A GPT that is there though it is no label: damaged, or whole without its guard. One that this plan
/// would write is left from a run that was cut short.
pub(super) fn stray(
    device: &dyn BlockDevice,
    plan: &Plan,
    (label, damaged): (&Label, bool),
) -> Result<Option<(Lost, Option<Table>)>, DeviceError> {
    if *label != Label::None {
        return Ok(None);
    }
    let whole = table::read_unguarded(device)?;
    let own = |table: &Table| !damaged && table.disk_guid == plan.table.disk_uuid;
    if whole.as_ref().map_or(!damaged, own) {
        return Ok(None);
    }
    let disk = Extent::new(Bytes::ZERO, device.size());
    let headers = signatures::probe(device, disk)?;
    let header = headers.into_iter().find(|one| one.kind == Kind::Gpt);
    let lost = Lost {
        name: GPT,
        label: None,
        at: header.map_or(Bytes::ZERO, |one| one.start()),
        place: Place::Disk,
        weight: Weight::Contents,
    };
    Ok(Some((lost, whole)))
}

/// The partitions that end with the old table, by number.
pub(super) fn old_partitions(
    device: &dyn BlockDevice,
    label: &Label,
    record: Option<&Mbr>,
) -> Vec<(u32, Extent)> {
    let sector = device.sector_size();
    match label {
        Label::Gpt(found) => gpt_partitions(&found.table),
        Label::Foreign(_) => match mbr::read(device) {
            Ok(Some(table)) => mbr_partitions(&table),
            // Of a broken chain of logical ones the primary ones are left.
            _ => named_by(record, sector).collect(),
        },
        _ => Vec::new(),
    }
}

fn mbr_partitions(table: &MbrTable) -> Vec<(u32, Extent)> {
    let place = |(slot, entry): (&u32, &MbrEntry)| {
        Some((slot.checked_add(1)?, entry.extent(table.sector_size())?))
    };
    table.slots().iter().filter_map(place).collect()
}

pub(super) fn gpt_partitions(table: &Table) -> Vec<(u32, Extent)> {
    let sector = table.sector_size();
    let place = |(slot, entry): (&u32, &image_specs::gpt::Entry)| {
        Some((slot.checked_add(1)?, entry.extent(sector)?))
    };
    table.slots().iter().filter_map(place).collect()
}

/// The partitions of a boot record, but for those that guard a GPT.
pub(super) fn named_by(
    record: Option<&Mbr>,
    sector: SectorSize,
) -> impl Iterator<Item = (u32, Extent)> {
    let places = record.map_or([None; 4], |record| record.partitions);
    (1..).zip(places).filter_map(move |(number, place)| {
        let place = place.filter(|place| place.kind != GUARD)?;
        let size = u64::from(place.sectors).checked_mul(sector.get())?;
        Some((
            number,
            Extent::new(place.first.start(sector)?, Bytes::new(size)),
        ))
    })
}

pub(super) fn record(device: &dyn BlockDevice) -> Result<Option<Mbr>, DeviceError> {
    let mut start = [0; 512];
    if device.size() < Bytes::new(512) {
        return Ok(None);
    }
    device.read_exact_at(&mut start, Bytes::ZERO)?;
    Ok(Mbr::parse(&start))
}
