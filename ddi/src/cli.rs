//! From the command line to a verb: by sub-command, or by the name the binary is called as.

use std::ffi::OsString;
use std::path::Path;

use clap::ArgMatches;
use clap::error::ErrorKind;

use crate::commands::{NOT_BUILT, VERBS};
use crate::exit::{Exit, Failure};
use crate::ui::{Mode, Ui};
use crate::verb::Verb;

/// The cryptsetup release whose behaviour is the reference of `veritysetup`.
const CRYPTSETUP: &str = "2.8.8";

/// The systemd release whose behaviour is the reference.
const REFERENCE: &str = "systemd 262 (262.1)";

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
    let result = parse(&called_as, &arguments)
        .and_then(|(verb, matches)| verb.run(&matches).map_err(Stop::Usage));
    match result {
        Ok(exit) => exit,
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

fn parse(called_as: &str, arguments: &[OsString]) -> Result<(&'static Verb, ArgMatches), Stop> {
    if NOT_BUILT.contains(&called_as) {
        return Err(Stop::NotBuilt);
    }
    if let Some(verb) = VERBS.iter().find(|verb| verb.tool == Some(called_as))
        && let Some(tool) = verb.tool_command()
    {
        let matches = tool.try_get_matches_from(arguments).map_err(Stop::Usage)?;
        return Ok((verb, matches));
    }
    let mut command = command();
    let mut matches = command
        .try_get_matches_from_mut(arguments)
        .map_err(Stop::Usage)?;
    let chosen = matches
        .remove_subcommand()
        .and_then(|(name, matches)| Some((verb(&name)?, matches)));
    chosen.ok_or_else(|| Stop::Usage(command.error(ErrorKind::MissingSubcommand, "name a verb")))
}

fn verb(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == Some(name))
}

/// The command line of `ddi` itself.
pub(crate) fn command() -> clap::Command {
    clap::Command::new("ddi")
        .about("Build, grow, inspect, extend and update discoverable disk images (DDIs)")
        .version(env!("CARGO_PKG_VERSION"))
        .infer_subcommands(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args_override_self(true)
        .infer_long_args(true)
        .subcommands(VERBS.iter().filter_map(Verb::command))
}

/// Prints help, version or a usage error; such errors exit with 1 as systemd's tools do.
fn usage(error: &clap::Error) -> Exit {
    if error.kind() == ErrorKind::DisplayVersion {
        let text = error.to_string();
        let ddi = text.lines().last().unwrap_or_default();
        let version = if text.starts_with("ddi ") {
            format!("{ddi}\n")
        } else if text.starts_with("veritysetup ") {
            veritysetup_version()
        } else if text.starts_with("integritysetup ") {
            cryptsetup_version("integritysetup")
        } else {
            format!("{REFERENCE}\n{ddi}\n")
        };
        return match Ui::new(Mode::Text).print(&version) {
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
    if let Some(level) = level.filter(|level| matches!(level.as_str(), "debug" | "trace")) {
        log(&level);
    }
}

/// The same, whatever the environment says.
pub(crate) fn log(level: &str) {
    let filter = tracing_subscriber::EnvFilter::new(level);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init()
        // The environment has asked for it before.
        .unwrap_or_default();
}

/// What `veritysetup --version` says.
pub(crate) fn veritysetup_version() -> String {
    cryptsetup_version("veritysetup")
}

/// What a tool of cryptsetup says to `--version`.
pub(crate) fn cryptsetup_version(tool: &str) -> String {
    format!("{tool} {CRYPTSETUP}\nddi {}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;
    use crate::commands::repart::args::RepartArgs;

    fn repart(words: &[OsString]) -> RepartArgs {
        let Ok((_, matches)) = parse("systemd-repart", words) else {
            panic!("not parsed: {words:?}");
        };
        RepartArgs::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
        for tool in VERBS.iter().filter_map(Verb::tool_command) {
            tool.debug_assert();
        }
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
        assert_eq!(repart(&line).operation.dry_run, Some(false));
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
            let args = repart(&line("systemd-repart", words));
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
