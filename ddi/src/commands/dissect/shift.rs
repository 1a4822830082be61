//! `--shift`: other owners for all files of a directory or image.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::Path;

use filetree::shift::{self, OwnerBase};

use super::{DissectArgs, kernel};
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// The first owner of files that belong to nobody here.
const FOREIGN: u32 = 0x7ffe_0000;

/// The owners that containers get.
const CONTAINERS: RangeInclusive<u32> = 0x0008_0000..=0x6fff_ffff;

pub(super) fn run(args: &DissectArgs, ui: &Ui, path: &Path, base: &OsStr) -> Result<Exit, Failure> {
    let base = parse(base)?;
    if !path.is_dir() {
        return kernel::shift(args, ui, path, base);
    }
    let shifted = shift::shift(path, base)?;
    for mount in &shifted.mounts {
        ui.note(&format!(
            "warning: leaving {} alone: something is mounted there",
            mount.display()
        ));
    }
    Ok(Exit::Ok)
}

/// `foreign`, or a multiple of 65536 that is 0 or one of a container's.
fn parse(text: &OsStr) -> Result<OwnerBase, Failure> {
    if text == "foreign" {
        return Ok(OwnerBase::new(FOREIGN)?);
    }
    let text = text.to_string_lossy();
    let number: u32 = text
        .parse()
        .map_err(|_| Failure::message(format!("{text:?} is no first UID of a range")))?;
    let base = OwnerBase::new(number)?;
    if number != 0 && number != FOREIGN && !CONTAINERS.contains(&number) {
        return Err(Failure::message(format!(
            "UID {number} begins no range for containers or foreign files"
        ))
        .with_hint("pass 0, \"foreign\", or a multiple of 65536 from 524288 to 1878982656"));
    }
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_those_that_systemd_takes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("foreign", Some(FOREIGN)),
            ("2147352576", Some(FOREIGN)),
            ("524288", Some(524_288)),
            ("1878982656", Some(0x6fff_0000)),
            ("65536", None),
            ("1", None),
            ("524289", None),
            ("1879048192", None),
            ("", None),
            ("-65536", None),
            ("foo", None),
        ] {
            let found = parse(OsStr::new(text)).ok().map(OwnerBase::get);
            assert_eq!(found, expected, "{text}");
        }
    }
}
