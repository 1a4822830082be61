//! Recovery keys of encrypted partitions (`EncryptRecoveryKey=`): a key slot for a text that a person can
//! type, and the file that the text is given in.
//!
//! The file is whole, under a temporary name, before anything is written to the disk, and gets its name
//! once the partition is there. What is there already is never replaced, and a file whose partition is
//! there never goes: what cannot get its name stays under the temporary one.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
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
    /// Two keys would have it.
    #[error("{} is named for the recovery keys of two partitions", .0.display())]
    Twice(PathBuf),
    /// The partitions are there, and these keys have no names.
    #[error("the partitions are made, but {}; move it there, or keep it elsewhere", list(.0))]
    Unnamed(Vec<Unnamed>),
}

/// A recovery key whose file cannot get its name.
#[derive(Debug)]
pub struct Unnamed {
    /// The name.
    pub path: PathBuf,
    /// The file that it is in.
    pub stays: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl fmt::Display for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, stays) = (self.path.display(), self.stays.display());
        let why = &self.source;
        write!(
            f,
            "the recovery key for {path} is in {stays}, as it cannot get its name ({why})"
        )
    }
}

fn list(all: &[Unnamed]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.join("; ")
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
        Self::write(keys)
    }

    fn write<'a>(keys: impl Iterator<Item = &'a Recovery>) -> Result<Self, RecoveryError> {
        let keys: Vec<&Recovery> = keys.collect();
        let mut names = BTreeSet::new();
        for key in &keys {
            // One file may have several names by way of links.
            if !names.insert(key.real_path()?) {
                return Err(RecoveryError::Twice(key.path.clone()));
            }
        }
        keys.into_iter()
            .map(Recovery::write)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Gives them their names. All are tried, and none is lost.
    pub(super) fn finish(self) -> Result<(), RecoveryError> {
        let mut unnamed = Vec::new();
        for (file, path) in self.0 {
            match file.persist_noclobber(&path) {
                // The file is on stable storage; without this it may be so under its temporary name.
                Ok(_) => {
                    let _ = sync(folder(&path));
                }
                Err(error) => {
                    let stays = error.file.path().to_owned();
                    let source = match error.file.keep() {
                        Ok(_) => error.error,
                        Err(failed) => failed.error,
                    };
                    unnamed.push(Unnamed {
                        path,
                        stays,
                        source,
                    });
                }
            }
        }
        match unnamed.is_empty() {
            true => Ok(()),
            false => Err(RecoveryError::Unnamed(unnamed)),
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Brings the names in a folder to stable storage, where its file system can.
fn sync(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}

impl Recovery {
    /// The path without links on the way.
    fn real_path(&self) -> Result<PathBuf, RecoveryError> {
        let real = fs::canonicalize(folder(&self.path)).map_err(|source| RecoveryError::Write {
            path: self.path.clone(),
            source,
        })?;
        Ok(real.join(self.path.file_name().unwrap_or_default()))
    }

    fn write(&self) -> Result<(NamedTempFile, PathBuf), RecoveryError> {
        let path = self.path.clone();
        if path.symlink_metadata().is_ok() {
            return Err(RecoveryError::Exists(path));
        }
        let folder = folder(&path);
        // Temporary files are for their owner alone.
        let written = tempfile::Builder::new()
            .prefix(".#ddi")
            .tempfile_in(folder)
            .and_then(|mut file| {
                file.write_all(self.key.secret().expose())?;
                file.as_file().sync_all()?;
                sync(folder)?;
                Ok(file)
            });
        match written {
            Ok(file) => Ok((file, path)),
            Err(source) => Err(RecoveryError::Write { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn key(path: PathBuf) -> Recovery {
        let key = RecoveryKey::generate().unwrap();
        Recovery { key, path }
    }

    /// Something takes the name while the partitions are made: their slots are on the disk by then.
    #[test]
    fn no_key_is_lost_once_its_partition_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let keys = ["a", "b", "c"].map(|name| key(folder.path().join(name)));
        let waiting = Waiting::write(keys.iter()).unwrap();
        for taken in &keys[..2] {
            fs::write(&taken.path, "another").unwrap();
        }
        let error = waiting.finish().unwrap_err();
        let text = error.to_string();
        let RecoveryError::Unnamed(unnamed) = error else {
            panic!("{text}");
        };
        assert_eq!(unnamed.len(), 2);
        for (one, key) in unnamed.iter().zip(&keys) {
            assert_eq!(one.path, key.path);
            assert_eq!(fs::read(&one.stays).unwrap(), key.key.secret().expose());
            assert_eq!(fs::read(&one.path).unwrap(), b"another");
            assert!(text.contains(one.stays.to_str().unwrap()), "{text}");
        }
        assert_eq!(
            fs::read(&keys[2].path).unwrap(),
            keys[2].key.secret().expose()
        );
    }

    /// A run that ends before the partitions are there leaves nothing.
    #[test]
    fn one_file_is_not_named_twice_and_what_is_not_needed_goes() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink(folder.path(), &link).unwrap();
        let twice = [key(folder.path().join("k")), key(link.join("k"))];
        let refused = Waiting::write(twice.iter());
        assert!(matches!(refused, Err(RecoveryError::Twice(_))));
        drop(Waiting::write(twice[..1].iter()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
