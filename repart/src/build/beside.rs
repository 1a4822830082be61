//! Files that are written beside the disk: whole or not at all, under a temporary name until then.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Why such a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the causes say it")]
#[non_exhaustive]
pub enum BesideError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Exists(#[from] crate::fstab::Exists),
    #[error(transparent)]
    CrypttabExists(#[from] crate::crypttab::Exists),
    #[error(
        "what is there is not UTF-8 text, so nothing can be added to it; --append-fstab=replace replaces it"
    )]
    NotText,
    #[error("its folder does not exist; create {0} first")]
    NoFolder(std::path::PathBuf),
}

/// The text at `path`; `None` where nothing is.
pub fn read(path: &Path) -> Result<Option<String>, BesideError> {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| BesideError::NotText),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes `text` to `path` in place of what is there.
pub fn write(path: &Path, text: &str) -> Result<(), BesideError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(BesideError::NoFolder(folder.to_owned()));
    }
    let mut file = tempfile::Builder::new()
        .prefix(".#ddi")
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fstab");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(matches!(
            write(&dir.path().join("no/fstab"), ""),
            Err(BesideError::NoFolder(_))
        ));
        fs::write(&path, [0xff]).unwrap();
        assert!(matches!(read(&path), Err(BesideError::NotText)));
    }
}
