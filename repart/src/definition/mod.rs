//! What is wanted: the `[Partition]` definitions, every key checked and typed.
//!
//! A [`Definition`] holds only what the files say (defaults filled in where they do not depend on the
//! disk); what is found on a disk and what is planned are other types.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use image_specs::partition::PartitionType;
use image_specs::units::Bytes;
use uuid::Uuid;
use veritysetup::fec::Roots;
use veritysetup::{HashAlgorithm, HashType, Salt};

mod assign;
mod copy_from;
mod existing;
#[cfg(test)]
mod fates;
mod key;
mod kind;
mod link;
#[cfg(test)]
mod own_keys;
mod problem;
mod read;
mod resolve;
mod set;
mod share;
mod tags;
#[cfg(test)]
mod tests;
mod tree_keys;
mod unsupported;
mod value;

pub use copy_from::{CopyFromError, copied};
pub use existing::{Existing, IfExists, IfMissing, IfOutOfBounds};
pub use key::Key;
pub use kind::MbrTypes;
pub use problem::{Combination, Diagnostic, Link, Position, Problem, Reason};
pub use read::{Filter, Settings, Source, read, read_into};
pub use set::{CopyMode, DefinitionSet, LabelKind, Supplement, VeritySet};
pub use share::{Share, ShareOf, Shares};
pub use tags::Tags;
pub use unsupported::unsupported;

/// What the names of credentials begin with that are definitions.
pub const CREDENTIAL_PREFIX: &str = "repart.d.";

/// A key to blame, and what is wrong with it.
type Refusal = (Key, Combination);

/// One partition that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// The files it was read from.
    pub origin: Origin,
    /// `Type=`, already rewritten to `--architecture=`.
    pub kind: PartitionType,
    /// The words of `Type=` that speak of master boot records.
    pub mbr: MbrTypes,
    /// `Label=` with specifiers expanded; `None` where unset, which asks for a made-up one.
    pub label: Option<String>,
    /// `UUID=`.
    pub uuid: UuidChoice,
    /// `Priority=`: those above 0 are dropped first, the highest number earliest.
    pub priority: i32,
    /// `FactoryReset=`.
    pub factory_reset: bool,
    /// `SupplementFor=`: the base name of another definition, without `.conf`.
    pub supplement_for: Option<String>,
    /// `Weight=`.
    pub weight: u32,
    /// `PaddingWeight=`.
    pub padding_weight: u32,
    /// `SizeMinBytes=`, rounded up to 4096.
    pub size_min: Option<Bytes>,
    /// `SizeMaxBytes=`, rounded down to 4096.
    pub size_max: Option<Bytes>,
    /// `PaddingMinBytes=`, rounded up to 4096.
    pub padding_min: Option<Bytes>,
    /// `PaddingMaxBytes=`, rounded down to 4096.
    pub padding_max: Option<Bytes>,
    /// `Minimize=`.
    pub minimize: Minimize,
    /// `CopyBlocks=`.
    pub copy_blocks: Option<CopyBlocks>,
    /// The file system, after `Format=`, its implied values and the overriding environment. With
    /// `Format=empty`, the label and the `NoAuto=` bit that it implies are already filled in.
    pub format: Option<Format>,
    /// What goes into the file system.
    pub populate: Populate,
    /// `Compression=`, as the file system spells it.
    pub compression: Option<String>,
    /// `CompressionLevel=`.
    pub compression_level: Option<String>,
    /// `AddValidateFS=`, with its default resolved.
    pub add_validate_fs: bool,
    /// `FileSystemSectorSize=`.
    pub fs_sector_size: Option<u64>,
    /// `BlockDeviceReplace=`.
    pub block_device_replace: Option<PathBuf>,
    /// `MountPoint=`, in order.
    pub mount_points: Vec<MountPoint>,
    /// `SplitName=`.
    pub split_name: SplitName,
    /// `Encrypt=` and what belongs to it.
    pub encryption: Encryption,
    /// `Integrity=standalone` and its key.
    pub tags: Tags,
    /// `Verity=`, `VerityMatchKey=` and the block sizes.
    pub verity: Verity,
    /// The GPT attribute bits for a new partition: `Flags=`, `NoAuto=`, `ReadOnly=`,
    /// `GrowFileSystem=` and the type's defaults, resolved as systemd-repart does.
    pub flags: u64,
    /// What is to happen with a partition that is there, or is not.
    pub existing: Existing,
    /// The sizes that are given as shares.
    pub shares: Shares,
}

/// Where a definition was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The main file, or the image that `--copy-from=` copies.
    pub path: Option<PathBuf>,
    /// Drop-ins, in the order they were applied.
    pub drop_ins: Vec<PathBuf>,
    /// Where each key was last set.
    pub keys: BTreeMap<Key, Position>,
}

