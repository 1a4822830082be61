//! `ddi verity`, also reached as `veritysetup`.

mod device;
mod format;
mod inspect;
mod options;
mod parity;
mod report;
mod sources;
mod status;

use std::ffi::OsString;

use crate::cli;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;
use crate::verb::Run;
use options::{Action, VerityArgs};

pub(crate) use options::VerityArgs as Args;

impl Run for VerityArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        if self.debug {
            cli::log("debug");
        }
        let result = self.dispatch(ui);
        if self.verbose {
            let exit = match &result {
                Ok(exit) => *exit,
                Err(failure) => failure.exit,
            };
            ui.note(&report::ending(exit));
        }
        result
    }
}

impl VerityArgs {
    fn dispatch(&self, ui: &Ui) -> Result<Exit, Failure> {
        if self.version {
            ui.print(&cli::veritysetup_version())?;
            return Ok(Exit::Ok);
        }
        if self.usage {
            ui.print(&format!("{}\n", options::usage()))?;
            return Ok(Exit::Ok);
        }
        let Some(action) = &self.action else {
            return Err(Failure::message("Argument <action> missing.")
                .with_hint("use format, verify, repair, open, close, status or dump"));
        };
        let action = Action::parse(action)?;
        self.check(action)?;
        let arguments = self.arguments.as_slice();
        match (action, arguments) {
            (Action::Format, [data, hash]) => format::run(self, (data, hash), ui),
            (Action::Verify, [data, hash, root @ ..]) if root.len() < 2 => {
                inspect::verify(self, (data, hash), root.first(), ui)
            }
            (Action::Repair, [data, hash, root @ ..]) if root.len() < 2 => {
                inspect::repair(self, (data, hash), root.first(), ui)
            }
            (Action::Open, [data, name, hash, root @ ..]) if root.len() < 2 => {
                device::open(self, (data, hash), name, (root.first(), ui))
            }
            (Action::Create, [name, data, hash, root @ ..]) if root.len() < 2 => {
                device::open(self, (data, hash), name, (root.first(), ui))
            }
            (Action::Close, [name]) => device::close(self, name),
            (Action::Status, [name]) => status::run(name, ui),
            (Action::Dump, [hash]) => inspect::dump(self, hash, ui),
            _ => Err(wrong_arguments(action, arguments)),
        }
    }
}

fn wrong_arguments(action: Action, given: &[OsString]) -> Failure {
    Failure::message(format!(
        "{}: requires {} as arguments, not {} of them",
        action.name(),
        action.arguments(),
        given.len()
    ))
}
