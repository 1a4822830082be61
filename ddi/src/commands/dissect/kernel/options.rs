//! The options of the commands that mount or attach, as typed.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use dissect::activate::Parity;
use image_specs::conf::{boolean, size};
use image_specs::units::Bytes;
use veritysetup::activate::{OnCorruption, Strictness};
use veritysetup::fec::Roots;

use super::measuring;
use crate::exit::Failure;

/// How an image is mounted or attached.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(crate) struct Mounting {
    /// Make the directory to mount on, if it is missing
    #[arg(long)]
    pub(super) mkdir: bool,
    /// Remove the directory after unmounting
    #[arg(long)]
    pub(super) rmdir: bool,
    /// Mount read-only
    #[arg(short = 'r', long)]
    pub(super) read_only: bool,
    /// When blocks that become free are given back to the device
    #[arg(long, value_name = "MODE", value_enum)]
    pub(super) discard: Option<Discard>,
    /// Copy the image into memory first, and use that
    #[arg(long)]
    pub(super) in_memory: bool,
    /// Check writable file systems before they are mounted (default: yes)
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    pub(super) fsck: Option<bool>,
    /// Grow file systems that are marked for it (default: yes)
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    pub(super) growfs: Option<bool>,
    /// Name for the loop device, up to 63 bytes: /dev/disk/by-loop-ref/NAME
    #[arg(long, value_name = "NAME", conflicts_with = "loop_ref_auto")]
    pub(super) loop_ref: Option<String>,
    /// Name the loop device after the image's file
    #[arg(long)]
    pub(super) loop_ref_auto: bool,
}

/// What the kernel does where data do not fit their hash tree.
#[derive(Debug, Args)]
pub(crate) struct Checking {
    /// What happens when data do not fit the hash tree: fail, restart or panic the machine
    #[arg(long, value_name = "ACTION", value_enum)]
    on_corruption: Option<Action>,
    /// File or device with parity, by which the kernel repairs data of a verity set
    #[arg(long, value_name = "PATH")]
    fec_device: Option<PathBuf>,
    /// Byte at which the parity begins [default: 0]
    #[arg(long, value_name = "BYTES", value_parser = size, requires = "fec_device")]
    fec_offset: Option<u64>,
    /// Parity bytes in a code word, 2 to 24 [default: 2]
    #[arg(long, value_name = "NUMBER", requires = "fec_device")]
    fec_roots: Option<u64>,
    /// Measure root hash and volume keys of what is mounted into this PCR (yes for 15)
    #[arg(long, value_name = "PCR|yes", value_parser = measuring::pcr)]
    pub(super) tpm2_measure_pcr: Option<u8>,
}

/// `--on-corruption=`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Action {
    /// The read fails
    Fail,
    /// The machine starts anew
    Restart,
    /// The kernel panics
    Panic,
}

impl Checking {
    /// Whether something is asked for that only a verity set can have.
    pub(super) const fn needs_verity(&self) -> bool {
        self.on_corruption.is_some() || self.fec_device.is_some()
    }

    pub(super) fn strictness(&self) -> Strictness {
        Strictness {
            on_corruption: match self.on_corruption {
                None | Some(Action::Fail) => OnCorruption::Fail,
                Some(Action::Restart) => OnCorruption::Restart,
                Some(Action::Panic) => OnCorruption::Panic,
            },
            ..Strictness::default()
        }
    }

    pub(super) fn parity(&self) -> Result<Option<Parity>, Failure> {
        let Some(place) = &self.fec_device else {
            return Ok(None);
        };
        Ok(Some(Parity {
            place: place.clone(),
            offset: Bytes::new(self.fec_offset.unwrap_or(0)),
            roots: match self.fec_roots {
                None => Roots::DEFAULT,
                Some(count) => Roots::new(count)?,
            },
        }))
    }
}

/// `--discard=`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Discard {
    /// Never
    Disabled,
    /// On loop devices
    Loop,
    /// Always
    All,
    /// Always, and through encryption
    #[value(alias = "crypto")]
    Crypt,
    /// Print these words
    List,
}

impl Discard {
    /// What is asked for; nothing where only the words are.
    pub(super) const fn mode(self) -> Option<dissect::mount::Discard> {
        use dissect::mount::Discard as Mode;
        match self {
            Self::Disabled => Some(Mode::Disabled),
            Self::Loop => Some(Mode::Loop),
            Self::All => Some(Mode::All),
            Self::Crypt => Some(Mode::Crypt),
            Self::List => None,
        }
    }
}

impl Mounting {
    /// `--discard=list`: the words, where they are asked for.
    pub(crate) const fn listed(&self) -> Option<&'static str> {
        match self.discard {
            Some(Discard::List) => Some("disabled\nall\ncrypt\nloop\n"),
            _ => None,
        }
    }
}
