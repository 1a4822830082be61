//! The certificate that belongs to a signing key.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::x509::X509;

use super::{Openssl, SignatureError};

/// An X.509 certificate and where it is from.
#[derive(Clone)]
pub struct Certificate {
    name: String,
    x509: X509,
}

/// Where a certificate is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CertificateSource {
    /// In a PEM file.
    #[default]
    File,
    /// With an OpenSSL provider, by URI.
    Provider(String),
}

impl Certificate {
    /// Reads the first certificate of a PEM text; `name` is for messages.
    pub fn from_pem(name: impl Into<String>, pem: &[u8]) -> Result<Self, SignatureError> {
        let name = name.into();
        match X509::from_pem(pem) {
            Ok(x509) => Ok(Self { name, x509 }),
            Err(source) => Err(SignatureError::NoCertificate { name, source }),
        }
    }

    /// Loads the certificate at `name`: a path, or a URI that the provider understands.
    pub fn load(
        name: &str,
        source: &CertificateSource,
        openssl: &Openssl,
    ) -> Result<Self, SignatureError> {
        let pem = match source {
            CertificateSource::File => super::signer::read(Path::new(name))?,
            CertificateSource::Provider(provider) => openssl.certificate(provider, name)?,
        };
        Self::from_pem(name, &pem)
    }

    /// The path or URI.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SHA-256 of the certificate in DER.
    pub fn fingerprint(&self) -> Result<Vec<u8>, SignatureError> {
        match self.x509.digest(MessageDigest::sha256()) {
            Ok(digest) => Ok(digest.to_vec()),
            Err(source) => Err(SignatureError::OpenSsl {
                action: "compute the certificate's fingerprint",
                source,
            }),
        }
    }

    pub(super) fn x509(&self) -> &X509 {
        &self.x509
    }

    pub(super) fn to_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.x509.to_pem()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({:?})", self.name)
    }
}

impl FromStr for CertificateSource {
    type Err = SignatureError;

    /// Parses `file` or `provider:NAME`.
    fn from_str(text: &str) -> Result<Self, SignatureError> {
        match text.split_once(':') {
            None if text == "file" => Ok(Self::File),
            Some(("provider", name)) if !name.is_empty() => Ok(Self::Provider(name.to_owned())),
            _ => Err(SignatureError::Source(text.to_owned())),
        }
    }
}
