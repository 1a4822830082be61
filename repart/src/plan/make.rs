//! The planner's one way through: geometry, matching, names, sizes, places. Pure.

use image_specs::gpt::{LayoutError, Table};
use image_specs::units::{Bytes, Extent, Grain};
use uuid::Uuid;

use super::cut;
use super::error::PlanError;
use super::fit::DiskNeed;
use super::identity::Random;
use super::layout::{Entry, Layout};
use super::mbr::{self, Rules};
use super::shares::{self, Wholes};
use super::{
    EmptyMode, Fate, Options, Plan, PlannedLabel, PlannedPartition, PlannedTable, ResetMode,
    SizeMode,
};
use crate::definition::{CopyMode, DefinitionSet, LabelKind};
use crate::survey::{FoundLabel, FoundMbr, FoundPartition, FoundTable, MbrRecord, Survey};

/// `--size=` is rounded up to this.
const SIZE_UNIT: Grain = Grain::DEFAULT;

/// Decides the new layout.
///
/// `definitions` must have been checked as a set (verity sets complete, supplements valid). `random`
/// is asked only where a derived UUID is already taken.
pub fn plan(
    survey: &Survey,
    definitions: &DefinitionSet,
    options: &Options,
    random: &mut Random<'_>,
) -> Result<Plan, PlanError> {
    let from_scratch = is_from_scratch(survey, definitions, options)?;
    let mut disk = Disk::start(survey, (options, definitions.label), from_scratch)?;
    mbr::check_definitions(definitions, &disk.table)?;
    let known = Some(&disk.table).filter(|_| options.size != SizeMode::Auto);
    let definitions = shares::resolve(definitions, survey, Wholes::new(known, options))?;
    let mut layout = Layout::new(survey, &definitions, options);
    if disk.table.label != PlannedLabel::Gpt {
        let found = found_mbr(survey).filter(|_| !from_scratch);
        layout.mbr = Some(Rules::new(found));
    }
    let mode = disk.reset_mode(options);
    let reset = disk.reset(layout.clone(), options)?;
    layout.match_found(disk.partitions.clone(), options.seed);
    if mode == ResetMode::Leave {
        layout.freeze();
    }
    layout.leave_out_missing(from_scratch);
    layout.identify(options.seed, random);
    layout.require_existing(options)?;
    if options.size == SizeMode::Auto {
        let minimal = Bytes::new(layout.minimal_disk(survey.sector.get()));
        disk.grow(minimal, survey, options)?;
    }
    disk.require_room_for_backup(survey)?;
    layout.measure(&disk.table)?;
    layout.fit(DiskNeed {
        size: disk.size.get(),
        sector: survey.sector.get(),
    })?;
    layout.grow();
    layout.place(disk.table.slots)?;
    if let PlannedLabel::Mbr { extended, .. } = &mut disk.table.label {
        *extended = layout.extended();
    }
    let is_gpt = disk.table.label == PlannedLabel::Gpt;
    let mut plan = finish(survey, options, layout, disk, reset);
    if is_gpt && definitions.copy == CopyMode::Cut && options.empty == EmptyMode::Create {
        plan.cut();
    }
    let stray =
        |one: &&PlannedPartition| one.deferred && one.mbr.is_some_and(|mbr| mbr.at.is_some());
    match plan.partitions.iter().find(stray) {
        Some(one) => Err(PlanError::DeferredLogical {
            what: format!("partition {:?}", one.label),
        }),
        None => Ok(plan),
    }
}

/// What a disk must have to hold all definitions, whatever disk there is.
///
/// # Errors
/// Where a size is a share that cannot be counted.
pub fn minimal_size(
    survey: &Survey,
    definitions: &DefinitionSet,
    options: &Options,
) -> Result<Bytes, PlanError> {
    let definitions = shares::resolve(definitions, survey, Wholes::new(None, options))?;
    let mut layout = Layout::new(survey, &definitions, options);
    let kept = matches!(is_from_scratch(survey, &definitions, options), Ok(false));
    let found = match (
        &survey.label,
        is_from_scratch(survey, &definitions, options),
    ) {
        (FoundLabel::Gpt(table), Ok(false)) => table.partitions.clone(),
        (FoundLabel::Mbr(table), Ok(false)) => {
            layout.mbr = Some(Rules::new(Some(table)));
            table.partitions.clone()
        }
        _ => {
            let is_mbr = definitions.label == LabelKind::Mbr;
            layout.mbr = is_mbr.then(|| Rules::new(None));
            Vec::new()
        }
    };
    layout.match_found(found, options.seed);
    layout.leave_out_missing(!kept);
    Ok(Bytes::new(layout.minimal_disk(survey.sector.get())))
}

fn found_mbr(survey: &Survey) -> Option<&FoundMbr> {
    match &survey.label {
        FoundLabel::Mbr(found) => Some(found),
        _ => None,
    }
}

/// Whether somebody thought of master boot records; others are left alone, as with systemd-repart.
fn wants_mbr(definitions: &DefinitionSet) -> bool {
    let mut all = definitions.definitions.iter();
    definitions.label == LabelKind::Mbr || all.any(|one| one.mbr.own.is_some())
}

