//! Root hashes signed as PKCS#7, in the form that the kernel and systemd take.
//!
//! SignedData in DER, detached, no attributes, the signer's certificate inside; what is signed is
//! the lower-case hex text of the root hash without a newline.

mod certificate;
mod join;
mod program;
mod signer;

pub use certificate::{Certificate, CertificateSource};
pub use join::{JoinError, JoinSignature, JoinSource};
pub use program::Openssl;
pub use signer::{KeySource, Signer};

use std::io;
use std::path::PathBuf;

use blockdev::tool::ToolError;
use openssl::error::ErrorStack;
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;

use crate::params::RootHash;

/// A PKCS#7 signature of a root hash, in DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature(Vec<u8>);

/// Why something could not be signed, or a signature not be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// A key or certificate file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no private key.
    #[error("{}: this is no private key in PEM format", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What OpenSSL says.
        source: ErrorStack,
    },
    /// The key is encrypted and there is no passphrase.
    #[error("{}: the private key is encrypted, and no passphrase was given", .0.display())]
    Encrypted(PathBuf),
    /// The passphrase does not open the key.
    #[error("{}: the passphrase does not open the private key", path.display())]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// What OpenSSL says.
        source: ErrorStack,
    },
    /// The file or URI holds no certificate.
    #[error("{name}: this is no X.509 certificate in PEM format")]
    NoCertificate {
        /// The file or URI.
        name: String,
        /// What OpenSSL says.
        source: ErrorStack,
    },
    /// Key and certificate are not of one pair.
    #[error("private key {key} does not belong to certificate {certificate}")]
    Mismatch {
        /// Where the key is from.
        key: String,
        /// Where the certificate is from.
        certificate: String,
    },
    /// The source is no known one.
    #[error(
        "{0:?} is no source of keys; use file, provider:NAME or, for private keys, engine:NAME"
    )]
    Source(String),
    /// OpenSSL failed.
    #[error("cannot {action}")]
    OpenSsl {
        /// What was tried.
        action: &'static str,
        /// What OpenSSL says.
        source: ErrorStack,
    },
    /// The certificate could not be handed to the `openssl` program.
    #[error("cannot write a scratch file for the certificate")]
    Scratch(#[source] io::Error),
    /// The `openssl` program failed; it is needed for providers and engines.
    #[error(transparent)]
    Program(#[from] ToolError),
    /// The bytes are no PKCS#7 signature.
    #[error("this is no PKCS#7 signature in DER format")]
    NoSignature(#[source] ErrorStack),
    /// The signature is not by these certificates, or of something else.
    #[error("the signature is not of root hash {root} by any of the given certificates")]
    Refused {
        /// The root hash.
        root: RootHash,
        /// What OpenSSL says.
        source: ErrorStack,
    },
}

impl Signature {
    /// Takes the DER form; checks that it is PKCS#7 at all.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Result<Self, SignatureError> {
        let der = der.into();
        Pkcs7::from_der(&der).map_err(SignatureError::NoSignature)?;
        Ok(Self(der))
    }

    /// The DER form.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }

    /// Checks that the owner of one of `certificates` has signed `root`.
    ///
    /// Chains and dates are not looked at, and certificates inside the signature are not trusted:
    /// as the kernel and systemd do it.
    pub fn verify(
        &self,
        root: &RootHash,
        certificates: &[Certificate],
    ) -> Result<(), SignatureError> {
        let prepare = |source| SignatureError::OpenSsl {
            action: "prepare the check of a signature",
            source,
        };
        let mut signers = Stack::new().map_err(prepare)?;
        for certificate in certificates {
            signers.push(certificate.x509().clone()).map_err(prepare)?;
        }
        let store = X509StoreBuilder::new().map_err(prepare)?.build();
        let flags = Pkcs7Flags::NOINTERN | Pkcs7Flags::NOVERIFY | Pkcs7Flags::BINARY;
        let text = root.to_string();
        Pkcs7::from_der(&self.0)
            .map_err(SignatureError::NoSignature)?
            .verify(&signers, &store, Some(text.as_bytes()), None, flags)
            .map_err(|source| SignatureError::Refused {
                root: root.clone(),
                source,
            })
    }
}
