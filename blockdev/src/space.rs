//! Whether a file system has room, asked before anything is written.

use std::io;
use std::path::{Path, PathBuf};

use image_specs::units::Bytes;

/// The file system has less room than is needed, or does not say.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum SpaceError {
    #[error(
        "writing to {} needs {needed}, but its file system has only {available} left; free some space there",
        path.display()
    )]
    TooLittle {
        path: PathBuf,
        needed: Bytes,
        available: Bytes,
    },
    #[error("cannot ask how much space is left for {}", path.display())]
    Unknown {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Bytes that an ordinary user may still write to the file system of `path`.
pub fn available(path: &Path) -> Result<Bytes, SpaceError> {
    let facts = rustix::fs::statvfs(path).map_err(|error| SpaceError::Unknown {
        path: path.to_owned(),
        source: error.into(),
    })?;
    Ok(Bytes::new(facts.f_bavail.saturating_mul(facts.f_frsize)))
}

/// Refuses where less than `needed` is left in the file system of `path`.
pub fn require(path: &Path, needed: Bytes) -> Result<(), SpaceError> {
    let available = available(path)?;
    if available >= needed {
        return Ok(());
    }
    Err(SpaceError::TooLittle {
        path: path.to_owned(),
        needed,
        available,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        require(folder.path(), Bytes::new(1)).unwrap();
        let error = require(folder.path(), Bytes::MAX).unwrap_err();
        assert!(matches!(error, SpaceError::TooLittle { .. }));
        let error = require(&folder.path().join("no"), Bytes::new(1)).unwrap_err();
        assert!(matches!(error, SpaceError::Unknown { .. }));
    }
}
