//! The signature partition: who signs root hashes, and what is written.

use image_specs::signature::VeritySignature;
use veritysetup::RootHash;
use veritysetup::signature::{Signature, SignatureError, Signer};

/// Where signatures come from.
#[derive(Debug, Default)]
pub struct Signing {
    /// `--private-key=` with its certificate.
    pub signer: Option<Signer>,
    /// SHA-256 of the DER of `--certificate=`.
    pub fingerprint: Option<[u8; 32]>,
    /// `--join-signature=`.
    pub joined: Vec<(RootHash, Signature)>,
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
        self.signer.is_some() || !self.joined.is_empty()
    }

    /// The content of the signature partition: JSON, to be filled up with NULs.
    pub fn text(&self, root_hash: &RootHash, room: u64) -> Result<Vec<u8>, SignError> {
        let joined = self.joined.iter().find(|(hash, _)| hash == root_hash);
        let signature = match (joined, &self.signer) {
            (Some((_, signature)), _) => signature.as_der().to_vec(),
            (None, Some(signer)) => signer
                .sign(root_hash)
                .map_err(|source| SignError::Failed {
                    root_hash: root_hash.clone(),
                    source: Box::new(source),
                })?
                .as_der()
                .to_vec(),
            (None, None) => return Err(SignError::NotJoined(root_hash.clone())),
        };
        let text = VeritySignature {
            root_hash: root_hash.as_bytes().to_vec(),
            fingerprint: self.fingerprint,
            signature,
            more: Vec::new(),
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
