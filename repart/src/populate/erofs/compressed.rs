//! EROFS images that are compressed, or have options of their own, by `mkfs.erofs`. Versions from 1.7 on take an archive, which holds owners
//! and devices as the tree says; older ones take a folder only, which root alone can lay out so.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use blockdev::tool::{Program, Run};
use filetree::stage::{Privilege, stage};
use filetree::{Tree, WriteError, tar};

use super::Erofs;
use crate::populate::PopulateError;

/// How the data are compressed, as `Compression=` and `CompressionLevel=` say.
#[derive(Clone, Copy, Debug)]
pub struct Compression<'a> {
    /// The algorithm, by the name that `mkfs.erofs` gives it; `None` leaves the data as they are.
    pub algorithm: Option<&'a str>,
    /// Its level.
    pub level: Option<&'a str>,
    /// Words added at the end of the command line.
    pub options: &'a [String],
}

impl Erofs {
    /// Has `program` make an image of `tree` in a new file in `folder`, which is empty and
    /// takes scratch files, too. Blocks have the size that the program chooses.
    pub fn write_compressed(
        &self,
        program: &Program,
        tree: &Tree,
        folder: &Path,
        compression: Compression<'_>,
    ) -> Result<PathBuf, PopulateError> {
        let image = folder.join("image");
        let help = program.run().arg("--help").accept(&[1]).output()?;
        let words = String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).into_owned();
        let run = self.command(program.run(), compression, &words);
        let run = if words.contains("--tar=") {
            let archive = folder.join("archive");
            pack(tree, &archive)?;
            run.arg("--tar=f").arg(&image).arg(&archive)
        } else if rustix::process::geteuid().is_root() {
            let source = folder.join("source");
            std::fs::create_dir(&source).map_err(WriteError::Target)?;
            stage(tree, &source, Privilege::Root).map_err(|source| WriteError::Backend {
                what: "laying out the files for mkfs.erofs".to_owned(),
                source: Some(Box::new(source)),
            })?;
            run.arg(&image).arg(&source)
        } else {
            return Err(WriteError::Parameters(format!(
                "{} for erofs needs mkfs.erofs 1.7 or newer where root does not run it; update the package erofs-utils, or leave it out",
                match compression.algorithm {
                    Some(algorithm) => format!("Compression={algorithm}"),
                    None => "SYSTEMD_REPART_MKFS_OPTIONS_EROFS".to_owned(),
                }
            ))
            .into());
        };
        run.args(compression.options).output()?;
        Ok(image)
    }

    fn command(&self, run: Run, compression: Compression<'_>, help: &str) -> Run {
        let how = compression
            .algorithm
            .map(|algorithm| match compression.level {
                Some(level) if help.contains("level=") => format!("-z{algorithm},level={level}"),
                Some(level) => format!("-z{algorithm},{level}"),
                None => format!("-z{algorithm}"),
            });
        // From 1.8 on -T means the files' times, too, unless this is said.
        let keep = match help.contains("--mkfs-time") {
            true => "--mkfs-time",
            false => "--preserve-mtime",
        };
        run.arg(format!("-U{}", self.uuid))
            .arg("--quiet")
            .args(how)
            .arg(format!("-T{}", self.build_time.seconds.max(0)))
            .arg(keep)
    }
}

fn pack(tree: &Tree, archive: &Path) -> Result<(), PopulateError> {
    let file = File::create(archive).map_err(WriteError::Target)?;
    let mut output = BufWriter::with_capacity(1 << 20, file);
    let sockets = tar::write(tree, &mut output).map_err(|source| WriteError::Backend {
        what: "packing the files for mkfs.erofs".to_owned(),
        source: Some(Box::new(source)),
    })?;
    output.flush().map_err(WriteError::Target)?;
    match sockets.into_iter().next() {
        None => Ok(()),
        Some(path) => Err(WriteError::Unsupported {
            path: Path::new("/").join(path),
            what: "mkfs.erofs takes no sockets from an archive; leave it out, or leave Compression= out".to_owned(),
        }
        .into()),
    }
}
