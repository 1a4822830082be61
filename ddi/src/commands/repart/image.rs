//! `--image=`: the system in a disk image, in place of that below `--root=`.
//!
//! The image is mounted in a mount namespace of our own, which ends with the run: nothing is left to
//! unmount. Without a device named, the disk to work on is the image.

use std::path::Path;

use super::args::RepartArgs;
use crate::commands::dissect::mounted;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// Runs `work` with the image's root directory as `--root=`.
pub(crate) fn run(
    args: &RepartArgs,
    ui: &Ui,
    image: &Path,
    work: impl FnOnce(&RepartArgs) -> Result<Exit, Failure> + Send,
) -> Result<Exit, Failure> {
    if let Err(error) = image.metadata() {
        let text = format!("cannot open --image={}: {error}", image.display());
        return Err(Failure::message(text));
    }
    let policy = args.configuration.image_policy.as_deref().unwrap_or("*");
    // A dry run, and a run on another disk, leave the image as it is.
    let read_only = args.is_dry_run() || args.device.is_some();
    let inside = |root: &Path| {
        let mut args = args.clone();
        args.configuration.image = None;
        args.configuration.image_policy = None;
        args.configuration.root = Some(root.to_owned());
        work(&args)
    };
    mounted(image, policy, read_only, ui, inside)
}
