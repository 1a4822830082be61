//! The JSON text of a verity signature partition (UAPI.2): a root hash and its PKCS#7 signature.
//!
//! The text comes from a partition that anybody may have written, so its size is bounded before it is
//! parsed. Whether the signature is good is not a matter of this module. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// The most that is parsed, with padding.
pub const MAX_SIZE: usize = 4 * 1024 * 1024;

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
    #[error("the verity signature takes {0} bytes, more than the partition's {1}")]
    NoRoom(usize, usize),
}

const ROOT_HASH: &str = "rootHash";
const FINGERPRINT: &str = "certificateFingerprint";
const SIGNATURE: &str = "signature";
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
        let fingerprint = decode_hex(&fields, FINGERPRINT, 32)?.map(TryInto::try_into);
        let encoded = text(&fields, SIGNATURE)?.ok_or(VeritySignatureError::Missing(SIGNATURE))?;
        let signature = STANDARD.decode(encoded).ok().filter(|der| !der.is_empty());
        Ok(Self {
            root_hash,
            fingerprint: fingerprint.transpose().map_err(|_| {
                VeritySignatureError::Value(FINGERPRINT, "the hex digits of a SHA-256 digest")
            })?,
            signature: signature.ok_or(VeritySignatureError::Value(SIGNATURE, "base64 text"))?,
        })
    }

    /// The compact JSON text, its keys in the order that everybody writes.
    pub fn to_json(&self) -> String {
        let mut fields = Map::new();
        fields.insert(ROOT_HASH.to_owned(), hex::encode(&self.root_hash).into());
        if let Some(fingerprint) = self.fingerprint {
            fields.insert(FINGERPRINT.to_owned(), hex::encode(fingerprint).into());
        }
        fields.insert(
            SIGNATURE.to_owned(),
            STANDARD.encode(&self.signature).into(),
        );
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
        };
        let json = format!(
            r#"{{"rootHash":"abababab","certificateFingerprint":"{}","signature":"ZGVy"}}"#,
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
        ) {
            let made = VeritySignature { root_hash, fingerprint, signature };
            let partition = made.to_partition(PARTITION_SIZE).unwrap();
            prop_assert_eq!(VeritySignature::parse(&partition).unwrap(), made);
        }
    }
}
