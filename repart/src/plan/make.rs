//! The planner's one way through: geometry, matching, names, sizes, places. Pure.

use image_specs::gpt::Table;
use image_specs::units::{Bytes, Extent, Grain, SectorSize};
use uuid::Uuid;

use super::error::PlanError;
use super::fit::DiskNeed;
use super::identity::Random;
use super::layout::{Entry, Layout, effective_grain};
use super::{EmptyMode, Fate, Options, Plan, PlannedPartition, SizeMode};
use crate::definition::Definition;
use crate::survey::{FoundLabel, FoundPartition, Survey};

/// `--size=` is rounded up to this.
const SIZE_UNIT: Grain = Grain::DEFAULT;

/// Decides the new layout.
///
/// `definitions` must have been checked as a set (verity sets complete, supplements valid). `random`
/// is asked only where a derived UUID is already taken.
pub fn plan(
    survey: &Survey,
    definitions: &[Definition],
    options: &Options,
    random: &mut Random<'_>,
) -> Result<Plan, PlanError> {
    let from_scratch = is_from_scratch(survey, options)?;
    let mut disk = Disk::start(survey, options, from_scratch)?;
    let mut layout = Layout::new(survey, definitions, options);
    let mut reset = Vec::new();
    if options.factory_reset {
        let mut trial = layout.clone();
        trial.match_found(FoundPartition::all(&disk.table));
        reset = trial.marked_for_reset();
        for gone in &reset {
            disk.table.remove(gone.slot);
        }
    }
    layout.match_found(FoundPartition::all(&disk.table));
    layout.identify(options.seed, random);
    if options.size == SizeMode::Auto {
        let needed = layout.minimal_disk(survey.sector.get());
        disk.grow(Bytes::new(needed), options, from_scratch)?;
    }
    layout.measure(&disk.table)?;
    layout.fit(DiskNeed {
        size: disk.size.get(),
        sector: survey.sector.get(),
    })?;
    layout.grow();
    layout.place(disk.table.entry_count())?;
    Ok(finish(survey, options, layout, disk, reset, from_scratch))
}

/// What a disk must have to hold all definitions, whatever disk there is.
pub fn minimal_size(survey: &Survey, definitions: &[Definition], options: &Options) -> Bytes {
    let mut layout = Layout::new(survey, definitions, options);
    if let FoundLabel::Gpt(table) = &survey.label {
        layout.match_found(FoundPartition::all(table));
    }
    Bytes::new(layout.minimal_disk(survey.sector.get()))
}

fn is_from_scratch(survey: &Survey, options: &Options) -> Result<bool, PlanError> {
    let from_scratch = match (options.empty, &survey.label) {
        (EmptyMode::Force | EmptyMode::Create, _) => true,
        (EmptyMode::Require | EmptyMode::Allow, FoundLabel::None) => true,
        (EmptyMode::Require, _) => return Err(PlanError::NotEmpty),
        (_, FoundLabel::Gpt(_)) => false,
        (EmptyMode::Refuse, FoundLabel::None) => return Err(PlanError::NoTable),
        (_, FoundLabel::Other) => return Err(PlanError::NotGpt),
    };
    let never = matches!(
        options.empty,
        EmptyMode::Require | EmptyMode::Force | EmptyMode::Create
    );
    match options.factory_reset && never {
        true => Err(PlanError::ResetOfNewTable),
        false => Ok(from_scratch),
    }
}

/// The disk while it is planned for.
struct Disk {
    size: Bytes,
    sector: SectorSize,
    table: Box<Table>,
}

impl Disk {
    fn start(survey: &Survey, options: &Options, from_scratch: bool) -> Result<Self, PlanError> {
        let (size, sector) = (survey.disk_size, survey.sector);
        let wanted = match options.size {
            SizeMode::AtLeast(wanted) => wanted.round_up(SIZE_UNIT).unwrap_or(Bytes::MAX),
            SizeMode::Keep => size,
            // The table is made when the size is known; a small one serves until then.
            SizeMode::Auto => size.max(Bytes::mib(8)),
        };
        match &survey.label {
            FoundLabel::Gpt(table) if !from_scratch => {
                let table = table.clone();
                let mut disk = Self {
                    size,
                    sector,
                    table,
                };
                if options.size != SizeMode::Auto {
                    disk.grow(wanted, options, false)?;
                }
                Ok(disk)
            }
            _ => {
                let wanted = wanted.max(size);
                let table = Box::new(Table::new(options.seed.disk(), sector, wanted)?);
                let size = match options.size {
                    SizeMode::Auto => size,
                    _ => wanted,
                };
                Ok(Self {
                    size,
                    sector,
                    table,
                })
            }
        }
    }

    /// Makes the disk at least `wanted` large and fits the table to it.
    fn grow(
        &mut self,
        wanted: Bytes,
        options: &Options,
        from_scratch: bool,
    ) -> Result<(), PlanError> {
        let grown = wanted > self.size;
        self.size = self.size.max(wanted);
        if from_scratch {
            *self.table = Table::new(options.seed.disk(), self.sector, self.size)?;
        } else if grown {
            self.table.resize(self.size)?;
        }
        Ok(())
    }
}

