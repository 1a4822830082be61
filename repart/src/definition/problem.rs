//! What can be wrong with definitions: what stops a run, and what is ignored with a warning. Pure.

use std::fmt;
use std::path::PathBuf;

use image_specs::conf::{Fatal, Location, PathError, Strange, ValueError, WordError};
use image_specs::mbr::UnknownMbrType;
use image_specs::partition::{PartitionType, UnknownPartitionType};
use image_specs::specifier::SpecifierError;
use image_specs::units::Bytes;

use super::{Key, VerityMode};

/// A place in a definition file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The file: the main one or a drop-in; empty for what was made up.
    pub path: PathBuf,
    /// Line and column of the key; `None` means the whole file.
    pub location: Option<Location>,
}

/// Something that is wrong in a definition, with the place. As an error it stops the run; among
/// [`super::DefinitionSet::warnings`] it was ignored or corrected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{position}: {problem}")]
pub struct Diagnostic {
    /// Where.
    pub position: Position,
    /// What.
    #[source]
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// The file is no configuration file.
    #[error("{0}")]
    Text(Fatal),
    /// A line was skipped.
    #[error("{0}")]
    Line(Strange),
    /// A key that no definition has was ignored.
    #[error("unknown key {name}= is ignored{}", hint.map(|h| format!("; did you mean {h}=?")).unwrap_or_default())]
    UnknownKey {
        /// As written.
        name: String,
        /// What may be meant.
        hint: Option<&'static str>,
    },
    /// A value that the key cannot have stops the run.
    #[error("{key}{value:?} is refused: {reason}")]
    Refused {
        /// The key.
        key: Key,
        /// As written.
        value: String,
        /// Why.
        #[source]
        reason: Reason,
    },
    /// A value that the key cannot have was ignored.
    #[error("{key}{value:?} is ignored: {reason}")]
    Ignored {
        /// The key.
        key: Key,
        /// As written.
        value: String,
        /// Why.
        #[source]
        reason: Reason,
    },
    /// A size was rounded to 4096 bytes.
    #[error("{key}{from} is rounded to {to}, a multiple of 4096")]
    Rounded {
        /// The key.
        key: Key,
        /// Bytes as written.
        from: u64,
        /// Bytes used.
        to: u64,
    },
    /// The keys of one definition do not go together.
    #[error("{0}")]
    Combination(Combination),
    /// The definitions do not go together.
    #[error("{0}")]
    Link(Link),
    /// The environment overrides the file system.
    #[error("file system {from:?} is overridden by {to:?} from ${variable}")]
    #[expect(missing_docs, reason = "the message says it")]
    Overridden {
        from: String,
        to: String,
        variable: String,
    },
    /// An attribute that the type knows nothing of was ignored.
    #[error("{key} means nothing for partition type {kind} and is ignored")]
    Attribute {
        /// The key.
        key: Key,
        /// The type.
        kind: PartitionType,
    },
    /// `Flags=` that libfdisk refuses as a whole.
    #[error(
        "Flags= sets bits below 48 ({flags:#x}): systemd-repart then writes no attribute at all, so \
         none is written here; only bits 48 to 63 can be set"
    )]
    LowFlags {
        /// All bits that were asked for.
        flags: u64,
    },
    /// A key that means nothing for the file system was ignored.
    #[error("{key} means nothing {place} and is ignored")]
    NoEffect {
        /// The key.
        key: Key,
        /// Where it means nothing.
        place: String,
    },
    /// Files cannot be copied with their fs-verity yet.
    #[error(
        "CopyFiles={path} with fsverity=copy is not supported yet; remove the option or use systemd-repart for this definition"
    )]
    FsVerityNotSupportedYet {
        /// The source that has the option.
        path: String,
    },
    /// Tags that only a disk holds.
    #[error(
        "Integrity=inline keeps its tags in the protection information of a disk that was formatted for it, so it cannot be built offline; remove the key, or use systemd-repart --offline=no on such a disk"
    )]
    InlineIntegrity,
    /// What this version cannot do yet.
    #[error("{key} is not supported yet; remove it or use systemd-repart for this definition")]
    NotSupportedYet {
        /// The key that asks for it.
        key: Key,
    },
}

