//! `ddi repart --convert-sector-size=`: the table of an image in sectors of another size.

use std::path::Path;

use blockdev::sectors::{self, Conversion};
use blockdev::{Access, FileDevice};
use image_specs::units::SectorSize;

use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// Rewrites the partition table of the image at `path`, unless it is a dry run.
pub(super) fn run(path: &Path, bytes: u64, dry_run: bool, ui: &Ui) -> Result<Exit, Failure> {
    let to = SectorSize::new(bytes).filter(|to| [SectorSize::S512, SectorSize::S4096].contains(to));
    let Some(to) = to else {
        return Err(Failure::message(
            "--convert-sector-size= must be 512 or 4096",
        ));
    };
    let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        let text = format!("{} is no image file", path.display());
        return Err(Failure::message(text)
            .with_hint("--convert-sector-size= changes images; a disk has the sectors it has"));
    }
    let access = match dry_run {
        true => Access::ReadOnly,
        false => Access::ReadWrite,
    };
    let mut device = FileDevice::open(path, access, Some(to))?;
    match sectors::plan(&mut device, to)? {
        Conversion::Done => ui.note("No changes."),
        Conversion::Write(_) if dry_run => {
            ui.note("Nothing was changed; run again with --dry-run=no to convert the table.");
        }
        Conversion::Write(table) => {
            sectors::apply(&mut device, &table)?;
            let path = path.display();
            ui.note(&format!(
                "The table of {path} counts in sectors of {bytes} bytes now."
            ));
        }
    }
    Ok(Exit::Ok)
}
