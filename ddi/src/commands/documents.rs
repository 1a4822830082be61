//! Writes man pages and shell completions, made from the same tables that parse the command line.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use super::dissect::DissectArgs;
use super::repart_args::RepartArgs;
use crate::cli::{Cli, tool};
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// Write man pages and shell completions to a directory
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct DocumentsArgs {
    /// Directory to write man/ and completions/ to
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Runs `ddi documents`.
pub(crate) fn run(args: &DocumentsArgs, ui: &Ui) -> Result<Exit, Failure> {
    let man = args.directory.join("man");
    let completions = args.directory.join("completions");
    for directory in [&man, &completions] {
        fs::create_dir_all(directory).map_err(|error| {
            Failure::message(format!("cannot create {}: {error}", directory.display()))
        })?;
    }
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &man)?;
    let tools = [
        tool::<RepartArgs>("systemd-repart"),
        tool::<DissectArgs>("systemd-dissect"),
    ];
    for command in tools.into_iter().chain([Cli::command()]) {
        complete(command, &completions)?;
    }
    ui.note(&format!(
        "Wrote man pages and completions to {}.",
        args.directory.display()
    ));
    Ok(Exit::Ok)
}

fn complete(mut command: clap::Command, directory: &Path) -> Result<(), Failure> {
    use clap_complete::Shell;
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, &name, directory)?;
    }
    Ok(())
}
