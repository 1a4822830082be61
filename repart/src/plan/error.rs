//! Why no plan can be made. Pure.

use image_specs::gpt::LayoutError;
use image_specs::mbr::MbrError;
use image_specs::units::Bytes;

use super::existing::ExistingError;
use super::shares::ShareError;

/// Why no plan can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// `--empty=refuse` and nothing there.
    #[error(
        "the disk has no partition table, so it is left alone; --empty=allow lets one be written"
    )]
    NoTable,
    /// A table that is not GPT.
    #[error(
        "the disk has a partition table that is not GPT, so it is left alone; --empty=force replaces it and loses its partitions"
    )]
    NotGpt,
    /// `--empty=require` and a table is there.
    #[error("the disk has a partition table already, but --empty=require wants it empty")]
    NotEmpty,
    /// `--factory-reset=yes` with a new table.
    #[error(
        "a factory reset needs an existing partition table, so it cannot be asked for together with --empty=force, require or create"
    )]
    ResetOfNewTable,
    /// The disk is too small for a table.
    #[error(transparent)]
    Table(#[from] LayoutError),
    /// An existing partition does not lie where the table lets partitions be.
    #[error(
        "existing partition {number} lies outside of the area that the partition table lets be used, so the disk is left alone; check it with \"sfdisk --verify\""
    )]
    OutOfRange {
        /// Its number, from 1.
        number: u64,
    },
    /// The disk ends where the last partition does, as a cut image.
    #[error(
        "existing partition {number} reaches to where the second copy of the partition table belongs, so the disk is left alone; make it {} bytes larger at least, an image file for instance with --size=", missing.get()
    )]
    NoRoomForBackup {
        /// The partition's number, from 1.
        number: u64,
        /// What the disk lacks.
        missing: Bytes,
    },
    /// Two existing partitions share sectors.
    #[error(
        "existing partitions {first} and {second} overlap, so the disk is left alone; check it with \"sfdisk --verify\""
    )]
    Overlap {
        /// Number of the one that starts first, from 1.
        first: u64,
        /// Number of the other.
        second: u64,
    },
    /// Not everything fits.
    #[error(
        "the partitions do not fit: {what} needs {needed}, but the largest free area has {largest}; make the disk {missing} larger ({minimal} at least, it is {current}), lower SizeMinBytes=, or give what can be left out a Priority= above 0"
    )]
    NoSpace {
        /// The partition that finds no place, as the user knows it.
        what: String,
        /// What it needs, padding included.
        needed: Bytes,
        /// The largest free area.
        largest: Bytes,
        /// By how much the disk is too small at least.
        missing: Bytes,
        /// What the disk must have at least.
        minimal: Bytes,
        /// The same without the partitions that no definition is for.
        emptied: Bytes,
        /// What the partitions that have definitions need, without the partition table.
        wanted: Bytes,
        /// What it has.
        current: Bytes,
    },
    /// An existing partition is too small, and what lies behind it is taken.
    #[error(
        "{what} needs {needed}, but the one that exists, number {number}, has {room} at most: what lies behind it is taken, and nothing is moved unasked; lower its SizeMinBytes= (10M where none is given) or PaddingMinBytes=, or give it a Priority= above 0"
    )]
    CannotGrow {
        /// The partition as the user knows it.
        what: String,
        /// Its number, from 1.
        number: u64,
        /// What it needs, padding included.
        needed: Bytes,
        /// What it has, with the free space behind it.
        room: Bytes,
    },
    /// A definition demands another state of what exists.
    #[error(transparent)]
    Existing(#[from] ExistingError),
    /// A share that cannot be counted.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// A master boot record that makes no sense.
    #[error(
        "the master boot record of the disk is damaged, so the disk is left alone: {0}; check it with \"sfdisk --verify\""
    )]
    DamagedMbr(MbrError),
    /// A disk without room behind its first MiB.
    #[error("a disk of {size} has no room for partitions, which begin at 1M")]
    NoRoomForMbr {
        /// What the disk has.
        size: Bytes,
    },
    /// A definition whose partition a master boot record could not tell from others.
    #[error(
        "{what}: such a partition has no type of its own in a master boot record; say which it is to have, as in Type=\"gpt:… mbr:linux\""
    )]
    NoMbrType {
        /// The definition's file.
        what: String,
    },
    /// A definition that knows the partitions it made by their UUIDs.
    #[error(
        "{what}: partitions in a master boot record have no UUIDs, so IfExists= cannot tell which one was made by this definition; remove it"
    )]
    NoIdentity {
        /// The definition's file.
        what: String,
    },
    /// A definition that only says what it is in a master boot record.
    #[error(
        "{what}: Type= names only a type for master boot records, but the table is a GPT; add one as in Type=\"gpt:linux-generic mbr:…\", or pass --label=mbr for a new table"
    )]
    OnlyMbr {
        /// The definition's file.
        what: String,
    },
    /// More partitions than fit beside the guard.
    #[error(
        "more than three definitions have hybrid: in Type=, but a hybrid record has room for three"
    )]
    Hybrid,
    /// No place for a primary partition, and no extended partition.
    #[error(
        "the four places of the master boot record are used and none of them is an extended partition, so there is none for {what}; remove a definition, or a partition"
    )]
    NoPrimary {
        /// The partition without a place.
        what: String,
    },
    /// A factory reset that would change the numbers of logical partitions.
    #[error(
        "a factory reset would remove logical partitions in front of partition {number}, whose number would change; mark the last ones only"
    )]
    Renumbers {
        /// The first that would get another number, from 1.
        number: u64,
    },
    /// A deferred partition that would change the numbers of those behind it.
    #[error("{what} would be a logical partition, which cannot be deferred")]
    DeferredLogical {
        /// The partition.
        what: String,
    },
    /// The table is full.
    #[error(
        "the partition table has {slots} slots and all are used, so there is none for {what}; remove a definition"
    )]
    NoSlot {
        /// The partition without a slot.
        what: String,
        /// How many slots there are.
        slots: u32,
    },
}

/// Which exit code an error asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitClass {
    /// 1: it failed.
    Failure,
    /// 77: the disk is not one to be changed, which is no failure at boot.
    NotForUs,
}

impl PlanError {
    /// The exit code that this error asks for.
    pub fn exit(&self) -> ExitClass {
        match self {
            Self::NoTable | Self::NotGpt | Self::NotEmpty => ExitClass::NotForUs,
            _ => ExitClass::Failure,
        }
    }
}

impl ExitClass {
    /// The code as a process ends with it.
    pub const fn code(self) -> u8 {
        match self {
            Self::Failure => 1,
            Self::NotForUs => 77,
        }
    }
}
