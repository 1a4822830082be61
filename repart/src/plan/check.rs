//! Proves a plan again before it is applied. Pure.

use image_specs::units::{Bytes, Extent};

use super::{Fate, Plan, PlannedLabel, PlannedPartition};
use crate::survey::{FoundLabel, FoundMbr, Survey};

/// A plan that must not be applied; always a mistake in the planner or a disk that changed since.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say it")]
pub enum CheckError {
    #[error("the plan lets partitions {0} and {1} overlap, so nothing was changed")]
    Overlap(String, String),
    #[error("the plan puts partition {0} outside of the usable area, so nothing was changed")]
    OutOfRange(String),
    #[error("the plan gives partition {0} a place that is not aligned, so nothing was changed")]
    Unaligned(String),
    #[error("the plan moves existing partition {0}, so nothing was changed")]
    Moved(u64),
    #[error("the plan shrinks existing partition {0}, so nothing was changed")]
    Shrunk(u64),
    #[error("the plan loses existing partition {0}, so nothing was changed")]
    Lost(u64),
    #[error("the plan uses slot {0} twice, so nothing was changed")]
    SlotTwice(u32),
    #[error("the plan leaves {0} bytes of the usable area unaccounted for, so nothing was changed")]
    Unaccounted(u64),
    #[error("the plan shrinks the disk, so nothing was changed")]
    DiskShrunk,
}

/// Proves that applying `plan` to what `survey` found loses nothing and that the result is sound.
pub fn check(plan: &Plan, survey: &Survey) -> Result<(), CheckError> {
    if plan.new_disk_size < survey.disk_size {
        return Err(CheckError::DiskShrunk);
    }
    check_kept(plan, survey)?;
    check_slots(plan)?;
    check_chain(plan)?;
    let mut placed: Vec<&PlannedPartition> = plan.listed().collect();
    placed.sort_by_key(|partition| partition.offset);
    check_places(plan, &placed)?;
    check_accounts(plan, &placed)
}

/// Everything that existed is still there, where it was, and no smaller.
fn check_kept(plan: &Plan, survey: &Survey) -> Result<(), CheckError> {
    let partitions = match (plan.table.from_scratch, &survey.label) {
        (false, FoundLabel::Gpt(table)) => &table.partitions,
        (false, FoundLabel::Mbr(table)) => {
            check_extended(plan, table)?;
            &table.partitions
        }
        _ => return Ok(()),
    };
    for found in partitions {
        let number = u64::from(found.slot) + 1;
        if plan.reset.contains(found) {
            continue;
        }
        let kept = plan.listed().find(|p| p.slot == Some(found.slot));
        let kept = kept.ok_or(CheckError::Lost(number))?;
        let same = match &survey.label {
            // Types of a GPT only come near those of a master boot record.
            FoundLabel::Mbr(table) => kept.mbr.as_ref() == table.records.get(&found.slot),
            _ => kept.kind == found.kind,
        };
        if !same || kept.found.as_ref() != Some(found) {
            return Err(CheckError::Lost(number));
        }
        if kept.offset != found.extent.start {
            return Err(CheckError::Moved(number));
        }
        if kept.new_size < found.extent.size {
            return Err(CheckError::Shrunk(number));
        }
    }
    Ok(())
}

/// The extended partition stays where it is, and is no smaller.
fn check_extended(plan: &Plan, found: &FoundMbr) -> Result<(), CheckError> {
    let (Some(old), PlannedLabel::Mbr { extended, .. }) = (found.extended, plan.table.label) else {
        return Ok(());
    };
    let number = u64::from(old.slot) + 1;
    let new = extended.ok_or(CheckError::Lost(number))?;
    if new.slot != old.slot || new.extent.start != old.extent.start {
        return Err(CheckError::Moved(number));
    }
    match new.extent.size < old.extent.size {
        true => Err(CheckError::Shrunk(number)),
        false => Ok(()),
    }
}

