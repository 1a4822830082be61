//! `--validate`: whether an image is sound, without anything that needs rights.

use std::path::Path;

use super::DissectArgs;
use super::open::{self, Opened};
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

pub(super) fn run(args: &DissectArgs, ui: &Ui, path: &Path) -> Result<Exit, Failure> {
    let Opened {
        image, dissected, ..
    } = open::open(args, path)?;
    match open::checks(args, &image, &dissected)?.findings.first() {
        None => ui.print("OK\n").map(|()| Exit::Ok),
        Some(finding) => Err(Failure::message(format!("{}: {finding}", path.display()))),
    }
}
