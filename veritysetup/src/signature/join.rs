//! Signatures made elsewhere: `HASH:PATH` or `HASH:base64:DATA`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Signature, SignatureError};
use crate::params::RootHash;

/// The largest signature that is taken, in bytes.
const MAX_SIZE: usize = 16384;

/// A root hash, and where its signature is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinSignature {
    /// What is signed.
    pub root: RootHash,
    /// The signature, or where to read it.
    pub source: JoinSource,
}

/// Where a signature is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinSource {
    /// In a file, as DER.
    Path(PathBuf),
    /// Here, as DER.
    Data(Vec<u8>),
}

/// Why a signature cannot be joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The text has another form.
    #[error("signature {0:?} is not HASH:PATH or HASH:base64:DATA")]
    Form(String),
    /// The part before the colon is no root hash.
    #[error(transparent)]
    RootHash(#[from] crate::params::ParamsError),
    /// The data is no base64.
    #[error("the signature for root hash {0} is not base64")]
    Base64(RootHash),
    /// The signature is empty or too large.
    #[error("the signature for root hash {0} is empty or has more than 16384 bytes")]
    Size(RootHash),
    /// The signature cannot be read or is none.
    #[error("cannot use the signature for root hash {root}")]
    Signature {
        /// What is signed.
        root: RootHash,
        /// Why.
        source: SignatureError,
    },
}

impl JoinSignature {
    /// Reads the signature; whose it is, is not checked.
    pub fn load(&self) -> Result<Signature, JoinError> {
        let wrong = |source| JoinError::Signature {
            root: self.root.clone(),
            source,
        };
        let der = match &self.source {
            JoinSource::Data(der) => der.clone(),
            JoinSource::Path(path) => read_limited(path).map_err(wrong)?,
        };
        if der.is_empty() || der.len() > MAX_SIZE {
            return Err(JoinError::Size(self.root.clone()));
        }
        Signature::from_der(der).map_err(wrong)
    }
}

impl FromStr for JoinSignature {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, JoinError> {
        let form = || JoinError::Form(text.to_owned());
        let (root, rest) = text.split_once(':').ok_or_else(form)?;
        let root: RootHash = root.parse()?;
        let source = match rest.strip_prefix("base64:") {
            Some(data) => match STANDARD.decode(data) {
                Ok(der) => JoinSource::Data(der),
                Err(_) => return Err(JoinError::Base64(root)),
            },
            None if rest.is_empty() => return Err(form()),
            None => JoinSource::Path(PathBuf::from(rest)),
        };
        Ok(Self { root, source })
    }
}

/// Reads a file, but not much more than is allowed.
fn read_limited(path: &Path) -> Result<Vec<u8>, SignatureError> {
    let read = || {
        let mut der = Vec::new();
        let limit = u64::try_from(MAX_SIZE).unwrap_or(u64::MAX) + 1;
        std::fs::File::open(path)?
            .take(limit)
            .read_to_end(&mut der)?;
        Ok(der)
    };
    read().map_err(|source| SignatureError::Read {
        path: path.to_owned(),
        source,
    })
}