/// Why one value is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Reason {
    /// No such boolean, number or size.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// It cannot be split.
    #[error(transparent)]
    Words(#[from] WordError),
    /// A path that is not usable.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A specifier that cannot be expanded.
    #[error(transparent)]
    Specifier(#[from] SpecifierError),
    /// No partition type.
    #[error(transparent)]
    Type(#[from] UnknownPartitionType),
    /// No type of a master boot record.
    #[error(transparent)]
    MbrType(#[from] UnknownMbrType),
    /// Several types for one kind of table.
    #[error("write gpt:TYPE, mbr:TYPE and hybrid:TYPE each once")]
    TypeTwice,
    /// Nothing that a GPT could list beside.
    #[error("hybrid: stands beside a GPT type, as in \"gpt:esp hybrid:fat32\"")]
    HybridAlone,
    /// The type does not exist on the architecture that was asked for.
    #[error("partition type {0} does not exist for the architecture of --architecture=")]
    NoSuchArchitecture(PartitionType),
    /// No UUID.
    #[error("write a UUID, null, or nothing")]
    Uuid,
    /// More than systemd-repart lets into a GPT label.
    #[error("a label has at most 36 bytes")]
    LabelTooLong,
    /// Not one of the words that the key knows.
    #[error("known are {0}")]
    Choice(&'static str),
    /// Not the name of a file system.
    #[error("it cannot be a file system's name")]
    FileName,
    /// Too many or too few fields between colons.
    #[error("write it as {0}")]
    Fields(&'static str),
    /// Not a power of two in the range.
    #[error("it must be a power of two from {min} to {max}", min = .0, max = .1)]
    PowerOfTwo(u64, u64),
    /// An option of the value that is not known.
    #[error("option {0:?} is not known")]
    Option(String),
    /// No list of PCRs.
    #[error(
        "write PCRs as numbers from 0 to 23 or names, with an optional :bank and =digest, joined by +"
    )]
    Pcrs,
    /// A field of crypttab cannot hold it.
    #[error("crypttab has no way to write white space in a field")]
    WhiteSpace,
    /// No share.
    #[error(
        "write a share as N% (of the disk, at most 100%) or N%ram (of the memory, at most 10000%), with at most two decimals"
    )]
    Share,
    /// A hash that no partition's UUID can be made of.
    #[error("write sha256, sha384 or sha512; the partitions' UUIDs need 32 bytes of root hash")]
    HashAlgorithm,
    /// No salt.
    #[error("write at most 256 bytes as hex digits, or - for no salt")]
    Salt,
    /// No number of parity bytes.
    #[error("write 2 to 24 parity bytes in 255, or 0 for no parity")]
    Roots,
    /// The value is empty.
    #[error("the value is empty")]
    Empty,
}

/// Keys of one definition that exclude or need each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Combination {
    /// No `Type=`.
    #[error("Type= is not set; every definition needs one")]
    NoType,
    /// The minimum exceeds the maximum.
    #[error("{min_key}{min} is larger than {max_key}{max}")]
    #[expect(missing_docs, reason = "the two limits")]
    Limits {
        min_key: Key,
        min: Bytes,
        max_key: Key,
        max: Bytes,
    },
    /// Two keys that exclude each other.
    #[error("{0} and {1} cannot be combined")]
    Excludes(Key, Key),
    /// A key with any key that populates.
    #[error(
        "{0} cannot be combined with CopyFiles=, MakeDirectories=, MakeSymlinks=, Subvolumes= or AddValidateFS=yes"
    )]
    ExcludesPopulate(&'static str),
    /// A key that needs another.
    #[error("{key} needs {needs}")]
    #[expect(missing_docs, reason = "the key and what it needs")]
    Needs { key: Key, needs: &'static str },
    /// A key that is meaningless without another; a warning.
    #[error("{key} has no effect without {needs}")]
    #[expect(missing_docs, reason = "the key and what it needs")]
    NoEffect { key: Key, needs: &'static str },
    /// A read-only file system with nothing in it.
    #[error(
        "a {0} file system needs content; set CopyFiles=, MakeDirectories= or AddValidateFS=yes"
    )]
    Unpopulated(String),
    /// A file system that only a mount can fill.
    #[error(
        "{0} cannot be filled without mounting it, which needs root; use vfat, squashfs, erofs, \
         ext4, btrfs or xfs, or remove what populates it and set AddValidateFS=no"
    )]
    CannotPopulate(String),
    /// `Minimize=best` on a file system that cannot be shrunk to its content.
    #[error(
        "Minimize=best needs a read-only file system, btrfs or Verity=hash, not {0}; use guess"
    )]
    MinimizeBest(String),
    /// Something that a verity hash or signature partition cannot have.
    #[error("{key} cannot be used with Verity={mode}")]
    #[expect(missing_docs, reason = "the key and the mode")]
    Verity { key: &'static str, mode: VerityMode },
    /// A partition that must be there and must not.
    #[error(
        "IfExists=fail and IfMissing=fail together can never be fulfilled; IfMissing=ignore asks for no partition to be there"
    )]
    Impossible,
    /// A partition that a later run could not tell from others.
    #[error(
        "IfExists= tells the partition that was made for this definition from others by its UUID, which is not known beforehand with Verity=data, Verity=hash, CopyBlocks=auto or UUID=null; set UUID="
    )]
    Unrecognisable,
    /// What a partition with tags of its own cannot have.
    #[error("Integrity=standalone cannot be combined with {0}")]
    Standalone(Key),
    /// `DefaultSubvolume=` is not among `Subvolumes=`.
    #[error("DefaultSubvolume={0} must be listed in Subvolumes=, too")]
    DefaultSubvolume(String),
    /// `VolumeName=` that device-mapper refuses.
    #[error("VolumeName={0:?} is no valid name of at most 127 bytes")]
    VolumeName(String),
}

