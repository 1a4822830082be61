//! Which command was asked for, and its arguments: the last command on the command line counts, as in
//! systemd-dissect.

mod table;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

use crate::exit::Failure;
use table::{COMMANDS, Command, DIFF, SHOW, WITH, Words};

/// A command with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Without a command: what is in the image.
    Show { image: PathBuf },
    /// `--validate`.
    Validate { image: PathBuf },
    /// `--list`.
    List { image: PathBuf },
    /// `--mtree`.
    Mtree { image: PathBuf },
    /// `--copy-from`; no target, or `-`, is standard output.
    CopyFrom {
        image: PathBuf,
        source: PathBuf,
        target: Option<PathBuf>,
    },
    /// `--copy-to`; no source, or `-`, is standard input.
    CopyTo {
        image: PathBuf,
        source: Option<PathBuf>,
        target: PathBuf,
    },
    /// `--cat`.
    Cat { image: PathBuf, path: PathBuf },
    /// `--make-archive`; no target, or `-`, is standard output.
    MakeArchive {
        image: PathBuf,
        target: Option<PathBuf>,
    },
    /// The word `diff` in front of two images.
    Diff { old: PathBuf, new: PathBuf },
    /// `--mount`.
    Mount {
        image: PathBuf,
        directory: PathBuf,
        make: bool,
    },
    /// `--umount`.
    Umount { directory: PathBuf, remove: bool },
    /// `--attach`.
    Attach { image: PathBuf },
    /// `--detach`.
    Detach { path: PathBuf },
    /// `--with`; no command is the shell.
    With {
        image: PathBuf,
        command: Vec<OsString>,
    },
    /// `--discover`.
    Discover,
    /// `--shift`.
    Shift { image: PathBuf, base: OsString },
}

/// The arguments that are no option's.
const WORDS: &str = "words";

/// The command and its words, as typed.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    command: Option<&'static Command>,
    words: Vec<OsString>,
}

impl Action {
    /// The images that it is about.
    pub(crate) fn images(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Show { image }
            | Self::Validate { image }
            | Self::List { image }
            | Self::Mtree { image }
            | Self::CopyFrom { image, .. }
            | Self::CopyTo { image, .. }
            | Self::Cat { image, .. }
            | Self::MakeArchive { image, .. }
            | Self::Mount { image, .. }
            | Self::Attach { image }
            | Self::With { image, .. }
            | Self::Shift { image, .. } => vec![image],
            Self::Diff { old, new } => vec![old, new],
            Self::Umount { .. } | Self::Detach { .. } | Self::Discover => Vec::new(),
        }
    }
}

impl Chosen {
    /// The command with its arguments; fails where there are too few or too many.
    pub(crate) fn action(&self) -> Result<Action, Failure> {
        let command = self.command();
        let mut words = Words(self.words.clone().into_iter());
        let wrong = |what: String| {
            Failure::message(what).with_hint(format!("{} takes {}", command.name(), command.takes))
        };
        let action = (command.parse)(&mut words)
            .ok_or_else(|| wrong(format!("{} needs more arguments", command.name())))?;
        match words.next() {
            None => Ok(action),
            Some(stray) => Err(wrong(format!(
                "{} is one argument too many",
                stray.display()
            ))),
        }
    }

    fn command(&self) -> &'static Command {
        match (self.command, self.words.as_slice()) {
            (Some(command), _) => command,
            // An image of that name stands alone.
            (None, [first, _, ..]) if first == "diff" => &DIFF,
            (None, _) => &SHOW,
        }
    }
}

impl Command {
    fn name(&self) -> String {
        match (self.long, self.short) {
            (Some(long), _) => format!("--{long}"),
            (None, Some(short)) => format!("-{short}"),
            (None, None) => format!("`{}`", self.id),
        }
    }

    fn arg(&self) -> Arg {
        let mut arg = Arg::new(self.id).help(self.help).help_heading("Commands");
        if let Some(long) = self.long {
            arg = arg.long(long);
        }
        if let Some(short) = self.short {
            arg = arg.short(short);
        }
        if self.id != WITH {
            return arg.action(ArgAction::SetTrue);
        }
        arg.action(ArgAction::Append)
            .num_args(0..)
            .allow_hyphen_values(true)
            .value_parser(clap::value_parser!(OsString))
            .value_name("IMAGE [COMMAND…]")
    }

    /// Where on the command line it was last given.
    fn place(&self, matches: &ArgMatches) -> Option<usize> {
        let given = matches.value_source(self.id) == Some(ValueSource::CommandLine);
        match self.id {
            // Nothing after it is an option.
            WITH => given.then_some(usize::MAX),
            _ if given => matches.indices_of(self.id)?.max(),
            _ => None,
        }
    }
}

impl Args for Chosen {
    fn augment_args(command: clap::Command) -> clap::Command {
        let words = Arg::new(WORDS)
            .help("Disk image to look at, and what the command takes beside it")
            .value_name("IMAGE")
            .value_parser(clap::value_parser!(OsString))
            .action(ArgAction::Append)
            .num_args(0..);
        command.arg(words).args(COMMANDS.iter().map(Command::arg))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Chosen {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let command = COMMANDS.iter().filter_map(|command| {
            let place = command.place(matches)?;
            Some((place, command))
        });
        let words = [WORDS, WITH]
            .into_iter()
            .filter_map(|id| matches.get_many(id));
        Ok(Self {
            command: command
                .max_by_key(|(place, _)| *place)
                .map(|(_, command)| command),
            words: words.flatten().cloned().collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
