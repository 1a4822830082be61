//! LUKS2 tokens of type `systemd-tpm2`: a key slot's passphrase, sealed by a TPM.
//!
//! The fields and their order are those of systemd-cryptenroll 262. Reading passes unknown fields over,
//! and is strict about the types and sizes of the others. Names with `-` and with `_` are both real.
//! Pure.

use serde_json::{Map, Value, json};

use super::json::{self as fields, FieldError, Fields, MISSING};
use super::{Bank, PcrSet};

/// The token's `type`.
pub const TYPE: &str = "systemd-tpm2";

/// The most bytes of a token's text: more than a LUKS2 header has room for.
pub const MAX_SIZE: usize = 4 * 1024 * 1024;

/// The most shards of one secret: a signed policy and a pcrlock policy.
pub const MAX_SHARDS: usize = 2;
/// The most bytes of one sealed blob.
const MAX_BLOB: usize = 16 * 1024;
const MAX_KEY: usize = 64 * 1024;
const MAX_SMALL: usize = 4 * 1024;
const MAX_REFERENCE: usize = 1024;

/// The kind of the primary key that seals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Primary {
    /// NIST P-256.
    #[default]
    Ecc,
    /// RSA with 2048 bits.
    Rsa,
}

impl Primary {
    /// Its name in the token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ecc => "ecc",
            Self::Rsa => "rsa",
        }
    }
}

/// The cost of deriving from a PIN by Argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2id {
    /// Memory in bytes.
    pub memory: u64,
    /// Passes.
    pub iterations: u32,
    /// Lanes.
    pub lanes: u32,
}

/// A PCR policy that a key must have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPcrs {
    /// The signer's public key, as PEM.
    pub public_key: Vec<u8>,
    /// The PCRs that the policy is about.
    pub pcrs: PcrSet,
    /// What the signature is for; empty if anything.
    pub reference: String,
}

/// A token without its key slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// The sealed objects: private area, public area, and the seed of an imported one.
    pub blobs: Vec<Vec<u8>>,
    /// The policy's digest of each blob.
    pub policies: Vec<[u8; 32]>,
    /// The PCRs that must have the values of the time of sealing.
    pub pcrs: PcrSet,
    /// Their bank; older tokens tell none.
    pub bank: Option<Bank>,
    /// The kind of the primary key.
    pub primary: Primary,
    /// Whether a PIN is asked for.
    pub pin: bool,
    /// Whether a pcrlock policy must hold.
    pub pcrlock: bool,
    /// The signed PCR policy that must hold.
    pub signed: Option<SignedPcrs>,
    /// The salt of the PIN.
    pub salt: Option<Vec<u8>>,
    /// The primary key: a handle with its name and public area.
    pub srk: Option<Vec<u8>>,
    /// The non-volatile index of the pcrlock policy.
    pub pcrlock_nv: Option<Vec<u8>>,
    /// How the PIN is stretched, if by Argon2id.
    pub argon2id: Option<Argon2id>,
}

/// The JSON text is no valid token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum TokenError {
    #[error("the TPM2 token is no JSON object")]
    NoObject,
    #[error("the TPM2 token's {0}")]
    Field(#[from] FieldError),
    #[error("the TPM2 token has {0} sealed blobs and {1} policies")]
    Shards(usize, usize),
    #[error("the TPM2 token's signed PCR policy lacks {0:?}")]
    Signed(&'static str),
}

impl Token {
    /// Reads a token from JSON text.
    pub fn parse(text: &[u8]) -> Result<Option<Self>, TokenError> {
        if text.len() > MAX_SIZE {
            return Err(TokenError::NoObject);
        }
        Self::from_json(&serde_json::from_slice(text).map_err(|_| TokenError::NoObject)?)
    }

    /// Reads a token; `Ok(None)` means that it is one of another type.
    pub fn from_json(token: &Value) -> Result<Option<Self>, TokenError> {
        let map = token.as_object().ok_or(TokenError::NoObject)?;
        if map.get("type").and_then(Value::as_str) != Some(TYPE) {
            return Ok(None);
        }
        let get = Fields(map);
        let pcrs = get.pcrs("tpm2-pcrs")?;
        let (blobs, policies) = (blobs(&get)?, policies(&get)?);
        if blobs.len() != policies.len() || blobs.is_empty() || blobs.len() > MAX_SHARDS {
            return Err(TokenError::Shards(blobs.len(), policies.len()));
        }
        Ok(Some(Self {
            blobs,
            policies,
            pcrs: pcrs.ok_or(FieldError("tpm2-pcrs", MISSING))?,
            bank: get.bank("tpm2-pcr-bank")?,
            primary: primary(&get)?,
            pin: get.boolean("tpm2-pin")?,
            pcrlock: get.boolean("tpm2_pcrlock")?,
            signed: signed(&get)?,
            salt: get.base64("tpm2_salt", MAX_SMALL)?,
            srk: get.base64("tpm2_srk", MAX_SMALL)?,
            pcrlock_nv: get.base64("tpm2_pcrlock_nv", MAX_SMALL)?,
            argon2id: argon2id(&get)?,
        }))
    }

    /// The token's JSON, all but the key slots.
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
        put("type", TYPE.into());
        put(
            "tpm2-blob",
            one_or_more(&self.blobs, |blob| fields::base64(blob)),
        );
        put("tpm2-pcrs", list(self.pcrs));
        if let Some(bank) = self.bank {
            put("tpm2-pcr-bank", bank.name().into());
        }
        put("tpm2-primary-alg", self.primary.name().into());
        let hex = |digest: &[u8; 32]| hex::encode(digest).into();
        put("tpm2-policy-hash", one_or_more(&self.policies, hex));
        for (name, set) in [("tpm2-pin", self.pin), ("tpm2_pcrlock", self.pcrlock)] {
            if set {
                put(name, true.into());
            }
        }
        if let Some(signed) = &self.signed {
            put("tpm2_pubkey_pcrs", list(signed.pcrs));
            put("tpm2_pubkey", fields::base64(&signed.public_key));
            if !signed.reference.is_empty() {
                put("tpm2_pubkey_ref", signed.reference.clone().into());
            }
        }
        let bytes = [
            ("tpm2_salt", &self.salt),
            ("tpm2_srk", &self.srk),
            ("tpm2_pcrlock_nv", &self.pcrlock_nv),
        ];
        for (name, bytes) in bytes {
            if let Some(bytes) = bytes {
                put(name, fields::base64(bytes));
            }
        }
        if let Some(cost) = self.argon2id {
            put("tpm2_argon2id_memcost", cost.memory.into());
            put("tpm2_argon2id_iterations", cost.iterations.into());
            put("tpm2_argon2id_lanes", cost.lanes.into());
        }
        Value::Object(out)
    }
}

