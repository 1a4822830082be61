//! `--shift` of an image: mounted nowhere while its owners change.

use std::os::fd::AsFd;
use std::path::Path;

use filetree::shift::{self, OwnerBase};

use super::{Ready, need_root, open_source};
use crate::commands::dissect::DissectArgs;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// Gives all files of the image to the owners from `base` on.
pub(crate) fn run(
    args: &DissectArgs,
    ui: &Ui,
    image: &Path,
    base: OwnerBase,
) -> Result<Exit, Failure> {
    need_root("changing the owners in an image")?;
    let opened = open_source(args, image)?;
    let Ready { activated, tree } = opened.mount(args, ui, image)?;
    shift::shift_mounted(tree.as_fd(), image, base)?;
    tree.sync()?;
    drop(tree);
    activated.close()?;
    Ok(Exit::Ok)
}
