//! File systems that their own programs make: the command lines of systemd-repart, and what is
//! added so that the contents can then be filled in without root.

use std::fs::OpenOptions;
use std::path::Path;

use blockdev::tool::{Program, Run, Tool, ToolError};
use filetree::{Metadata, Timestamp, Tree, WriteError};

use super::btrfs::{Btrfs, Compression, Subvolume};
use super::ext4::{Ext, Place};
use super::{PopulateError, Spec, xfs};
use crate::definition::Format;

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
        ("btrfs", None) if spec.options.is_empty() => build_btrfs(spec, &empty(spec), image),
        (_, None) => run(spec, image, &[]),
    }
}

/// The bytes of the smallest file system that holds `tree`; `None` where that cannot be known without
/// building it.
pub fn size(spec: &Spec<'_>, tree: &Tree) -> Result<Option<u64>, PopulateError> {
    match spec.format {
        Format::Btrfs => Ok(Some(btrfs(spec)?.size(tree)?)),
        _ => Ok(None),
    }
}

/// A root directory with nothing in it.
fn empty(spec: &Spec<'_>) -> Tree {
    Tree::new(Metadata {
        mode: 0o755,
        mtime: time(spec),
        ..Metadata::default()
    })
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

fn build_btrfs(spec: &Spec<'_>, tree: &Tree, image: &Path) -> Result<(), PopulateError> {
    let file = open(image)?;
    btrfs(spec)?.write(tree, &file)?;
    Ok(file.sync_data().map_err(WriteError::Target)?)
}

/// Btrfs is written without its program, which takes owners only from files that have them.
fn btrfs(spec: &Spec<'_>) -> Result<Btrfs, PopulateError> {
    let compression = spec.compression;
    let compression = compression.map(|(name, level)| Compression::parse(name, level));
    if !spec.options.is_empty() {
        let what = "SYSTEMD_REPART_MKFS_OPTIONS_BTRFS cannot be used where the file system is filled with files, as mkfs.btrfs does not write it then";
        return Err(WriteError::Parameters(what.to_owned()).into());
    }
    let subvolumes = spec.subvolumes.iter().map(|subvolume| Subvolume {
        path: subvolume.path.clone().into_bytes(),
        read_only: subvolume.read_only,
        no_cow: subvolume.nodatacow,
    });
    Ok(Btrfs {
        label: cut(&spec.label, 255).to_owned(),
        uuid: *spec.uuid.as_bytes(),
        sector: spec.sector.max(4096),
        time: time(spec),
        subvolumes: subvolumes.collect(),
        compression: compression.transpose()?,
        default: spec.default_subvolume.map(|path| path.as_bytes().to_vec()),
    })
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
    use blockdev::tool::SearchPath;

    use super::*;

    fn spec<'a>(format: &str, search: &'a SearchPath, scratch: &'a Path) -> Spec<'a> {
        Spec {
            format: crate::definition::Format::from_name(format),
            label: "a-label-that-is-long".to_owned(),
            uuid: uuid::Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888),
            sector: 4096,
            compression: None,
            subvolumes: &[],
            default_subvolume: None,
            fsverity: false,
            discard: false,
            time: 1_700_000_000,
            options: &[],
            search,
            scratch,
        }
    }

    /// Builds twice, a second apart, and returns the image's bytes: equal both times.
    fn built(format: &str, tree: Option<&Tree>) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let search = SearchPath::new(None);
        let image = |name: &str| {
            let path = dir.path().join(name);
            let file = std::fs::File::create(&path).unwrap();
            file.set_len(320 << 20).unwrap();
            build(&spec(format, &search, dir.path()), tree, &path).unwrap();
            std::fs::read(path).unwrap()
        };
        let first = image("1");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(first == image("2"), "{format}");
        first
    }

    #[test]
    fn images_do_not_depend_on_the_clock() {
        let search = SearchPath::new(None);
        let mut tree = empty(&spec("xfs", &search, Path::new("/")));
        let id = tree.add(filetree::Inode {
            metadata: Metadata::default(),
            kind: filetree::Kind::Fifo,
        });
        let name = filetree::Name::new(b"a name").unwrap();
        assert!(tree.link(filetree::InodeId::ROOT, name, id));
        let xfs = built("xfs", Some(&tree));
        assert_eq!(xfs[108..120], *b"a-label-that");
        let btrfs = built("btrfs", Some(&tree));
        assert!(btrfs[(64 << 10) + 299..].starts_with(b"a-label-that-is-long\0"));
        built("btrfs", None);
        let wanted = size(&spec("btrfs", &search, Path::new("/")), &tree).unwrap();
        assert!(wanted.is_some_and(|size| size < 32 << 20), "{wanted:?}");
    }

    #[test]
    fn what_cannot_be_filled_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let search = SearchPath::new(None);
        let path = dir.path().join("image");
        let tree = empty(&spec("xfs", &search, Path::new("/")));
        for format in ["f2fs", "unheard-of"] {
            let error = build(&spec(format, &search, dir.path()), Some(&tree), &path);
            assert!(
                matches!(error, Err(PopulateError::Unmountable { .. })),
                "{format}"
            );
        }
        let error = build(&spec("unheard-of", &search, dir.path()), None, &path).unwrap_err();
        assert!(error.to_string().contains("mkfs.unheard-of"), "{error}");
    }

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
