//! What a LUKS header says about the encryption of the data: whether there is any, and whether it is
//! authenticated. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use zerocopy::FromBytes;

use super::limits::is_null;
use super::{JSON, LuksError, LuksHeader, Raw1, text};

/// How the data of a LUKS volume is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cipher {
    /// What encrypts, as dm-crypt spells it (`aes-xts-plain64`); of several segments, the first.
    pub name: String,
    /// Whether changes are noticed.
    pub authenticated: bool,
}

/// What of the JSON area matters here. Unknown members are passed over.
#[derive(Deserialize)]
struct Area {
    segments: BTreeMap<String, Segment>,
    #[serde(default)]
    keyslots: BTreeMap<String, Keyslot>,
}

#[derive(Deserialize)]
struct Segment {
    #[serde(default)]
    encryption: String,
    integrity: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Keyslot {
    area: Option<KeyArea>,
}

#[derive(Deserialize)]
struct KeyArea {
    encryption: Option<String>,
}

impl Cipher {
    /// Reads a whole header, with the JSON area of version 2; `Ok(None)` is no LUKS.
    ///
    /// A header whose cipher is the null cipher, for the data or for a key slot, is an error: it
    /// would make anybody's plain text pass for something encrypted.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, LuksError> {
        let cipher = match LuksHeader::parse(bytes)? {
            None => return Ok(None),
            Some(LuksHeader::V1 { .. }) => version1(bytes)?,
            Some(LuksHeader::V2(header)) => {
                let size = usize::try_from(header.header_size.get()).unwrap_or(usize::MAX);
                let json = bytes.get(JSON..size);
                version2(json.ok_or(LuksError::Truncated(bytes.len()))?)?
            }
        };
        Ok(Some(cipher))
    }
}

fn version1(bytes: &[u8]) -> Result<Cipher, LuksError> {
    let (raw, _) = Raw1::ref_from_prefix(bytes).map_err(|_| LuksError::Truncated(bytes.len()))?;
    let (cipher, mode) = (
        text(&raw.cipher, "cipher")?,
        text(&raw.mode, "cipher mode")?,
    );
    Ok(Cipher {
        name: real(format!("{cipher}-{mode}"))?,
        authenticated: false,
    })
}

fn version2(json: &[u8]) -> Result<Cipher, LuksError> {
    let end = json.iter().position(|byte| *byte == 0);
    let json = json.get(..end.unwrap_or(json.len())).unwrap_or_default();
    let area: Area =
        serde_json::from_slice(json).map_err(|error| LuksError::Json(error.to_string()))?;
    for slot in area.keyslots.into_values() {
        if let Some(cipher) = slot.area.and_then(|area| area.encryption) {
            real(cipher)?;
        }
    }
    let mut ciphers = Vec::new();
    let mut authenticated = false;
    for segment in area.segments.into_values() {
        authenticated |= segment.integrity.is_some();
        ciphers.push(real(segment.encryption)?);
    }
    let name = ciphers.into_iter().next();
    Ok(Cipher {
        name: name.ok_or(LuksError::NoSegment)?,
        authenticated,
    })
}

/// The name of a cipher that encrypts.
fn real(name: String) -> Result<String, LuksError> {
    match is_null(&name) {
        true => Err(LuksError::NullCipher),
        false => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_tell_the_cipher() {
        let read = |json: &str| version2(json.as_bytes());
        let plain = r#"{"segments":{"0":{"type":"crypt","encryption":"aes-xts-plain64"}}}"#;
        let found = read(plain).unwrap();
        assert_eq!(
            (&*found.name, found.authenticated),
            ("aes-xts-plain64", false)
        );
        let authenticated = r#"{"segments":{"0":{"encryption":"aes-xts-random",
            "integrity":{"type":"hmac(sha256)"}}}}"#;
        assert!(read(authenticated).unwrap().authenticated);
    }

    #[test]
    fn a_header_without_encryption_is_refused() {
        for (json, expected) in [
            (
                r#"{"segments":{"0":{"encryption":"cipher_null-ecb"}}}"#,
                LuksError::NullCipher,
            ),
            (
                r#"{"segments":{"0":{"type":"linear"}}}"#,
                LuksError::NullCipher,
            ),
            (
                r#"{"segments":{"0":{"encryption":"capi:ecb(cipher_null)"}}}"#,
                LuksError::NullCipher,
            ),
            (
                r#"{"segments":{"0":{"encryption":"aes-xts-plain64"}},
                    "keyslots":{"0":{"area":{"encryption":"cipher_null-ecb"}}}}"#,
                LuksError::NullCipher,
            ),
            (r#"{"segments":{}}"#, LuksError::NoSegment),
        ] {
            assert_eq!(version2(json.as_bytes()), Err(expected), "{json}");
        }
        for damaged in ["", "[]", "{}", r#"{"segments":[]}"#, "{\"segments\":{}} x"] {
            let error = version2(damaged.as_bytes()).unwrap_err();
            assert!(matches!(error, LuksError::Json(_)), "{damaged}: {error}");
        }
    }
}
