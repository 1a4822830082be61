//! File systems that their own programs make: the command lines of systemd-repart, and what is
//! added so that the contents can then be filled in without root.

use std::fs::OpenOptions;
use std::path::Path;

use blockdev::tool::{Program, Run, Tool, ToolError};
use filetree::{Timestamp, Tree, WriteError};

use super::btrfs::{Btrfs, Subvolume};
use super::ext4::{Ext, Place};
use super::{PopulateError, Spec, xfs};

/// Makes the file system in `image`, which exists, has its size and reads as zeros, with the
/// contents of `tree` where it is given.
pub fn build(spec: &Spec<'_>, tree: Option<&Tree>, image: &Path) -> Result<(), PopulateError> {
    let format = spec.format.name();
    match (format, tree) {
        ("xfs", Some(tree)) => build_xfs(spec, tree, image),
        ("btrfs", Some(tree)) => build_btrfs(spec, tree, image),
        ("ext2" | "ext3" | "ext4", _) => format_ext(spec, image), // filled where it will lie
        (_, Some(_)) => Err(PopulateError::Unmountable {
            format: format.to_owned(),
        }),
        (_, None) => run(spec, image, &[]),
    }
}

fn build_xfs(spec: &Spec<'_>, tree: &Tree, image: &Path) -> Result<(), PopulateError> {
    let plain = ["-m", "rmapbt=0", "-i", "nrext64=0"];
    run(spec, image, &plain)?;
    let file = open(image)?;
    if xfs::has_parent_pointers(&file)? {
        // Programs before 6.10 know neither the feature nor the option against it.
        run(
            spec,
            image,
            &[&plain[..], &["-f", "-n", "parent=0"]].concat(),
        )?;
    }
    xfs::fill(tree, &file, time(spec))?;
    Ok(file.sync_data().map_err(WriteError::Target)?)
}

/// Writes btrfs without its program, which up to now takes owners only from files that have them.
fn build_btrfs(spec: &Spec<'_>, tree: &Tree, image: &Path) -> Result<(), PopulateError> {
    if let Some((name, _)) = spec.compression {
        return Err(WriteError::Parameters(format!(
            "Compression={name} is not supported for btrfs yet; leave it out"
        ))
        .into());
    }
    if !spec.options.is_empty() {
        let what = "SYSTEMD_REPART_MKFS_OPTIONS_BTRFS cannot be used where the file system is filled with files, as mkfs.btrfs does not write it then";
        return Err(WriteError::Parameters(what.to_owned()).into());
    }
    let subvolumes = spec.subvolumes.iter().map(|subvolume| Subvolume {
        path: subvolume.path.clone().into_bytes(),
        read_only: subvolume.read_only,
        no_cow: subvolume.nodatacow,
    });
    let btrfs = Btrfs {
        label: cut(&spec.label, 255).to_owned(),
        uuid: *spec.uuid.as_bytes(),
        sector: spec.sector.max(4096),
        time: time(spec),
        subvolumes: subvolumes.collect(),
        default: spec.default_subvolume.map(|path| path.as_bytes().to_vec()),
    };
    let file = open(image)?;
    btrfs.write(tree, &file)?;
    Ok(file.sync_data().map_err(WriteError::Target)?)
}

fn format_ext(spec: &Spec<'_>, image: &Path) -> Result<(), PopulateError> {
    let ext = Ext {
        label: &spec.label,
        uuid: spec.uuid,
        sector: spec.sector,
        time: spec.time,
        discard: spec.discard,
        verity: spec.fsverity,
        options: spec.options,
    };
    Ok(ext.format(&program(spec)?, Place::Whole(image))?)
}

fn open(image: &Path) -> Result<std::fs::File, WriteError> {
    let file = OpenOptions::new().read(true).write(true).open(image);
    file.map_err(WriteError::Target)
}

fn time(spec: &Spec<'_>) -> Timestamp {
    Timestamp {
        seconds: spec.time,
        nanoseconds: 0,
    }
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
