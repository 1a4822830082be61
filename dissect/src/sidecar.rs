//! What is known of an image's verity set from files and attributes that lie beside it: the root
//! hash, its signature, the hash tree.
//!
//! For `NAME.raw` (or `NAME`) these are `NAME.roothash` and `NAME.usrhash`, or the extended
//! attributes `user.verity.roothash` and `user.verity.usrhash` of the image; `NAME.roothash.p7s` and
//! `NAME.usrhash.p7s`; and `NAME.verity`. Only what the caller has not said is looked for.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image_specs::partition::Designator;
use rustix::io::Errno;
use veritysetup::RootHash;
use veritysetup::params::ParamsError;
use veritysetup::signature::{Signature, SignatureError};

use crate::options::VeritySettings;

/// The longest text of a root hash: SHA-512 in hex digits, and a lot of blanks.
const MAX_HASH: usize = 4096;

/// The largest signature file.
const MAX_SIGNATURE: usize = 4 << 20;

/// Something beside an image cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SidecarError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The image's attribute cannot be read.
    #[error("cannot read attribute {name} of {}", image.display())]
    Attribute {
        /// The attribute.
        name: &'static str,
        /// The image.
        image: PathBuf,
        /// Why.
        source: Errno,
    },
    /// It is larger than anything of its kind.
    #[error("{} has more than {most} bytes; it cannot be what its name says", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What it may have.
        most: usize,
    },
    /// It is no root hash.
    #[error("{place} holds no root hash")]
    Hash {
        /// The file or attribute.
        place: String,
        /// Why.
        source: ParamsError,
    },
    /// What stands behind `base64:` is none.
    #[error("{0:?} does not go on with base64 text")]
    Base64(String),
    /// It is no signature.
    #[error("{} holds no signature", path.display())]
    Signature {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SignatureError,
    },
}

/// One of the two things that a hash may be for, with the names that it goes by.
struct Names {
    designator: Designator,
    attribute: &'static str,
    suffix: &'static str,
}

const NAMES: [Names; 2] = [
    Names {
        designator: Designator::Root,
        attribute: "user.verity.roothash",
        suffix: "roothash",
    },
    Names {
        designator: Designator::Usr,
        attribute: "user.verity.usrhash",
        suffix: "usrhash",
    },
];

/// Fills in what lies beside `image` and is not said yet. Device nodes have nothing beside them.
pub fn complete(
    image: &Path,
    mut settings: VeritySettings,
) -> Result<VeritySettings, SidecarError> {
    if image.starts_with("/dev") {
        return Ok(settings);
    }
    let beside = Beside::new(image);
    if settings.root_hash.is_none()
        && let Some((designator, hash)) = beside.hash(&settings)?
    {
        settings.designator = Some(designator);
        settings.root_hash = Some(hash);
    }
    if settings.root_hash.is_some()
        && settings.signature.is_none()
        && let Some((designator, signature)) = beside.signature(&settings)?
    {
        settings.designator = Some(designator);
        settings.signature = Some(signature);
    }
    if settings.tree.is_none() {
        settings.tree = Some(beside.path("verity")).filter(|path| path.exists());
    }
    Ok(settings)
}

/// Reads a signature file: a PKCS#7 signature in DER.
pub fn read_signature(path: &Path) -> Result<Signature, SidecarError> {
    let file = File::open(path).map_err(|source| SidecarError::Read {
        path: path.to_owned(),
        source,
    })?;
    let der = read(file, path, MAX_SIGNATURE)?;
    Signature::from_der(der).map_err(|source| SidecarError::Signature {
        path: path.to_owned(),
        source,
    })
}

/// Takes a signature as options give it: `base64:` and the DER in base64, or the path of a file.
pub fn parse_signature(text: &str) -> Result<Signature, SidecarError> {
    let Some(encoded) = text.strip_prefix("base64:") else {
        return read_signature(Path::new(text));
    };
    let der = STANDARD
        .decode(encoded)
        .map_err(|_| SidecarError::Base64(text.to_owned()))?;
    Signature::from_der(der).map_err(|source| SidecarError::Signature {
        path: text.into(),
        source,
    })
}

struct Beside<'a> {
    image: &'a Path,
    /// The image's path without `.raw`.
    base: OsString,
}

impl<'a> Beside<'a> {
    fn new(image: &'a Path) -> Self {
        let path = image.as_os_str().as_bytes();
        let base = path.strip_suffix(b".raw").unwrap_or(path);
        Self {
            image,
            base: OsStr::from_bytes(base).to_owned(),
        }
    }

    fn path(&self, suffix: &str) -> PathBuf {
        let mut path = self.base.clone();
        path.push(".");
        path.push(suffix);
        path.into()
    }

