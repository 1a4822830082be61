//! Between master boot records on disk and what is found and planned. Pure.

use image_specs::mbr::{MbrEntry, MbrTable};
use image_specs::units::{Bytes, Extent, SectorSize};
use uuid::Uuid;

use super::table::TableError;
use crate::plan::{Plan, PlannedLabel, PlannedPartition};
use crate::survey::{ExtendedPartition, FoundMbr, FoundPartition, MbrRecord};

/// What the planner needs to know of a table.
pub fn found(table: &MbrTable) -> FoundMbr {
    let sector = table.sector_size();
    let nowhere = Extent::new(Bytes::MAX, Bytes::ZERO);
    let partition = |(slot, entry): (&u32, &MbrEntry)| FoundPartition {
        slot: *slot,
        kind: entry.kind.nearest(),
        uuid: Uuid::nil(),
        label: String::new(),
        flags: 0,
        extent: entry.extent(sector).unwrap_or(nowhere),
    };
    let record = |(slot, entry): (&u32, &MbrEntry)| {
        let at = entry.record.and_then(|record| record.start(sector));
        let kind = entry.kind;
        (*slot, MbrRecord { kind, at })
    };
    FoundMbr {
        disk_id: table.disk_id,
        extended: table.extended().map(|one| ExtendedPartition {
            slot: one.slot,
            extent: one.extent(sector).unwrap_or(nowhere),
        }),
        partitions: table.slots().iter().map(partition).collect(),
        records: table.slots().iter().map(record).collect(),
    }
}

/// The table to write: what `old` holds (unless it starts afresh), changed as planned. Everything
/// that the plan does not speak of stays as it is stored.
///
/// # Errors
/// Where a partition has more sectors than such a table can count.
pub fn planned(plan: &Plan, old: Option<&MbrTable>) -> Result<MbrTable, TableError> {
    let sector = plan.table.sector;
    let mut table = match old {
        Some(old) if !plan.table.from_scratch => old.clone(),
        _ => MbrTable::new(0, sector),
    };
    let PlannedLabel::Mbr { disk_id, extended } = plan.table.label else {
        return Ok(table);
    };
    if !plan.changed {
        return Ok(table);
    }
    table.disk_id = disk_id;
    for gone in &plan.reset {
        table.remove(gone.slot);
    }
    if let Some(extended) = extended {
        let sectors = count(extended.extent, sector, extended.slot)?;
        table.set_extended(extended.slot, sector.lba(extended.extent.start), sectors);
    }
    let named = plan
        .listed()
        .filter(|partition| partition.definition.is_some() && !partition.deferred);
    for partition in named {
        if let Some(slot) = partition.slot {
            set(&mut table, slot, partition)?;
        }
    }
    Ok(table)
}

/// What stays of `old` while contents are written: all but the logical partitions that end, as these
/// contents may come over the records that lead to each other. `None` where none ends.
pub fn detached(plan: &Plan, old: &MbrTable) -> Option<MbrTable> {
    old.extended()?;
    let mut table = match plan.table.from_scratch {
        true => MbrTable::new(old.disk_id, old.sector_size()),
        false => old.clone(),
    };
    if plan.table.from_scratch {
        let primary = old.slots().iter().filter(|(_, one)| one.record.is_none());
        primary.for_each(|(slot, one)| table.insert(*slot, *one));
    }
    for gone in &plan.reset {
        if table
            .slots()
            .get(&gone.slot)
            .is_some_and(|one| one.record.is_some())
        {
            table.remove(gone.slot);
        }
    }
    (table != *old).then_some(table)
}

fn set(table: &mut MbrTable, slot: u32, partition: &PlannedPartition) -> Result<(), TableError> {
    let sector = table.sector_size();
    let sectors = count(partition.extent(), sector, slot)?;
    if let (Some(_), Some(entry)) = (&partition.found, table.entry_mut(slot)) {
        entry.sectors = sectors;
        return Ok(());
    }
    let record = partition.mbr.ok_or(TableError::Extent(slot))?;
    let entry = MbrEntry {
        status: 0,
        kind: record.kind,
        first: sector.lba(partition.offset),
        sectors,
        record: record.at.map(|at| sector.lba(at)),
    };
    table.insert(slot, entry);
    Ok(())
}

fn count(extent: Extent, sector: SectorSize, slot: u32) -> Result<u32, TableError> {
    let sectors = u32::try_from(extent.size.get() / sector.get()).ok();
    let sectors = sectors.filter(|sectors| *sectors > 0);
    sectors.ok_or(TableError::BeyondMbr(slot))
}
