//! `ddi dissect`, also reached as `systemd-dissect`: one file a command.

mod action;
mod archive;
mod cat;
mod copy_from;
mod diff;
mod discover;
mod environment;
mod files;
pub(crate) mod kernel;
mod keys;
mod list;
mod open;
mod options;
mod pick;
mod shift;
mod show;
mod validate;

use std::path::Path;

use clap::{Args, FromArgMatches};

use action::{Action, Chosen};
use options::{Copying, Discovery, Idle, Output, Selection, Verification};

use crate::exit::{Exit, Failure};
use crate::ui::{Mode, Ui};
use crate::verb;

/// Show what is in a disk image, without root and without mounting it
///
/// Without a command, shows the image's partitions and what they are for. `diff IMAGE IMAGE` instead
/// of an image compares two: fields of image, partitions and releases, and file by file; it exits
/// with 0 where they are equal and with 1 where they differ.
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
    copying: Copying,
    #[command(flatten)]
    mounting: kernel::options::Mounting,
    #[command(flatten)]
    checking: kernel::options::Checking,
    #[command(flatten)]
    unlocking: keys::Unlocking,
    #[command(flatten)]
    discovery: Discovery,
    #[command(flatten)]
    idle: Idle,
}

/// Does `work` in a mount namespace of its own, where the image is mounted at the path that it gets.
pub(crate) fn mounted(
    image: &Path,
    policy: &str,
    read_only: bool,
    ui: &Ui,
    work: impl FnOnce(&Path) -> Result<Exit, Failure> + Send,
) -> Result<Exit, Failure> {
    let policy = format!("--image-policy={policy}");
    let words = [Some(policy.as_str()), read_only.then_some("-r")];
    let command = DissectArgs::augment_args(clap::Command::new("dissect"));
    let matches = command.no_binary_name(true);
    let matches = matches.try_get_matches_from(words.into_iter().flatten())?;
    let args = DissectArgs::from_arg_matches(&matches)?;
    kernel::in_image(&args, ui, image, |place, _| work(place))
}

impl verb::Run for DissectArgs {
    fn mode(&self) -> Mode {
        self.output.mode()
    }

    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        match self.act(ui) {
            // Whoever read the pipe has seen enough.
            Err(failure) if failure.is_broken_pipe() => Ok(Exit::Ok),
            result => result,
        }
    }
}

impl DissectArgs {
    fn act(&self, ui: &Ui) -> Result<Exit, Failure> {
        if let Some(words) = self.mounting.listed() {
            return ui.print(words).map(|()| Exit::Ok);
        }
        match pick::versions(self.chosen.action()?)? {
            Action::Show { image } => show::run(self, ui, &image),
            Action::Validate { image } => validate::run(self, ui, &image),
            Action::List { image } => list::list(self, ui, &image),
            Action::Mtree { image } => list::mtree(self, ui, &image),
            Action::Cat { image, path } => cat::run(self, ui, &image, &path),
            Action::CopyFrom {
                image,
                source,
                target,
            } => copy_from::run(self, ui, &image, &source, target.as_deref()),
            Action::MakeArchive { image, target } => {
                archive::run(self, ui, &image, target.as_deref())
            }
            Action::Discover => discover::run(self, ui),
            Action::Shift { image, base } => shift::run(self, ui, &image, &base),
            Action::Diff { old, new } => diff::run(self, ui, &old, &new),
            Action::Mount {
                image,
                directory,
                make,
            } => kernel::mount(self, ui, &image, &directory, make),
            Action::Umount { directory, remove } => kernel::umount(self, &directory, remove),
            Action::Attach { image } => kernel::attach(self, ui, &image),
            Action::Detach { path } => kernel::detach(&path),
            Action::With { image, command } => kernel::with(self, ui, &image, &command),
            Action::CopyTo {
                image,
                source,
                target,
            } => kernel::copy_to(self, ui, &image, source.as_deref(), &target),
        }
    }
}
