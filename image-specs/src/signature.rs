//! The JSON text of a verity signature partition (UAPI.2): a root hash and its PKCS#7 signature.
//!
//! The text comes from a partition that anybody may have written, so its size is bounded before it is
//! parsed. Whether the signature is good is not a matter of this module. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// The most that is parsed, with padding.
pub const MAX_SIZE: usize = 4 * 1024 * 1024;

/// The most signatures that are taken besides the first.
pub const MAX_MORE: usize = 64;

/// The size of a signature partition that repart makes.
pub const PARTITION_SIZE: usize = 16384;

/// The contents of a verity signature partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VeritySignature {
    /// The root hash: 1 to 128 bytes.
    pub root_hash: Vec<u8>,
    /// SHA-256 of the signer's certificate (DER), if it is told.
    pub fingerprint: Option<[u8; 32]>,
    /// The detached PKCS#7 signature of the root hash's hex text, as DER; not empty.
    pub signature: Vec<u8>,
    /// Signatures of the same root hash by others, which systemd passes over.
    pub more: Vec<MoreSignature>,
}

/// One more signature of a root hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoreSignature {
    /// SHA-256 of the signer's certificate (DER), if it is told.
    pub fingerprint: Option<[u8; 32]>,
    /// A PKCS#7 signature as the first one is.
    pub signature: Vec<u8>,
}

/// The text is no verity signature.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum VeritySignatureError {
    #[error("the verity signature has {0} bytes, at most 4 MiB are possible")]
    TooLarge(usize),
    #[error("the verity signature goes on after a NUL byte at {0}")]
    EmbeddedNul(usize),
    #[error("the verity signature is no JSON text")]
    Json(#[from] serde_json::Error),
    #[error("the verity signature is no JSON object")]
    NoObject,
    #[error("the verity signature has no text {0:?}")]
    Missing(&'static str),
    #[error("the verity signature has a {0:?} that is not {1}")]
    Value(&'static str, &'static str),
    #[error("the verity signature's {SIGNATURES:?} is no list of at most {MAX_MORE} objects")]
    More,
    #[error("the verity signature takes {0} bytes, more than the partition's {1}")]
    NoRoom(usize, usize),
}

const ROOT_HASH: &str = "rootHash";
const FINGERPRINT: &str = "certificateFingerprint";
const SIGNATURE: &str = "signature";
const SIGNATURES: &str = "signatures";
const MAX_HASH: usize = 128;

impl VeritySignature {
    /// Parses a whole signature partition or file; NUL bytes at the end are padding. Unknown fields
    /// are ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, VeritySignatureError> {
        if bytes.len() > MAX_SIZE {
            return Err(VeritySignatureError::TooLarge(bytes.len()));
        }
        let Value::Object(fields) = serde_json::from_slice(without_padding(bytes)?)? else {
            return Err(VeritySignatureError::NoObject);
        };
        let root_hash = decode_hex(&fields, ROOT_HASH, MAX_HASH)?
            .ok_or(VeritySignatureError::Missing(ROOT_HASH))?;
        let (fingerprint, signature) = signed(&fields)?;
        Ok(Self {
            root_hash,
            fingerprint,
            signature,
            more: more(&fields)?,
        })
    }

    /// The compact JSON text, its keys in the order that everybody writes.
    pub fn to_json(&self) -> String {
        let mut fields = Map::new();
        fields.insert(ROOT_HASH.to_owned(), hex::encode(&self.root_hash).into());
        insert(&mut fields, self.fingerprint, &self.signature);
        if !self.more.is_empty() {
            let more = self.more.iter().map(|one| {
                let mut fields = Map::new();
                insert(&mut fields, one.fingerprint, &one.signature);
                Value::Object(fields)
            });
            fields.insert(SIGNATURES.to_owned(), more.collect());
        }
        Value::Object(fields).to_string()
    }

    /// The JSON text, padded with NUL to a partition of `size` bytes.
    pub fn to_partition(&self, size: usize) -> Result<Vec<u8>, VeritySignatureError> {
        let mut bytes = self.to_json().into_bytes();
        if bytes.len() > size {
            return Err(VeritySignatureError::NoRoom(bytes.len(), size));
        }
        bytes.resize(size, 0);
        Ok(bytes)
    }
}

fn insert(fields: &mut Map<String, Value>, fingerprint: Option<[u8; 32]>, signature: &[u8]) {
    if let Some(fingerprint) = fingerprint {
        fields.insert(FINGERPRINT.to_owned(), hex::encode(fingerprint).into());
    }
    fields.insert(SIGNATURE.to_owned(), STANDARD.encode(signature).into());
}

/// A fingerprint, where there is one, and a signature.
fn signed(
    fields: &Map<String, Value>,
) -> Result<(Option<[u8; 32]>, Vec<u8>), VeritySignatureError> {
    let fingerprint = decode_hex(fields, FINGERPRINT, 32)?.map(TryInto::try_into);
    let encoded = text(fields, SIGNATURE)?.ok_or(VeritySignatureError::Missing(SIGNATURE))?;
    let signature = STANDARD.decode(encoded).ok().filter(|der| !der.is_empty());
    Ok((
        fingerprint.transpose().map_err(|_| {
            VeritySignatureError::Value(FINGERPRINT, "the hex digits of a SHA-256 digest")
        })?,
        signature.ok_or(VeritySignatureError::Value(SIGNATURE, "base64 text"))?,
    ))
}

