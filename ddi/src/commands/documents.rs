//! Writes man pages and shell completions, made from the same tables that parse the command line.

use std::fs;
use std::path::{Path, PathBuf};

use super::VERBS;
use crate::cli;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;
use crate::verb::{Run, Verb};

/// Write man pages and shell completions to a directory
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct DocumentsArgs {
    /// Directory to write man/ and completions/ to
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Run for DocumentsArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        let man = self.directory.join("man");
        let completions = self.directory.join("completions");
        for directory in [&man, &completions] {
            fs::create_dir_all(directory).map_err(|error| {
                Failure::message(format!("cannot create {}: {error}", directory.display()))
            })?;
        }
        clap_mangen::generate_to(manual(), &man)?;
        let tools = VERBS.iter().filter_map(Verb::tool_command);
        for command in tools.chain([cli::command()]) {
            complete(command, &completions)?;
        }
        ui.note(&format!(
            "Wrote man pages and completions to {}.",
            self.directory.display()
        ));
        Ok(Exit::Ok)
    }
}

/// The command line as its man pages tell it: each verb names the tool that it stands in for.
fn manual() -> clap::Command {
    let mut command = cli::command().disable_help_subcommand(true);
    for verb in VERBS {
        let (Some(name), Some(tool)) = (verb.name, verb.tool) else {
            continue;
        };
        let also = format!(
            "Called as {tool}, ddi does the same. See also {}.",
            verb.pages
        );
        command = command.mut_subcommand(name, |command| command.after_help(also));
    }
    command
}

fn complete(mut command: clap::Command, directory: &Path) -> Result<(), Failure> {
    use clap_complete::Shell;
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, &name, directory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn man_pages_name_the_tools_they_stand_in_for() {
        let folder = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(manual(), folder.path()).unwrap();
        for (page, tool) in [
            ("ddi-repart.1", "systemd\\-repart(1)"),
            ("ddi-dissect.1", "systemd\\-dissect(1)"),
        ] {
            let text = fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(text.contains(tool), "{page} does not name {tool}:\n{text}");
        }
    }
}
