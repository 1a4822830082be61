//! What the kernel knows of the disk: which parts of it are in use, and what it has to learn when the
//! table has changed. Pure but for the methods of [`Session`].
//!
//! Invariant: a partition that stays as it is is not spoken of, so whoever uses it notices nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use blockdev::partitions::Wanted;
use blockdev::partitions::changes::{Change, changes};
use blockdev::sysfs::{Number, Sysfs};
use blockdev::udev::Udev;
use blockdev::usage::{Use, User};
use image_specs::units::{Bytes, Extent};

use super::session::{Session, SessionError};
use super::steps::Step;
use super::target::Target;
use crate::plan::{Plan, PlannedLabel, PlannedPartition};

/// What the plan would end is in use.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} cannot be changed as planned, because what would be lost is in use: {}; stop that first",
    disk.display(),
    list(uses)
)]
pub struct InUse {
    /// The disk.
    pub disk: PathBuf,
    /// By whom.
    pub uses: Vec<Use>,
}

/// What the kernel must be told once the table is committed, where it knows the partitions `known`.
///
/// Also without any change of the table: a run that was cut short may have left that to the next.
pub fn steps(plan: &Plan, known: &[Wanted]) -> Vec<Step> {
    let changes = changes(known, &wanted(plan));
    changes.into_iter().map(Step::Tell).collect()
}

/// The partitions that the table names afterwards.
fn wanted(plan: &Plan) -> Vec<Wanted> {
    let named = |partition: &PlannedPartition| {
        let extent = match &partition.found {
            Some(found) if partition.deferred || !plan.changed => found.extent,
            None if partition.deferred || !plan.changed => return None,
            _ => partition.extent(),
        };
        let number = partition.slot?.checked_add(1)?;
        Some(Wanted { number, extent })
    };
    plan.listed()
        .filter_map(named)
        .chain(extended(plan))
        .collect()
}

/// The extended partition of a master boot record, as short as the kernel shows it.
fn extended(plan: &Plan) -> Option<Wanted> {
    const SHOWN: Bytes = Bytes::kib(1);
    let PlannedLabel::Mbr { extended, .. } = plan.table.label else {
        return None;
    };
    let extended = extended?;
    let size = extended
        .extent
        .size
        .min(SHOWN.max(plan.table.sector.bytes()));
    Some(Wanted {
        number: extended.slot.checked_add(1)?,
        extent: Extent::new(extended.extent.start, size),
    })
}

/// Uses of what the plan ends: of the disk as a whole, of the partitions that a factory reset deletes,
/// of all of them where the table is new; and of those that the table does not name where they lie, as
/// only the kernel still knows them, if the plan gives their place to others.
pub fn in_the_way(plan: &Plan, uses: &[Use]) -> Vec<Use> {
    let ends = |used: &&Use| match used.partition {
        None => true,
        Some(_) if plan.table.from_scratch => true,
        Some(number) => {
            plan.reset.iter().any(|gone| gone.slot + 1 == number)
                || used
                    .extent
                    .is_some_and(|extent| gives_away(plan, number, extent))
        }
    };
    let changes = plan.changed || plan.new_disk_size != plan.old_disk_size;
    uses.iter()
        .filter(ends)
        .filter(|_| changes)
        .cloned()
        .collect()
}

/// Whether the plan writes to what the kernel knows as the partition `number`, or grows another into it.
fn gives_away(plan: &Plan, number: u32, known: Extent) -> bool {
    let grown = |partition: &PlannedPartition| {
        let found = partition.found.as_ref()?;
        let others = partition.slot?.checked_add(1)? != number && !partition.deferred;
        let start = found.extent.end().filter(|_| others)?;
        let size = partition.extent().end()?.checked_sub(start)?;
        Some(Extent::new(start, size))
    };
    let record = |partition: &PlannedPartition| {
        let at = partition.mbr.as_ref()?.at?;
        let to_write = partition.is_to_write();
        to_write.then(|| Extent::new(at, plan.table.sector.bytes()))
    };
    let mut taken = (plan.wipe.iter().copied())
        .chain(plan.listed().filter_map(grown))
        .chain(plan.listed().filter_map(record));
    taken.any(|taken| taken.overlaps(known))
}

/// Waits until udev knows the partitions that were added, where it runs; what to say where it is slow.
/// The disk's lock must be free.
pub(super) fn settle(disk: &Path, steps: &[Step]) -> Option<String> {
    let added = steps.iter().filter_map(|step| match step {
        Step::Tell(Change::Add(wanted)) => Some(wanted.number),
        _ => None,
    });
    let metadata = fs::metadata(disk).ok()?;
    let block = Sysfs::default()
        .block(Number::from_dev(metadata.rdev()))
        .ok()?;
    let number = |partition| block.partition_of(partition).ok()??.number().ok();
    let numbers: Vec<Number> = added.filter_map(number).collect();
    let slow = Udev::default().wait_for(&numbers);
    (!slow.is_empty()).then(|| {
        let names: Vec<String> = slow.iter().map(Number::to_string).collect();
        let names = names.join(", ");
        format!("warning: udev has not seen the new partitions yet (devices {names}); udevadm settle waits for it")
    })
}

impl Session<'_> {
    /// What the kernel must be told of the plan; nothing for files.
    pub(super) fn tell_steps(&self, plan: &Plan) -> Vec<Step> {
        let known = self.target.as_ref().and_then(Target::kernel);
        known.map_or_else(Vec::new, |known| steps(plan, known))
    }

    /// Whether the kernel knows other partitions than the plan leads to.
    pub fn kernel_differs(&self, plan: &Plan) -> bool {
        !self.tell_steps(plan).is_empty()
    }

    /// Refuses to end what is in use.
    pub(super) fn require_unused(&self, plan: &Plan) -> Result<(), SessionError> {
        let target = self.target.as_ref();
        target.map_or(Ok(()), |target| require_unused(target, plan))
    }
}

/// Refuses to end what is in use now.
pub(super) fn require_unused(target: &Target, plan: &Plan) -> Result<(), SessionError> {
    let uses = in_the_way(plan, &target.uses()?);
    match uses.is_empty() {
        true => Ok(()),
        false => Err(SessionError::InUse(InUse {
            disk: target.path().to_owned(),
            uses,
        })),
    }
}

fn list(uses: &[Use]) -> String {
    let one = |used: &Use| {
        let user: &User = &used.user;
        match used.partition {
            Some(number) => format!("partition {number} is {user}"),
            None => format!("it is {user}"),
        }
    };
    let all: Vec<String> = uses.iter().map(one).collect();
    all.join(", ")
}
