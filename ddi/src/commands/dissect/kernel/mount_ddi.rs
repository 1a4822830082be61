//! `mount.ddi`: what mount(8) calls for file systems of type `ddi`. Its arguments are turned into
//! those of `dissect --mount`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, FromArgMatches};

use super::mount;
use crate::commands::dissect::DissectArgs;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;
use crate::verb;

/// Mount a disk image: what mount(8) calls for the type ddi
#[derive(Debug, Args)]
pub(crate) struct MountDdiArgs {
    /// Disk image to mount
    image: PathBuf,
    /// Directory to mount it on
    directory: PathBuf,
    /// ro, rw, discard or nodiscard, comma-separated
    #[arg(short = 'o', value_name = "OPTIONS", action = ArgAction::Append)]
    options: Vec<String>,
    /// Only ddi
    #[arg(short = 't', value_name = "TYPE")]
    kind: Option<String>,
    /// Only check the options
    #[arg(short = 'f')]
    fake: bool,
    /// Tolerate options that are not known (there is none that would be)
    #[arg(short = 's')]
    sloppy: bool,
    /// Do not write /etc/mtab (it never is)
    #[arg(short = 'n')]
    no_mtab: bool,
    /// Say more (there is no more to say)
    #[arg(short = 'v')]
    verbose: bool,
    /// Mount in another namespace: refused
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<OsString>,
}

impl verb::Run for MountDdiArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        if self.namespace.is_some() {
            return Err(Failure::message(
                "mounting in another namespace (-N) is not possible",
            ));
        }
        if let Some(kind) = self.kind.as_ref().filter(|kind| *kind != "ddi") {
            return Err(Failure::message(format!("{kind} is not the type ddi")));
        }
        let args = self.translate()?;
        match self.fake {
            true => Ok(Exit::Ok),
            false => mount::run(&args, ui, &self.image, &self.directory, false),
        }
    }
}

impl MountDdiArgs {
    /// The options as `dissect` has them; of those that contradict each other the last counts.
    fn translate(&self) -> Result<DissectArgs, Failure> {
        let (mut read_only, mut discard) = (false, None);
        let words = self.options.iter().flat_map(|text| text.split(','));
        for word in words.filter(|word| !word.is_empty()) {
            match word {
                "ro" => read_only = true,
                "rw" => read_only = false,
                "discard" => discard = Some("--discard=all"),
                "nodiscard" => discard = Some("--discard=disabled"),
                other => {
                    let text = format!("{other:?} is no option of mount.ddi");
                    let hint = "known are ro, rw, discard, nodiscard";
                    return Err(Failure::message(text).with_hint(hint));
                }
            }
        }
        let words = read_only.then_some("-r").into_iter().chain(discard);
        let command = DissectArgs::augment_args(clap::Command::new("mount.ddi"));
        let matches = command.no_binary_name(true).try_get_matches_from(words)?;
        Ok(DissectArgs::from_arg_matches(&matches)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::dissect::kernel::options::Discard;

    fn translated(options: &[&str]) -> Result<DissectArgs, Failure> {
        let args = MountDdiArgs {
            image: "x".into(),
            directory: "y".into(),
            options: options.iter().map(|text| (*text).to_owned()).collect(),
            kind: None,
            fake: true,
            sloppy: false,
            no_mtab: false,
            verbose: false,
            namespace: None,
        };
        args.translate()
    }

    #[test]
    fn options_become_those_of_dissect() {
        let args = translated(&["ro,discard", "rw,nodiscard,ro"]).unwrap();
        assert!(args.mounting.read_only);
        assert!(matches!(args.mounting.discard, Some(Discard::Disabled)));
        let args = translated(&["rw", ""]).unwrap();
        assert!(!args.mounting.read_only && args.mounting.discard.is_none());
        assert!(translated(&["noexec"]).is_err());
    }
}
