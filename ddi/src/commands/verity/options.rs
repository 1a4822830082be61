//! What can be written on the command line, and which of it belongs together.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::ArgAction;
use veritysetup::activate::OnCorruption;
use veritysetup::fec::Roots;
use veritysetup::{BlockSize, HashAlgorithm, HashType, Salt};

use crate::exit::Failure;

/// Make, check, repair and open dm-verity images
///
/// format DATA HASH: hash DATA and write the hash tree to HASH, and parity to --fec-device=.
///
/// verify DATA HASH [ROOT-HASH]: check all of it in this process.
///
/// repair DATA HASH [ROOT-HASH]: put right what parity can, in place.
///
/// open DATA NAME HASH [ROOT-HASH]: let the kernel make /dev/mapper/NAME.
///
/// close NAME, status NAME: end it, tell of it.
///
/// dump HASH: show what the superblock says.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct VerityArgs {
    /// format, verify, repair, open, close, status or dump
    #[arg(value_name = "ACTION")]
    pub(super) action: Option<OsString>,
    /// What the action is done to
    #[arg(value_name = "ARGUMENT")]
    pub(super) arguments: Vec<OsString>,

    /// Hash algorithm (default: sha256)
    #[arg(
        short = 'h',
        long,
        value_name = "NAME",
        default_value = "sha256",
        hide_default_value = true
    )]
    pub(super) hash: HashAlgorithm,
    /// Hash type: 1 is normal (default), 0 that of Chrome OS
    #[arg(long, value_name = "NUMBER", default_value = "1", hide_default_value = true, value_parser = hash_type)]
    pub(super) format: HashType,
    /// Bytes of a block of data (default: 4096)
    #[arg(long, value_name = "BYTES", default_value = "4096", hide_default_value = true, value_parser = block_size)]
    pub(super) data_block_size: BlockSize,
    /// Bytes of a block of the tree (default: 4096)
    #[arg(long, value_name = "BYTES", default_value = "4096", hide_default_value = true, value_parser = block_size)]
    pub(super) hash_block_size: BlockSize,
    /// Blocks of data that are covered (default: all)
    #[arg(long, value_name = "BLOCKS")]
    pub(super) data_blocks: Option<u64>,
    /// Where the superblock is on HASH
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "0",
        hide_default_value = true
    )]
    pub(super) hash_offset: u64,
    /// Hex digits that are hashed along with each block, or - for none (default: 32 random bytes)
    #[arg(short = 's', long, value_name = "HEX")]
    pub(super) salt: Option<Salt>,
    /// UUID of the tree (default: a random one)
    #[arg(long, value_name = "UUID", value_parser = image_specs::guid::parse)]
    pub(super) uuid: Option<uuid::Uuid>,
    /// No superblock: the options above say what it would
    #[arg(long)]
    pub(super) no_superblock: bool,

    /// File or device with parity to repair with
    #[arg(long, value_name = "PATH")]
    pub(super) fec_device: Option<PathBuf>,
    /// Where parity begins on it
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "0",
        hide_default_value = true
    )]
    pub(super) fec_offset: u64,
    /// Parity bytes in 255: 2 (default) to 24
    #[arg(long, value_name = "NUMBER", default_value = "2", hide_default_value = true, value_parser = roots)]
    pub(super) fec_roots: Roots,

    /// File for the root hash, or with it; or a socket that gives it
    #[arg(long, value_name = "PATH")]
    pub(super) root_hash_file: Option<PathBuf>,
    /// Signature of the root hash (PKCS#7, DER) that the kernel is to check
    #[arg(long, value_name = "PATH")]
    pub(super) root_hash_signature: Option<PathBuf>,

    /// Give corrupted data, and log it
    #[arg(long)]
    pub(super) ignore_corruption: bool,
    /// Restart the machine when data are corrupted
    #[arg(long)]
    pub(super) restart_on_corruption: bool,
    /// Let the kernel panic when data are corrupted
    #[arg(long)]
    pub(super) panic_on_corruption: bool,
    /// Do the same about errors of the device below
    #[arg(long)]
    pub(super) error_as_corruption: bool,
    /// Give zeros where the tree says so, without reading
    #[arg(long)]
    pub(super) ignore_zero_blocks: bool,
    /// Check a block when it is first read, and not again
    #[arg(long)]
    pub(super) check_at_most_once: bool,
    /// Let the kernel hash in tasklets where that is faster
    #[arg(long)]
    pub(super) use_tasklets: bool,
    /// Let others use the data device, too
    #[arg(long)]
    pub(super) shared: bool,

    /// Close when the last user has gone
    #[arg(long)]
    pub(super) deferred: bool,
    /// Take such a removal back
    #[arg(long)]
    pub(super) cancel_deferred: bool,

    /// Say at the end how it went
    #[arg(short = 'v', long)]
    pub(super) verbose: bool,
    /// Say what is done
    #[arg(long)]
    pub(super) debug: bool,
    /// Print version
    #[arg(short = 'V')]
    pub(super) version: bool,
    /// Print a short usage line
    #[arg(long)]
    pub(super) usage: bool,
    /// Print help
    #[arg(short = '?', long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Format,
    Verify,
    Repair,
    Open,
    /// The old form of open, with the name first.
    Create,
    Close,
    Status,
    Dump,
}