fn is_from_scratch(
    survey: &Survey,
    definitions: &DefinitionSet,
    options: &Options,
) -> Result<bool, PlanError> {
    let afresh = matches!(
        options.empty,
        EmptyMode::Require | EmptyMode::Force | EmptyMode::Create
    );
    let reset = matches!(
        options.factory_reset,
        ResetMode::Recreate | ResetMode::Leave
    );
    if reset && afresh {
        return Err(PlanError::ResetOfNewTable);
    }
    match (options.empty, &survey.label) {
        (EmptyMode::Force | EmptyMode::Create, _) => Ok(true),
        (EmptyMode::Require | EmptyMode::Allow, FoundLabel::None) => Ok(true),
        (EmptyMode::Require, _) => Err(PlanError::NotEmpty),
        (_, FoundLabel::Gpt(_)) => Ok(false),
        (EmptyMode::Refuse, FoundLabel::None) => Err(PlanError::NoTable),
        (_, FoundLabel::Mbr(_)) if wants_mbr(definitions) => Ok(false),
        (_, FoundLabel::DamagedMbr(error)) if wants_mbr(definitions) => {
            Err(PlanError::DamagedMbr(error.clone()))
        }
        (_, FoundLabel::Other | FoundLabel::Mbr(_) | FoundLabel::DamagedMbr(_)) => {
            Err(PlanError::NotGpt)
        }
    }
}

/// The disk while it is planned for.
pub(super) struct Disk {
    size: Bytes,
    pub(super) table: PlannedTable,
    partitions: Vec<FoundPartition>,
}

impl Disk {
    fn start_mbr(survey: &Survey, options: &Options, found: &FoundMbr) -> Result<Self, PlanError> {
        let mut disk = Self {
            size: survey.disk_size,
            table: mbr::table(survey, options, Some(found), survey.disk_size)?,
            partitions: found.partitions.clone(),
        };
        if let SizeMode::AtLeast(wanted) = options.size {
            disk.grow(whole(wanted), survey, options)?;
        }
        Ok(disk)
    }

    pub(super) fn start(
        survey: &Survey,
        (options, label): (&Options, LabelKind),
        from_scratch: bool,
    ) -> Result<Self, PlanError> {
        let size = survey.disk_size;
        let found = match &survey.label {
            FoundLabel::Gpt(found) if !from_scratch => found,
            FoundLabel::Mbr(found) if !from_scratch => {
                return Self::start_mbr(survey, options, found);
            }
            _ => return Self::start_afresh(survey, options, label),
        };
        let mut disk = Self {
            size,
            table: PlannedTable {
                label: PlannedLabel::Gpt,
                from_scratch,
                disk_uuid: match found.disk_uuid.is_nil() {
                    true => options.seed.disk(),
                    false => found.disk_uuid,
                },
                first_usable: found.first_usable,
                // No further than up to where the backup is going to be.
                last_usable: match found.last_usable_on(size, survey.sector) {
                    Some(last) => last.min(found.last_usable),
                    None => found.first_usable,
                },
                slots: found.slots,
                sector: survey.sector,
            },
            partitions: found.partitions.clone(),
        };
        if found.backup
            < survey
                .sector
                .lba(size.saturating_sub(survey.sector.bytes()))
        {
            // The disk has grown behind the table's back.
            disk.stretch(found, survey);
        }
        if let SizeMode::AtLeast(wanted) = options.size {
            disk.grow(whole(wanted), survey, options)?;
        }
        Ok(disk)
    }

    fn start_afresh(
        survey: &Survey,
        options: &Options,
        label: LabelKind,
    ) -> Result<Self, PlanError> {
        let size = match options.size {
            SizeMode::AtLeast(wanted) => survey.disk_size.max(whole(wanted)),
            SizeMode::Keep | SizeMode::Auto => survey.disk_size,
        };
        // With `--size=auto` the table is made again once the size is known.
        let for_table = match options.size {
            SizeMode::Auto => size.max(Bytes::mib(8)),
            _ => size,
        };
        Ok(Self {
            size,
            table: match label {
                LabelKind::Gpt => fresh(survey, options.seed.disk(), for_table)?,
                LabelKind::Mbr => mbr::table(survey, options, None, for_table)?,
            },
            partitions: Vec::new(),
        })
    }

    /// Whether all bits of the disk's UUID are set, which asks for a factory reset.
    fn asks_for_reset(&self) -> bool {
        self.table.disk_uuid.is_max()
    }

    /// What is done of a factory reset, once it is known whether the disk asks for it.
    fn reset_mode(&self, options: &Options) -> ResetMode {
        match options.factory_reset {
            ResetMode::WhenAsked if self.asks_for_reset() => ResetMode::Recreate,
            ResetMode::WhenAsked => ResetMode::Never,
            asked => asked,
        }
    }

