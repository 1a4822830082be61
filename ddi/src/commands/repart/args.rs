//! The options of `ddi repart`, as typed: nothing here has been checked against anything else.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use image_specs::arch::Architecture;
use image_specs::conf::{boolean, size};
use repart::plan::ResetMode;

use super::check::CheckArgs;
use super::growing::Growing;
use super::planning::{PlanningArgs, reset_mode};
use super::safety::Safety;
use super::select::Choice;
use super::table_args::TableArgs;
use crate::commands::tpm2_args::Tpm2Args;
use crate::ui::Mode;
use crate::values::{SeedArg, SizeArg, Tristate};
use crate::values::{seed, size_or_auto};

/// Grow and add partitions to a partition table, and build disk images (DDIs)
///
/// Reads partition definitions from repart.d directories, or from --definitions=, and makes DEVICE
/// (a block device or image file) match them. Shows what would change; pass --dry-run=no to change
/// it. Existing partitions are never moved, shrunk or deleted.
#[derive(Clone, Debug, Args)]
pub(crate) struct RepartArgs {
    /// Block device or image file to operate on [default: the disk with the root file system]; "-" only
    /// computes the minimal size
    #[arg(value_name = "DEVICE")]
    pub(crate) device: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) choice: Choice,
    #[command(flatten)]
    pub(crate) safety: Safety,
    #[command(flatten)]
    pub(crate) operation: Operation,
    #[command(flatten)]
    pub(crate) growing: Growing,
    #[command(flatten)]
    pub(crate) table: TableArgs,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) reset: FactoryReset,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
    #[command(flatten)]
    pub(crate) planning: PlanningArgs,
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    #[command(flatten)]
    pub(crate) signing: Signing,
    #[command(flatten)]
    pub(crate) encryption: Encryption,
    #[command(flatten)]
    pub(crate) partitions: Partitions,
    #[command(flatten)]
    pub(crate) copying: Copying,
    #[command(flatten)]
    pub(crate) auxiliary: Auxiliary,
}

/// What to do, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Operation")]
pub(crate) struct Operation {
    /// Only show what would be done (same as --dry-run=yes)
    #[arg(short = 'n', overrides_with = "dry_run")]
    pub(crate) dry_run_short: bool,
    /// Whether to only show what would be done [default: yes; no with --empty=create]
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set,
        overrides_with = "dry_run_short")]
    pub(crate) dry_run: Option<bool>,
    /// How to handle a device without partition table
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) empty: Option<EmptyArg>,
    /// Whether to do without loop devices and mounts: ddi always does [default: auto]
    #[arg(long, value_name = "BOOL|auto", value_parser = Tristate::parse, action = ArgAction::Set)]
    pub(crate) offline: Option<Tristate>,
    /// Whether to discard the blocks of new partitions [default: yes]
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) discard: Option<bool>,
    /// Whether copy-on-write stays on for new image files [default: auto]
    #[arg(long, value_name = "BOOL|auto", value_parser = Tristate::parse, action = ArgAction::Set)]
    pub(crate) cow: Option<Tristate>,
    /// Logical sector size of the image: 512 to 4096 bytes
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) sector_size: Option<u64>,
    /// Alignment of partitions: a power of two of at least 512 bytes
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) grain_size: Option<u64>,
    /// Architecture of the image; rewrites partition types that are bound to one
    #[arg(long, value_name = "ARCH")]
    pub(crate) architecture: Option<Architecture>,
    /// Grow the image file to this size, or to what the definitions need
    #[arg(long, value_name = "BYTES|auto", value_parser = size_or_auto)]
    pub(crate) size: Option<SizeArg>,
    /// The seed that all UUIDs are derived from
    #[arg(long, value_name = "UUID|random", value_parser = seed)]
    pub(crate) seed: Option<SeedArg>,
    /// Whether to write each partition to a file of its own, too [default: no]
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) split: Option<bool>,
}

/// `--empty=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EmptyArg {
    /// A partition table must exist
    Refuse,
    /// Extend a table or make one
    Allow,
    /// Make one; there must be none
    Require,
    /// Make one, and forget what was there
    Force,
    /// Make a new image file
    Create,
}

/// What is shown.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Output {
    /// Whether to show the table and the map of the disk [default: yes]
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) pretty: Option<bool>,
    /// Print the result as JSON
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) json: Option<JsonArg>,
    /// Do not pipe output into a pager (none is ever started)
    #[arg(long)]
    pub(crate) no_pager: bool,
    /// Do not print column headers
    #[arg(long)]
    pub(crate) no_legend: bool,
}

/// `--json=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum JsonArg {
    /// Indented
    Pretty,
    /// On one line
    Short,
    /// No JSON
    Off,
}

/// Going back to the vendor's state.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Factory reset")]
pub(crate) struct FactoryReset {
    /// Whether to remove partitions marked for it first; with "leave", do no more than that [default:
    /// no, unless all bits of the disk's UUID are set]
    #[arg(long, value_name = "BOOL|leave", value_parser = reset_mode)]
    pub(crate) factory_reset: Option<ResetMode>,
    /// Exit with 0 if a partition marked FactoryReset=yes exists
    #[arg(long)]
    pub(crate) can_factory_reset: bool,
}

