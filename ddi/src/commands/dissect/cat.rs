//! `--cat`: one file of an image on standard output.

use std::io::{self, Write};
use std::path::Path;

use filetree::Content;

use super::DissectArgs;
use super::files::{self, Files};
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

pub(super) fn run(args: &DissectArgs, ui: &Ui, image: &Path, path: &Path) -> Result<Exit, Failure> {
    let files = Files::open(args, ui, image)?;
    let found = files.find(path)?;
    print(files::regular(&found)?, ui)?;
    Ok(Exit::Ok)
}

/// Prints the bytes of a file.
pub(super) fn print(content: &Content, ui: &Ui) -> Result<(), Failure> {
    let mut output = ui.output();
    let mut written: io::Result<()> = Ok(());
    let open = content.open()?;
    open.read_chunks(content.size(), |chunk| {
        if written.is_ok() {
            written = output.write_all(chunk);
        }
    })?;
    written?;
    open.finish()?;
    Ok(output.flush()?)
}
