//! File systems that their own programs make: the command lines of systemd-repart, and what is
//! added so that the contents can then be filled in without root.

use std::fs::OpenOptions;
use std::path::Path;

use blockdev::tool::{Program, Run, Tool, ToolError};
use filetree::{Timestamp, Tree, WriteError};

use super::{PopulateError, Spec, xfs};

/// Makes the file system in `image`, which exists, has its size and reads as zeros, with the
/// contents of `tree` where it is given.
pub fn build(spec: &Spec<'_>, tree: Option<&Tree>, image: &Path) -> Result<(), PopulateError> {
    let format = spec.format.name();
    match (format, tree) {
        ("xfs", Some(tree)) => build_xfs(spec, tree, image),
        (_, Some(_)) => Err(PopulateError::Unmountable {
            format: format.to_owned(),
        }),
        (_, None) => run(spec, image, &[]),
    }
}

fn build_xfs(spec: &Spec<'_>, tree: &Tree, image: &Path) -> Result<(), PopulateError> {
    run(spec, image, &["-m", "rmapbt=0", "-i", "nrext64=0"])?;
    let file = OpenOptions::new().read(true).write(true).open(image);
    let file = file.map_err(WriteError::Target)?;
    let time = Timestamp {
        seconds: spec.time,
        nanoseconds: 0,
    };
    xfs::fill(tree, &file, time)?;
    Ok(file.sync_data().map_err(WriteError::Target)?)
}

/// Runs the program that makes an empty file system, with further arguments before the image's path.
fn run(spec: &Spec<'_>, image: &Path, extra: &[&str]) -> Result<(), PopulateError> {
    let program = program(spec)?;
    arguments(spec, program.run())
        .args(extra)
        .arg(image)
        .args(spec.options)
        .env("SOURCE_DATE_EPOCH", spec.time.to_string())
        .output()?;
    Ok(())
}

fn program(spec: &Spec<'_>) -> Result<Program, PopulateError> {
    let format = spec.format.name();
    let missing = || ToolError::Missing {
        tool: format!("mkfs.{format}"),
        packages: None,
    };
    let tool = Tool::mkfs(format).ok_or_else(missing)?;
    Ok(tool.require(spec.search)?)
}

/// The arguments before the node, in systemd's order.
fn arguments(spec: &Spec<'_>, run: Run) -> Run {
    let uuid = spec.uuid.to_string();
    let sector = spec.sector.to_string();
    match spec.format.name() {
        "xfs" => {
            let run = run.args(["-L", cut(&spec.label, 12)]).args([
                "-m",
                &format!("uuid={uuid}"),
                "-m",
                "reflink=1",
            ]);
            let run = if spec.discard { run } else { run.arg("-K") };
            run.args(["-s", &format!("size={sector}")])
        }
        "btrfs" => {
            let sector = spec.sector.max(4096).to_string();
            let run = run.args(["-L", cut(&spec.label, 255), "-U", &uuid]);
            let run = if spec.discard {
                run
            } else {
                run.arg("--nodiscard")
            };
            run.arg(format!("--sectorsize={sector}"))
        }
        "f2fs" => {
            let discard = if spec.discard { "1" } else { "0" };
            let run = run.args(["-g", "-f", "-l", &spec.label, "-U", &uuid, "-t", discard]);
            let verity: &[&str] = if spec.fsverity {
                &["-O", "verity"]
            } else {
                &[]
            };
            run.args(verity).args(["-w", &sector])
        }
        _ => run,
    }
}

/// The start of a label that has at most `most` bytes and ends with a whole character.
fn cut(label: &str, most: usize) -> &str {
    let end = (0..=most.min(label.len()))
        .rev()
        .find(|end| label.is_char_boundary(*end));
    &label[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_cut_between_characters() {
        for (label, most, expected) in [
            ("short", 12, "short"),
            ("root-x86-64-verity", 12, "root-x86-64-"),
            ("ääääääää", 5, "ää"),
            ("", 5, ""),
        ] {
            assert_eq!(cut(label, most), expected);
        }
    }
}
