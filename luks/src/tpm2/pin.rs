//! From a PIN to what authorizes a sealed object.
//!
//! Guessing at the TPM ends in its lockout. Guessing at the stored token is made slow, as
//! systemd-cryptenroll makes it: by PBKDF2 before version 262, by Argon2id since, where half of what is
//! derived goes into the released key, so that a broken TPM does not give the key away.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image_specs::tpm2::Token;
use image_specs::tpm2::token::Argon2id;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use zeroize::{Zeroize, Zeroizing};

use super::crypto::{hkdf, sha256};
use crate::Secret;

/// A PIN, and what it costs to guess it from the token.
#[derive(Clone, Debug)]
pub struct Pin {
    /// What somebody types.
    pub pin: Secret,
    /// How it is stretched.
    pub cost: PinCost,
}

/// How a PIN is stretched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinCost {
    /// PBKDF2 with 10000 rounds: systemd 251 and newer can read it.
    Pbkdf2,
    /// Argon2id: systemd 262 and newer can read it.
    Argon2id(Argon2id),
}

/// A PIN cannot be stretched.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum PinError {
    #[error("deriving a key from the PIN would take {0} bytes of memory, more than can be had")]
    Memory(u64),
    #[error("the costs of deriving a key from the PIN are not possible: {0}")]
    Cost(String),
    #[error("the token has no salt for its PIN")]
    NoSalt,
    #[error("OpenSSL cannot derive a key from the PIN")]
    OpenSsl(#[from] ErrorStack),
}

const ROUNDS: usize = 10_000;
const MAX_MEMORY: u64 = 4 << 30;
const MAX_ITERATIONS: u32 = 10_000;
const MAX_LANES: u32 = 256;
const INFO: &[u8] = b"systemd-tpm2-argon2id-lock";

/// What comes of a PIN.
pub(super) struct Stretched {
    /// The object's authorization value.
    pub(super) auth: Zeroizing<Vec<u8>>,
    /// What the released secret is mixed with.
    lock: Option<Zeroizing<[u8; 32]>>,
}

impl Stretched {
    /// There is no PIN.
    pub(super) fn none() -> Self {
        Self {
            auth: Zeroizing::default(),
            lock: None,
        }
    }

    pub(super) fn new(pin: &Secret, salt: &[u8], cost: PinCost) -> Result<Self, PinError> {
        match cost {
            PinCost::Pbkdf2 => pbkdf2(pin, salt),
            PinCost::Argon2id(cost) => argon2id(pin, salt, cost),
        }
    }

    /// As the token says.
    pub(super) fn by_token(pin: &Secret, token: &Token) -> Result<Self, PinError> {
        match (&token.salt, token.argon2id) {
            (None, Some(_)) => Err(PinError::NoSalt),
            (Some(salt), Some(cost)) => argon2id(pin, salt, cost),
            (Some(salt), None) => pbkdf2(pin, salt),
            // Before systemd 253 PINs went to the TPM as they were.
            (None, None) => Ok(Self {
                auth: authorization(pin.expose()),
                lock: None,
            }),
        }
    }

    /// The key slot's passphrase: base64 of what the TPM released, mixed with the PIN if need be.
    pub(super) fn passphrase(&self, released: &[u8]) -> Secret {
        let mixed = self.lock.as_ref().map(|lock| hkdf(&**lock, released, INFO));
        let key = mixed.as_ref().map_or(released, |mixed| &mixed[..]);
        Secret::new(STANDARD.encode(key).into_bytes())
    }
}

fn pbkdf2(pin: &Secret, salt: &[u8]) -> Result<Stretched, PinError> {
    let mut key = Zeroizing::new([0; 32]);
    pbkdf2_hmac(
        pin.expose(),
        salt,
        ROUNDS,
        MessageDigest::sha256(),
        &mut *key,
    )?;
    Ok(Stretched {
        auth: authorization(Zeroizing::new(STANDARD.encode(*key)).as_bytes()),
        lock: None,
    })
}

fn argon2id(pin: &Secret, salt: &[u8], cost: Argon2id) -> Result<Stretched, PinError> {
    let params = params(cost)?;
    let mut memory = memory(&params).ok_or(PinError::Memory(cost.memory))?;
    let mut key = Zeroizing::new([0; 64]);
    let derived = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(pin.expose(), salt, &mut *key, &mut memory);
    memory.iter_mut().for_each(Zeroize::zeroize);
    derived.map_err(|error| PinError::Cost(error.to_string()))?;
    let (lock, pin) = key.split_at(32);
    Ok(Stretched {
        auth: authorization(Zeroizing::new(STANDARD.encode(pin)).as_bytes()),
        lock: lock.try_into().ok().map(Zeroizing::new),
    })
}

fn params(cost: Argon2id) -> Result<Params, PinError> {
    if cost.memory > MAX_MEMORY {
        return Err(PinError::Memory(cost.memory));
    }
    if cost.iterations > MAX_ITERATIONS || cost.lanes > MAX_LANES {
        let Argon2id {
            iterations, lanes, ..
        } = cost;
        let text = format!("{iterations} iterations with {lanes} lanes are too much");
        return Err(PinError::Cost(text));
    }
    let kib = u32::try_from(cost.memory / 1024).map_err(|_| PinError::Memory(cost.memory))?;
    Params::new(kib, cost.iterations, cost.lanes, None)
        .map_err(|error| PinError::Cost(error.to_string()))
}

/// The memory to work in, or nothing where there is not so much.
fn memory(params: &Params) -> Option<Vec<Block>> {
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(params.block_count()).ok()?;
    blocks.resize(params.block_count(), Block::default());
    Some(blocks)
}

/// The hash of a PIN, without the zeros at the end that a TPM does not count.
fn authorization(pin: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut hash = Zeroizing::new(sha256(&[pin]).to_vec());
    while hash.last() == Some(&0) {
        hash.pop();
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_that_nobody_can_pay_are_refused() {
        let possible = Argon2id {
            memory: 64 * 1024,
            iterations: 1,
            lanes: 2,
        };
        let pin = Secret::new(b"1234".to_vec());
        assert!(argon2id(&pin, &[1; 32], possible).is_ok());
        for cost in [
            Argon2id {
                memory: u64::MAX,
                ..possible
            },
            Argon2id {
                memory: 5 << 30,
                ..possible
            },
            Argon2id {
                memory: 1024,
                ..possible
            },
            Argon2id {
                memory: 0,
                ..possible
            },
            Argon2id {
                iterations: 0,
                ..possible
            },
            Argon2id {
                iterations: u32::MAX,
                ..possible
            },
            Argon2id {
                lanes: 0,
                ..possible
            },
            Argon2id {
                lanes: u32::MAX,
                ..possible
            },
        ] {
            assert!(argon2id(&pin, &[1; 32], cost).is_err(), "{cost:?}");
        }
        assert!(argon2id(&pin, &[1; 2], possible).is_err());
    }

    #[test]
    fn zeros_at_the_end_do_not_count() {
        let pin = (0_u32..).map(|number| number.to_string());
        let odd = pin
            .map(String::into_bytes)
            .find(|pin| sha256(&[pin])[31] == 0)
            .unwrap();
        assert!(authorization(&odd).len() < 32);
    }
}
