//! Where passphrases and keys come from: files, sockets, credentials. Asking people is not done here.

mod recovery;

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use blockdev::socket;
use zeroize::Zeroizing;

pub use recovery::{RecoveryKey, RecoveryKeyError};

use crate::Secret;

/// The largest key that is read.
pub const LARGEST: usize = 16 << 20;

/// A key that is read from a path.
#[derive(Clone, Copy, Debug)]
pub struct KeyFile<'a> {
    /// A regular file, a device or a socket.
    pub path: &'a Path,
    /// Bytes to leave out at its start.
    pub offset: u64,
    /// How many bytes; all that there are where `None`.
    pub size: Option<usize>,
    /// The abstract name from which a socket is called: [`socket_name`].
    pub caller: Option<&'a str>,
}

/// A key, and what is remarkable about its source.
#[derive(Debug)]
pub struct KeyRead {
    /// The key.
    pub secret: Secret,
    /// Whether every user of the machine may read its file.
    pub world_readable: bool,
}

/// A key cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It cannot be read.
    #[error("cannot read the key from {}", path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ends too early.
    #[error("the key in {} ends after {found} of {wanted} bytes", path.display())]
    Short {
        /// Where it is.
        path: PathBuf,
        /// Bytes behind the offset.
        found: usize,
        /// Bytes asked for.
        wanted: usize,
    },
    /// It is too large.
    #[error("the key in {} has more than 16 MiB", .0.display())]
    Large(PathBuf),
    /// It is a directory or the like.
    #[error("{} is neither a file nor a socket to read a key from", .0.display())]
    Kind(PathBuf),
    /// Not the name of a credential.
    #[error("{0:?} cannot name a credential")]
    Credential(String),
}

impl<'a> KeyFile<'a> {
    /// All of a file, or what a socket gives to one that has no name.
    pub const fn new(path: &'a Path) -> Self {
        Self {
            path,
            offset: 0,
            size: None,
            caller: None,
        }
    }

    /// Reads the key.
    pub fn read(&self) -> Result<KeyRead, KeyError> {
        let metadata = fs::metadata(self.path).map_err(|error| self.failed(error))?;
        let kind = metadata.file_type();
        let opened: Box<dyn Read> = if kind.is_socket() {
            let stream = socket::connect(self.path, self.caller);
            Box::new(stream.map_err(|error| self.failed(error))?)
        } else if kind.is_file() || kind.is_block_device() || kind.is_char_device() {
            let mut file = File::open(self.path).map_err(|error| self.failed(error))?;
            if self.offset != 0 {
                let place = file.seek(SeekFrom::Start(self.offset));
                place.map_err(|error| self.failed(error))?;
            }
            Box::new(file)
        } else {
            return Err(KeyError::Kind(self.path.to_owned()));
        };
        Ok(KeyRead {
            secret: self.take(opened)?,
            world_readable: kind.is_file() && metadata.mode() & 0o007 != 0,
        })
    }

    fn take(&self, mut source: Box<dyn Read>) -> Result<Secret, KeyError> {
        let limit = self.size.unwrap_or(LARGEST + 1);
        if limit > LARGEST + 1 {
            return Err(KeyError::Large(self.path.to_owned()));
        }
        let read = read_up_to(&mut source, limit).map_err(|error| self.failed(error))?;
        match self.size {
            Some(wanted) if read.len() < wanted => Err(KeyError::Short {
                path: self.path.to_owned(),
                found: read.len(),
                wanted,
            }),
            None if read.len() > LARGEST => Err(KeyError::Large(self.path.to_owned())),
            _ => Ok(Secret::new(read.to_vec())),
        }
    }

    fn failed(&self, source: io::Error) -> KeyError {
        KeyError::Read {
            path: self.path.to_owned(),
            source,
        }
    }
}

/// Reads so many bytes, or all. A buffer that is too small is erased before it is given up.
fn read_up_to(source: &mut dyn Read, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(vec![0; limit.min(8192)]);
    let mut filled = 0;
    while filled < limit {
        if filled == buffer.len() {
            let mut larger = Zeroizing::new(vec![0; (filled * 2).min(limit)]);
            larger[..filled].copy_from_slice(&buffer);
            buffer = larger;
        }
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// The abstract name from which systemd's tools call a socket for the key of a volume; `unique` is
/// random letters and digits.
pub fn socket_name(unique: &str, volume: &str) -> String {
    format!("{unique}/cryptsetup/{volume}")
}

/// Reads a credential from the directory of a service's credentials; `Ok(None)` where there is none
/// of this name.
pub fn credential(directory: &Path, name: &str) -> Result<Option<Secret>, KeyError> {
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    if !plain {
        return Err(KeyError::Credential(name.to_owned()));
    }
    let path = directory.join(name);
    match KeyFile::new(&path).read() {
        Ok(read) => Ok(Some(read.secret)),
        Err(KeyError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    #[test]
    fn parts_of_files_are_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let long: Vec<u8> = (0..20_000_u32).map(|at| at.to_le_bytes()[1]).collect();
        fs::write(&path, &long).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let whole = KeyFile::new(&path);
        let read = whole.read().unwrap();
        assert_eq!(
            (read.secret.expose(), read.world_readable),
            (&long[..], false)
        );
        let part = KeyFile {
            offset: 300,
            size: Some(9000),
            ..whole
        };
        assert_eq!(part.read().unwrap().secret.expose(), &long[300..9300]);
        let short = KeyFile {
            offset: 19_990,
            size: Some(11),
            ..whole
        };
        let error = short.read().unwrap_err().to_string();
        assert!(error.contains("ends after 10 of 11 bytes"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(whole.read().unwrap().world_readable);
        let large = KeyFile {
            size: Some(LARGEST + 2),
            ..whole
        };
        assert!(matches!(large.read(), Err(KeyError::Large(_))));
        let directory = KeyFile::new(folder.path());
        assert!(matches!(directory.read(), Err(KeyError::Kind(_))));
        let zero = KeyFile::new(Path::new("/dev/zero"));
        assert!(matches!(zero.read(), Err(KeyError::Large(_))));
    }

    #[test]
    fn sockets_give_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"from a ").unwrap();
            stream.write_all(b"socket").unwrap();
        });
        let read = KeyFile::new(&path).read().unwrap();
        server.join().unwrap();
        assert_eq!(read.secret.expose(), b"from a socket");
    }

    #[test]
    fn credentials_stay_in_their_directory() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("dissect.passphrase"), "x").unwrap();
        let found = credential(folder.path(), "dissect.passphrase").unwrap();
        assert_eq!(found, Some(Secret::new(b"x".to_vec())));
        assert_eq!(credential(folder.path(), "other").unwrap(), None);
        for bad in ["", ".", "..", "a/b", "../x"] {
            let error = credential(folder.path(), bad).unwrap_err();
            assert!(matches!(error, KeyError::Credential(_)), "{bad}");
        }
    }
}
