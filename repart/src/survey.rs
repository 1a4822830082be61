//! What was found: the disk, its partition table, and the sizes of what is to be copied.
//!
//! Plain values only. Whoever opens files fills this in; the planner reads nothing else, so a plan
//! can be made, tested and repeated without a disk. Pure.

use image_specs::gpt::Table;
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, Extent, SectorSize};
use uuid::Uuid;

/// The state of the world that a plan starts from.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// Size of the disk or file as it is now; zero where it does not exist yet.
    pub disk_size: Bytes,
    /// Logical sector size that the table is counted in.
    pub sector: SectorSize,
    /// What stands at the start of the disk.
    pub label: FoundLabel,
    /// What is known of each definition's content, by its place in the list; may be shorter than it.
    pub contents: Vec<FoundContent>,
}

/// What stands where a partition table would.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum FoundLabel {
    /// No partition table.
    #[default]
    None,
    /// A table that is not GPT.
    Other,
    /// A GPT.
    Gpt(Box<Table>),
}

/// A partition that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPartition {
    /// Place in the table, from 0.
    pub slot: u32,
    /// Its type.
    pub kind: PartitionType,
    /// Its UUID, all zeros where it was never set.
    pub uuid: Uuid,
    /// Its label.
    pub label: String,
    /// Its attribute bits.
    pub flags: u64,
    /// Where it lies, in bytes.
    pub extent: Extent,
}

/// What is known of one definition's content before the layout is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundContent {
    /// Size of the `CopyBlocks=` source or of the file system that was built beforehand (`Minimize=`,
    /// a hash tree); `None` where there is none or where the source has no size.
    pub blocks: Option<Bytes>,
    /// UUID of the partition that `CopyBlocks=auto` found, kept for the copy.
    pub uuid: Option<Uuid>,
    /// Size of the device that `BlockDeviceReplace=` moves.
    pub replaced: Option<Bytes>,
}

impl FoundPartition {
    /// The usable partitions of a table, by ascending slot; entries that end before they start are
    /// left out.
    pub fn all(table: &Table) -> Vec<Self> {
        let found = |(slot, entry): (&u32, &image_specs::gpt::Entry)| {
            Some(Self {
                slot: *slot,
                kind: entry.kind,
                uuid: entry.uuid,
                label: entry.label.text().unwrap_or_default(),
                flags: entry.attributes,
                extent: entry.extent(table.sector_size())?,
            })
        };
        table.slots().iter().filter_map(found).collect()
    }
}
