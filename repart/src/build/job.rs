//! What a build is told, apart from the target.

use std::collections::BTreeMap;
use std::path::PathBuf;

use blockdev::tool::SearchPath;
use image_specs::arch::Architecture;
use image_specs::eltorito::Identifiers;
use image_specs::units::SectorSize;

use crate::definition::{Definition, DefinitionSet};
use crate::fstab::Append;
use crate::plan::Options;

/// Everything that decides what is built.
#[derive(Debug)]
pub struct Job {
    /// What is wanted, in list order.
    pub wanted: DefinitionSet,
    /// How the plan is made.
    pub options: Options,
    /// Sector size of the target.
    pub sector: SectorSize,
    /// The architecture that generic partition types mean.
    pub architecture: Architecture,
    /// What the surroundings say.
    pub environment: Environment,
    /// `--root=`: `CopyBlocks=` sources lie below it.
    pub root: Option<PathBuf>,
    /// `--copy-source=`, or `--root=`: `CopyFiles=` sources lie below it.
    pub copy_source: Option<PathBuf>,
    /// `--discard=`.
    pub discard: bool,
    /// `--generate-fstab=`.
    pub fstab: Option<Fstab>,
    /// `--generate-crypttab=`: as given, below the copy source, where there is one.
    pub crypttab: Option<PathBuf>,
    /// `--el-torito=`, with the names in the catalog.
    pub el_torito: Option<Identifiers>,
    /// What encrypted partitions are unlocked by.
    pub keys: super::encrypt::Keys,
    /// What signs root hashes.
    pub signing: super::sign::Signing,
}

/// Values of the surroundings that reach into images.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Seconds since 1970 that no time in the image is later than (`SOURCE_DATE_EPOCH`).
    pub epoch: Option<i64>,
    /// Seconds since 1970 now.
    pub now: i64,
    /// Where programs are searched for.
    pub search: SearchPath,
    /// Where scratch files are made that cannot lie beside the target.
    pub scratch: PathBuf,
    /// Words that `SYSTEMD_REPART_MKFS_OPTIONS_*` adds, by the format's name.
    pub mkfs_options: BTreeMap<String, Vec<String>>,
}

/// `--generate-fstab=` and `--append-fstab=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fstab {
    /// As given: below the copy source, where there is one.
    pub path: PathBuf,
    /// How an existing file is treated.
    pub append: Append,
}

impl Job {
    /// The definitions in list order.
    pub fn definitions(&self) -> &[Definition] {
        &self.wanted.definitions
    }
}

impl Environment {
    /// The time that stands in the image for "now".
    pub fn time(&self) -> i64 {
        self.epoch.unwrap_or(self.now)
    }
}
