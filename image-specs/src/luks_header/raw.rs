//! The JSON area as it is written: 64-bit numbers are text, 32-bit ones are numbers. Nothing here
//! has been checked but types. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::units::{Bytes, Extent, SectorSize};

use super::metadata::{
    Config, Digest, Integrity, Kdf, Keyslot, Metadata, MetadataError, Segment, Token, problem,
};

#[derive(Deserialize)]
pub(super) struct Area {
    keyslots: BTreeMap<String, RawKeyslot>,
    tokens: BTreeMap<String, Value>,
    segments: BTreeMap<String, RawSegment>,
    digests: BTreeMap<String, RawDigest>,
    config: RawConfig,
}

#[derive(Deserialize)]
struct RawKeyslot {
    #[serde(rename = "type")]
    kind: String,
    key_size: u32,
    area: RawArea,
    kdf: Option<RawKdf>,
    af: Option<RawSplit>,
    priority: Option<u8>,
}

#[derive(Deserialize)]
struct RawArea {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    encryption: Option<String>,
    key_size: Option<u32>,
}

#[derive(Deserialize)]
struct RawSplit {
    #[serde(rename = "type")]
    kind: String,
    stripes: u32,
    hash: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum RawKdf {
    Argon2i {
        time: u32,
        memory: u32,
        cpus: u32,
        #[serde(rename = "salt")]
        _salt: String,
    },
    Argon2id {
        time: u32,
        memory: u32,
        cpus: u32,
        #[serde(rename = "salt")]
        _salt: String,
    },
    Pbkdf2 {
        hash: String,
        iterations: u32,
        #[serde(rename = "salt")]
        _salt: String,
    },
}

#[derive(Deserialize)]
struct RawSegment {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    iv_tweak: Option<String>,
    encryption: Option<String>,
    sector_size: Option<u32>,
    integrity: Option<RawIntegrity>,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Deserialize)]
struct RawIntegrity {
    #[serde(rename = "type")]
    kind: String,
    journal_encryption: String,
    journal_integrity: String,
    key_size: Option<u32>,
}

#[derive(Deserialize)]
struct RawDigest {
    #[serde(rename = "type")]
    kind: String,
    keyslots: Vec<String>,
    segments: Vec<String>,
    hash: String,
    iterations: u32,
    #[serde(rename = "salt")]
    _salt: String,
    #[serde(rename = "digest")]
    _digest: String,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(rename = "json_size")]
    _json_size: String,
    keyslots_size: String,
    #[serde(default)]
    flags: Vec<String>,
    requirements: Option<RawRequirements>,
}

#[derive(Deserialize)]
struct RawRequirements {
    #[serde(default)]
    mandatory: Vec<String>,
}

impl Area {
    pub(super) fn convert(self) -> Result<Metadata, MetadataError> {
        Ok(Metadata {
            keyslots: objects("key slot", self.keyslots, keyslot)?,
            segments: objects("segment", self.segments, segment)?,
            digests: objects("digest", self.digests, digest)?,
            tokens: objects("token", self.tokens, token)?,
            config: Config {
                keyslots_size: number(&self.config.keyslots_size)
                    .map(Bytes::new)
                    .ok_or(MetadataError::Whole("has no size of its key slots"))?,
                flags: self.config.flags,
                requirements: self
                    .config
                    .requirements
                    .map(|requirements| requirements.mandatory)
                    .unwrap_or_default(),
            },
        })
    }
}

/// Converts what stands below decimal names.
fn objects<R, T>(
    object: &'static str,
    raw: BTreeMap<String, R>,
    convert: impl Fn(R) -> Result<T, &'static str>,
) -> Result<BTreeMap<u32, T>, MetadataError> {
    let mut converted = BTreeMap::new();
    for (name, raw) in raw {
        let Some(index) = index(&name) else {
            return Err(problem(object, format!("{name:?}"), "has no number"));
        };
        let value = convert(raw).map_err(|what| problem(object, index, what))?;
        converted.insert(index, value);
    }
    Ok(converted)
}

