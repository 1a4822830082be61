//! One thing tried with one partition.

use std::io;

use image_specs::partition::Designator;
use image_specs::policy::Means;
use image_specs::tpm2::Token as Sealed;
use image_specs::tpm2::token::TokenError;
use luks::key::RecoveryKey;
use luks::tpm2::{self, Tpm2Error, Unsealing};
use luks::{Header, HeaderError, PluginError, Secret, VolumeKey};

use super::attempts::{Attempt, Offer};
use super::keys::{Chip, Keys, Question, TRIES};

/// Why an attempt fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// The header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The token makes no sense.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The TPM.
    #[error(transparent)]
    Tpm2(#[from] Tpm2Error),
    /// A plug-in of libcryptsetup, or the device that it looks for.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// Nobody can be asked, or no random bytes are to be had.
    #[error("cannot ask for it")]
    Ask(#[source] io::Error),
    /// There was no answer.
    #[error("there was no answer")]
    NoAnswer,
}

/// A partition that is to be unlocked.
pub(super) struct Candidate<'a> {
    pub(super) header: &'a Header,
    pub(super) designator: Designator,
    pub(super) keys: &'a Keys,
}

impl Candidate<'_> {
    /// Tries one thing.
    pub(super) fn try_one(&self, attempt: Attempt) -> Result<VolumeKey, Why> {
        let keys = self.keys;
        match (attempt.offer, &keys.tpm2) {
            (Offer::KeyFile, _) => Ok(self.header.unlock(given(&keys.key_file)?)?),
            (Offer::Given, _) => self.passphrase(given(&keys.given)?),
            (Offer::Credential, _) => self.passphrase(given(&keys.credential)?),
            (Offer::Typed, _) => self.typed(),
            (Offer::Tpm2, Some(chip)) => self.sealed(chip, attempt.token.unwrap_or(u32::MAX)),
            (Offer::Fido2 | Offer::Pkcs11, _) => self.plugin(attempt),
            (Offer::Tpm2, None) => Err(Why::NoAnswer),
        }
    }

    /// Tries a passphrase as it is, then as a recovery key that was written in another way.
    fn passphrase(&self, secret: &Secret) -> Result<VolumeKey, Why> {
        match (self.header.unlock(secret), RecoveryKey::parse(secret)) {
            (Err(HeaderError::WrongKey), Ok(recovery)) if recovery.secret() != secret => {
                Ok(self.header.unlock(recovery.secret())?)
            }
            (unlocked, _) => Ok(unlocked?),
        }
    }

    /// What was typed before, then what is typed now.
    fn typed(&self) -> Result<VolumeKey, Why> {
        for known in self.keys.remembered() {
            if let Ok(key) = self.passphrase(&known) {
                return Ok(key);
            }
        }
        let mut wrong = HeaderError::WrongKey;
        for number in 0..TRIES {
            let typed = self.ask(Question::Passphrase {
                designator: self.designator,
                again: number > 0,
            })?;
            match self.passphrase(&typed) {
                Ok(key) => {
                    self.keys.remember(&typed);
                    return Ok(key);
                }
                Err(Why::Header(error @ HeaderError::WrongKey)) => wrong = error,
                Err(error) => return Err(error),
            }
        }
        Err(wrong.into())
    }

    fn ask(&self, question: Question) -> Result<Secret, Why> {
        let ask = self.keys.ask.as_ref().ok_or(Why::NoAnswer)?;
        ask.ask(&question).map_err(Why::Ask)?.ok_or(Why::NoAnswer)
    }

    /// Has the TPM release the passphrase of a token's key slots.
    fn sealed(&self, chip: &Chip, number: u32) -> Result<VolumeKey, Why> {
        let tokens = self.header.metadata().map(|metadata| &metadata.tokens);
        let token = tokens.and_then(|tokens| tokens.get(&number));
        let token = token.ok_or(HeaderError::Token)?;
        let sealed = Sealed::from_json(&token.json)?.ok_or(HeaderError::Token)?;
        let secret = self.release(chip, &sealed)?;
        let mut wrong = HeaderError::WrongKey;
        for slot in &token.keyslots {
            match self.header.unlock_slot(&secret, Some(*slot)) {
                Ok(key) => return Ok(key),
                Err(error) => wrong = error,
            }
        }
        Err(wrong.into())
    }

    /// Has a plug-in of libcryptsetup ask a token or card, with a PIN where it wants one.
    fn plugin(&self, attempt: Attempt) -> Result<VolumeKey, Why> {
        let token = attempt.token.unwrap_or(u32::MAX);
        let mut unlocked = self.header.unlock_token(token, None);
        for number in 0..TRIES {
            match unlocked {
                Err(PluginError::Pin { .. }) if self.keys.ask.is_some() => {}
                done => return Ok(done?),
            }
            let pin = self.ask(Question::Pin {
                means: attempt.offer.means(),
                designator: self.designator,
                again: number > 0,
            })?;
            unlocked = self.header.unlock_token(token, Some(&pin));
        }
        Ok(unlocked?)
    }

    /// The secret; a PIN that is typed may be wrong some times, as often as the TPM bears it.
    fn release(&self, chip: &Chip, token: &Sealed) -> Result<Secret, Why> {
        let unseal = |pin: Option<&Secret>| {
            let unsealing = Unsealing {
                device: chip.device.clone(),
                pin,
                signatures: chip.signatures.as_ref(),
                pcrlock: chip.pcrlock.as_ref(),
            };
            let entropy = (chip.entropy)().map_err(Why::Ask)?;
            tpm2::unseal(token, &unsealing, entropy).map_err(Why::Tpm2)
        };
        if !token.pin || chip.pin.is_some() || self.keys.ask.is_none() {
            return unseal(chip.pin.as_ref());
        }
        let mut number = 0;
        loop {
            let pin = self.ask(Question::Pin {
                means: Means::Tpm2,
                designator: self.designator,
                again: number > 0,
            })?;
            number += 1;
            match unseal(Some(&pin)) {
                Err(Why::Tpm2(Tpm2Error::WrongPin(_))) if number < TRIES => {}
                done => return done,
            }
        }
    }
}

fn given(secret: &Option<Secret>) -> Result<&Secret, Why> {
    secret.as_ref().ok_or(Why::NoAnswer)
}