fn list(set: PcrSet) -> Value {
    json!(set.iter().collect::<Vec<u8>>())
}

fn one_or_more<T>(items: &[T], value: impl Fn(&T) -> Value) -> Value {
    match items {
        [one] => value(one),
        more => more.iter().map(value).collect(),
    }
}

fn blobs(get: &Fields<'_>) -> Result<Vec<Vec<u8>>, FieldError> {
    several(get, "tpm2-blob", "no sealed blob in base64", |value| {
        fields::unbase64(value, MAX_BLOB)
    })
}

fn policies(get: &Fields<'_>) -> Result<Vec<[u8; 32]>, FieldError> {
    several(get, "tpm2-policy-hash", "no SHA-256 digest", |value| {
        fields::unhex(value, 32)?.try_into().ok()
    })
}

fn several<T>(
    get: &Fields<'_>,
    name: &'static str,
    what: &'static str,
    one: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, FieldError> {
    let value = get.get(name).ok_or(FieldError(name, MISSING))?;
    let values = value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice);
    let all: Option<Vec<T>> = values.iter().take(MAX_SHARDS + 1).map(one).collect();
    all.ok_or(FieldError(name, what))
}

fn primary(get: &Fields<'_>) -> Result<Primary, FieldError> {
    match get.text("tpm2-primary-alg")? {
        None | Some("ecc") => Ok(Primary::Ecc),
        Some("rsa") => Ok(Primary::Rsa),
        Some(_) => Err(FieldError("tpm2-primary-alg", "neither ecc nor rsa")),
    }
}

fn signed(get: &Fields<'_>) -> Result<Option<SignedPcrs>, TokenError> {
    let pcrs = get.pcrs("tpm2_pubkey_pcrs")?;
    let public_key = get.base64("tpm2_pubkey", MAX_KEY)?;
    let reference = get.text("tpm2_pubkey_ref")?.unwrap_or_default();
    if reference.len() > MAX_REFERENCE {
        return Err(FieldError("tpm2_pubkey_ref", "longer than 1024 bytes").into());
    }
    match (pcrs.filter(|pcrs| !pcrs.is_empty()), public_key) {
        (None, None) if reference.is_empty() => Ok(None),
        (_, None) => Err(TokenError::Signed("tpm2_pubkey")),
        (None, Some(_)) => Err(TokenError::Signed("tpm2_pubkey_pcrs")),
        (Some(pcrs), Some(public_key)) => Ok(Some(SignedPcrs {
            public_key,
            pcrs,
            reference: reference.to_owned(),
        })),
    }
}

fn argon2id(get: &Fields<'_>) -> Result<Option<Argon2id>, FieldError> {
    let Some(memory) = get.number("tpm2_argon2id_memcost")? else {
        return Ok(None);
    };
    let number = |name| get.number(name)?.ok_or(FieldError(name, MISSING));
    Ok(Some(Argon2id {
        memory,
        iterations: number("tpm2_argon2id_iterations")?,
        lanes: number("tpm2_argon2id_lanes")?,
    }))
}

#[cfg(test)]
mod tests;
