//! From the command line to a verb: by sub-command, or by the name the binary is called as.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::dissect::{self, DissectArgs};
use crate::commands::documents::{self, DocumentsArgs};
use crate::commands::repart;
use crate::commands::repart_args::RepartArgs;
use crate::exit::{Exit, Failure};
use crate::ui::{Mode, Ui};

/// The systemd release whose behaviour is the reference.
const REFERENCE: &str = "systemd 262 (262.1)";

/// Build, grow, inspect, extend and update discoverable disk images (DDIs)
#[derive(Debug, Parser)]
#[command(
    name = "ddi",
    version,
    infer_subcommands = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Repart(Box<RepartArgs>),
    Dissect(Box<DissectArgs>),
    Documents(DocumentsArgs),
}

/// Tools that the binary answers as: the name, and whether it is built yet.
const PERSONALITIES: &[(&str, bool)] = &[
    ("systemd-repart", true),
    ("systemd-dissect", true),
    ("mount.ddi", false),
    ("systemd-sysext", false),
    ("systemd-confext", false),
    ("systemd-sysupdate", false),
    ("veritysetup", false),
    ("portablectl", false),
];

/// Runs what the command line asks for.
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> Exit {
    let mut arguments: Vec<OsString> = arguments.collect();
    let called_as = arguments
        .first()
        .and_then(|name| Path::new(name).file_name())
        .and_then(|name| name.to_str())
        .unwrap_or("ddi")
        .to_owned();
    if let Some(name) = arguments.first_mut() {
        *name = called_as.clone().into();
    }
    start_log();
    match parse(&called_as, &arguments) {
        Ok(verb) => run(verb),
        Err(Stop::Usage(error)) if error.use_stderr() && wants_json(&arguments) => {
            let text = error.to_string();
            let text = text.lines().next().unwrap_or_default();
            let failure = Failure::message(text.trim_start_matches("error: "));
            Ui::new(Mode::JsonShort).fail(&failure.with_hint("see --help"));
            Exit::Failure
        }
        Err(Stop::Usage(error)) => usage(&error),
        Err(Stop::NotBuilt) => {
            Ui::new(Mode::Text).fail(
                &Failure::message(format!(
                    "{called_as} is not part of this version of ddi yet"
                ))
                .with_hint("see the CHANGELOG for what is; the original tool is not affected"),
            );
            Exit::Failure
        }
    }
}

/// Whether a command line that makes no sense as a whole asks for JSON.
fn wants_json(arguments: &[OsString]) -> bool {
    let json = |argument: &OsString| argument == "--json=short" || argument == "--json=pretty";
    arguments.iter().any(json)
}

enum Stop {
    Usage(clap::Error),
    NotBuilt,
}

fn parse(called_as: &str, arguments: &[OsString]) -> Result<Verb, Stop> {
    match PERSONALITIES.iter().find(|(name, _)| *name == called_as) {
        None => {
            let command = Cli::command()
                .args_override_self(true)
                .infer_long_args(true);
            let command =
                command.mut_subcommands(|verb| verb.args_override_self(true).infer_long_args(true));
            let matches = command
                .try_get_matches_from(arguments)
                .map_err(Stop::Usage)?;
            Cli::from_arg_matches(&matches)
                .map(|cli| cli.verb)
                .map_err(Stop::Usage)
        }
        Some((_, false)) => Err(Stop::NotBuilt),
        Some((name @ "systemd-repart", true)) => {
            personality::<RepartArgs>(name, arguments).map(|args| Verb::Repart(Box::new(args)))
        }
        Some((name, true)) => {
            personality::<DissectArgs>(name, arguments).map(|args| Verb::Dissect(Box::new(args)))
        }
    }
}

fn personality<T: Args>(name: &'static str, arguments: &[OsString]) -> Result<T, Stop> {
    let matches = tool::<T>(name)
        .try_get_matches_from(arguments)
        .map_err(Stop::Usage)?;
    T::from_arg_matches(&matches).map_err(Stop::Usage)
}

