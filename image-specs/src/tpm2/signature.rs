//! Signed PCR policies: the JSON text that systemd-measure writes (`.pcrsig`, `tpm2-pcr-signature.json`).
//!
//! For each bank a list of policies, each with its PCRs, the digest of the policy, the SHA-256 of the
//! signer's public key (PKCS#1) and the signature. Pure.

use serde_json::{Map, Value};

use super::json::{self, Fields};
use super::{Bank, PcrSet};

/// The most bytes of a file.
pub const MAX_SIZE: usize = 4 * 1024 * 1024;
/// The most signatures of one bank.
pub const MAX_ENTRIES: usize = 4096;
const MAX_SIGNATURE: usize = 2048;

/// Signatures of PCR policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PcrSignatures(Vec<PcrSignature>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrSignature {
    /// The bank.
    pub bank: Bank,
    /// The PCRs that the policy is about.
    pub pcrs: PcrSet,
    /// SHA-256 of the signer's public key.
    pub key: Vec<u8>,
    /// The digest of the policy.
    pub policy: Vec<u8>,
    /// What the signature is for; empty if anything.
    pub reference: String,
    /// RSA with SHA-256.
    pub signature: Vec<u8>,
}

/// What a fitting signature has.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The bank.
    pub bank: Bank,
    /// The PCRs.
    pub pcrs: PcrSet,
    /// SHA-256 of the signer's public key.
    pub key: &'a [u8],
    /// The digest of the policy for the present PCR values.
    pub policy: &'a [u8],
    /// What the signature must be for.
    pub reference: &'a str,
}

/// Why there is no fitting signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Unfit {
    #[error("there is none for the bank {0}")]
    Bank(Bank),
    #[error("there is none for the PCRs {0}")]
    Pcrs(PcrSet),
    #[error("none is by this public key")]
    Key,
    #[error("none has this policy reference")]
    Reference,
    #[error("those for the PCRs {0} are for other values than the present ones")]
    Values(PcrSet),
}

/// The text is no list of signatures.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum SignatureError {
    #[error("the PCR signature file has {0} bytes, at most 4 MiB are possible")]
    TooLarge(usize),
    #[error("the PCR signature file is no JSON text")]
    Json(#[from] serde_json::Error),
    #[error("the PCR signature file is no JSON object with lists of signatures")]
    NoObject,
    #[error("signature {1} of the bank {0} has no valid {2:?}")]
    Field(Bank, usize, &'static str),
}

impl PcrSignatures {
    /// Parses a file. Banks that nobody knows are passed over, and so are NUL bytes at the end.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        if bytes.len() > MAX_SIZE {
            return Err(SignatureError::TooLarge(bytes.len()));
        }
        let end = bytes.iter().rposition(|byte| *byte != 0);
        let bytes = end.and_then(|end| bytes.get(..=end)).unwrap_or_default();
        let Value::Object(banks) = serde_json::from_slice(bytes)? else {
            return Err(SignatureError::NoObject);
        };
        let mut all = Vec::new();
        for bank in Bank::ALL {
            let Some(list) = banks.get(bank.name()) else {
                continue;
            };
            let list = list.as_array().filter(|list| list.len() <= MAX_ENTRIES);
            for (index, item) in list.ok_or(SignatureError::NoObject)?.iter().enumerate() {
                let item = item.as_object().ok_or(SignatureError::NoObject)?;
                let field = |name| SignatureError::Field(bank, index, name);
                all.push(entry(bank, item).map_err(field)?);
            }
        }
        Ok(Self(all))
    }

    /// The signatures.
    pub fn all(&self) -> &[PcrSignature] {
        &self.0
    }

    /// The fitting signature, or what no signature has.
    pub fn find(&self, wanted: &Wanted<'_>) -> Result<&PcrSignature, Unfit> {
        let left = keep(self.0.iter().collect(), Unfit::Bank(wanted.bank), |one| {
            one.bank == wanted.bank
        })?;
        let left = keep(left, Unfit::Pcrs(wanted.pcrs), |one| {
            one.pcrs == wanted.pcrs
        })?;
        let left = keep(left, Unfit::Key, |one| one.key == wanted.key)?;
        let left = keep(left, Unfit::Reference, |one| {
            one.reference == wanted.reference
        })?;
        let left = keep(left, Unfit::Values(wanted.pcrs), |one| {
            one.policy == wanted.policy
        })?;
        left.first().copied().ok_or(Unfit::Key)
    }
}

