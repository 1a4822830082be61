//! `--make-archive`: the files of an image as a tar archive.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use filetree::{Tree, tar};

use super::DissectArgs;
use super::files::Files;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
    Lz4,
}

/// What names of archives end in.
const SUFFIXES: &[(&str, Compression)] = &[
    (".tar", Compression::None),
    (".tar.gz", Compression::Gzip),
    (".tgz", Compression::Gzip),
    (".tar.bz2", Compression::Bzip2),
    (".tbz2", Compression::Bzip2),
    (".tar.xz", Compression::Xz),
    (".txz", Compression::Xz),
    (".tar.zst", Compression::Zstd),
    (".tzst", Compression::Zstd),
    (".tar.lz4", Compression::Lz4),
];

pub(super) fn run(
    args: &DissectArgs,
    ui: &Ui,
    image: &Path,
    target: Option<&Path>,
) -> Result<Exit, Failure> {
    // A name that cannot be is found before anything is read.
    let compression = target.map(compression).transpose()?;
    let tree = Files::open(args, ui, image)?.tree()?;
    let sockets = match target.zip(compression) {
        None => write(&tree, Compression::None, ui.output())?,
        Some((target, compression)) => to_file(&tree, compression, target)?,
    };
    for socket in sockets {
        ui.note(&format!(
            "warning: leaving out the socket /{}: an archive cannot hold it",
            socket.display()
        ));
    }
    Ok(Exit::Ok)
}

fn compression(target: &Path) -> Result<Compression, Failure> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let found = SUFFIXES.iter().find(|(suffix, _)| name.ends_with(suffix));
    found.map(|(_, compression)| *compression).ok_or_else(|| {
        let suffixes: Vec<&str> = SUFFIXES.iter().map(|(suffix, _)| *suffix).collect();
        Failure::message(format!(
            "{name:?} is not the name of an archive that can be written"
        ))
        .with_hint(format!("let it end in one of {}", suffixes.join(" ")))
    })
}

/// Writes the archive beside its place, and renames it when it is whole.
fn to_file(tree: &Tree, compression: Compression, target: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = target.with_file_name(name);
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(&part)
        .map_err(Failure::from)
        .and_then(|file| write(tree, compression, BufWriter::new(file)))
        .and_then(|sockets| {
            std::fs::rename(&part, target)?;
            Ok(sockets)
        });
    if written.is_err() {
        // The first error is the one to tell.
        drop(std::fs::remove_file(&part));
    }
    written
}

/// Writes the whole archive, and returns the sockets that it cannot hold.
fn write(
    tree: &Tree,
    compression: Compression,
    mut output: impl Write,
) -> Result<Vec<PathBuf>, Failure> {
    let sockets = match compression {
        Compression::None => tar::write(tree, &mut output)?,
        Compression::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(&mut output, level);
            let sockets = tar::write(tree, &mut encoder)?;
            encoder.finish()?;
            sockets
        }
        Compression::Bzip2 => {
            let level = bzip2::Compression::default();
            let mut encoder = bzip2::write::BzEncoder::new(&mut output, level);
            let sockets = tar::write(tree, &mut encoder)?;
            encoder.finish()?;
            sockets
        }
        Compression::Xz => {
            let options = lzma_rust2::XzOptions::with_preset(6);
            let mut encoder = lzma_rust2::XzWriter::new(&mut output, options)?;
            let sockets = tar::write(tree, &mut encoder)?;
            encoder.finish()?;
            sockets
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(&mut output, 0)?;
            let sockets = tar::write(tree, &mut encoder)?;
            encoder.finish()?;
            sockets
        }
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(&mut output);
            let sockets = tar::write(tree, &mut encoder)?;
            encoder.finish().map_err(io::Error::from)?;
            sockets
        }
    };
    output.flush()?;
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_compression() {
        for (name, expected) in [
            ("a.tar", Some(Compression::None)),
            ("a.tar.gz", Some(Compression::Gzip)),
            ("b.raw.tar.zst", Some(Compression::Zstd)),
            ("a.cpio", None),
            ("a.zip", None),
            ("tar", None),
        ] {
            assert_eq!(compression(Path::new(name)).ok(), expected, "{name}");
        }
    }
}
