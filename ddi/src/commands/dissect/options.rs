//! The options of `ddi dissect`, as typed: nothing here has been checked against anything else.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use dissect::uses::Purpose;
use image_specs::conf::boolean;

use crate::commands::repart::args::JsonArg;
use crate::ui::Mode;
use crate::values::Tristate;

/// How results are printed.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Print the result as JSON
    #[arg(long, value_name = "FORMAT", value_enum)]
    json: Option<JsonArg>,
    /// Do not print column headers
    #[arg(long)]
    pub(crate) no_legend: bool,
    /// Do not pipe output into a pager (none is ever started)
    #[arg(long)]
    no_pager: bool,
    /// Show all partitions of which there are several for one purpose, too
    #[arg(long)]
    pub(crate) all_versions: bool,
}

/// What an image must be, and which of its partitions are used.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Root hash that the root partition must have
    #[arg(long, value_name = "HEX")]
    pub(crate) root_hash: Option<String>,
    /// Root hash that the usr partition must have
    #[arg(long, value_name = "HEX", conflicts_with_all = ["root_hash", "root_hash_sig"])]
    pub(crate) usr_hash: Option<String>,
    /// Labels that partitions must have, by designator
    #[arg(long, value_name = "FILTER")]
    pub(crate) image_filter: Option<String>,
    /// Which partitions may, must or must not be used, and how protected
    #[arg(long, value_name = "POLICY")]
    pub(crate) image_policy: Option<String>,
    /// Signature of the root hash: a file (DER, PKCS#7), or base64:TEXT
    #[arg(long, value_name = "SIG")]
    pub(crate) root_hash_sig: Option<String>,
    /// The same for the usr partition
    #[arg(long, value_name = "SIG", conflicts_with_all = ["root_hash", "root_hash_sig"])]
    pub(crate) usr_hash_sig: Option<String>,
    /// File with the hash tree, for an image that is one file system
    #[arg(long, value_name = "PATH")]
    pub(crate) verity_data: Option<PathBuf>,
}

/// What is checked beyond what systemd-dissect checks.
#[derive(Debug, Args)]
pub(crate) struct Verification {
    /// Check the signature against this certificate (PEM; can be repeated)
    #[arg(long, value_name = "PATH")]
    pub(crate) certificate: Vec<PathBuf>,
    /// Read all data and check it against the root hash
    #[arg(long)]
    pub(crate) verify_data: bool,
    /// Check that IMAGE_ID= and IMAGE_VERSION= of the image fit its file's name
    #[arg(long)]
    pub(crate) check_name: bool,
    /// Take only images for this purpose: bootable, uefi, container, initrd, portable, sysext, confext
    #[arg(long, value_name = "PURPOSE")]
    pub(crate) purpose: Option<Purpose>,
}

/// How files are listed and copied.
#[derive(Debug, Args)]
pub(crate) struct Copying {
    /// Whether --mtree has the SHA-256 of every file [default: yes]
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) mtree_hash: Option<bool>,
    /// Whether copied files keep their owners [default: auto, directories do if root copies them]
    #[arg(long, value_name = "BOOL|auto", value_parser = Tristate::parse, action = ArgAction::Set)]
    pub(crate) copy_ownership: Option<Tristate>,
}

/// Where images are looked for.
#[derive(Debug, Args)]
pub(crate) struct Discovery {
    /// --discover: only images of the system
    #[arg(long)]
    pub(crate) system: bool,
    /// --discover: only images of this user
    #[arg(long)]
    pub(crate) user: bool,
    /// --discover: hidden images, too
    #[arg(long)]
    pub(crate) all: bool,
}

/// Options that only some commands listen to; for the others they change nothing, as in
/// systemd-dissect.
#[derive(Debug, Args)]
pub(crate) struct Idle {
    /// Do not print the node of an attached loop device
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
}

impl Output {
    pub(crate) fn mode(&self) -> Mode {
        JsonArg::mode(self.json)
    }
}