/// The command of a tool that ddi answers as.
pub(crate) fn tool<T: Args>(name: &'static str) -> clap::Command {
    T::augment_args(clap::Command::new(name))
        .version(concat!("262.1\nddi ", env!("CARGO_PKG_VERSION")))
        .args_override_self(true)
        .infer_long_args(true)
}

fn run(verb: Verb) -> Exit {
    let mode = match &verb {
        Verb::Repart(args) => args.output.mode(),
        Verb::Dissect(args) => args.mode(),
        Verb::Documents(_) => Mode::Text,
    };
    let ui = Ui::new(mode);
    let result = match verb {
        Verb::Repart(args) => repart::run(&args, &ui),
        Verb::Dissect(args) => dissect::run(&args, &ui),
        Verb::Documents(args) => documents::run(&args, &ui),
    };
    result.unwrap_or_else(|failure| {
        ui.fail(&failure);
        failure.exit
    })
}

/// Prints help, version or a usage error; such errors exit with 1 as systemd's tools do.
fn usage(error: &clap::Error) -> Exit {
    if error.kind() == ErrorKind::DisplayVersion {
        let text = error.to_string();
        let ddi = text.lines().last().unwrap_or_default();
        let version = if text.starts_with("ddi ") {
            ddi.to_owned()
        } else {
            format!("{REFERENCE}\n{ddi}")
        };
        return match Ui::new(Mode::Text).print(&format!("{version}\n")) {
            Ok(()) => Exit::Ok,
            Err(_) => Exit::Failure,
        };
    }
    let printed = error.print().is_ok();
    if printed && !error.use_stderr() {
        Exit::Ok
    } else {
        Exit::Failure
    }
}