/// Logical partitions and their boot records lie in the extended partition, all others outside, and
/// no boot record in a partition.
fn check_chain(plan: &Plan) -> Result<(), CheckError> {
    let PlannedLabel::Mbr { extended, .. } = plan.table.label else {
        return Ok(());
    };
    let room = extended.map(|extended| extended.extent);
    let sector = plan.table.sector.bytes();
    let records = plan.listed().filter_map(|one| one.mbr?.at);
    let records: Vec<Extent> = records.map(|at| Extent::new(at, sector)).collect();
    for partition in plan.listed() {
        let own = partition.extent();
        let within = |extent: Extent| {
            room.is_some_and(|room| extent.start >= room.start && extent.end() <= room.end())
        };
        let good = match partition.mbr.and_then(|mbr| mbr.at) {
            Some(at) => within(own) && within(Extent::new(at, sector)),
            None => room.is_none_or(|room| !room.overlaps(own)),
        };
        if !good || records.iter().any(|record| record.overlaps(own)) {
            return Err(CheckError::OutOfRange(partition.label.clone()));
        }
    }
    Ok(())
}

fn check_slots(plan: &Plan) -> Result<(), CheckError> {
    let mut slots: Vec<u32> = plan.listed().filter_map(|p| p.slot).collect();
    slots.sort_unstable();
    match slots.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(CheckError::SlotTwice(pair[0])),
        None => Ok(()),
    }
}

fn check_places(plan: &Plan, placed: &[&PlannedPartition]) -> Result<(), CheckError> {
    let usable = usable(plan);
    for partition in placed {
        let end = partition.extent().end();
        if partition.offset < usable.start || end.is_none() || end > usable.end() {
            return Err(CheckError::OutOfRange(partition.label.clone()));
        }
        let aligned = |at: Bytes| at.is_multiple_of(plan.grain.get());
        let new = partition.fate == Fate::Create;
        if new && !aligned(partition.offset) {
            return Err(CheckError::Unaligned(partition.label.clone()));
        }
    }
    for pair in placed.windows(2) {
        if pair[0].extent().overlaps(pair[1].extent()) {
            let label = |at: usize| pair[at].label.clone();
            return Err(CheckError::Overlap(label(0), label(1)));
        }
    }
    Ok(())
}

/// Sizes, paddings, what alignment takes and the free space at the start add up to the usable area.
fn check_accounts(plan: &Plan, placed: &[&PlannedPartition]) -> Result<(), CheckError> {
    let usable = usable(plan);
    let end = usable.end().unwrap_or(Bytes::MAX);
    let starts = placed.iter().skip(1).map(|partition| partition.offset);
    let bounds = boundaries(plan);
    for (partition, next) in placed.iter().zip(starts.chain([end])) {
        let own_end = partition.extent().end().unwrap_or(Bytes::MAX);
        let bound = bounds.iter().filter(|bound| **bound >= own_end).min();
        let next = bound.map_or(next, |bound| next.min(*bound));
        let behind =
            (partition.extent().end()).and_then(|end| end.checked_add(partition.new_padding));
        let behind = behind.ok_or_else(|| CheckError::OutOfRange(partition.label.clone()))?;
        if behind > next {
            return Err(CheckError::OutOfRange(partition.label.clone()));
        }
        let lost = next.saturating_sub(behind).get();
        // Both ends of the gap may lie off the grain where another tool made them, and so may a size.
        if lost >= plan.grain.get().saturating_mul(4) {
            return Err(CheckError::Unaccounted(lost));
        }
    }
    Ok(())
}

/// Where free space ends though no partition begins: the extended partition and boot records.
fn boundaries(plan: &Plan) -> Vec<Bytes> {
    let extended = match plan.table.label {
        PlannedLabel::Mbr { extended, .. } => extended.map(|one| one.extent.start),
        PlannedLabel::Gpt => None,
    };
    let records = plan.listed().filter_map(|one| one.mbr?.at);
    records.chain(extended).collect()
}

fn usable(plan: &Plan) -> Extent {
    let sector = plan.table.sector;
    let start = plan.table.first_usable.start(sector);
    let behind = image_specs::units::Lba::new(plan.table.last_usable.get().saturating_add(1));
    let (start, end) = (start.unwrap_or(Bytes::MAX), behind.start(sector));
    Extent::new(start, end.unwrap_or(Bytes::MAX).saturating_sub(start))
}