fn keyslot(raw: RawKeyslot) -> Result<Keyslot, &'static str> {
    let start = number(&raw.area.offset).ok_or("has no offset")?;
    let size = number(&raw.area.size).ok_or("has no size")?;
    let mut slot = Keyslot {
        reencryption: raw.kind == "reencrypt",
        key_size: raw.key_size,
        area: Extent::new(Bytes::new(start), Bytes::new(size)),
        cipher: None,
        kdf: None,
        priority: raw.priority.unwrap_or(1),
    };
    if slot.priority > 2 {
        return Err("has a priority that does not exist");
    }
    match raw.kind.as_str() {
        "reencrypt" => return Ok(slot),
        "luks2" => {}
        _ => return Err("is of a kind that is not known"),
    }
    let split = raw.af.ok_or("does not say how its key is split")?;
    if split.kind != "luks1" || split.stripes != 4000 || split.hash.is_empty() {
        return Err("splits its key in a way that is not known");
    }
    let needs = u64::from(raw.key_size) * u64::from(split.stripes);
    if raw.area.kind != "raw" || needs == 0 || size < needs {
        return Err("has no room for its key");
    }
    slot.cipher = Some(raw.area.encryption.ok_or("does not say what encrypts it")?);
    if !matches!(raw.area.key_size, Some(1..=512)) {
        return Err("does not say how long its own key is");
    }
    slot.kdf = Some(kdf(raw.kdf.ok_or("has no KDF")?)?);
    Ok(slot)
}

fn kdf(raw: RawKdf) -> Result<Kdf, &'static str> {
    let argon = |id, time, memory, cpus| match (time, memory, cpus) {
        (0, ..) | (_, 0, _) | (.., 0) => Err("has a KDF that costs nothing"),
        _ => Ok(Kdf::Argon2 {
            id,
            time,
            memory: Bytes::kib(u64::from(memory)),
            cpus,
        }),
    };
    match raw {
        RawKdf::Argon2i {
            time, memory, cpus, ..
        } => argon(false, time, memory, cpus),
        RawKdf::Argon2id {
            time, memory, cpus, ..
        } => argon(true, time, memory, cpus),
        RawKdf::Pbkdf2 { iterations: 0, .. } => Err("has a KDF that costs nothing"),
        RawKdf::Pbkdf2 {
            hash, iterations, ..
        } => Ok(Kdf::Pbkdf2 { hash, iterations }),
    }
}

fn segment(raw: RawSegment) -> Result<Segment, &'static str> {
    let size = match raw.size.as_str() {
        "dynamic" => None,
        size => Some(number(size).filter(|size| *size > 0).ok_or("has no size")?),
    };
    let encrypted = raw.kind == "crypt";
    if encrypted && (raw.encryption.is_none() || raw.sector_size.is_none()) {
        return Err("does not say how it is encrypted");
    }
    let sector = u64::from(raw.sector_size.unwrap_or(512));
    let tweak = raw.iv_tweak.as_deref().map_or(Some(0), number);
    Ok(Segment {
        kind: raw.kind,
        offset: Bytes::new(number(&raw.offset).ok_or("has no offset")?),
        size: size.map(Bytes::new),
        cipher: raw.encryption.unwrap_or_default(),
        sector_size: SectorSize::new(sector).ok_or("has sectors of an impossible size")?,
        iv_tweak: tweak.ok_or("has no number for its initial vectors")?,
        integrity: raw.integrity.map(|integrity| Integrity {
            algorithm: integrity.kind,
            journal_encryption: integrity.journal_encryption,
            journal_integrity: integrity.journal_integrity,
            key_size: integrity.key_size,
        }),
        flags: raw.flags,
    })
}

fn digest(raw: RawDigest) -> Result<Digest, &'static str> {
    if raw.kind != "pbkdf2" {
        return Err("is of a kind that is not known");
    }
    if raw.iterations == 0 {
        return Err("costs nothing");
    }
    Ok(Digest {
        keyslots: indices(&raw.keyslots).ok_or("names a key slot without a number")?,
        segments: indices(&raw.segments).ok_or("names a segment without a number")?,
        hash: raw.hash,
        iterations: raw.iterations,
    })
}

fn token(json: Value) -> Result<Token, &'static str> {
    let kind = json.get("type").and_then(Value::as_str);
    let slots = json.get("keyslots").and_then(Value::as_array);
    let names: Option<Vec<String>> = slots.and_then(|slots| {
        let names = slots.iter().map(|slot| slot.as_str().map(str::to_owned));
        names.collect()
    });
    let names = names.ok_or("has no list of key slots")?;
    Ok(Token {
        kind: kind.ok_or("has no type")?.to_owned(),
        keyslots: indices(&names).ok_or("names a key slot without a number")?,
        json,
    })
}

fn indices(names: &[String]) -> Option<Vec<u32>> {
    names.iter().map(|name| index(name)).collect()
}

/// A decimal name, written in the one way.
fn index(name: &str) -> Option<u32> {
    let index: u32 = name.parse().ok()?;
    (index.to_string() == name).then_some(index)
}

/// A decimal number in text.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
