//! From what is wanted and what was found to the new layout.
//!
//! [`plan`] is pure: the same survey, definitions, options and random numbers give the same [`Plan`],
//! which is systemd-repart's. A plan holds all that is needed to print it and to apply it. Invariants
//! (proved again by [`check`] before a plan is applied): nothing overlaps, everything lies inside the
//! usable area, nothing that existed moves, shrinks or vanishes unless a factory reset or a new table
//! was asked for, and every byte of the disk is accounted for.

mod auto;
mod check;
mod compare;
mod cut;
mod error;
mod existing;
mod fit;
mod grow;
mod identity;
mod layout;
mod make;
mod matching;
mod mbr;
mod place;
mod shares;
mod size;

use image_specs::identity::Seed;
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, Extent, Grain, Lba, SectorSize};
use uuid::Uuid;

use crate::survey::{ExtendedPartition, FoundPartition, MbrRecord};

pub use auto::{AutoError, growable};
pub use check::{CheckError, check};
pub use compare::{Deviation, Difference, compare};
pub use error::{ExitClass, PlanError};
pub use existing::ExistingError;
pub use identity::Random;
pub use make::{minimal_size, plan};
pub use shares::ShareError;

/// How a plan is made: what the command line says.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// What UUIDs are derived from.
    pub seed: Seed,
    /// Whether later runs have the same seed, so that a definition knows what it made by the UUID.
    pub seed_lasts: bool,
    /// `--grain-size=`; the effective one is never below 4096 or the sector.
    pub grain: Option<Grain>,
    /// `--empty=`.
    pub empty: EmptyMode,
    /// `--size=`.
    pub size: SizeMode,
    /// Delete the partitions that are marked for it first.
    pub factory_reset: ResetMode,
    /// How much memory the machine has that sizes are shares of, where that is known.
    pub memory: Option<Bytes>,
    /// Which partitions get space but neither content nor a table entry.
    pub defer: Defer,
    /// Sector size of file systems where a definition does not set it.
    pub fs_sector: u64,
}

impl Options {
    /// The defaults of the command line, with a seed that later runs have, too.
    pub fn new(seed: Seed) -> Self {
        Self {
            seed,
            seed_lasts: true,
            grain: None,
            empty: EmptyMode::default(),
            size: SizeMode::default(),
            factory_reset: ResetMode::default(),
            memory: None,
            defer: Defer::default(),
            fs_sector: 4096,
        }
    }
}

/// `--empty=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmptyMode {
    /// There must be a GPT.
    #[default]
    Refuse,
    /// Extend a GPT or write a new one.
    Allow,
    /// There must be no partition table.
    Require,
    /// Always write a new table.
    Force,
    /// Make a new file.
    Create,
}

/// `--size=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SizeMode {
    /// Leave the disk's size alone.
    #[default]
    Keep,
    /// Grow a smaller file to this.
    AtLeast(Bytes),
    /// Grow a smaller file to what the partitions need at least.
    Auto,
}

/// `--factory-reset=`: whether partitions marked for it are deleted first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetMode {
    /// Where the disk asks for it: all bits of its UUID are set. It gets a new UUID then.
    #[default]
    WhenAsked,
    /// Not at all.
    Never,
    /// Delete them, and go on as if they had never been there.
    Recreate,
    /// Delete them, and do nothing else.
    Leave,
}

impl From<bool> for ResetMode {
    fn from(reset: bool) -> Self {
        match reset {
            true => Self::Recreate,
            false => Self::Never,
        }
    }
}

/// `--defer-partitions=` and its companions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defer {
    /// Those of these types.
    pub types: Vec<PartitionType>,
    /// Those labelled `_empty`.
    pub empty: bool,
    /// Those with `FactoryReset=yes`.
    pub factory_reset: bool,
}

/// The new layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Size of the disk or file before.
    pub old_disk_size: Bytes,
    /// Size of the disk or file after.
    pub new_disk_size: Bytes,
    /// The table to write.
    pub table: PlannedTable,
    /// Alignment of starts and sizes.
    pub grain: Grain,
    /// Definitions in list order, then what was found without one; the dropped and merged too.
    pub partitions: Vec<PlannedPartition>,
    /// What a factory reset deletes first.
    pub reset: Vec<FoundPartition>,
    /// What must hold no old signature any more: the new partitions and the gaps behind them; the
    /// whole disk where the table is new.
    pub wipe: Vec<Extent>,
    /// Whether anything is to be written: a new table, a new partition or a different size.
    pub changed: bool,
}

