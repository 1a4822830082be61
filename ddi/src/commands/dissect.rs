//! `ddi dissect`, also reached as `systemd-dissect`.

use std::path::PathBuf;

use super::repart_args::JsonArg;
use crate::exit::{Exit, Failure};
use crate::ui::{Mode, Ui};

/// Show what is in a disk image, without root and without mounting it
#[derive(Debug, clap::Args)]
pub(crate) struct DissectArgs {
    /// Disk image to look at
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Print the result as JSON
    #[arg(long, value_name = "FORMAT", value_enum)]
    json: Option<JsonArg>,
}

impl DissectArgs {
    pub(crate) fn mode(&self) -> Mode {
        JsonArg::mode(self.json)
    }
}

/// Runs `ddi dissect`.
pub(crate) fn run(args: &DissectArgs, _ui: &Ui) -> Result<Exit, Failure> {
    Err(Failure::message(format!(
        "{}: dissecting is not supported yet",
        args.image.display()
    )))
}
