//! Prints what is in an image as systemd-dissect's JSON: `dissect IMAGE`.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use dissect::metadata::Metadata;
use dissect::report::Report;
use dissect::{Options, check};
use image_specs::arch::Architecture;

fn main() -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: dissect IMAGE")?);
    let native = Architecture::from_uname(std::env::consts::ARCH).ok_or("unknown machine")?;
    let (_, dissected) = dissect::dissect(&path, &Options::new(native))?;
    let report = serde_json::to_string_pretty(&Report::new(&dissected, &Metadata::default()))?;
    writeln!(std::io::stdout(), "{report}")?;
    for finding in check::findings(&dissected) {
        writeln!(std::io::stderr(), "{finding}")?;
    }
    Ok(())
}