/// `UUID=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UuidChoice {
    /// Unset: derived from the seed, or from the root hash.
    #[default]
    Derived,
    /// This one; all zeros for `null`.
    Fixed(Uuid),
}

/// `Minimize=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the values of the key")]
pub enum Minimize {
    #[default]
    Off,
    Best,
    Guess,
}

/// `CopyBlocks=`, or one partition of a `--copy-from=` image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyBlocks {
    /// `auto`: the partition that the running system uses for this type.
    Auto,
    /// A file, device or directory.
    Path(PathBuf),
    /// A range of an image.
    Range {
        /// The image.
        path: PathBuf,
        /// First byte.
        offset: Bytes,
        /// Number of bytes.
        size: Bytes,
    },
}

/// `Format=`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Format {
    Empty,
    Swap,
    Vfat,
    Squashfs,
    Erofs,
    Ext2,
    Ext3,
    Ext4,
    Btrfs,
    Xfs,
    F2fs,
    /// Any other: `mkfs.NAME` is asked.
    Other(String),
}

/// What goes into a new file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Populate {
    /// `CopyFiles=`, in order.
    pub copy_files: Vec<CopyFiles>,
    /// `ExcludeFiles=`: source paths; a trailing `/` keeps the directory itself.
    pub exclude_sources: Vec<String>,
    /// `ExcludeFilesTarget=`: paths in the new file system, likewise.
    pub exclude_targets: Vec<String>,
    /// `MakeDirectories=`, normalised, without duplicates.
    pub directories: Vec<String>,
    /// `MakeSymlinks=`.
    pub symlinks: Vec<MakeSymlink>,
    /// `Subvolumes=`.
    pub subvolumes: Vec<Subvolume>,
    /// `DefaultSubvolume=`.
    pub default_subvolume: Option<String>,
}

/// One `CopyFiles=` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFiles {
    /// Absolute, normalised, below the copy source.
    pub source: String,
    /// Absolute, normalised, in the new file system.
    pub target: String,
    /// `fsverity=copy`.
    pub fsverity: bool,
}

/// One `MakeSymlinks=` item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MakeSymlink {
    /// Absolute, normalised.
    pub path: String,
    /// Any text.
    pub target: String,
}

/// One `Subvolumes=` item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the flags of the key")]
pub struct Subvolume {
    pub path: String,
    pub read_only: bool,
    pub nodatacow: bool,
}

/// One `MountPoint=` line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of the key")]
pub struct MountPoint {
    pub path: String,
    pub options: Option<String>,
}

/// `SplitName=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SplitName {
    /// Unset: `%t`.
    #[default]
    Default,
    /// `-`: no artifact.
    None,
    /// A name in which the specifiers of `SplitName=` stand unexpanded, all others expanded.
    Template(String),
}

/// `Encrypt=` and its companions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encryption {
    /// `Encrypt=`.
    pub mode: Encrypt,
    /// `KeyFile=`.
    pub key_file: Option<PathBuf>,
    /// `TPM2PCRs=`, as written, in order.
    pub tpm2_pcrs: Vec<String>,
    /// `EncryptKDF=`.
    pub kdf: Option<Kdf>,
    /// `Discard=`.
    pub discard: Option<bool>,
    /// `Integrity=inline`.
    pub inline_integrity: bool,
    /// `IntegrityAlgorithm=`.
    pub integrity_algorithm: Option<String>,
    /// `VolumeName=`.
    pub volume_name: Option<String>,
    /// `VolumeLabel=`.
    pub volume_label: Option<String>,
    /// `EncryptedVolume=`.
    pub volume: Option<EncryptedVolume>,
    /// `EncryptVolumeKey=seed`: the volume key follows from the seed.
    pub seeded: bool,
    /// `EncryptFreeSpace=`: whether what the file system does not use is encrypted, too.
    pub free_space: Option<bool>,
    /// `EncryptRecoveryKey=`: where a recovery key is written.
    pub recovery_key: Option<PathBuf>,
}

/// `Encrypt=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the values of the key")]
pub enum Encrypt {
    #[default]
    Off,
    KeyFile,
    Tpm2,
    KeyFileAndTpm2,
}

/// `EncryptKDF=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the values of the key")]
pub enum Kdf {
    Argon2id,
    Pbkdf2,
    Minimal,
}

/// `EncryptedVolume=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of the key")]
pub struct EncryptedVolume {
    pub name: Option<String>,
    pub key_file: Option<String>,
    pub options: Option<String>,
    pub fixate_volume_key: bool,
}

