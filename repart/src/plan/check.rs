//! Proves a plan again before it is applied. Pure.

use image_specs::units::{Bytes, Extent};

use super::{Fate, Plan, PlannedPartition};
use crate::survey::{FoundLabel, Survey};

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
    let mut placed: Vec<&PlannedPartition> = plan.listed().collect();
    placed.sort_by_key(|partition| partition.offset);
    check_places(plan, &placed)?;
    check_accounts(plan, &placed)
}

/// Everything that existed is still there, where it was, and no smaller.
fn check_kept(plan: &Plan, survey: &Survey) -> Result<(), CheckError> {
    let (false, FoundLabel::Gpt(table)) = (plan.table.from_scratch, &survey.label) else {
        return Ok(());
    };
    for found in &table.partitions {
        let number = u64::from(found.slot) + 1;
        if plan.reset.contains(found) {
            continue;
        }
        let kept = plan.listed().find(|p| p.slot == Some(found.slot));
        let kept = kept.ok_or(CheckError::Lost(number))?;
        if kept.kind != found.kind || kept.found.as_ref() != Some(found) {
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
    for (partition, next) in placed.iter().zip(starts.chain([end])) {
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

fn usable(plan: &Plan) -> Extent {
    let sector = plan.table.sector;
    let start = plan.table.first_usable.start(sector);
    let behind = image_specs::units::Lba::new(plan.table.last_usable.get().saturating_add(1));
    let (start, end) = (start.unwrap_or(Bytes::MAX), behind.start(sector));
    Extent::new(start, end.unwrap_or(Bytes::MAX).saturating_sub(start))
}