fn keep(
    mut left: Vec<&PcrSignature>,
    otherwise: Unfit,
    fits: impl Fn(&PcrSignature) -> bool,
) -> Result<Vec<&PcrSignature>, Unfit> {
    left.retain(|one| fits(one));
    if left.is_empty() {
        return Err(otherwise);
    }
    Ok(left)
}

fn entry(bank: Bank, item: &Map<String, Value>) -> Result<PcrSignature, &'static str> {
    let get = |name: &'static str| item.get(name).ok_or(name);
    Ok(PcrSignature {
        bank,
        pcrs: json::set(get("pcrs")?).ok_or("pcrs")?,
        key: json::unhex(get("pkfp")?, 64).ok_or("pkfp")?,
        policy: json::unhex(get("pol")?, 64).ok_or("pol")?,
        reference: reference(item).ok_or(POLICY_REFERENCE)?,
        signature: json::unbase64(get("sig")?, MAX_SIGNATURE).ok_or("sig")?,
    })
}

const POLICY_REFERENCE: &str = "ref";

fn reference(item: &Map<String, Value>) -> Option<String> {
    match Fields(item).get(POLICY_REFERENCE) {
        None => Some(String::new()),
        Some(value) => value.as_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"sha256":[
        {"pcrs":[11],"pkfp":"00ff","pol":"aa","sig":"AQI="},
        {"pcrs":[11],"pkfp":"00ff","pol":"bb","ref":"initrd","sig":"AwQ="},
        {"pcrs":[7,11],"pkfp":"01","pol":"cc","sig":"BQ=="}],"sha3_256":"unknown"}"#;

    fn wanted(pcrs: &[u8]) -> Wanted<'static> {
        Wanted {
            bank: Bank::Sha256,
            pcrs: pcrs.iter().copied().collect(),
            key: &[0, 0xff],
            policy: &[0xaa],
            reference: "",
        }
    }

    #[test]
    fn the_fitting_signature_is_found_or_the_lack_is_told() {
        let file = PcrSignatures::parse(FILE.as_bytes()).unwrap();
        let ours = wanted(&[11]);
        assert_eq!(file.find(&ours).unwrap().signature, [1, 2]);
        let set = ours.pcrs;
        for (wanted, lack) in [
            (
                Wanted {
                    bank: Bank::Sha1,
                    ..ours
                },
                Unfit::Bank(Bank::Sha1),
            ),
            (wanted(&[7]), Unfit::Pcrs(wanted(&[7]).pcrs)),
            (Wanted { key: &[9], ..ours }, Unfit::Key),
            (
                Wanted {
                    reference: "x",
                    ..ours
                },
                Unfit::Reference,
            ),
            (
                Wanted {
                    policy: &[0xbb],
                    ..ours
                },
                Unfit::Values(set),
            ),
        ] {
            assert_eq!(file.find(&wanted), Err(lack));
        }
        let named = Wanted {
            policy: &[0xbb],
            reference: "initrd",
            ..ours
        };
        assert_eq!(file.find(&named).unwrap().signature, [3, 4]);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "[]",
            "7",
            r#"{"sha256":7}"#,
            r#"{"sha256":[7]}"#,
            r#"{"sha256":[{}]}"#,
            r#"{"sha256":[{"pcrs":[99],"pkfp":"00","pol":"aa","sig":"AA=="}]}"#,
            r#"{"sha256":[{"pcrs":[1],"pkfp":"0","pol":"aa","sig":"AA=="}]}"#,
            r#"{"sha256":[{"pcrs":[1],"pkfp":"00","pol":"aa","sig":"?"}]}"#,
            r#"{"sha256":[{"pcrs":[1],"pkfp":"00","pol":"aa","sig":"AA==","ref":1}]}"#,
        ] {
            assert!(PcrSignatures::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(PcrSignatures::parse(b"{}\0\0").unwrap().all().is_empty());
    }
}