    fn hash(
        &self,
        settings: &VeritySettings,
    ) -> Result<Option<(Designator, RootHash)>, SidecarError> {
        for names in NAMES.iter().filter(|one| settings.concern(one.designator)) {
            let attribute = self.attribute(names.attribute)?;
            let found = match attribute {
                Some(value) => Some((format!("attribute {}", names.attribute), value)),
                None => self.file(names.suffix, MAX_HASH)?,
            };
            if let Some((place, text)) = found {
                return parse(place, &text).map(|hash| Some((names.designator, hash)));
            }
        }
        Ok(None)
    }

    fn signature(
        &self,
        settings: &VeritySettings,
    ) -> Result<Option<(Designator, Signature)>, SidecarError> {
        for names in NAMES.iter().filter(|one| settings.concern(one.designator)) {
            let path = self.path(&format!("{}.p7s", names.suffix));
            match read_signature(&path) {
                Ok(signature) => return Ok(Some((names.designator, signature))),
                Err(SidecarError::Read { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn file(&self, suffix: &str, most: usize) -> Result<Option<(String, Vec<u8>)>, SidecarError> {
        let path = self.path(suffix);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SidecarError::Read { path, source }),
        };
        let bytes = read(file, &path, most)?;
        Ok(Some((path.display().to_string(), bytes)))
    }

    fn attribute(&self, name: &'static str) -> Result<Option<Vec<u8>>, SidecarError> {
        let mut value = vec![0; MAX_HASH];
        match rustix::fs::getxattr(self.image, name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                Ok(Some(value))
            }
            // Not there, or not on this file system; a missing image is noticed elsewhere.
            Err(Errno::NODATA | Errno::NOTSUP | Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(source) => Err(SidecarError::Attribute {
                name,
                image: self.image.to_owned(),
                source,
            }),
        }
    }
}

/// The first line.
fn parse(place: String, text: &[u8]) -> Result<RootHash, SidecarError> {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or(text);
    let line = String::from_utf8_lossy(line);
    line.trim()
        .parse()
        .map_err(|source| SidecarError::Hash { place, source })
}

fn read(file: File, path: &Path, most: usize) -> Result<Vec<u8>, SidecarError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let done = file.take(limit).read_to_end(&mut bytes);
    done.map_err(|source| SidecarError::Read {
        path: path.to_owned(),
        source,
    })?;
    match bytes.len() > most {
        true => Err(SidecarError::TooLarge {
            path: path.to_owned(),
            most,
        }),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff";
    const OTHER: &str = "ffeeddccbbaa99887766554433221100";

    fn completed(
        files: &[(&str, &str)],
        settings: VeritySettings,
    ) -> Result<VeritySettings, SidecarError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        complete(&folder.path().join("a.raw"), settings)
    }

    #[test]
    fn files_beside_the_image_tell_the_set() {
        let usr = || VeritySettings {
            designator: Some(Designator::Usr),
            ..VeritySettings::default()
        };
        let none = VeritySettings::default;
        let line = format!("{HASH}\n");
        for (files, asked, designator, hash) in [
            (vec![], none(), None, None),
            (
                vec![("a.roothash", HASH)],
                none(),
                Some(Designator::Root),
                Some(HASH),
            ),
            (
                vec![("a.usrhash", &*line)],
                none(),
                Some(Designator::Usr),
                Some(HASH),
            ),
            (
                vec![("a.roothash", HASH), ("a.usrhash", OTHER)],
                none(),
                Some(Designator::Root),
                Some(HASH),
            ),
            (
                vec![("a.roothash", HASH), ("a.usrhash", OTHER)],
                usr(),
                Some(Designator::Usr),
                Some(OTHER),
            ),
            (
                vec![("a.roothash", HASH)],
                VeritySettings::of(Designator::Usr, OTHER.parse().unwrap()),
                Some(Designator::Usr),
                Some(OTHER),
            ),
            (vec![("a.raw.roothash", HASH)], none(), None, None),
        ] {
            let found = completed(&files, asked).unwrap();
            let text = found.root_hash.map(|hash| hash.to_string());
            assert_eq!(
                (found.designator, text.as_deref()),
                (designator, hash),
                "{files:?}"
            );
        }
        let tree = completed(&[("a.verity", "")], none()).unwrap().tree;
        assert!(tree.is_some_and(|tree| tree.ends_with("a.verity")));
    }

    #[test]
    fn what_is_wrong_beside_the_image_is_named() {
        let long = "a".repeat(MAX_HASH + 1);
        for (files, message) in [
            (vec![("a.roothash", "")], "a.roothash holds no root hash"),
            (
                vec![("a.roothash", "abcd")],
                "a.roothash holds no root hash",
            ),
            (vec![("a.usrhash", "zz")], "a.usrhash holds no root hash"),
            (vec![("a.roothash", &*long)], "has more than 4096 bytes"),
            (
                vec![("a.roothash", HASH), ("a.roothash.p7s", "")],
                "a.roothash.p7s holds no signature",
            ),
        ] {
            let error = completed(&files, VeritySettings::default()).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
