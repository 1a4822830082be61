//! The options of the commands that mount or attach, as typed.

use clap::{ArgAction, Args, ValueEnum};
use image_specs::conf::boolean;

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
