//! File systems for new partitions: one contract, one module a format.

use std::collections::BTreeMap;
use std::path::Path;

use blockdev::file::OpenError;
use blockdev::tool::{SearchPath, ToolError};
use blockdev::{BlockDevice, DeviceError};
use filetree::{Tree, WriteError};
use image_specs::units::Extent;
use uuid::Uuid;

use crate::build::job::Job;
use crate::definition::{Definition, Format, Subvolume};
use crate::plan::PlannedPartition;

/// What a file system is to be like, apart from its contents.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    /// The format.
    pub format: Format,
    /// The partition's label, to be cut to what the format holds.
    pub label: String,
    /// The file system's UUID.
    pub uuid: Uuid,
    /// Sector size in bytes.
    pub sector: u64,
    /// `Compression=` and `CompressionLevel=`.
    pub compression: Option<(&'a str, Option<&'a str>)>,
    /// `Subvolumes=`.
    pub subvolumes: &'a [Subvolume],
    /// `DefaultSubvolume=`.
    pub default_subvolume: Option<&'a str>,
    /// Whether files with fs-verity are copied as such.
    pub fsverity: bool,
    /// `--discard=`.
    pub discard: bool,
    /// The time that stands for "now", seconds since 1970.
    pub time: i64,
    /// Words to add to the program's command line.
    pub options: &'a [String],
    /// Where programs are searched for.
    pub search: &'a SearchPath,
    /// Where scratch files are made.
    pub scratch: &'a Path,
}

/// Why a file system could not be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the causes say it")]
#[non_exhaustive]
pub enum PopulateError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("Compression={name} is not known for {format}; write {known}")]
    Compression {
        name: String,
        format: String,
        known: &'static str,
    },
    #[error("CompressionLevel={level} is not a level of {name}; {help}")]
    Level {
        level: String,
        name: String,
        help: String,
    },
    #[error("cannot make a scratch file in {path}", path = path.display())]
    Scratch {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{format} cannot be filled with files without mounting it, which is not supported yet; leave out CopyFiles= and its like and set AddValidateFS=no, or use another Format="
    )]
    Unmountable { format: String },
}

impl<'a> Spec<'a> {
    /// The file system that `definition` wants in `partition`.
    pub fn new(definition: &'a Definition, partition: &PlannedPartition, job: &'a Job) -> Self {
        let format = definition.format.clone().unwrap_or(Format::Empty);
        let level = definition.compression_level.as_deref();
        Self {
            label: partition.label.clone(),
            uuid: partition.fs_uuid,
            sector: crate::build::stage::fs_sector(definition, job),
            compression: definition.compression.as_deref().map(|name| (name, level)),
            subvolumes: &definition.populate.subvolumes,
            default_subvolume: definition.populate.default_subvolume.as_deref(),
            fsverity: definition
                .populate
                .copy_files
                .iter()
                .any(|copy| copy.fsverity),
            discard: job.discard,
            time: job.environment.time(),
            options: options(&job.environment.mkfs_options, &format),
            search: &job.environment.search,
            scratch: &job.environment.scratch,
            format,
        }
    }
}

fn options<'a>(all: &'a BTreeMap<String, Vec<String>>, format: &Format) -> &'a [String] {
    all.get(format.name()).map_or(&[], Vec::as_slice)
}

/// How the size of a file system becomes known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizing {
    /// By arithmetic, in bytes.
    Known(u64),
    /// Only by building it.
    ByBuilding {
        /// Bytes that it certainly fits in.
        at_most: u64,
    },
}

/// How large the file system must be at least to hold `tree`.
pub fn sizing(spec: &Spec<'_>, tree: &Tree) -> Result<Sizing, PopulateError> {
    match &spec.format {
        format => Err(PopulateError::Unmountable {
            format: format.name().to_owned(),
        }),
    }
}

/// Makes the file system with its contents within `extent` of `device`, which reads as zeros, and
/// returns how many bytes of it the file system covers.
pub fn write(
    spec: &Spec<'_>,
    tree: &Tree,
    device: &mut dyn BlockDevice,
    extent: Extent,
) -> Result<u64, PopulateError> {
    match &spec.format {
        format => Err(PopulateError::Unmountable {
            format: format.name().to_owned(),
        }),
    }
}
