//! The acts that carry a plan out, in order. Pure: order and barriers are decided (and tested) here
//! and nowhere else.
//!
//! Invariant: everything that a new partition holds is written and flushed before the table names
//! it, so a run that is cut short leaves the old table with all that it names. Only logical partitions
//! of a master boot record that end are taken out beforehand: their records lie among them. What the kernel is told
//! ([`super::kernel`]) comes behind all of them.

use std::collections::BTreeSet;

use blockdev::partitions::changes::Change;
use image_specs::partition::Designator;
use image_specs::units::{Bytes, Extent, Lba};

use super::job::Job;
use crate::definition::{Definition, Format, VerityMode};
use crate::plan::{EmptyMode, Plan, PlannedPartition};

/// One act. Partitions are meant by their place in [`Plan::partitions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write the old table again, as only its backup is sound and that is about to be left behind.
    Mend,
    /// Write the old master boot record without the logical partitions that end.
    Detach,
    /// Change the file's size.
    Resize(Bytes),
    /// Clear the signatures of old file systems on the disk, but not those of partition tables.
    ClearSignatures,
    /// Make the range read as zeros, so that no old signature shows in a new partition. A disk that
    /// takes long for that loses what is known as a signature; contents then bring their own zeros.
    Zero(Extent),
    /// Copy the staged file or the `CopyBlocks=` source into the partition.
    Blocks(usize),
    /// Make the file system, with its contents.
    FileSystem(usize),
    /// Hash the data partition's blocks into the hash partition.
    HashTree {
        /// The partition that is hashed.
        data: usize,
        /// The partition that gets superblock and tree.
        hash: usize,
    },
    /// Sign the root hash, or take the signature that was given.
    Signature {
        /// The partition whose root hash is signed.
        hash: usize,
        /// The partition that gets the signature.
        signature: usize,
    },
    /// Write the El Torito boot catalog for the ESP.
    BootCatalog {
        /// The ESP.
        esp: usize,
    },
    /// Wait until all of this is on stable storage.
    Flush,
    /// Write the partition table: backup, flush, primary, flush.
    Commit,
    /// Tell the kernel what has become of a partition.
    Tell(Change),
}

/// The acts for `plan`; `staged` are the places of partitions whose content was written into the
/// target beforehand; `mend` says that only the backup of the old table is sound.
pub fn steps(job: &Job, plan: &Plan, staged: &BTreeSet<usize>, mend: bool) -> Vec<Step> {
    let definitions = job.definitions();
    let mut steps = Vec::new();
    if plan.new_disk_size != plan.old_disk_size {
        if mend {
            // A backup that is no longer at the end would not be found.
            steps.push(Step::Mend);
        }
        steps.push(Step::Resize(plan.new_disk_size));
    }
    if !plan.changed {
        if !steps.is_empty() {
            // The backup of the table belongs at the new end.
            steps.extend([Step::Flush, Step::Commit]);
        }
        return steps;
    }
    if job.options.empty != EmptyMode::Create {
        // A new file holds nothing that could show.
        steps.extend(clearing(plan));
    }
    let written = |index: &usize| staged.contains(index);
    // Block copies come first, as they may be what a file system's hash tree is made of.
    let contents = contents(plan, definitions);
    let (copies, file_systems): (Vec<_>, Vec<_>) = contents
        .into_iter()
        .partition(|(_, step)| matches!(step, Step::Blocks(_)));
    for (index, step) in copies.into_iter().chain(file_systems) {
        steps.extend((!written(&index)).then_some(step));
        steps.extend(verity(index, plan, definitions));
    }
    // Then the trees of data that was there before, or that is left as it is.
    for index in 0..plan.partitions.len() {
        let missing = verity(index, plan, definitions);
        if missing.first().is_some_and(|step| !steps.contains(step)) {
            steps.extend(missing);
        }
    }
    if let Some(esp) = esp(plan).filter(|_| job.el_torito.is_some()) {
        steps.push(Step::BootCatalog { esp });
    }
    steps.extend([Step::Flush, Step::Commit]);
    steps
}

/// What makes old content invisible. The old partition table is none of it: committing the new one
/// ends it, so that there is always one of the two.
fn clearing(plan: &Plan) -> Vec<Step> {
    let sector = plan.table.sector;
    let usable = plan
        .table
        .first_usable
        .start(sector)
        .zip(Lba::new(plan.table.last_usable.get().saturating_add(1)).start(sector));
    let within = |extent: &Extent| {
        let (first, end) = usable?;
        let start = extent.start.max(first);
        let size = extent.end()?.min(end).checked_sub(start)?;
        Some(Extent::new(start, size)).filter(|extent| !extent.size.is_zero())
    };
    let mut steps: Vec<Step> = plan
        .wipe
        .iter()
        .filter_map(within)
        .map(Step::Zero)
        .collect();
    if plan.table.from_scratch {
        steps.insert(0, Step::ClearSignatures);
    }
    steps
}

/// The first ESP of the plan.
pub fn esp(plan: &Plan) -> Option<usize> {
    let mut partitions = plan.partitions.iter();
    partitions.position(|partition| {
        partition.is_listed() && partition.kind.designator() == Some(Designator::Esp)
    })
}

/// What fills each partition that is to be written and gets a content of its own, in list order.
fn contents(plan: &Plan, definitions: &[Definition]) -> Vec<(usize, Step)> {
    let filled = |(index, partition): (usize, &PlannedPartition)| {
        let definition = definitions.get(partition.definition?)?;
        let step = match (
            &definition.copy_blocks,
            definition.verity.mode,
            &definition.format,
        ) {
            (Some(_), ..) => Step::Blocks(index),
            (None, VerityMode::Hash | VerityMode::Signature, _) => return None,
            (None, _, None | Some(Format::Empty)) => return None,
            (None, _, Some(_)) => Step::FileSystem(index),
        };
        partition.is_to_write().then_some((index, step))
    };
    plan.partitions
        .iter()
        .enumerate()
        .filter_map(filled)
        .collect()
}

/// The hash tree and signature over a data partition, where they are to be made now.
fn verity(data: usize, plan: &Plan, definitions: &[Definition]) -> Vec<Step> {
    let siblings = plan.partitions[data].verity;
    let to_make = |index: Option<usize>| {
        let partition = &plan.partitions[index?];
        let definition = definitions.get(partition.definition?)?;
        index.filter(|_| partition.is_to_write() && definition.copy_blocks.is_none())
    };
    if siblings.data != Some(data) {
        return Vec::new();
    }
    let signature = to_make(siblings.signature);
    let sign = |hash| signature.map(|signature| Step::Signature { hash, signature });
    match (to_make(siblings.hash), siblings.hash) {
        (Some(hash), _) => [Some(Step::HashTree { data, hash }), sign(hash)]
            .into_iter()
            .flatten()
            .collect(),
        // The tree was made in an earlier run that left the signature for later.
        (None, Some(hash)) if plan.partitions[hash].found.is_some() => {
            sign(hash).into_iter().collect()
        }
        _ => Vec::new(),
    }
}
