//! Signs root hashes with a key from a file, or one that an OpenSSL provider or engine keeps.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;

use super::program::RemoteKey;
use super::{Certificate, Openssl, Signature, SignatureError};
use crate::params::RootHash;

/// Where a private key is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// In a PEM file.
    #[default]
    File,
    /// With an OpenSSL provider, by URI.
    Provider(String),
    /// With an OpenSSL engine, by its own name for the key.
    Engine(String),
}

/// A private key with its certificate.
#[derive(Debug)]
pub struct Signer {
    key: Key,
    certificate: Certificate,
}

#[derive(Debug)]
enum Key {
    Loaded(PKey<Private>),
    Remote(RemoteKey),
}

impl Signer {
    /// Takes the key at `name` (a path or URI) from `source`.
    ///
    /// `passphrase` opens an encrypted key file or a token. A key from a file is checked against
    /// the certificate here; with providers and engines (which `openssl` reaches), that happens when
    /// something is signed.
    pub fn load(
        name: &str,
        source: &KeySource,
        certificate: Certificate,
        passphrase: Option<&[u8]>,
        openssl: &Openssl,
    ) -> Result<Self, SignatureError> {
        let key = match source {
            KeySource::File => {
                let key = load_key(Path::new(name), passphrase)?;
                check_pair(name, &key, &certificate)?;
                Key::Loaded(key)
            }
            KeySource::Provider(_) | KeySource::Engine(_) => Key::Remote(RemoteKey {
                source: source.clone(),
                name: name.to_owned(),
                pin: passphrase.map(<[u8]>::to_vec),
                openssl: openssl.clone(),
            }),
        };
        Ok(Self { key, certificate })
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs a root hash.
    pub fn sign(&self, root: &RootHash) -> Result<Signature, SignatureError> {
        let text = root.to_string();
        match &self.key {
            Key::Loaded(key) => sign(text.as_bytes(), key, &self.certificate),
            Key::Remote(key) => {
                let der = key.sign(text.as_bytes(), &self.certificate)?;
                let signature = Signature::from_der(der)?;
                // Only now can it be known that key and certificate belong together.
                signature
                    .verify(root, std::slice::from_ref(&self.certificate))
                    .map_err(|_| SignatureError::Mismatch {
                        key: key.name.clone(),
                        certificate: self.certificate.name().to_owned(),
                    })?;
                Ok(signature)
            }
        }
    }
}

impl FromStr for KeySource {
    type Err = SignatureError;

    /// Parses `file`, `provider:NAME` or `engine:NAME`.
    fn from_str(text: &str) -> Result<Self, SignatureError> {
        match text.split_once(':') {
            None if text == "file" => Ok(Self::File),
            Some(("provider", name)) if !name.is_empty() => Ok(Self::Provider(name.to_owned())),
            Some(("engine", name)) if !name.is_empty() => Ok(Self::Engine(name.to_owned())),
            _ => Err(SignatureError::Source(text.to_owned())),
        }
    }
}

fn sign(
    text: &[u8],
    key: &PKey<Private>,
    certificate: &Certificate,
) -> Result<Signature, SignatureError> {
    let flags = Pkcs7Flags::DETACHED | Pkcs7Flags::BINARY | Pkcs7Flags::NOATTR;
    let der = Stack::new()
        .and_then(|others| Pkcs7::sign(certificate.x509(), key, &others, text, flags)?.to_der());
    match der {
        Ok(der) => Ok(Signature(der)),
        Err(source) => Err(SignatureError::OpenSsl {
            action: "sign the root hash",
            source,
        }),
    }
}

fn check_pair(
    name: &str,
    key: &PKey<Private>,
    certificate: &Certificate,
) -> Result<(), SignatureError> {
    let public = certificate.x509().public_key();
    let public = public.map_err(|source| SignatureError::OpenSsl {
        action: "read the certificate's public key",
        source,
    })?;
    if !public.public_eq(key) {
        return Err(SignatureError::Mismatch {
            key: name.to_owned(),
            certificate: certificate.name().to_owned(),
        });
    }
    Ok(())
}

fn load_key(path: &Path, passphrase: Option<&[u8]>) -> Result<PKey<Private>, SignatureError> {
    let pem = read(path)?;
    let asked = Cell::new(false);
    // Without a callback OpenSSL would ask on the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |buffer| {
        asked.set(true);
        let given = passphrase.filter(|given| given.len() <= buffer.len());
        let given = given.unwrap_or_default();
        buffer[..given.len()].copy_from_slice(given);
        Ok(given.len())
    });
    let path = PathBuf::from(path);
    key.map_err(|source| match (asked.get(), passphrase) {
        (false, _) => SignatureError::NoKey { path, source },
        (true, None) => SignatureError::Encrypted(path),
        (true, Some(_)) => SignatureError::Passphrase { path, source },
    })
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, SignatureError> {
    fs::read(path).map_err(|source| SignatureError::Read {
        path: path.to_owned(),
        source,
    })
}
