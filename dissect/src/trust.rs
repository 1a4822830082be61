//! The certificates that this machine trusts to sign root hashes: `verity.d/*.crt` in `/etc`, `/run`,
//! `/usr/local/lib` and `/usr/lib`.
//!
//! Of several files of one name the first counts; an empty file or a link to `/dev/null` hides the
//! others. A file that is no certificate is passed over, and named.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image_specs::search::{self, Found, Kind, Listing, PREFIXES};
use veritysetup::signature::{Certificate, SignatureError};

/// The largest file that is taken for a certificate, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// Certificates, and what is none.
#[derive(Debug, Default)]
pub struct Trust {
    /// By name of their files.
    pub certificates: Vec<Certificate>,
    /// Why the other files are of no use.
    pub unusable: Vec<TrustError>,
}

/// A file of `verity.d` that is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has more than 1 MiB.
    #[error("{} is too large for a certificate", .0.display())]
    TooLarge(PathBuf),
    /// It is no certificate.
    #[error(transparent)]
    Certificate(#[from] SignatureError),
}

impl Trust {
    /// Reads the certificates below `root`, which is `/` for those of this machine.
    pub fn load(root: &Path) -> Self {
        let mut trust = Self::default();
        let mut listings = Vec::new();
        for prefix in PREFIXES {
            let folder = root.join(&prefix[1..]).join("verity.d");
            match list(&folder) {
                Ok(listing) => listings.push(listing),
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) => trust.unusable.push(TrustError::Read {
                    path: folder,
                    source,
                }),
            }
        }
        for file in search::select(&listings, ".crt") {
            match read(&file.place) {
                Ok(certificate) => trust.certificates.push(certificate),
                Err(error) => trust.unusable.push(error),
            }
        }
        trust
    }
}

fn list(folder: &Path) -> io::Result<Listing<PathBuf>> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // A dangling link is no file, and hides nothing.
        let Ok(metadata) = fs::metadata(entry.path()) else {
            continue;
        };
        let masked = metadata.len() == 0;
        if metadata.is_file() || masked {
            listing.files.push(Found {
                name,
                kind: if masked { Kind::Mask } else { Kind::File },
                place: entry.path(),
            });
        }
    }
    Ok(listing)
}

fn read(path: &Path) -> Result<Certificate, TrustError> {
    let failed = |source| TrustError::Read {
        path: path.to_owned(),
        source,
    };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > MAX_SIZE {
        return Err(TrustError::TooLarge(path.to_owned()));
    }
    let pem = fs::read(path).map_err(failed)?;
    Ok(Certificate::from_pem(path.display().to_string(), &pem)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_of_a_name_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("etc/verity.d/a.crt", "");
        write("etc/verity.d/b.crt", "no certificate");
        write("etc/verity.d/c.txt", "not looked at");
        write("usr/lib/verity.d/a.crt", "hidden by the one in /etc");
        write("usr/lib/verity.d/b.crt", "as well");
        let trust = Trust::load(folder.path());
        assert!(trust.certificates.is_empty());
        let messages: Vec<_> = trust.unusable.iter().map(ToString::to_string).collect();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].contains("etc/verity.d/b.crt: this is no X.509 certificate"));
    }
}