impl Action {
    pub(super) fn parse(word: &OsStr) -> Result<Self, Failure> {
        Ok(match word.to_str() {
            Some("format") => Self::Format,
            Some("verify") => Self::Verify,
            Some("repair") => Self::Repair,
            Some("open") => Self::Open,
            Some("create") => Self::Create,
            Some("close" | "remove") => Self::Close,
            Some("status") => Self::Status,
            Some("dump") => Self::Dump,
            _ => {
                let text = format!("Unknown action {}.", word.display());
                return Err(Failure::message(text)
                    .with_hint("use format, verify, repair, open, close, status or dump"));
            }
        })
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Verify => "verify",
            Self::Repair => "repair",
            Self::Open => "open",
            Self::Create => "create",
            Self::Close => "close",
            Self::Status => "status",
            Self::Dump => "dump",
        }
    }

    pub(super) const fn arguments(self) -> &'static str {
        match self {
            Self::Format => "DATA HASH",
            Self::Verify | Self::Repair => "DATA HASH [ROOT-HASH]",
            Self::Open => "DATA NAME HASH [ROOT-HASH]",
            Self::Create => "NAME DATA HASH [ROOT-HASH]",
            Self::Close | Self::Status => "NAME",
            Self::Dump => "HASH",
        }
    }

    const fn opens(self) -> bool {
        matches!(self, Self::Open | Self::Create)
    }
}

impl VerityArgs {
    /// Refuses options that the action has no use for, and those that contradict each other.
    pub(super) fn check(&self, action: Action) -> Result<(), Failure> {
        let open = action.opens();
        let root = open || matches!(action, Action::Format | Action::Verify | Action::Repair);
        let close = action == Action::Close;
        for (given, option, fits) in [
            (self.ignore_corruption, "--ignore-corruption", open),
            (self.restart_on_corruption, "--restart-on-corruption", open),
            (self.panic_on_corruption, "--panic-on-corruption", open),
            (self.error_as_corruption, "--error-as-corruption", open),
            (self.ignore_zero_blocks, "--ignore-zero-blocks", open),
            (self.check_at_most_once, "--check-at-most-once", open),
            (self.use_tasklets, "--use-tasklets", open),
            (self.shared, "--shared", open),
            (
                self.root_hash_signature.is_some(),
                "--root-hash-signature",
                open,
            ),
            (self.root_hash_file.is_some(), "--root-hash-file", root),
            (self.uuid.is_some(), "--uuid", action == Action::Format),
            (self.deferred, "--deferred", close),
            (self.cancel_deferred, "--cancel-deferred", close),
        ] {
            if given && !fits {
                let name = action.name();
                let text = format!("Option {option} is not allowed with {name} action.");
                return Err(Failure::message(text));
            }
        }
        let modes = [
            (self.ignore_corruption, "--ignore-corruption"),
            (self.restart_on_corruption, "--restart-on-corruption"),
            (self.panic_on_corruption, "--panic-on-corruption"),
        ];
        let modes: Vec<_> = modes.iter().filter(|(given, _)| *given).collect();
        if let [(_, one), (_, other), ..] = modes.as_slice() {
            let text = format!("Option {one} and {other} cannot be used together.");
            return Err(Failure::message(text));
        }
        self.check_pairs()
    }

    fn check_pairs(&self) -> Result<(), Failure> {
        let strict = self.restart_on_corruption || self.panic_on_corruption;
        let wrong = if self.error_as_corruption && !strict {
            "Option --error-as-corruption must be used with --panic-on-corruption or \
             --restart-on-corruption."
        } else if self.deferred && self.cancel_deferred {
            "Options --cancel-deferred and --deferred cannot be used at the same time."
        } else {
            return Ok(());
        };
        Err(Failure::message(wrong))
    }

    pub(super) fn on_corruption(&self) -> OnCorruption {
        if self.panic_on_corruption {
            OnCorruption::Panic
        } else if self.restart_on_corruption {
            OnCorruption::Restart
        } else if self.ignore_corruption {
            OnCorruption::Ignore
        } else {
            OnCorruption::Fail
        }
    }
}

/// `--usage`.
pub(super) fn usage() -> String {
    let command = <VerityArgs as clap::Args>::augment_args(clap::Command::new("veritysetup"));
    let mut command = command;
    command.render_usage().to_string()
}

fn hash_type(text: &str) -> Result<HashType, String> {
    match text {
        "0" => Ok(HashType::ChromeOs),
        "1" => Ok(HashType::Normal),
        _ => Err(format!(
            "Unsupported VERITY hash type {text}; 0 and 1 are known."
        )),
    }
}

fn block_size(text: &str) -> Result<BlockSize, String> {
    let bytes = text.parse::<u64>().map_err(|error| error.to_string())?;
    BlockSize::new(bytes).map_err(|error| error.to_string())
}

fn roots(text: &str) -> Result<Roots, String> {
    let count = text.parse::<u64>().map_err(|error| error.to_string())?;
    Roots::new(count).map_err(|error| error.to_string())
}
