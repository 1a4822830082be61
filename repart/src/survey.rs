//! What was found: the disk, its partition table, and the sizes of what is to be copied.
//!
//! Plain values only. Whoever opens files fills this in; the planner reads nothing else, so a plan
//! can be made, tested and repeated without a disk. Pure.

use std::collections::BTreeMap;

use image_specs::mbr::{MbrError, MbrType};
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, Extent, Lba, SectorSize};
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
    /// A table that is neither GPT nor a master boot record.
    Other,
    /// A GPT.
    Gpt(FoundTable),
    /// A master boot record.
    Mbr(FoundMbr),
    /// A master boot record that makes no sense.
    DamagedMbr(MbrError),
}

/// A master boot record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundMbr {
    /// The disk's number, 0 where it was never set.
    pub disk_id: u32,
    /// The partition that holds the logical ones; itself not among `partitions`.
    pub extended: Option<ExtendedPartition>,
    /// The partitions with data, by ascending slot number; logical ones begin with slot 4. Their types
    /// are the nearest that a GPT has, their UUIDs all zeros and their labels empty.
    pub partitions: Vec<FoundPartition>,
    /// What the table says of each of these slots.
    pub records: BTreeMap<u32, MbrRecord>,
}

/// A partition as a master boot record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MbrRecord {
    /// Its type.
    pub kind: MbrType,
    /// First byte of the boot record that lists it; `None` for a primary partition.
    pub at: Option<Bytes>,
}

/// The partition of a master boot record that holds the logical ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedPartition {
    /// Place in the table, from 0.
    pub slot: u32,
    /// Where it lies, in bytes.
    pub extent: Extent,
}

/// A GPT as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundTable {
    /// The disk's UUID, all zeros where it was never set.
    pub disk_uuid: Uuid,
    /// First sector that partitions may use.
    pub first_usable: Lba,
    /// Last sector that partitions may use.
    pub last_usable: Lba,
    /// Number of slots.
    pub slots: u32,
    /// Where its backup stands; the last sector, unless the disk has grown since.
    pub backup: Lba,
    /// Bytes of a slot.
    pub slot_size: u32,
    /// The used slots, by ascending slot number.
    pub partitions: Vec<FoundPartition>,
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

impl FoundTable {
    /// The last usable sector where the table stands on a disk of `size`: behind it come the backup of
    /// the slots and the backup header. `None` where that leaves no usable sector.
    pub fn last_usable_on(&self, size: Bytes, sector: SectorSize) -> Option<Lba> {
        let behind = self.backup_size(sector) / sector.get();
        let last = (size.get() / sector.get()).checked_sub(behind.checked_add(1)?)?;
        (last >= self.first_usable.get()).then_some(Lba::new(last))
    }

    /// Bytes of the backup: whole sectors of slots, and its header.
    pub fn backup_size(&self, sector: SectorSize) -> u64 {
        let slots = u64::from(self.slots).saturating_mul(self.slot_size.into());
        let sectors = slots.div_ceil(sector.get()).saturating_add(1);
        sectors.saturating_mul(sector.get())
    }
}
