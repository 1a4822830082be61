//! What a run is doing, for whoever watches it. Pure.
//!
//! The names are those of systemd-repart 262, in its interface `io.systemd.Repart` and in what it tells
//! the service manager.

use std::path::{Path, PathBuf};

use super::steps::Step;
use crate::definition::Definition;
use crate::plan::{Fate, Plan};

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Reading definitions.
    LoadingDefinitions,
    /// Opening the disk and reading its partition table.
    LoadingTable,
    /// Opening what `CopyBlocks=` names.
    OpeningCopyBlockSources,
    /// Choosing labels and UUIDs.
    AcquiringPartitionLabels,
    /// Building a file system to learn its size.
    Minimizing,
    /// Planning.
    Placing,
    /// Clearing what is on the disk.
    WipingDisk,
    /// Clearing what is where a partition will be.
    WipingPartition,
    /// Copying blocks into a partition.
    CopyingPartition,
    /// Making a file system, a hash tree or a signature in a partition.
    FormattingPartition,
    /// Changing an entry of the partition table.
    AdjustingPartition,
    /// Writing the partition table.
    WritingTable,
    /// Telling the kernel of it.
    RereadingTable,
}

/// What is about to be done, or, with 100 percent, was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doing {
    /// The part of the run; `None` for what has no name of its own, and belongs to the part before.
    pub phase: Option<Phase>,
    /// The definition file that it is about.
    pub object: Option<PathBuf>,
    /// How much of it is done.
    pub percent: Option<u8>,
    /// The same in words.
    pub text: String,
}

impl Phase {
    /// Its name as Varlink has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LoadingDefinitions => "loading_definitions",
            Self::LoadingTable => "loading_table",
            Self::OpeningCopyBlockSources => "opening_copy_block_sources",
            Self::AcquiringPartitionLabels => "acquiring_partition_labels",
            Self::Minimizing => "minimizing",
            Self::Placing => "placing",
            Self::WipingDisk => "wiping_disk",
            Self::WipingPartition => "wiping_partition",
            Self::CopyingPartition => "copying_partition",
            Self::FormattingPartition => "formatting_partition",
            Self::AdjustingPartition => "adjusting_partition",
            Self::WritingTable => "writing_table",
            Self::RereadingTable => "rereading_table",
        }
    }

    /// The same in words, to begin a line with.
    pub fn text(self) -> String {
        self.name().replace('_', " ")
    }
}

impl Doing {
    /// What has a name of its own.
    pub fn new(phase: Phase) -> Self {
        Self {
            phase: Some(phase),
            object: None,
            percent: None,
            text: phase.text(),
        }
    }

    /// What belongs to the part before.
    pub fn more(text: impl Into<String>) -> Self {
        Self {
            phase: None,
            object: None,
            percent: None,
            text: text.into(),
        }
    }

    /// The same, about a definition file.
    pub fn of(mut self, file: Option<&Path>) -> Self {
        self.object = file.map(Path::to_owned);
        self
    }

    /// The same in other words.
    pub fn saying(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// The same, done.
    pub fn done(mut self) -> Self {
        self.percent = Some(100);
        self
    }
}

/// The part of the run that a step belongs to, and the definition that it is about.
pub(super) fn of(step: &Step, plan: &Plan, definitions: &[Definition]) -> Doing {
    let file = |index: usize| file(index, plan, definitions);
    let about = |phase, index: &usize| Doing::new(phase).of(file(*index));
    match step {
        Step::Mend | Step::Detach | Step::Commit => Doing::new(Phase::WritingTable),
        Step::Resize(_) | Step::BootCatalog { .. } | Step::Flush => Doing::more(""),
        Step::ClearSignatures => Doing::new(Phase::WipingDisk),
        Step::Zero(_) if plan.table.from_scratch => Doing::new(Phase::WipingDisk),
        Step::Zero(extent) => {
            let mut partitions = plan.partitions.iter();
            let index = partitions.position(|one| one.is_to_write() && one.offset == extent.start);
            Doing::new(Phase::WipingPartition).of(index.and_then(file))
        }
        Step::Blocks(index) => about(Phase::CopyingPartition, index),
        Step::FileSystem(index) => about(Phase::FormattingPartition, index),
        Step::HashTree { hash, .. } => about(Phase::FormattingPartition, hash),
        Step::Signature { signature, .. } => about(Phase::FormattingPartition, signature),
        Step::Tell(_) => Doing::new(Phase::RereadingTable),
    }
}

/// What changes in the partition table, entry by entry.
pub(super) fn adjusted(plan: &Plan, definitions: &[Definition]) -> Vec<Doing> {
    let changed = plan.partitions.iter().enumerate();
    let changed = changed.filter(|(_, one)| one.is_to_write() || one.fate == Fate::Resize);
    let doing = |index| Doing::new(Phase::AdjustingPartition).of(file(index, plan, definitions));
    changed.map(|(index, _)| doing(index)).collect()
}

fn file<'a>(index: usize, plan: &Plan, definitions: &'a [Definition]) -> Option<&'a Path> {
    let at = plan.partitions.get(index)?.definition?;
    definitions.get(at)?.origin.path.as_deref()
}
