//! `--copy-from`: files of an image into the host's.

use std::path::Path;

use filetree::Kind;
use filetree::extract::{self, Extracted, Ownership};

use super::DissectArgs;
use super::cat;
use super::files::{self, Files};
use crate::exit::{Exit, Failure};
use crate::ui::Ui;
use crate::values::Tristate;

/// How many files that could not be copied are named.
const SHOWN: usize = 10;

pub(super) fn run(
    args: &DissectArgs,
    ui: &Ui,
    image: &Path,
    source: &Path,
    target: Option<&Path>,
) -> Result<Exit, Failure> {
    let files = Files::open(args, ui, image)?;
    let found = files.find(source)?;
    let Some(target) = target else {
        cat::print(files::regular(&found)?, ui)?;
        return Ok(Exit::Ok);
    };
    let directory = matches!(found.inode.kind, Kind::Directory(_));
    let ownership = ownership(args, directory);
    let extracted = if directory {
        extract::extract(&files.tree_at(found.place)?, target, ownership)?
    } else {
        let content = files::regular(&found)?;
        extract::extract_file(content, &found.inode.metadata, target, ownership)?
    };
    report(ui, extracted)
}

/// Without a choice, trees keep their owners where this user may give them, and a single file belongs
/// to whoever copies it.
fn ownership(args: &DissectArgs, directory: bool) -> Ownership {
    let keep = match args.copying.copy_ownership.unwrap_or(Tristate::Auto) {
        Tristate::Yes => true,
        Tristate::No => false,
        Tristate::Auto => directory && rustix::process::geteuid().is_root(),
    };
    match keep {
        true => Ownership::Keep,
        false => Ownership::Caller,
    }
}

fn report(ui: &Ui, extracted: Extracted) -> Result<Exit, Failure> {
    if let Some((path, name)) = extracted.unset.first() {
        ui.note(&format!(
            "warning: {} extended attributes could not be set, {} of {} the first of them",
            extracted.unset.len(),
            String::from_utf8_lossy(name),
            path.display()
        ));
    }
    let mut failed = extracted.failed.into_iter();
    let Some(first) = failed.next() else {
        return Ok(Exit::Ok);
    };
    let others = failed.len();
    for error in failed.take(SHOWN) {
        ui.note(&format!("error: {}", Failure::from(error)));
    }
    let failure = Failure::from(first);
    Err(match others {
        0 => failure,
        _ => failure.with_hint(format!(
            "{others} more could not be copied; all other files are there"
        )),
    })
}