    /// Takes away what is marked for a factory reset, and says what that was.
    fn reset(
        &mut self,
        mut layout: Layout<'_>,
        options: &Options,
    ) -> Result<Vec<FoundPartition>, PlanError> {
        if matches!(self.reset_mode(options), ResetMode::Never) {
            return Ok(Vec::new());
        }
        if self.asks_for_reset() {
            self.table.disk_uuid = options.seed.disk();
        }
        layout.match_found(self.partitions.clone(), options.seed);
        let marked = layout.marked_for_reset();
        self.partitions.retain(|found| !marked.contains(found));
        if layout.mbr.is_some() {
            mbr::check_reset(&marked, &self.partitions)?;
        }
        Ok(marked)
    }

    /// Makes the disk at least `wanted` large and fits the table to it.
    fn grow(&mut self, wanted: Bytes, survey: &Survey, options: &Options) -> Result<(), PlanError> {
        let grown = wanted > self.size;
        self.size = self.size.max(wanted);
        if self.table.label != PlannedLabel::Gpt {
            let found = found_mbr(survey).filter(|_| !self.table.from_scratch);
            self.table = mbr::table(survey, options, found, self.size)?;
            return Ok(());
        }
        match &survey.label {
            FoundLabel::Gpt(found) if !self.table.from_scratch => {
                if grown {
                    self.stretch(found, survey);
                }
            }
            _ => self.table = fresh(survey, self.table.disk_uuid, self.size)?,
        }
        Ok(())
    }

    /// Refuses to write a table whose backup would lie over a partition, as it would in cut images.
    fn require_room_for_backup(&self, survey: &Survey) -> Result<(), PlanError> {
        match &survey.label {
            FoundLabel::Gpt(found) if !self.table.from_scratch => {
                cut::check_room(found, &self.table, &self.partitions, self.size)
            }
            _ => Ok(()),
        }
    }

    /// Lets partitions use the disk up to its end.
    fn stretch(&mut self, found: &FoundTable, survey: &Survey) {
        let last = found.last_usable_on(self.size, survey.sector);
        self.table.last_usable = last.unwrap_or(self.table.last_usable);
    }
}

fn whole(size: Bytes) -> Bytes {
    size.round_up(SIZE_UNIT).unwrap_or(Bytes::MAX)
}

/// An empty table for a disk of `size`.
fn fresh(survey: &Survey, disk_uuid: Uuid, size: Bytes) -> Result<PlannedTable, LayoutError> {
    let table = Table::new(disk_uuid, survey.sector, size)?;
    Ok(PlannedTable {
        label: PlannedLabel::Gpt,
        from_scratch: true,
        disk_uuid,
        first_usable: table.first_usable(),
        last_usable: table.last_usable(),
        slots: table.entry_count(),
        sector: survey.sector,
    })
}

fn finish(
    survey: &Survey,
    options: &Options,
    layout: Layout<'_>,
    disk: Disk,
    reset: Vec<FoundPartition>,
) -> Plan {
    let from_scratch = disk.table.from_scratch;
    let merged: Vec<Option<usize>> = (0..layout.entries.len())
        .map(|index| {
            layout.entries[index]
                .supplement_for
                .filter(|_| layout.is_merged(index))
        })
        .collect();
    let records = layout
        .entries
        .iter()
        .map(|entry| record(entry, layout.mbr.as_ref()));
    let records: Vec<Option<MbrRecord>> = records.collect();
    let partitions: Vec<PlannedPartition> = (layout.entries.into_iter().zip(merged).zip(records))
        .map(|((entry, merged), record)| PlannedPartition {
            mbr: record,
            ..planned(entry, merged, options)
        })
        .collect();
    let touched =
        |p: &PlannedPartition| matches!(p.fate, Fate::Create | Fate::Resize) && !p.deferred;
    Plan {
        old_disk_size: survey.disk_size,
        new_disk_size: disk.size,
        wipe: wipes(&partitions, from_scratch, disk.size),
        grain: Grain::new(layout.grain).unwrap_or(Grain::DEFAULT),
        changed: from_scratch
            || !reset.is_empty()
            || answers_request(survey, &disk.table)
            || partitions.iter().any(touched),
        table: disk.table,
        partitions,
        reset,
    }
}

/// Whether a disk that asked for a factory reset by its UUID gets another.
fn answers_request(survey: &Survey, table: &PlannedTable) -> bool {
    let found = match &survey.label {
        FoundLabel::Gpt(found) => found.disk_uuid,
        _ => Uuid::nil(),
    };
    found.is_max() && table.disk_uuid != found
}

/// What a master boot record says of a partition, or is to say of a new one.
fn record(entry: &Entry<'_>, rules: Option<&Rules>) -> Option<MbrRecord> {
    match (rules?, &entry.found) {
        (rules, Some(found)) => rules.record(found.slot),
        (_, None) => Some(MbrRecord {
            kind: entry.wanted.as_ref()?.definition.mbr_type()?,
            at: entry.record.map(Bytes::new),
        }),
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
    let deferred = definition.is_some()
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
        given_up: entry.given_up,
        slot: entry.slot,
        kind,
        mbr: None,
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