/// Where definitions and values come from.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Configuration and image control")]
pub(crate) struct Configuration {
    /// Operate relative to this root directory
    #[arg(long, value_name = "PATH", conflicts_with = "image")]
    pub(crate) root: Option<PathBuf>,
    /// Operate relative to this disk image
    #[arg(long, value_name = "PATH")]
    pub(crate) image: Option<PathBuf>,
    /// Policy for --image=
    #[arg(long, value_name = "POLICY")]
    pub(crate) image_policy: Option<String>,
    /// Read definitions from this directory instead of repart.d (can be repeated)
    #[arg(long, value_name = "DIR")]
    pub(crate) definitions: Vec<PathBuf>,
    /// List the disks that could be operated on, with their other names
    #[arg(long)]
    pub(crate) list_devices: bool,
}

/// Verity signatures.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Verity")]
pub(crate) struct Signing {
    /// Private key that signs verity root hashes (can be repeated, for several signatures)
    #[arg(long, value_name = "PATH|URI")]
    pub(crate) private_key: Vec<String>,
    /// How to read the private keys: file, provider:NAME, engine:NAME
    #[arg(long, value_name = "SOURCE")]
    pub(crate) private_key_source: Option<String>,
    /// Certificate (PEM) of the private key (can be repeated, in the order of the keys)
    #[arg(long, value_name = "PATH|URI")]
    pub(crate) certificate: Vec<String>,
    /// How to read the certificates: file, provider:NAME
    #[arg(long, value_name = "SOURCE")]
    pub(crate) certificate_source: Option<String>,
    /// Root hash in hex and its PKCS#7 signature: a path, or base64:DATA (can be repeated)
    #[arg(long, value_name = "HASH:SIG")]
    pub(crate) join_signature: Vec<String>,
}

/// Encryption, for the definitions that ask for it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Encryption")]
pub(crate) struct Encryption {
    /// Key file to encrypt partitions with, whatever KeyFile= says: a regular file or a socket
    #[arg(long, value_name = "PATH")]
    pub(crate) key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tpm2: Tpm2Args,
}

/// Which definitions count.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Partition control")]
pub(crate) struct Partitions {
    /// Leave out definitions that are not of these types
    #[arg(long, value_name = "TYPE,…", conflicts_with = "exclude_partitions")]
    pub(crate) include_partitions: Option<String>,
    /// Leave out definitions of these types
    #[arg(long, value_name = "TYPE,…")]
    pub(crate) exclude_partitions: Option<String>,
    /// Make room for partitions of these types, but neither fill nor list them yet
    #[arg(long, value_name = "TYPE,…")]
    pub(crate) defer_partitions: Option<String>,
    /// Defer all partitions that are formatted as empty
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) defer_partitions_empty: Option<bool>,
    /// Defer all partitions marked for factory reset
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) defer_partitions_factory_reset: Option<bool>,
}

/// Where contents come from.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Copying")]
pub(crate) struct Copying {
    /// Tree that CopyFiles= copies from
    #[arg(short = 's', long, value_name = "PATH")]
    pub(crate) copy_source: Option<PathBuf>,
    /// Take over the partitions of this image (can be repeated)
    #[arg(long, value_name = "IMAGE")]
    pub(crate) copy_from: Vec<PathBuf>,
    /// Make a DDI of this kind from --copy-source=
    #[arg(long, value_name = "TYPE", value_enum)]
    pub(crate) make_ddi: Option<DdiKind>,
    /// Make a system extension (same as --make-ddi=sysext)
    #[arg(short = 'S')]
    pub(crate) sysext: bool,
    /// Make a configuration extension (same as --make-ddi=confext)
    #[arg(short = 'C')]
    pub(crate) confext: bool,
    /// Make a portable service (same as --make-ddi=portable)
    #[arg(short = 'P')]
    pub(crate) portable: bool,
}

/// `--make-ddi=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DdiKind {
    /// System extension
    Sysext,
    /// Configuration extension
    Confext,
    /// Portable service
    Portable,
}

/// Files that are written beside the image.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Files beside the image, boot catalog")]
pub(crate) struct Auxiliary {
    /// Write an fstab to this path
    #[arg(long, value_name = "PATH")]
    pub(crate) generate_fstab: Option<PathBuf>,
    /// How to treat an existing fstab
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) append_fstab: Option<AppendArg>,
    /// Write a crypttab to this path
    #[arg(long, value_name = "PATH")]
    pub(crate) generate_crypttab: Option<PathBuf>,
    /// Whether to add an El Torito boot catalog for the ESP
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) el_torito: Option<bool>,
    /// System identifier of the ISO 9660 descriptor
    #[arg(long, value_name = "STRING")]
    pub(crate) el_torito_system: Option<String>,
    /// Volume identifier of the ISO 9660 descriptor
    #[arg(long, value_name = "STRING")]
    pub(crate) el_torito_volume: Option<String>,
    /// Publisher identifier of the ISO 9660 descriptor
    #[arg(long, value_name = "STRING")]
    pub(crate) el_torito_publisher: Option<String>,
}

/// `--append-fstab=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AppendArg {
    /// The file must not exist
    No,
    /// Put the generated section before what is there
    Auto,
    /// Replace the file
    Replace,
}

impl JsonArg {
    /// How results are printed when `--json=` was given so, or not at all.
    pub(crate) fn mode(arg: Option<Self>) -> Mode {
        match arg {
            None | Some(Self::Off) => Mode::Text,
            Some(Self::Pretty) => Mode::JsonPretty,
            Some(Self::Short) => Mode::JsonShort,
        }
    }
}

impl Output {
    /// How results are printed.
    pub(crate) fn mode(&self) -> Mode {
        JsonArg::mode(self.json)
    }
}