fn more(fields: &Map<String, Value>) -> Result<Vec<MoreSignature>, VeritySignatureError> {
    let list = match fields.get(SIGNATURES) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_MORE => list,
        Some(_) => return Err(VeritySignatureError::More),
    };
    let one = |value: &Value| {
        let fields = value.as_object().ok_or(VeritySignatureError::More)?;
        let (fingerprint, signature) = signed(fields)?;
        Ok(MoreSignature {
            fingerprint,
            signature,
        })
    };
    list.iter().map(one).collect()
}

fn without_padding(bytes: &[u8]) -> Result<&[u8], VeritySignatureError> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let (text, padding) = bytes.split_at(end.unwrap_or(bytes.len()));
    match padding.iter().all(|byte| *byte == 0) {
        true => Ok(text),
        false => Err(VeritySignatureError::EmbeddedNul(text.len())),
    }
}

/// The field as text; `None` where it is missing or null.
fn text<'a>(
    fields: &'a Map<String, Value>,
    key: &'static str,
) -> Result<Option<&'a str>, VeritySignatureError> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(VeritySignatureError::Value(key, "text")),
    }
}

fn decode_hex(
    fields: &Map<String, Value>,
    key: &'static str,
    most: usize,
) -> Result<Option<Vec<u8>>, VeritySignatureError> {
    let decode = |text| {
        let bytes = hex::decode(text).ok();
        let bytes = bytes.filter(|bytes| (1..=most).contains(&bytes.len()));
        bytes.ok_or(VeritySignatureError::Value(
            key,
            "an even number of hex digits of a sensible length",
        ))
    };
    text(fields, key)?.map(decode).transpose()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_compact_and_ordered() {
        let signature = VeritySignature {
            root_hash: vec![0xab; 4],
            fingerprint: Some([1; 32]),
            signature: b"der".to_vec(),
            more: vec![MoreSignature {
                fingerprint: None,
                signature: b"other".to_vec(),
            }],
        };
        let json = format!(
            r#"{{"rootHash":"abababab","certificateFingerprint":"{}","signature":"ZGVy","signatures":[{{"signature":"b3RoZXI="}}]}}"#,
            "01".repeat(32)
        );
        assert_eq!(signature.to_json(), json);
        let partition = signature.to_partition(PARTITION_SIZE).unwrap();
        assert_eq!(partition.len(), PARTITION_SIZE);
        assert_eq!(VeritySignature::parse(&partition).unwrap(), signature);
        assert!(signature.to_partition(json.len() - 1).is_err());
    }

    #[test]
    fn bad_texts_are_refused_by_name() {
        for (bytes, message) in [
            (&b""[..], "no JSON text"),
            (b"\0\0\0", "no JSON text"),
            (b"[]", "no JSON object"),
            (b"{}", "no text \"rootHash\""),
            (br#"{"rootHash":1}"#, "\"rootHash\" that is not text"),
            (
                br#"{"rootHash":"abc"}"#,
                "\"rootHash\" that is not an even number",
            ),
            (
                br#"{"rootHash":""}"#,
                "\"rootHash\" that is not an even number",
            ),
            (br#"{"rootHash":"ab"}"#, "no text \"signature\""),
            (
                br#"{"rootHash":"ab","signature":"!"}"#,
                "\"signature\" that is not base64",
            ),
            (
                br#"{"rootHash":"ab","signature":""}"#,
                "\"signature\" that is not base64",
            ),
            (
                br#"{"rootHash":"ab","certificateFingerprint":"ab","signature":"ZGVy"}"#,
                "\"certificateFingerprint\" that is not",
            ),
            (
                br#"{"rootHash":"ab","signature":"ZGVy","signatures":{}}"#,
                "\"signatures\" is no list",
            ),
            (
                br#"{"rootHash":"ab","signature":"ZGVy","signatures":["ZGVy"]}"#,
                "\"signatures\" is no list",
            ),
            (
                br#"{"rootHash":"ab","signature":"ZGVy","signatures":[{}]}"#,
                "no text \"signature\"",
            ),
            (b"{}\0x", "after a NUL byte at 2"),
            (&[b' '; MAX_SIZE + 1], "at most 4 MiB"),
            (&[b'['; 4096], "no JSON text"),
        ] {
            let error = VeritySignature::parse(bytes).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            root_hash in prop::collection::vec(any::<u8>(), 1..=MAX_HASH),
            fingerprint in any::<Option<[u8; 32]>>(),
            signature in prop::collection::vec(any::<u8>(), 1..3000),
            others in prop::collection::vec((any::<Option<[u8; 32]>>(), any::<[u8; 9]>()), 0..4),
        ) {
            let more = others.into_iter().map(|(fingerprint, signature)| MoreSignature {
                fingerprint,
                signature: signature.to_vec(),
            });
            let more = more.collect();
            let made = VeritySignature { root_hash, fingerprint, signature, more };
            let partition = made.to_partition(PARTITION_SIZE).unwrap();
            prop_assert_eq!(VeritySignature::parse(&partition).unwrap(), made);
        }
    }
}