/// Debug messages go to standard error when `DDI_LOG` (or systemd's variable) asks for them.
fn start_log() {
    let level = std::env::var("DDI_LOG")
        .ok()
        .or_else(|| std::env::var("SYSTEMD_LOG_LEVEL").ok());
    let Some(level) = level.filter(|level| matches!(level.as_str(), "debug" | "trace")) else {
        return;
    };
    let filter = tracing_subscriber::EnvFilter::new(level);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
        tool::<RepartArgs>("systemd-repart").debug_assert();
        tool::<DissectArgs>("systemd-dissect").debug_assert();
    }

    #[test]
    fn the_last_of_repeated_options_counts_and_long_ones_may_be_cut() {
        let line = [
            "systemd-repart",
            "--dry-run=yes",
            "--dry-r=no",
            "--empty=create",
            "x.raw",
        ];
        let line: Vec<OsString> = line.iter().map(OsString::from).collect();
        let Ok(Verb::Repart(args)) = parse("systemd-repart", &line) else {
            panic!("not parsed")
        };
        assert_eq!(args.operation.dry_run, Some(false));
    }

    fn line(name: &str, options: &[&str]) -> Vec<OsString> {
        let words = [name].into_iter().chain(options.iter().copied());
        words.map(OsString::from).collect()
    }

    /// Every option of systemd-repart 262 with a value that it takes.
    const REPART: &[&str] = &[
        "--no-pager",
        "--no-legend",
        "-n",
        "--dry-run=no",
        "--empty=refuse",
        "--empty=allow",
        "--empty=require",
        "--empty=force",
        "--empty=create",
        "--offline=auto",
        "--discard=no",
        "--cow=auto",
        "--sector-size=4096",
        "--grain-size=1M",
        "--architecture=arm64",
        "--size=1G",
        "--size=auto",
        "--seed=random",
        "--split=yes",
        "--pretty=0",
        "--json=pretty",
        "--json=short",
        "--json=off",
        "--factory-reset=on",
        "--can-factory-reset",
        "--root=/x",
        "--image=/x",
        "--image-policy=*",
        "--definitions=/x",
        "--list-devices",
        "--private-key=x",
        "--private-key-source=engine:x",
        "--certificate=x",
        "--certificate-source=provider:x",
        "--join-signature=00:x",
        "--key-file=x",
        "--tpm2-device=auto",
        "--tpm2-device-key=x",
        "--tpm2-seal-key-handle=0",
        "--tpm2-pcrs=7+11",
        "--tpm2-public-key=x",
        "--tpm2-public-key-policyref=x",
        "--tpm2-public-key-pcrs=11",
        "--tpm2-pcrlock=x",
        "--include-partitions=esp",
        "--exclude-partitions=esp",
        "--defer-partitions=esp,swap",
        "--defer-partitions-empty=yes",
        "--defer-partitions-factory-reset=yes",
        "-s/x",
        "--copy-source=/x",
        "--copy-from=x",
        "--make-ddi=sysext",
        "--make-ddi=confext",
        "--make-ddi=portable",
        "-S",
        "-C",
        "-P",
        "--append-fstab=no",
        "--append-fstab=auto",
        "--append-fstab=replace",
        "--generate-fstab=/x",
        "--generate-crypttab=/x",
        "--el-torito=yes",
        "--el-torito-system=x",
        "--el-torito-volume=x",
        "--el-torito-publisher=x",
    ];

    /// The same of systemd-dissect.
    const DISSECT: &[&str] = &[
        "--no-pager",
        "--no-legend",
        "--mkdir",
        "--rmdir",
        "-r",
        "--read-only",
        "--discard=crypto",
        "--discard=loop",
        "--in-memory",
        "--root-hash=00",
        "--usr-hash=00",
        "--root-hash-sig=x",
        "--usr-hash-sig=x",
        "--verity-data=x",
        "--fsck=no",
        "--growfs=no",
        "--json=short",
        "--loop-ref=x",
        "--loop-ref-auto",
        "--image-policy=*",
        "--mtree-hash=no",
        "--system",
        "--user",
        "--all",
        "-q",
        "--quiet",
        "--image-filter=root=x",
        "--copy-ownership=auto",
        "-m",
        "--mount",
        "-M",
        "-u",
        "--umount",
        "-U",
        "--attach",
        "--detach",
        "-l",
        "--list",
        "--mtree",
        "--with",
        "-x",
        "--copy-from",
        "-a",
        "--copy-to",
        "--make-archive",
        "--discover",
        "--validate",
        "--shift",
    ];

    #[test]
    fn every_option_of_the_tools_is_known() {
        for (name, options) in [("systemd-repart", REPART), ("systemd-dissect", DISSECT)] {
            for option in options {
                for words in [[*option, "x.raw"], ["x.raw", *option]] {
                    if let Err(Stop::Usage(error)) = parse(name, &line(name, &words)) {
                        panic!("{name} {option}: {error}");
                    }
                }
                let split = option.split_once('=').filter(|_| option.starts_with("--"));
                if let Some((option, value)) = split {
                    let words = [option, value, "x.raw"];
                    assert!(parse(name, &line(name, &words)).is_ok(), "{option} {value}");
                }
            }
        }
    }

    #[test]
    fn both_spellings_of_a_dry_run_override_each_other() {
        for (words, dry) in [
            (&["-n", "--dry-run=no"][..], false),
            (&["--dry-run=no", "-n"], true),
            (&["--dry-run=no", "--empty=create"], false),
            (&["--empty=create", "-n"], true),
            (&["--empty=create"], false),
            (&[], true),
        ] {
            let Ok(Verb::Repart(args)) = parse("systemd-repart", &line("systemd-repart", words))
            else {
                panic!("{words:?}");
            };
            assert_eq!(args.is_dry_run(), dry, "{words:?}");
        }
    }

    #[test]
    fn usage_errors_are_found() {
        for words in [
            &["a.raw", "b.raw"][..],
            &["--nonsense"],
            &["--dry-run"],
            &["--dry-run="],
            &["--dry-run=maybe"],
            &["--s=yes"],
            &["--json=xml"],
            &["--empty="],
            &["--no-pager=yes"],
            &["--root=/x", "--image=/y"],
        ] {
            let parsed = parse("systemd-repart", &line("systemd-repart", words));
            assert!(matches!(parsed, Err(Stop::Usage(_))), "{words:?}");
        }
    }

    #[test]
    fn tools_that_are_not_built_say_so() {
        assert!(matches!(
            parse("portablectl", &["portablectl".into()]),
            Err(Stop::NotBuilt)
        ));
    }
}