/// Definitions that do not fit each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Link {
    /// A verity set lacks a member.
    #[error(
        "no Verity={wanted} partition has VerityMatchKey={match_key}, which this Verity={mode} partition needs"
    )]
    #[expect(missing_docs, reason = "the message says it")]
    VerityMissing {
        wanted: VerityMode,
        mode: VerityMode,
        match_key: String,
    },
    /// A verity set has a member twice.
    #[error(
        "several Verity={wanted} partitions have VerityMatchKey={match_key}; one only can be used"
    )]
    #[expect(missing_docs, reason = "the message says it")]
    VerityTwice {
        wanted: VerityMode,
        match_key: String,
    },
    /// The members of a verity set would not be dropped together.
    #[error(
        "Priority={one} differs from Priority={other} of another partition with VerityMatchKey={match_key}"
    )]
    #[expect(missing_docs, reason = "the message says it")]
    VerityPriority {
        one: i32,
        other: i32,
        match_key: String,
    },
    /// Some members of a verity set would be made, others not.
    #[error(
        "IfMissing= differs from that of another partition with VerityMatchKey={match_key}; set it on all of them"
    )]
    #[expect(missing_docs, reason = "the message says it")]
    VerityIfMissing { match_key: String },
    /// The hash partition copies, the data partition does not (in the same way).
    #[error(
        "CopyBlocks= on a Verity={mode} partition needs CopyBlocks= of the same kind (a path, or auto) on the Verity={lower} partition"
    )]
    #[expect(missing_docs, reason = "the message says it")]
    VerityCopy { mode: VerityMode, lower: VerityMode },
    /// A hash tree cannot be minimized over data of unknown size.
    #[error(
        "Minimize= on a Verity=hash partition needs Minimize= or CopyBlocks= on its data partition"
    )]
    MinimizeHash,
    /// A hash tree cannot be minimized over data that is yet to be encrypted.
    #[error(
        "Minimize= on a Verity=hash partition cannot be used where its data partition is encrypted"
    )]
    MinimizeEncrypted,
    /// `SupplementFor=` names nothing.
    #[error("SupplementFor={0}: there is no definition {0}.conf")]
    SupplementUnknown(String),
    /// `SupplementFor=` names a supplement.
    #[error("SupplementFor={0}: {0}.conf is itself a supplement")]
    SupplementOfSupplement(String),
    /// A second supplement.
    #[error("SupplementFor={0}: {0}.conf already has a supplement")]
    SupplementTwice(String),
    /// A key that cannot be merged.
    #[error("SupplementFor={target} cannot be combined with {key} in either of the two")]
    #[expect(missing_docs, reason = "the message says it")]
    SupplementKey { target: String, key: Key },
    /// The limits of the two exclude each other.
    #[error("SupplementFor={target}: together, {min_key}{min} is larger than {max_key}{max}")]
    #[expect(missing_docs, reason = "the message says it")]
    SupplementLimits {
        target: String,
        min_key: Key,
        min: Bytes,
        max_key: Key,
        max: Bytes,
    },
}

impl fmt::Display for Position {
    /// `file:line:column`, or as much of it as is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location {
            Some(location) => write!(f, "{}:{location}", self.path.display()),
            None => write!(f, "{}", self.path.display()),
        }
    }
}
