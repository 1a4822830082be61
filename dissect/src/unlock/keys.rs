//! What the caller has to unlock partitions with.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use image_specs::partition::Designator;
use image_specs::policy::Means;
use image_specs::tpm2::{PcrSignatures, Pcrlock};
use image_specs::units::Bytes;
use luks::Secret;
use luks::tpm2::{Device, Entropy};

use super::attempts::{Offer, name};

/// How often somebody is asked for one partition.
pub(super) const TRIES: u32 = 3;

/// Keys, and the ways to more of them. They are tried for every encrypted partition.
pub struct Keys {
    /// How much memory it may take to make a key of a passphrase.
    pub memory: Bytes,
    /// The contents of a key file.
    pub key_file: Option<Secret>,
    /// A passphrase or recovery key, from the environment.
    pub given: Option<Secret>,
    /// A passphrase or recovery key, from the credential `dissect.passphrase`.
    pub credential: Option<Secret>,
    /// The TPM that may be asked.
    pub tpm2: Option<Chip>,
    /// Whether libcryptsetup's plug-ins may look for FIDO2 tokens.
    pub fido2: bool,
    /// Whether they may look for PKCS#11 tokens and smart cards.
    pub pkcs11: bool,
    /// Who can be asked.
    pub ask: Option<Box<dyn Ask>>,
    /// What was typed and has unlocked something; partitions of an image often share it.
    pub(super) typed: Mutex<Vec<Secret>>,
}

/// A TPM, and what there is to satisfy the policies of what it has sealed.
pub struct Chip {
    /// Which.
    pub device: Device,
    /// The PIN, where one is given.
    pub pin: Option<Secret>,
    /// Signatures of PCR values.
    pub signatures: Option<PcrSignatures>,
    /// The file of systemd-pcrlock.
    pub pcrlock: Option<Pcrlock>,
    /// Where random bytes come from.
    pub entropy: Box<dyn Fn() -> io::Result<Entropy> + Send + Sync>,
}

/// Somebody who may know a passphrase.
pub trait Ask: Send + Sync {
    /// Asks; `None` where there is no answer.
    fn ask(&self, question: &Question) -> io::Result<Option<Secret>>;
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// A passphrase or recovery key.
    Passphrase {
        /// Of which partition.
        designator: Designator,
        /// Whether the last answer was wrong.
        again: bool,
    },
    /// The PIN that a TPM, a token or a card wants.
    Pin {
        /// Which of them.
        means: Means,
        /// For which partition.
        designator: Designator,
        /// Whether the last answer was wrong.
        again: bool,
    },
}

impl Keys {
    /// None yet.
    pub fn new(memory: Bytes) -> Self {
        Self {
            memory,
            key_file: None,
            given: None,
            credential: None,
            tpm2: None,
            fido2: false,
            pkcs11: false,
            ask: None,
            typed: Mutex::default(),
        }
    }

    /// What there is to try.
    pub fn offers(&self) -> Vec<Offer> {
        let offers = [
            (self.key_file.is_some(), Offer::KeyFile),
            (self.given.is_some(), Offer::Given),
            (self.credential.is_some(), Offer::Credential),
            (self.tpm2.is_some(), Offer::Tpm2),
            (self.fido2, Offer::Fido2),
            (self.pkcs11, Offer::Pkcs11),
            (self.ask.is_some(), Offer::Typed),
        ];
        let there = offers.into_iter().filter(|(is, _)| *is);
        there.map(|(_, offer)| offer).collect()
    }

    /// Whether a partition may be unlocked without anybody being asked.
    pub fn are_given(&self) -> bool {
        self.offers().iter().any(|offer| *offer != Offer::Typed)
    }

    pub(super) fn remember(&self, typed: &Secret) {
        let mut known = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(typed) {
            known.push(typed.clone());
        }
    }

    pub(super) fn remembered(&self) -> Vec<Secret> {
        let known = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }
}

impl fmt::Debug for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chip({})", self.device)
    }
}

impl fmt::Debug for Keys {
    /// Which there are; nothing of what they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({:?})", self.offers())
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Passphrase { designator, again }
        | Self::Pin {
            designator, again, ..
        }) = self;
        if *again {
            f.write_str("That does not fit. ")?;
        }
        match self {
            Self::Passphrase { .. } => write!(f, "Passphrase of partition {designator}"),
            Self::Pin { means, .. } => {
                write!(f, "PIN of {} for partition {designator}", name(*means))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_and_not_shown() {
        let mut keys = Keys::new(Bytes::mib(64));
        assert!(!keys.are_given());
        keys.given = Some(Secret::new(b"hunter2".to_vec()));
        keys.key_file = Some(Secret::new(b"hunter3".to_vec()));
        keys.remember(&Secret::new(b"hunter4".to_vec()));
        keys.remember(&Secret::new(b"hunter4".to_vec()));
        assert_eq!(format!("{keys:?}"), "Keys([KeyFile, Given])");
        assert!(keys.are_given());
        assert_eq!(keys.remembered().len(), 1);
    }
}
