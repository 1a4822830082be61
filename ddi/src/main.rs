//! The `ddi` binary: many tools under one name.
//!
//! Called as `ddi VERB …` it runs the verb; called by the name of a tool it stands in for
//! (`systemd-repart`, `systemd-dissect`, by a link) it answers as that tool does.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod exit;
mod notify;
mod surroundings;
mod ui;
mod values;
mod varlink;
mod verb;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::main(std::env::args_os()).code())
}
