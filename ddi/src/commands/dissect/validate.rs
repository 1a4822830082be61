//! `--validate`: whether an image is sound, without anything that needs rights.

use std::path::Path;

use super::DissectArgs;
use super::open::{self, Opened};
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

pub(super) fn run(args: &DissectArgs, ui: &Ui, path: &Path) -> Result<Exit, Failure> {
    let opened = open::open(args, path)?;
    let Opened {
        image, dissected, ..
    } = &opened;
    let checked = open::checks(args, image, dissected)?;
    if args.verification.check_name || args.verification.purpose.is_some() {
        open::check_files(
            args,
            dissected,
            &open::metadata(args, &opened, &args.unlocking.given(ui)?)?,
        )?;
    }
    match checked.findings.first() {
        None => ui.print("OK\n").map(|()| Exit::Ok),
        Some(finding) => Err(Failure::message(format!("{}: {finding}", path.display()))),
    }
}
