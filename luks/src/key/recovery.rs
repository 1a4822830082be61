//! Recovery keys as systemd-cryptenroll makes them: 256 bits in an alphabet that is the same on every
//! keyboard, eight groups of eight letters.

use openssl::error::ErrorStack;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{Header, HeaderError, Kdf, Secret};

/// The digits 0 to 15.
const ALPHABET: &[u8; 16] = b"cbdefghijklnrtuv";
/// Letters in a group.
const GROUP: usize = 8;
/// Letters in a key.
const LETTERS: usize = 64;

/// A recovery key; its text is what opens a key slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryKey(Secret);

/// Not a recovery key. What was typed is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryKeyError {
    /// Too many letters, or too few.
    #[error("a recovery key has 64 letters in groups of eight, and here are {0}")]
    Length(usize),
    /// Another letter.
    #[error("letter {0} is none that recovery keys have")]
    Letter(usize),
    /// A dash where none is.
    #[error("there is a dash within a group of the recovery key")]
    Dash,
}

impl RecoveryKey {
    /// A new one, from OpenSSL's generator for secrets.
    pub fn generate() -> Result<Self, ErrorStack> {
        let mut bytes = Zeroizing::new([0; LETTERS / 2]);
        openssl::rand::rand_priv_bytes(&mut *bytes)?;
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let letters: Zeroizing<Vec<u8>> = Zeroizing::new(digits.map(letter).collect());
        Ok(Self(grouped(&letters)))
    }

    /// Takes what somebody has typed: dashes may be left out, and case does not count.
    pub fn parse(typed: &Secret) -> Result<Self, RecoveryKeyError> {
        let mut letters = Zeroizing::new(Vec::with_capacity(LETTERS));
        let dashes = typed.expose().contains(&b'-');
        for (at, byte) in typed.expose().iter().enumerate() {
            match (byte, dashes && at % (GROUP + 1) == GROUP) {
                (b'-', true) => {}
                (b'-', false) | (_, true) => return Err(RecoveryKeyError::Dash),
                (byte, false) => {
                    let byte = byte.to_ascii_lowercase();
                    if !ALPHABET.contains(&byte) {
                        return Err(RecoveryKeyError::Letter(letters.len() + 1));
                    }
                    if letters.len() < LETTERS {
                        letters.push(byte);
                    }
                }
            }
        }
        let length = match dashes {
            true => LETTERS + LETTERS / GROUP - 1,
            false => LETTERS,
        };
        match typed.len() == length && letters.len() == LETTERS {
            true => Ok(Self(grouped(&letters))),
            false => Err(RecoveryKeyError::Length(typed.len())),
        }
    }

    /// The passphrase, which is also the text to show (once) and to keep safe.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// The token that tells others of the key slot.
    pub fn token(slot: u32) -> Value {
        json!({"type": "systemd-recovery", "keyslots": [slot.to_string()]})
    }

    /// Adds it to a header, slot and token; gives the slot's number.
    pub fn add_to(&self, header: &mut Header) -> Result<u32, HeaderError> {
        // Nobody guesses 256 bits.
        let slot = header.add_passphrase(&self.0, Kdf::Minimal)?;
        header.add_token(&Self::token(slot))?;
        Ok(slot)
    }
}

fn letter(digit: u8) -> u8 {
    ALPHABET.get(usize::from(digit)).copied().unwrap_or(b'c')
}

fn grouped(letters: &[u8]) -> Secret {
    let mut text = Vec::with_capacity(LETTERS + LETTERS / GROUP);
    for group in letters.chunks(GROUP) {
        if !text.is_empty() {
            text.push(b'-');
        }
        text.extend_from_slice(group);
    }
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Result<RecoveryKey, RecoveryKeyError> {
        RecoveryKey::parse(&Secret::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn keys_are_read_as_people_type_them() {
        let key = RecoveryKey::generate().unwrap();
        assert_ne!(key, RecoveryKey::generate().unwrap());
        let text = String::from_utf8(key.secret().expose().to_vec()).unwrap();
        assert_eq!(text.len(), 71);
        for same in [&text, &text.replace('-', ""), &text.to_uppercase()] {
            assert_eq!(typed(same).unwrap(), key);
        }
        let groups = text.split('-').map(str::len);
        assert!(groups.eq([8; 8]));
    }

    #[test]
    fn others_are_told_apart() {
        let plain = "c".repeat(64);
        for (text, error) in [
            (String::new(), RecoveryKeyError::Length(0)),
            ("c".repeat(63), RecoveryKeyError::Length(63)),
            ("c".repeat(65), RecoveryKeyError::Length(65)),
            (plain.replacen('c', "a", 1), RecoveryKeyError::Letter(1)),
            (
                format!("{}-{}", &plain[..7], &plain[7..]),
                RecoveryKeyError::Dash,
            ),
            (
                format!("{}-{}", &plain[..8], &plain[..8]),
                RecoveryKeyError::Length(17),
            ),
        ] {
            assert_eq!(typed(&text), Err(error), "{text}");
        }
    }
}
