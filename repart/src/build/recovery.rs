//! Recovery keys of encrypted partitions (`EncryptRecoveryKey=`): a key slot for a text that a person can
//! type, and the file that the text is given in.
//!
//! The file is whole, under a temporary name, before anything is written to the disk, and gets its name
//! once the partition is there. What is there already is never replaced.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use luks::key::RecoveryKey;
use tempfile::NamedTempFile;

use super::job::Job;
use crate::plan::Plan;

/// A recovery key, and where it is written.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The key.
    pub key: RecoveryKey,
    /// Its file, which only the owner may read.
    pub path: PathBuf,
}

/// Why a recovery key cannot be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// It cannot be written.
    #[error("cannot write the recovery key to {}", path.display())]
    Write {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something has the name.
    #[error("{} is there already; a recovery key never takes the place of another file", .0.display())]
    Exists(PathBuf),
}

/// Files that wait for their names.
#[derive(Debug)]
pub(super) struct Waiting(Vec<(NamedTempFile, PathBuf)>);

impl Waiting {
    /// Writes the keys of the partitions that are to be made.
    pub(super) fn prepare(job: &Job, plan: &Plan) -> Result<Self, RecoveryError> {
        let made = plan
            .partitions
            .iter()
            .filter(|partition| partition.is_to_write());
        let keys = made.filter_map(|partition| job.keys.recovery.get(&partition.definition?));
        keys.map(Recovery::write)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Gives them their names.
    pub(super) fn finish(self) -> Result<(), RecoveryError> {
        for (file, path) in self.0 {
            file.persist_noclobber(&path)
                .map_err(|error| RecoveryError::Write {
                    path,
                    source: error.error,
                })?;
        }
        Ok(())
    }
}

impl Recovery {
    fn write(&self) -> Result<(NamedTempFile, PathBuf), RecoveryError> {
        let path = self.path.clone();
        if path.symlink_metadata().is_ok() {
            return Err(RecoveryError::Exists(path));
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        // Temporary files are for their owner alone.
        let written = tempfile::Builder::new()
            .prefix(".#ddi")
            .tempfile_in(folder)
            .and_then(|mut file| {
                file.write_all(self.key.secret().expose())?;
                file.as_file().sync_all()?;
                Ok(file)
            });
        match written {
            Ok(file) => Ok((file, path)),
            Err(source) => Err(RecoveryError::Write { path, source }),
        }
    }
}
