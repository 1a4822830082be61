//! The signature partition: who signs root hashes, and what is written.

use image_specs::signature::{MoreSignature, VeritySignature};
use veritysetup::RootHash;
use veritysetup::signature::{Signature, SignatureError, Signer};

/// Where signatures come from.
#[derive(Debug, Default)]
pub struct Signing {
    /// `--private-key=`, each with its certificate, in order: systemd reads the first one's signature.
    pub signers: Vec<KeyHolder>,
    /// `--join-signature=`, in order: those of a root hash take the place of the signers.
    pub joined: Vec<Joined>,
}

/// Somebody who signs.
#[derive(Debug)]
pub struct KeyHolder {
    /// The key.
    pub signer: Signer,
    /// SHA-256 of the DER of the certificate.
    pub fingerprint: Option<[u8; 32]>,
}

/// A signature that was made elsewhere.
#[derive(Debug)]
pub struct Joined {
    /// What is signed.
    pub root_hash: RootHash,
    /// The signature.
    pub signature: Signature,
    /// SHA-256 of the DER of its certificate.
    pub fingerprint: Option<[u8; 32]>,
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// Nothing to sign with.
    #[error(
        "{0} needs a signature: pass --private-key= and --certificate=, or leave the partition for later with --defer-partitions="
    )]
    NoKey(String),
    /// Signatures were given, but none for this root hash.
    #[error(
        "no --join-signature= is for the root hash {0}; sign this hash, or pass --private-key= and --certificate="
    )]
    NotJoined(RootHash),
    /// Signing failed.
    #[error("cannot sign the root hash {root_hash}")]
    Failed {
        /// The root hash.
        root_hash: RootHash,
        /// Why.
        source: Box<SignatureError>,
    },
    /// The signature does not fit its partition.
    #[error("the signature takes {needed} bytes, but its partition has {available}")]
    TooLarge {
        /// Bytes of the JSON text.
        needed: usize,
        /// Bytes of the partition.
        available: u64,
    },
}

impl Signing {
    /// Whether some signature can be had at all.
    pub fn is_possible(&self) -> bool {
        !self.signers.is_empty() || !self.joined.is_empty()
    }

    /// All signatures of a root hash: those that were given for it, else one of each signer.
    fn signatures(&self, root_hash: &RootHash) -> Result<Vec<MoreSignature>, SignError> {
        let joined = self.joined.iter().filter(|one| one.root_hash == *root_hash);
        let joined = joined.map(|one| MoreSignature {
            fingerprint: one.fingerprint,
            signature: one.signature.as_der().to_vec(),
        });
        let joined: Vec<_> = joined.collect();
        if !joined.is_empty() {
            return Ok(joined);
        }
        let sign = |holder: &KeyHolder| {
            let signature = holder.signer.sign(root_hash);
            let signature = signature.map_err(|source| SignError::Failed {
                root_hash: root_hash.clone(),
                source: Box::new(source),
            })?;
            Ok(MoreSignature {
                fingerprint: holder.fingerprint,
                signature: signature.as_der().to_vec(),
            })
        };
        self.signers.iter().map(sign).collect()
    }

    /// The content of the signature partition: JSON, to be filled up with NULs.
    pub fn text(&self, root_hash: &RootHash, room: u64) -> Result<Vec<u8>, SignError> {
        let mut signatures = self.signatures(root_hash)?.into_iter();
        let first = signatures
            .next()
            .ok_or_else(|| SignError::NotJoined(root_hash.clone()))?;
        let text = VeritySignature {
            root_hash: root_hash.as_bytes().to_vec(),
            fingerprint: first.fingerprint,
            signature: first.signature,
            more: signatures.collect(),
        }
        .to_json();
        if u64::try_from(text.len()).map_or(true, |length| length > room) {
            return Err(SignError::TooLarge {
                needed: text.len(),
                available: room,
            });
        }
        Ok(text.into_bytes())
    }
}
