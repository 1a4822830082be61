//! Between partition tables on disk and what is found and planned. Pure.

use std::collections::BTreeMap;

use image_specs::gpt::{Entry, Label, LabelTooLong, LayoutError, SlotError, Table};
use image_specs::mbr::MbrType;
use image_specs::units::{Bytes, Extent, Lba, SectorSize};

use crate::definition::Definition;
use crate::plan::{Plan, PlannedPartition};
use crate::survey::{FoundPartition, FoundTable};

/// A plan that no partition table can hold.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum TableError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Slot(#[from] SlotError),
    #[error(transparent)]
    Label(#[from] LabelTooLong),
    #[error("the partition in slot {} ends before it begins", .0 + 1)]
    Extent(u32),
    #[error("partition {} lies beyond what a master boot record can count", .0 + 1)]
    BeyondMbr(u32),
}

/// What the planner needs to know of a table.
pub fn found(table: &Table) -> FoundTable {
    let sector = table.sector_size();
    FoundTable {
        disk_uuid: table.disk_guid,
        first_usable: table.first_usable(),
        last_usable: table.last_usable(),
        slots: table.entry_count(),
        backup: table.backup_lba(),
        slot_size: table.entry_size(),
        partitions: table
            .slots()
            .iter()
            .map(|(slot, entry)| found_partition(*slot, entry, sector))
            .collect(),
    }
}

fn found_partition(slot: u32, entry: &Entry, sector: SectorSize) -> FoundPartition {
    FoundPartition {
        slot,
        kind: entry.kind,
        uuid: entry.uuid,
        label: entry.label.to_string(),
        flags: entry.attributes,
        extent: entry
            .extent(sector)
            .unwrap_or(Extent::new(Bytes::MAX, Bytes::ZERO)),
    }
}

/// The table to write: what `old` holds (unless it starts afresh), changed as planned. Everything
/// that the plan does not speak of stays as it is stored.
pub fn planned(plan: &Plan, old: Option<&Table>) -> Result<Table, TableError> {
    let mut table = match old {
        Some(old) if !plan.table.from_scratch => {
            let mut table = old.clone();
            table.resize(plan.new_disk_size)?;
            table
        }
        _ => Table::new(plan.table.disk_uuid, plan.table.sector, plan.new_disk_size)?,
    };
    if !plan.changed {
        return Ok(table);
    }
    table.disk_guid = plan.table.disk_uuid;
    for gone in &plan.reset {
        table.remove(gone.slot);
    }
    for partition in plan
        .listed()
        .filter(|partition| partition.definition.is_some() && !partition.deferred)
    {
        if let Some(slot) = partition.slot {
            set(&mut table, slot, partition)?;
        }
    }
    Ok(table)
}

/// The partitions that a hybrid record lists besides the table, by number.
///
/// # Errors
/// Where one lies beyond 2³² sectors.
pub fn listed(
    plan: &Plan,
    definitions: &[Definition],
) -> Result<Vec<(MbrType, Lba, u32)>, TableError> {
    let mut listed = BTreeMap::new();
    for partition in plan.listed().filter(|partition| !partition.deferred) {
        let definition = partition.definition.and_then(|at| definitions.get(at));
        let kind = definition.and_then(|definition| definition.mbr.hybrid);
        if let (Some(kind), Some(slot)) = (kind, partition.slot) {
            let places = sectors(partition.extent(), plan.table.sector);
            let (first, last) = places.ok_or(TableError::Extent(slot))?;
            let end = last.get().saturating_add(1);
            let count = u32::try_from(end).map(|_| end - first.get());
            let count = count.and_then(u32::try_from);
            listed.insert(
                slot,
                (kind, first, count.map_err(|_| TableError::BeyondMbr(slot))?),
            );
        }
    }
    Ok(listed.into_values().collect())
}

fn set(table: &mut Table, slot: u32, partition: &PlannedPartition) -> Result<(), TableError> {
    let (first, last) =
        sectors(partition.extent(), table.sector_size()).ok_or(TableError::Extent(slot))?;
    let entry = match (&partition.found, table.entry_mut(slot)) {
        (Some(found), Some(entry)) => {
            entry.last = last;
            if found.uuid.is_nil() {
                entry.uuid = partition.uuid;
            }
            if found.label.is_empty() {
                entry.label = Label::new(&partition.label)?;
            }
            return Ok(());
        }
        _ => Entry {
            kind: partition.kind,
            uuid: partition.uuid,
            first,
            last,
            attributes: partition.flags,
            label: Label::new(&partition.label)?,
            tail: Vec::new(),
        },
    };
    table.insert(slot, entry)?;
    Ok(())
}

/// First and last sector of a range that has at least one.
fn sectors(extent: Extent, sector: SectorSize) -> Option<(Lba, Lba)> {
    let first = sector.lba(extent.start);
    let behind = sector.lba(extent.end()?);
    let last = behind
        .get()
        .checked_sub(1)
        .filter(|last| *last >= first.get())?;
    Some((first, Lba::new(last)))
}
