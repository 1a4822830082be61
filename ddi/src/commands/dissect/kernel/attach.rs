//! `--attach`, `--detach`.

use std::path::Path;

use dissect::activate::{self, detach};

use super::{need_root, open_source};
use crate::commands::dissect::DissectArgs;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// Makes a loop device of the image, which stays until it is detached, and prints its node.
pub(crate) fn run(args: &DissectArgs, ui: &Ui, image: &Path) -> Result<Exit, Failure> {
    need_root("attaching")?;
    let source = open_source(args, image)?;
    let options = source.attach_options(args, image)?;
    let attached = activate::attach(&source.image, &source.dissected, &options)?;
    let node = attached.release()?;
    if !args.idle.quiet {
        ui.print(&format!("{}\n", node.display()))?;
    }
    Ok(Exit::Ok)
}

/// Ends a loop device, or those that are bound to a file.
pub(crate) fn run_detach(path: &Path) -> Result<Exit, Failure> {
    need_root("detaching")?;
    detach::detach(path)?;
    Ok(Exit::Ok)
}