/// The header of the table to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTable {
    /// What kind of table it is.
    pub label: PlannedLabel,
    /// Whether no table existed, or the old one goes.
    pub from_scratch: bool,
    /// The disk's UUID, which only a GPT holds.
    pub disk_uuid: Uuid,
    /// First sector that partitions may use.
    pub first_usable: Lba,
    /// Last sector that partitions may use.
    pub last_usable: Lba,
    /// Number of slots.
    pub slots: u32,
    /// Sector size.
    pub sector: SectorSize,
}

/// A kind of table, with what only that kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlannedLabel {
    /// A GPT.
    Gpt,
    /// A master boot record.
    Mbr {
        /// The disk's number.
        disk_id: u32,
        /// The partition that holds the logical ones; itself not among [`Plan::partitions`].
        extended: Option<ExtendedPartition>,
    },
}

/// One partition of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedPartition {
    /// The definition it follows, by its place in the list; `None` for what was found without one
    /// (or was given up on).
    pub definition: Option<usize>,
    /// What happens to it.
    pub fate: Fate,
    /// Whether it gets space but neither content nor a table entry now; an existing one is left as it is.
    pub deferred: bool,
    /// Whether its definition was given up, by its priority, because it cannot grow as that wants.
    pub given_up: bool,
    /// The partition as found; `None` for a new one.
    pub found: Option<FoundPartition>,
    /// Its place in the table, from 0; `None` for what is not in it.
    pub slot: Option<u32>,
    /// Its type.
    pub kind: PartitionType,
    /// What a master boot record says of it; `None` in a GPT.
    pub mbr: Option<MbrRecord>,
    /// Its label from now on.
    pub label: String,
    /// Its UUID from now on; for verity data and hash partitions without `UUID=`, until the root hash
    /// decides, all zeros.
    pub uuid: Uuid,
    /// Whether the root hash of its verity set decides the UUID.
    pub uuid_from_root_hash: bool,
    /// Attribute bits from now on.
    pub flags: u64,
    /// First byte; zero for what is not placed.
    pub offset: Bytes,
    /// Size before, zero for a new one.
    pub old_size: Bytes,
    /// Size after.
    pub new_size: Bytes,
    /// Free space behind it before, zero for a new one.
    pub old_padding: Bytes,
    /// Free space behind it after.
    pub new_padding: Bytes,
    /// UUID of its file system, swap area or superblock.
    pub fs_uuid: Uuid,
    /// UUID of its LUKS2 header.
    pub luks_uuid: Uuid,
    /// The other members of its verity set.
    pub verity: VeritySiblings,
}

/// What happens to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is made.
    Create,
    /// It grows.
    Resize,
    /// It stays as it is.
    Unchanged,
    /// It does not fit and, by its priority, is left out.
    Dropped,
    /// It is part of the partition at this place of the plan (`SupplementFor=`).
    Merged(usize),
}

/// Where the members of a verity set stand in [`Plan::partitions`]; all `None` outside of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VeritySiblings {
    /// The data partition.
    pub data: Option<usize>,
    /// The hash partition.
    pub hash: Option<usize>,
    /// The signature partition.
    pub signature: Option<usize>,
}

impl Plan {
    /// What `PARTUUID=` says of a partition: its UUID or, as a master boot record has none, the disk's
    /// number and its own. `None` where that is not known yet.
    pub fn part_uuid(&self, partition: &PlannedPartition) -> Option<String> {
        match self.table.label {
            PlannedLabel::Gpt => Some(partition.uuid)
                .filter(|uuid| !uuid.is_nil())
                .map(|uuid| uuid.to_string()),
            PlannedLabel::Mbr { disk_id, .. } => {
                let number = u64::from(partition.slot?) + 1;
                Some(format!("{disk_id:08x}-{number:02x}"))
            }
        }
    }

    /// The partitions that are on the disk afterwards, in list order.
    pub fn listed(&self) -> impl Iterator<Item = &PlannedPartition> {
        self.partitions.iter().filter(|p| p.is_listed())
    }
}

impl PlannedPartition {
    /// Whether it is on the disk afterwards: neither dropped nor merged.
    pub fn is_listed(&self) -> bool {
        !matches!(self.fate, Fate::Dropped | Fate::Merged(_))
    }

    /// Whether its content is to be written now.
    pub fn is_to_write(&self) -> bool {
        self.fate == Fate::Create && !self.deferred
    }

    /// Where it lies afterwards.
    pub fn extent(&self) -> Extent {
        Extent::new(self.offset, self.new_size)
    }
}
