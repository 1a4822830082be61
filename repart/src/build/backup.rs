//! The old partition table, kept in a file before another is written over it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use blockdev::saved::{self, Moment};
use blockdev::{BlockDevice, DeviceError};
use image_specs::table_backup::TableBackup;

use super::session::{Session, SessionError};
use super::table::{self, TableError};
use super::target::Target;
use crate::plan::{Plan, PlannedLabel};
use crate::survey::FoundLabel;

/// How files of old tables end.
const ENDING: &str = "table";
/// So many of one second have names.
const MOST: u32 = 100;

/// Where the old table is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Nowhere.
    #[default]
    No,
    /// In this file, which must not exist, or the run ends before its first write.
    At(PathBuf),
    /// In the first of these directories that takes it; a run goes on without.
    In(Vec<PathBuf>),
}

/// The old table was not kept, so nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the old partition table in {}, so nothing was changed", path.display())]
pub struct KeepError {
    /// The file.
    path: PathBuf,
    /// Why.
    source: KeepFailure,
}

#[derive(Debug, thiserror::Error)]
enum KeepFailure {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(
        "the new table is a master boot record, and only what a GPT overwrites can be kept so far; --backup-table=no goes on without"
    )]
    Mbr,
}

impl Session<'_> {
    /// Says where the old table is kept; until then nowhere.
    pub fn set_keep(&mut self, keep: Keep) {
        self.keep = keep;
    }

    /// Keeps what writing the planned table overwrites. What a person should hear is returned.
    pub(super) fn keep_table(
        &self,
        target: &Target,
        plan: &Plan,
    ) -> Result<Option<String>, SessionError> {
        // What is not a table may have been one; with a master boot record it cannot be kept so far.
        let none = *target.label() == FoundLabel::None;
        let blank = none && matches!(plan.table.label, PlannedLabel::Mbr { .. });
        let grown = plan.new_disk_size != plan.old_disk_size;
        let writes = plan.changed || grown || self.restores_copy_on(target, plan);
        if self.keep == Keep::No || target.is_new() || blank || !writes {
            return Ok(None);
        }
        let failed = |path: &Path, source: KeepFailure| KeepError {
            path: path.to_owned(),
            source,
        };
        let time = self.job.environment.now;
        let file = match self.table_file(target, plan, time) {
            // A blank disk has nothing to keep.
            Ok(backup) if none && is_blank(&backup) => return Ok(None),
            Ok(backup) => backup.encode(),
            Err(why @ KeepFailure::Mbr) if matches!(self.keep, Keep::In(_)) => {
                return Ok(Some(format!(
                    "warning: the old partition table is not kept: {why}"
                )));
            }
            Err(source) => return Err(failed(target.path(), source).into()),
        };
        match &self.keep {
            Keep::No => Ok(None),
            Keep::At(path) => {
                write(path, &file).map_err(|source| failed(path, source.into()))?;
                Ok(Some(told(path)))
            }
            Keep::In(folders) => Ok(Some(kept_in(folders, target.path(), time, &file))),
        }
    }

    fn table_file(
        &self,
        target: &Target,
        plan: &Plan,
        time: i64,
    ) -> Result<TableBackup, KeepFailure> {
        if matches!(plan.table.label, PlannedLabel::Mbr { .. }) {
            return Err(KeepFailure::Mbr);
        }
        let new = table::planned(plan, target.old())?;
        let moment = Moment {
            time,
            device: target.path().display().to_string(),
        };
        let device: &dyn BlockDevice = target.device();
        Ok(saved::keep(device, target.old(), &new, moment)?)
    }
}

fn is_blank(backup: &TableBackup) -> bool {
    let mut bytes = backup.ranges.iter().flat_map(|range| &range.bytes);
    bytes.all(|byte| *byte == 0)
}

fn told(path: &Path) -> String {
    format!(
        "The old partition table is kept in {0}; --restore={0} puts it back.",
        path.display()
    )
}

/// In the first folder that takes it, under the disk's name and the time.
fn kept_in(folders: &[PathBuf], disk: &Path, time: i64, file: &[u8]) -> String {
    let name = disk.file_name().unwrap_or_default().to_string_lossy();
    let mut last = None;
    for folder in folders {
        match kept_as(folder, &format!("{name}-{time}"), file) {
            Ok(path) => return told(&path),
            Err(error) => last = Some((folder, error)),
        }
    }
    let why = last.map_or_else(String::new, |(folder, error)| {
        format!(" in {}: {error}", folder.display())
    });
    format!("warning: the old partition table is not kept{why}")
}

fn kept_as(folder: &Path, name: &str, file: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    for count in 1..=MOST {
        let path = match count {
            1 => folder.join(format!("{name}.{ENDING}")),
            more => folder.join(format!("{name}-{more}.{ENDING}")),
        };
        match write(&path, file) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|()| path),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Writes a file that is not there yet, whole or not at all, and waits until it is on stable storage.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".#ddi")
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_replaced_and_the_first_folder_that_works_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let folders = [dir.path().join("file/log"), dir.path().join("log")];
        let disk = Path::new("/dev/sda");
        for (name, bytes) in [("sda-7.table", b"1"), ("sda-7-2.table", b"2")] {
            let said = kept_in(&folders, disk, 7, bytes);
            let path = folders[1].join(name);
            assert_eq!(said, told(&path));
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        let said = kept_in(&folders[..1], disk, 7, b"3");
        assert!(
            said.starts_with("warning: the old partition table is not kept in /"),
            "{said}"
        );
    }
}
