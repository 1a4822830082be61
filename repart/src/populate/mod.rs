//! File systems for new partitions: one contract, one module a format.

pub mod btrfs;
mod bytes;
pub mod erofs;
pub mod ext4;
pub mod free;
pub mod mkfs;
mod stream;
pub mod swap;
pub mod vfat;
pub mod xfs;

use std::collections::BTreeMap;
use std::path::Path;

use blockdev::file::OpenError;
use blockdev::tool::{SearchPath, Tool, ToolError};
use blockdev::{BlockDevice, DeviceError};
use filetree::{Inode, InodeId, Kind, Timestamp, Tree, WriteError, Writer};
use image_specs::units::{Bytes, Extent};
use squashfs::{BlockSize, Compression, SquashfsWriter};
use uuid::Uuid;

use crate::build::job::Job;
use crate::definition::{Definition, Format, Subvolume};
use crate::plan::PlannedPartition;
use crate::window::Window;
use erofs::Erofs;
use erofs::compressed::Compression as Compressed;
use swap::SwapWriter;
use vfat::VfatWriter;

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
    #[error(transparent)]
    Squashfs(#[from] squashfs::ParameterError),
    #[error(transparent)]
    Btrfs(#[from] btrfs::CompressionError),
    #[error(transparent)]
    Vfat(#[from] vfat::ParameterError),
    #[error("SYSTEMD_REPART_MKFS_OPTIONS_VFAT cannot be followed")]
    VfatOption(#[from] vfat::OptionError),
    #[error(
        "SYSTEMD_REPART_MKFS_OPTIONS_* holds {word:?}, but {format} is written without an external program and knows no such option; unset the variable"
    )]
    Option { word: String, format: &'static str },
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
    let known = writer(spec)?.map(|writer| writer.size(tree)).transpose()?;
    if let Some(size) = known.flatten() {
        return Ok(Sizing::Known(size));
    }
    if let Some(size) = mkfs::size(spec, tree)? {
        return Ok(Sizing::Known(size));
    }
    Ok(match &spec.format {
        Format::Squashfs | Format::Erofs => Sizing::ByBuilding {
            at_most: bound(tree),
        },
        // What its program cannot be asked, generous arithmetic answers.
        Format::Vfat => Sizing::Known(vfat_writer(spec)?.guess(tree)?),
        format => Sizing::Known(guess(format, tree)),
    })
}

/// A size in which a writable file system holds `tree` and has a third of it free, as
/// systemd-repart's "guess": its data and half as much again, twice the data for xfs.
fn guess(format: &Format, tree: &Tree) -> u64 {
    let allocated = bound(tree);
    match format {
        Format::Ext2 | Format::Ext3 | Format::Ext4 => ext4::minimum_size(tree),
        Format::Xfs => allocated.saturating_mul(2),
        _ => allocated.saturating_add(allocated / 2),
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
    if let Some(writer) = writer(spec)? {
        return Ok(writer.write(tree, &mut Window::new(device, extent))?);
    }
    if matches!(spec.format, Format::Ext2 | Format::Ext3 | Format::Ext4) {
        let size = by_program(spec, None, device, extent)?;
        if !is_bare(tree) {
            ext4::fill(tree, &mut Window::new(device, extent))?;
        }
        return Ok(size);
    }
    if spec.format == Format::Erofs {
        return erofs_by_program(spec, tree, device, extent);
    }
    let bare = spec.format != Format::Xfs && is_bare(tree);
    by_program(spec, (!bare).then_some(tree), device, extent)
}

/// The writer of a format that needs no program.
fn writer(spec: &Spec<'_>) -> Result<Option<Box<dyn Writer>>, PopulateError> {
    Ok(Some(match &spec.format {
        Format::Squashfs => Box::new(squashfs_writer(spec)?),
        Format::Vfat => Box::new(vfat_writer(spec)?),
        Format::Swap => match spec.options.first().cloned() {
            None => Box::new(SwapWriter::new(&spec.label, spec.uuid)),
            Some(word) => {
                let format = "swap";
                return Err(PopulateError::Option { word, format });
            }
        },
        Format::Erofs if spec.compression.is_none() && spec.options.is_empty() => {
            Box::new(Erofs::new(spec.uuid, timestamp(spec.time)))
        }
        _ => return Ok(None),
    }))
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds: 0,
    }
}

fn vfat_writer(spec: &Spec<'_>) -> Result<VfatWriter, PopulateError> {
    let [a, b, c, d, ..] = *spec.uuid.as_bytes();
    let sector = u32::try_from(spec.sector).unwrap_or(u32::MAX);
    let parameters = vfat::Parameters::new(
        u32::from_be_bytes([a, b, c, d]),
        vfat::Label::from_text(&spec.label),
        vfat::SectorSize::new(sector)?,
        timestamp(spec.time),
    );
    Ok(VfatWriter::new(parameters.with_mkfs_options(spec.options)?))
}

/// What is compressed, or has options for the program, it makes.
fn erofs_by_program(
    spec: &Spec<'_>,
    tree: &Tree,
    device: &mut dyn BlockDevice,
    extent: Extent,
) -> Result<u64, PopulateError> {
    let compression = Compressed {
        algorithm: spec.compression.map(|(algorithm, _)| algorithm),
        level: spec.compression.and_then(|(_, level)| level),
        options: spec.options,
    };
    let failed = |source| PopulateError::Scratch {
        path: spec.scratch.to_owned(),
        source,
    };
    let folder = tempfile::Builder::new()
        .prefix(".#ddi")
        .tempdir_in(spec.scratch)
        .map_err(failed)?;
    let program = Tool::MkfsErofs.require(spec.search)?;
    let writer = Erofs::new(spec.uuid, timestamp(spec.time));
    let image = writer.write_compressed(&program, tree, folder.path(), compression)?;
    let file = std::fs::File::open(image).map_err(failed)?;
    let needed = file.metadata().map_err(failed)?.len();
    let available = extent.size.get();
    if needed > available {
        return Err(WriteError::TooSmall { needed, available }.into());
    }
    device.copy_from(&file, 0, extent.start, Bytes::new(needed))?;
    Ok(needed)
}

/// Has the format's program make the file system in a scratch file, and moves it in.
fn by_program(
    spec: &Spec<'_>,
    tree: Option<&Tree>,
    device: &mut dyn BlockDevice,
    extent: Extent,
) -> Result<u64, PopulateError> {
    let failed = |source| PopulateError::Scratch {
        path: spec.scratch.to_owned(),
        source,
    };
    let file = tempfile::Builder::new()
        .prefix(".#ddi")
        .tempfile_in(spec.scratch)
        .map_err(failed)?;
    file.as_file().set_len(extent.size.get()).map_err(failed)?;
    mkfs::build(spec, tree, file.path())?;
    device.copy_from(file.as_file(), 0, extent.start, extent.size)?;
    Ok(extent.size.get())
}

/// Whether a tree says nothing that an empty file system does not say.
fn is_bare(tree: &Tree) -> bool {
    let root = tree.inode(InodeId::ROOT);
    root.entries().is_none_or(BTreeMap::is_empty) && root.metadata.xattrs.is_empty()
}

fn squashfs_writer(spec: &Spec<'_>) -> Result<SquashfsWriter, PopulateError> {
    let mut parameters = squashfs::Parameters {
        // The format's clock ends in 2106.
        time: u32::try_from(spec.time.max(0)).unwrap_or(u32::MAX),
        ..squashfs::Parameters::default()
    };
    if let Some((name, level)) = spec.compression {
        parameters.compression = Compression::parse(name, level)?;
    }
    mksquashfs_options(&mut parameters, spec.options)?;
    Ok(SquashfsWriter::new(parameters))
}

/// Follows the options of mksquashfs that say what is written; those that only say how are moot.
fn mksquashfs_options(
    parameters: &mut squashfs::Parameters,
    words: &[String],
) -> Result<(), PopulateError> {
    let unknown = |word: &String| PopulateError::Option {
        word: word.clone(),
        format: "squashfs",
    };
    let (mut algorithm, mut level) = (parameters.compression.algorithm().name(), None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-noappend" | "-quiet" | "-no-progress" => {}
            "-comp" => algorithm = words.next().ok_or_else(|| unknown(word))?,
            "-Xcompression-level" => level = Some(words.next().ok_or_else(|| unknown(word))?),
            "-b" => {
                let size = words
                    .next()
                    .and_then(|size| image_specs::conf::size(size).ok());
                let size = size.and_then(|size| u32::try_from(size).ok());
                parameters.block_size = BlockSize::new(size.ok_or_else(|| unknown(word))?)?;
            }
            _ => return Err(unknown(word)),
        }
    }
    if algorithm != parameters.compression.algorithm().name() || level.is_some() {
        parameters.compression = Compression::parse(algorithm, level.map(String::as_str))?;
    }
    Ok(())
}

/// Bytes that the tree takes in any format that does not blow it up: data, and generous metadata.
fn bound(tree: &Tree) -> u64 {
    let inodes = tree.ids().map(|id| tree.inode(id));
    let inode = |inode: &Inode| {
        let data = match &inode.kind {
            Kind::File(content) => content.size().saturating_add(content.size() / 16),
            Kind::Directory(entries) => {
                512 * u64::try_from(entries.len()).unwrap_or(u64::MAX / 1024)
            }
            _ => 0,
        };
        let xattrs = inode
            .metadata
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len() + 64)
            .sum::<usize>();
        data.saturating_add(8192)
            .saturating_add(u64::try_from(xattrs).unwrap_or(u64::MAX / 2))
    };
    inodes
        .map(inode)
        .fold(16 << 20, u64::saturating_add)
        .next_multiple_of(4096)
}
