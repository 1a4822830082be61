//! What a verb is: its arguments, what runs it, and the tool that it stands in for.

use clap::{ArgMatches, Args};

use crate::exit::{Exit, Failure};
use crate::ui::{Mode, Ui};

/// The arguments of a verb, which know how to run it. Their doc comment is the verb's help.
pub(crate) trait Run: Args {
    /// How results and failures are printed.
    fn mode(&self) -> Mode {
        Mode::Text
    }

    /// Runs the verb.
    fn run(&self, ui: &Ui) -> Result<Exit, Failure>;
}

/// A verb of `ddi`, or a tool that it answers as, or both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verb {
    /// Its name after `ddi`; `None` where it is reached by the tool's name only.
    pub(crate) name: Option<&'static str>,
    /// The tool that it stands in for: `argv[0]`.
    pub(crate) tool: Option<&'static str>,
    /// Manual pages to see also, as `systemd-repart(1), repart.d(5)`.
    pub(crate) pages: &'static str,
    augment: fn(clap::Command) -> clap::Command,
    run: fn(&ArgMatches) -> Result<Exit, clap::Error>,
}

impl Verb {
    /// `ddi NAME`.
    pub(crate) const fn new<T: Run>(name: &'static str) -> Self {
        Self {
            name: Some(name),
            tool: None,
            pages: "",
            augment: T::augment_args,
            run: run::<T>,
        }
    }

    /// Reached as `tool` only.
    pub(crate) const fn tool_only<T: Run>(tool: &'static str, pages: &'static str) -> Self {
        Self {
            name: None,
            tool: Some(tool),
            pages,
            augment: T::augment_args,
            run: run::<T>,
        }
    }

    /// The same, reached as `tool` as well.
    pub(crate) const fn also(self, tool: &'static str, pages: &'static str) -> Self {
        Self {
            tool: Some(tool),
            pages,
            ..self
        }
    }

    /// The verb's own command, to parse the arguments of `ddi`.
    pub(crate) fn command(&self) -> Option<clap::Command> {
        let command = (self.augment)(clap::Command::new(self.name?));
        Some(command.args_override_self(true).infer_long_args(true))
    }

    /// The command of the tool that it stands in for.
    pub(crate) fn tool_command(&self) -> Option<clap::Command> {
        let command = (self.augment)(clap::Command::new(self.tool?))
            .version(concat!("262.1\nddi ", env!("CARGO_PKG_VERSION")))
            .disable_version_flag(true)
            .arg(version_flag())
            .args_override_self(true)
            .infer_long_args(true);
        Some(command)
    }

    /// Runs it; fails where the arguments make no sense together.
    pub(crate) fn run(&self, matches: &ArgMatches) -> Result<Exit, clap::Error> {
        (self.run)(matches)
    }
}

/// `--version` alone: some tools mean something else by `-V`.
fn version_flag() -> clap::Arg {
    clap::Arg::new("show-version")
        .long("version")
        .help("Print version")
        .action(clap::ArgAction::Version)
}

fn run<T: Run>(matches: &ArgMatches) -> Result<Exit, clap::Error> {
    let args = T::from_arg_matches(matches)?;
    let ui = Ui::new(args.mode());
    Ok(args.run(&ui).unwrap_or_else(|failure| {
        ui.fail(&failure);
        failure.exit
    }))
}