/// `Verity=` and its companions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verity {
    /// `Verity=`.
    pub mode: VerityMode,
    /// `VerityMatchKey=`.
    pub match_key: Option<String>,
    /// `VerityDataBlockSizeBytes=`.
    pub data_block_size: Option<u32>,
    /// `VerityHashBlockSizeBytes=`.
    pub hash_block_size: Option<u32>,
    /// `VerityHashAlgorithm=`; SHA-256 where unset.
    pub algorithm: Option<HashAlgorithm>,
    /// `VeritySalt=`; derived from the seed where unset.
    pub salt: Option<Salt>,
    /// `VerityHashType=`; the normal one where unset.
    pub hash_type: Option<HashType>,
    /// `VerityFEC=`: parity behind the tree.
    pub fec: Option<Roots>,
}

/// `Verity=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the values of the key")]
pub enum VerityMode {
    #[default]
    Off,
    Data,
    Hash,
    Signature,
}

impl Definition {
    /// A definition that sets nothing but its type.
    pub fn new(kind: PartitionType) -> Self {
        Self {
            origin: Origin::default(),
            kind,
            mbr: MbrTypes::default(),
            label: None,
            uuid: UuidChoice::default(),
            priority: 0,
            factory_reset: false,
            supplement_for: None,
            weight: 1000,
            padding_weight: 0,
            size_min: None,
            size_max: None,
            padding_min: None,
            padding_max: None,
            minimize: Minimize::default(),
            copy_blocks: None,
            format: None,
            populate: Populate::default(),
            compression: None,
            compression_level: None,
            add_validate_fs: false,
            fs_sector_size: None,
            block_device_replace: None,
            mount_points: Vec::new(),
            split_name: SplitName::default(),
            encryption: Encryption::default(),
            tags: Tags::default(),
            verity: Verity::default(),
            flags: 0,
            existing: Existing::default(),
            shares: Shares::default(),
        }
    }
}

impl Origin {
    /// The base name without `.conf`, and without what makes it a credential's name, by which
    /// `SupplementFor=` means it; empty where it has none.
    pub fn name(&self) -> &str {
        let name = self.path.as_deref().and_then(|path| path.file_name());
        let name = name.and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.strip_prefix(CREDENTIAL_PREFIX).unwrap_or(name);
        name.strip_suffix(".conf").unwrap_or(name)
    }
}

impl Format {
    /// The format that `name` means.
    pub fn from_name(name: &str) -> Self {
        match name {
            "empty" => Self::Empty,
            "swap" => Self::Swap,
            "vfat" => Self::Vfat,
            "squashfs" => Self::Squashfs,
            "erofs" => Self::Erofs,
            "ext2" => Self::Ext2,
            "ext3" => Self::Ext3,
            "ext4" => Self::Ext4,
            "btrfs" => Self::Btrfs,
            "xfs" => Self::Xfs,
            "f2fs" => Self::F2fs,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The format's name, as written in `Format=` and in `mkfs.NAME`.
    pub fn name(&self) -> &str {
        match self {
            Self::Empty => "empty",
            Self::Swap => "swap",
            Self::Vfat => "vfat",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
            Self::Xfs => "xfs",
            Self::F2fs => "f2fs",
            Self::Other(name) => name,
        }
    }

    /// Whether it can be filled without mounting it.
    pub fn can_populate(&self) -> bool {
        self.is_read_only()
            || matches!(
                self,
                Self::Ext2 | Self::Ext3 | Self::Ext4 | Self::Btrfs | Self::Vfat | Self::Xfs
            )
    }

    /// Whether such a file system can only be read once it is made (which sets its default size).
    pub fn is_read_only(&self) -> bool {
        matches!(self.name(), "cramfs" | "erofs" | "iso9660" | "squashfs")
    }
}

impl VerityMode {
    /// The value of `Verity=`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Data => "data",
            Self::Hash => "hash",
            Self::Signature => "signature",
        }
    }
}

impl fmt::Display for VerityMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Populate {
    /// Takes in what a supplement adds; symlinks stay out, as with systemd-repart.
    pub fn append(&mut self, other: &Self) {
        self.copy_files.extend_from_slice(&other.copy_files);
        self.exclude_sources
            .extend_from_slice(&other.exclude_sources);
        self.exclude_targets
            .extend_from_slice(&other.exclude_targets);
        for directory in &other.directories {
            if !self.directories.contains(directory) {
                self.directories.push(directory.clone());
            }
        }
        for subvolume in &other.subvolumes {
            self.set_subvolume(subvolume.clone());
        }
    }

    /// Adds a subvolume; one of the same path is replaced.
    pub fn set_subvolume(&mut self, subvolume: Subvolume) {
        match self
            .subvolumes
            .iter_mut()
            .find(|old| old.path == subvolume.path)
        {
            Some(old) => *old = subvolume,
            None => self.subvolumes.push(subvolume),
        }
    }

    /// Whether anything is to be put into the file system.
    pub fn is_empty(&self) -> bool {
        self.copy_files.is_empty()
            && self.directories.is_empty()
            && self.symlinks.is_empty()
            && self.subvolumes.is_empty()
    }
}
