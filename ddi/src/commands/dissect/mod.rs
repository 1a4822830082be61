//! `ddi dissect`, also reached as `systemd-dissect`: one file a command.

mod action;
mod environment;
mod open;
mod options;
mod show;
mod validate;

use action::{Action, Chosen};
use options::{Idle, Output, Selection, Verification};

use crate::exit::{Exit, Failure};
use crate::ui::{Mode, Ui};
use crate::verb;

/// Show what is in a disk image, without root and without mounting it
///
/// Without a command, shows the image's partitions and what they are for.
#[derive(Debug, clap::Args)]
pub(crate) struct DissectArgs {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    verification: Verification,
    #[command(flatten)]
    idle: Idle,
}

impl verb::Run for DissectArgs {
    fn mode(&self) -> Mode {
        self.output.mode()
    }

    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        match self.chosen.action()? {
            Action::Show { image } => show::run(self, ui, &image),
            Action::Validate { image } => validate::run(self, ui, &image),
            _ => Err(unsupported(&self.chosen.name())),
        }
    }
}

/// Refuses a command or option that this version does not know how to do.
fn unsupported(what: &str) -> Failure {
    Failure::message(format!("{what} is not supported yet"))
        .with_hint("this version shows and checks images; use systemd-dissect for the rest")
}
