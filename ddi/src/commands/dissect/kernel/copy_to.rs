//! `--copy-to`: a file, a directory or standard input into the image.

use std::fs;
use std::path::Path;

use dissect::mount::{self as mounting, Ownership};
use rustix::process::{getgid, getuid};

use super::{Ready, need_root, open_source};
use crate::commands::dissect::DissectArgs;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;
use crate::values::Tristate;

/// Copies `source` (standard input, where it is `None`) to `target` in the image.
pub(crate) fn run(
    args: &DissectArgs,
    ui: &Ui,
    image: &Path,
    source: Option<&Path>,
    target: &Path,
) -> Result<Exit, Failure> {
    need_root("--copy-to")?;
    let opened = open_source(args, image)?;
    let Ready { activated, tree } = opened.mount(args, ui, image)?;
    match source {
        None => mounting::write_file(&tree, &mut std::io::stdin().lock(), target)?,
        Some(source) => {
            let ownership = ownership(args, source)?;
            mounting::copy_in(&tree, source, target, ownership)?;
        }
    }
    tree.sync()?;
    drop(tree);
    activated.close()?;
    Ok(Exit::Ok)
}

/// Trees keep their owners, single files become the caller's, unless something else is asked for.
fn ownership(args: &DissectArgs, source: &Path) -> Result<Ownership, Failure> {
    let keep = match args.copying.copy_ownership {
        Some(Tristate::Yes) => true,
        Some(Tristate::No) => false,
        Some(Tristate::Auto) | None => fs::symlink_metadata(source)
            .map_err(|error| {
                Failure::message(format!("cannot read {}: {error}", source.display()))
            })?
            .is_dir(),
    };
    Ok(match keep {
        true => Ownership::Keep,
        false => Ownership::Give(getuid().as_raw(), getgid().as_raw()),
    })
}