fn finish(
    survey: &Survey,
    options: &Options,
    layout: Layout<'_>,
    mut disk: Disk,
    reset: Vec<FoundPartition>,
    from_scratch: bool,
) -> Plan {
    if disk.table.disk_guid.is_nil() {
        disk.table.disk_guid = options.seed.disk();
    }
    let merged: Vec<Option<usize>> = (0..layout.entries.len())
        .map(|index| {
            layout.entries[index]
                .supplement_for
                .filter(|_| layout.is_merged(index))
        })
        .collect();
    let partitions: Vec<PlannedPartition> = (layout.entries.into_iter().zip(merged))
        .map(|(entry, merged)| planned(entry, merged, options))
        .collect();
    let touched = |fate: Fate| matches!(fate, Fate::Create | Fate::Resize);
    let changed = from_scratch || !reset.is_empty() || partitions.iter().any(|p| touched(p.fate));
    Plan {
        old_disk_size: survey.disk_size,
        new_disk_size: disk.size,
        from_scratch,
        wipe: wipes(&partitions, from_scratch, disk.size),
        grain: Grain::new(effective_grain(options.grain, survey.sector.get()))
            .unwrap_or(Grain::DEFAULT),
        table: disk.table,
        partitions,
        reset,
        changed,
    }
}

fn planned(entry: Entry<'_>, merged: Option<usize>, options: &Options) -> PlannedPartition {
    let kind = entry.kind();
    let fate = match (&entry.found, merged) {
        (None, Some(target)) => Fate::Merged(target),
        (None, None) if entry.dropped => Fate::Dropped,
        (None, None) => Fate::Create,
        (Some(_), _) if entry.size != entry.found_size() => Fate::Resize,
        (Some(_), _) => Fate::Unchanged,
    };
    let placed = !matches!(fate, Fate::Merged(_) | Fate::Dropped);
    let definition = entry.wanted.as_ref().map(|wanted| wanted.definition);
    let flags = match &entry.found {
        Some(found) => found.flags,
        None => definition.map_or(0, |definition| definition.flags),
    };
    let reset = definition.is_some_and(|definition| definition.factory_reset);
    let defer = &options.defer;
    let deferred = fate == Fate::Create
        && (defer.types.contains(&kind)
            || defer.empty && entry.label == "_empty"
            || defer.factory_reset && reset);
    let (old_size, old_padding) = match entry.exists() {
        true => (entry.found_size(), entry.found_padding),
        false => (0, 0),
    };
    let kept = |value: u64| Bytes::new(if placed { value } else { 0 });
    PlannedPartition {
        definition: entry.wanted.as_ref().map(|wanted| wanted.index),
        fate,
        deferred,
        slot: entry.slot,
        kind,
        label: entry.label,
        uuid: entry.uuid,
        uuid_from_root_hash: entry.uuid_from_root_hash,
        flags,
        offset: kept(entry.offset),
        old_size: Bytes::new(old_size),
        new_size: kept(entry.size),
        old_padding: Bytes::new(old_padding),
        new_padding: kept(entry.padding),
        fs_uuid: entry.fs_uuid,
        luks_uuid: entry.luks_uuid,
        verity: entry.verity,
        found: entry.found,
    }
}

/// The whole disk under a new table; else each new partition with the gap behind it.
fn wipes(partitions: &[PlannedPartition], from_scratch: bool, disk: Bytes) -> Vec<Extent> {
    if from_scratch {
        return vec![Extent::new(Bytes::ZERO, disk)];
    }
    let new = partitions
        .iter()
        .filter(|partition| partition.is_to_write());
    new.map(|partition| {
        let size = partition.new_size.saturating_add(partition.new_padding);
        Extent::new(partition.offset, size)
    })
    .collect()
}

impl Plan {
    /// The table to write: what stays, what grows and what is new (but for the deferred). Takes UUIDs
    /// as they are now in [`Plan::partitions`], so root hashes must have been entered there.
    pub fn table_after(&self) -> Result<Table, TableAfterError> {
        let mut table = Table::clone(&self.table);
        for partition in self.listed().filter(|partition| !partition.deferred) {
            let Some(slot) = partition.slot else { continue };
            if let Some(entry) = table.entry_mut(slot) {
                partition.update(entry, &self.table)?;
            } else {
                table.insert(slot, partition.entry(&self.table)?)?;
            }
        }
        Ok(table)
    }
}

/// A plan that no table can say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableAfterError {
    /// The label does not fit.
    #[error(transparent)]
    Label(#[from] image_specs::gpt::LabelTooLong),
    /// The slot is not there.
    #[error(transparent)]
    Slot(#[from] image_specs::gpt::SlotError),
    /// The size is not whole sectors, or is none.
    #[error("the partition {0:?} does not cover whole sectors")]
    Sectors(String),
}

impl PlannedPartition {
    fn entry(&self, table: &Table) -> Result<image_specs::gpt::Entry, TableAfterError> {
        let sector = table.sector_size();
        Ok(image_specs::gpt::Entry {
            kind: self.kind,
            uuid: self.uuid,
            first: sector.lba(self.offset),
            last: self.last(sector)?,
            attributes: self.flags,
            label: image_specs::gpt::Label::new(&self.label)?,
            tail: Vec::new(),
        })
    }

    fn update(
        &self,
        entry: &mut image_specs::gpt::Entry,
        table: &Table,
    ) -> Result<(), TableAfterError> {
        if self.definition.is_none() {
            return Ok(());
        }
        entry.last = self.last(table.sector_size())?;
        if entry.uuid == Uuid::nil() {
            entry.uuid = self.uuid;
        }
        if entry.label.is_empty() {
            entry.label = image_specs::gpt::Label::new(&self.label)?;
        }
        Ok(())
    }

    fn last(&self, sector: SectorSize) -> Result<image_specs::units::Lba, TableAfterError> {
        let whole = |at: &Bytes| at.is_multiple_of(sector.get()) && *at > Bytes::ZERO;
        let end = self.extent().end().filter(whole);
        let last = end.and_then(|end| sector.lba(end).get().checked_sub(1));
        last.filter(|last| *last >= sector.lba(self.offset).get())
            .map(image_specs::units::Lba::new)
            .ok_or_else(|| TableAfterError::Sectors(self.label.clone()))
    }
}
