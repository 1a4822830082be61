//! The JSON area of a LUKS2 header (LUKS2 On-Disk Format Specification 1.1, section 3): key slots,
//! segments, digests, tokens.
//!
//! Invariant: every reference in a parsed [`Metadata`] leads somewhere, areas lie within the header
//! and do not overlap, segments do not overlap. Whether it may be *used* is another question:
//! [`super::Limits`]. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::units::{Bytes, Extent, SectorSize};

use super::raw;

/// How many key slots there can be, and tokens, and segments.
const MOST_OBJECTS: u32 = 32;
/// How many digests there can be.
const MOST_DIGESTS: u32 = 8;
/// Key slots begin at multiples of this.
const AREA_GRAIN: u64 = 4096;
/// The largest key that a slot can hold.
const MOST_KEY_BYTES: u32 = 512;

/// What the JSON area says.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Where the volume key is kept, encrypted.
    pub keyslots: BTreeMap<u32, Keyslot>,
    /// Where the data lies, and how it is encrypted.
    pub segments: BTreeMap<u32, Segment>,
    /// By which a volume key is recognised.
    pub digests: BTreeMap<u32, Digest>,
    /// How passphrases for key slots are had.
    pub tokens: BTreeMap<u32, Token>,
    /// The rest.
    pub config: Config,
}

/// A key slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyslot {
    /// Whether it is of the kind that only a change of the encryption needs.
    pub reencryption: bool,
    /// Bytes of the key in it.
    pub key_size: u32,
    /// Where it is, from the header's start.
    pub area: Extent,
    /// What encrypts it; not in slots for reencryption.
    pub cipher: Option<String>,
    /// How its own key is made of a passphrase; not in slots for reencryption.
    pub kdf: Option<Kdf>,
    /// 0 only when asked for, 1 normal, 2 first.
    pub priority: u8,
}

/// How a key is made of a passphrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kdf {
    /// Argon2i or Argon2id.
    Argon2 {
        /// Whether it is Argon2id.
        id: bool,
        /// Passes over the memory.
        time: u32,
        /// The memory.
        memory: Bytes,
        /// Threads.
        cpus: u32,
    },
    /// PBKDF2.
    Pbkdf2 {
        /// Of which hash.
        hash: String,
        /// How often.
        iterations: u32,
    },
}

/// A range of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What it is: `crypt`, `linear` (not encrypted) or something newer.
    pub kind: String,
    /// Where it begins on the data device.
    pub offset: Bytes,
    /// Its size; `None` is all that follows.
    pub size: Option<Bytes>,
    /// What encrypts it, as dm-crypt spells it; empty where nothing does.
    pub cipher: String,
    /// What is encrypted at a time.
    pub sector_size: SectorSize,
    /// Added to the number of a sector, for its initial vector.
    pub iv_tweak: u64,
    /// Whether the data is authenticated, and how.
    pub integrity: Option<Integrity>,
    /// Remarks; those that begin with `backup-` are of segments that are not in use.
    pub flags: Vec<String>,
}

/// How data is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integrity {
    /// The algorithm: `hmac(sha256)`, `aead`, …
    pub algorithm: String,
    /// Whether and how the journal is encrypted; `none`.
    pub journal_encryption: String,
    /// Whether and how the journal is authenticated; `none`.
    pub journal_integrity: String,
    /// Bytes of its key, where the header says it.
    pub key_size: Option<u32>,
}

/// By which a volume key is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The slots that hold the key.
    pub keyslots: Vec<u32>,
    /// What the key encrypts.
    pub segments: Vec<u32>,
    /// The hash of the PBKDF2.
    pub hash: String,
    /// Its iterations.
    pub iterations: u32,
}

/// How a passphrase is had.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Of which kind: `systemd-tpm2`, `systemd-recovery`, …
    pub kind: String,
    /// The slots that the passphrase opens.
    pub keyslots: Vec<u32>,
    /// All of it.
    pub json: Value,
}

/// The rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes for key slots.
    pub keyslots_size: Bytes,
    /// How the volume wants to be opened: `allow-discards`, …
    pub flags: Vec<String>,
    /// What a program must know to use the volume.
    pub requirements: Vec<String>,
}

/// The JSON area makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// It is not JSON of this kind.
    #[error("the LUKS header's JSON area is damaged: {0}")]
    Json(String),
    /// There is something behind it.
    #[error("there are bytes behind the JSON text in the LUKS header; it is damaged")]
    Rest,
    /// Something in it is impossible.
    #[error("{object} {number} in the LUKS header {problem}; it is damaged or forged")]
    Object {
        /// What kind of object.
        object: &'static str,
        /// Its name.
        number: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Something in the header as a whole is impossible.
    #[error("the LUKS header {0}; it is damaged or forged")]
    Whole(&'static str),
}

impl Metadata {
    /// Reads a JSON area, NUL-padded, of a header with `header_size` bytes a copy; gives what it
    /// says and the JSON itself.
    pub fn parse(area: &[u8], header_size: Bytes) -> Result<(Self, Value), MetadataError> {
        let end = area.iter().position(|byte| *byte == 0);
        let (text, rest) = area.split_at(end.unwrap_or(area.len()));
        if rest.iter().any(|byte| *byte != 0) || rest.is_empty() {
            return Err(MetadataError::Rest);
        }
        let failed = |error: serde_json::Error| MetadataError::Json(error.to_string());
        let json: Value = serde_json::from_slice(text).map_err(failed)?;
        let area: raw::Area = serde_json::from_value(json.clone()).map_err(failed)?;
        let metadata = area.convert()?;
        metadata.check(header_size)?;
        Ok((metadata, json))
    }

    /// Where key slots end and data may begin.
    pub fn header_end(&self, header_size: Bytes) -> Option<Bytes> {
        let copies = header_size.checked_add(header_size)?;
        copies.checked_add(self.config.keyslots_size)
    }

    /// The segments in use, in their order.
    pub fn data(&self) -> impl Iterator<Item = (u32, &Segment)> {
        let used =
            |segment: &&Segment| !segment.flags.iter().any(|flag| flag.starts_with("backup-"));
        let all = self
            .segments
            .iter()
            .map(|(number, segment)| (*number, segment));
        all.filter(move |(_, segment)| used(segment))
    }

    /// The digest of what encrypts a segment.
    pub fn digest_of(&self, segment: u32) -> Option<(u32, &Digest)> {
        let mut all = self.digests.iter();
        all.find(|(_, digest)| digest.segments.contains(&segment))
            .map(|(number, digest)| (*number, digest))
    }

    fn check(&self, header_size: Bytes) -> Result<(), MetadataError> {
        self.check_numbers()?;
        self.check_areas(header_size)?;
        self.check_references()?;
        self.check_segments()
    }

    fn check_numbers(&self) -> Result<(), MetadataError> {
        let within = |object, last: Option<&u32>, limit| match last {
            Some(last) if *last >= limit => Err(problem(object, *last, "is one too many")),
            _ => Ok(()),
        };
        within("key slot", self.keyslots.keys().last(), MOST_OBJECTS)?;
        within("token", self.tokens.keys().last(), MOST_OBJECTS)?;
        within("segment", self.segments.keys().last(), MOST_OBJECTS)?;
        within("digest", self.digests.keys().last(), MOST_DIGESTS)
    }

    fn check_areas(&self, header_size: Bytes) -> Result<(), MetadataError> {
        let first = header_size.checked_add(header_size);
        let end = self.header_end(header_size);
        let (Some(first), Some(end)) = (first, end) else {
            return Err(MetadataError::Whole("has no end"));
        };
        if self.config.keyslots_size > Bytes::mib(128) {
            return Err(MetadataError::Whole(
                "has more room for key slots than there can be",
            ));
        }
        let mut areas: Vec<(u32, Extent)> = Vec::new();
        for (number, slot) in &self.keyslots {
            let fails = |what| Err(problem("key slot", *number, what));
            let area = slot.area;
            if area.start < first || area.end().is_none_or(|area| area > end) {
                return fails("lies outside of the header");
            }
            if !area.start.is_multiple_of(AREA_GRAIN) || area.size.is_zero() {
                return fails("does not begin where one can");
            }
            if areas.iter().any(|(_, other)| other.overlaps(area)) {
                return fails("lies where another one lies");
            }
            if slot.key_size > MOST_KEY_BYTES {
                return fails("has a key larger than any");
            }
            areas.push((*number, area));
        }
        Ok(())
    }

    fn check_references(&self) -> Result<(), MetadataError> {
        let known = |slots: &[u32]| slots.iter().all(|slot| self.keyslots.contains_key(slot));
        for (number, digest) in &self.digests {
            let segments = &mut digest.segments.iter();
            if !known(&digest.keyslots) {
                return Err(problem(
                    "digest",
                    *number,
                    "names a key slot that is not there",
                ));
            }
            if !segments.all(|segment| self.segments.contains_key(segment)) {
                return Err(problem(
                    "digest",
                    *number,
                    "names a segment that is not there",
                ));
            }
        }
        for (number, token) in &self.tokens {
            if !known(&token.keyslots) {
                return Err(problem(
                    "token",
                    *number,
                    "names a key slot that is not there",
                ));
            }
        }
        Ok(())
    }

    fn check_segments(&self) -> Result<(), MetadataError> {
        let mut end = Some(Bytes::ZERO);
        for (number, segment) in self.data() {
            let fails = |what| Err(problem("segment", number, what));
            if segment.kind == "crypt" && self.digest_of(number).is_none() {
                return fails("has no digest");
            }
            if !segment.offset.is_multiple_of(512) {
                return fails("does not begin at a sector");
            }
            if end.is_none_or(|end| segment.offset < end) {
                return fails("lies where another one lies");
            }
            end = match segment.size {
                None => None,
                Some(size) if !size.is_multiple_of(segment.sector_size.bytes().get()) => {
                    return fails("does not end at a sector");
                }
                Some(size) => match segment.offset.checked_add(size) {
                    None => return fails("has no end"),
                    end => end,
                },
            };
        }
        Ok(())
    }
}

pub(super) fn problem(
    object: &'static str,
    number: impl ToString,
    problem: &'static str,
) -> MetadataError {
    MetadataError::Object {
        object,
        number: number.to_string(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Limits, Refusal};
    use super::*;

    const HEADER: Bytes = Bytes::kib(16);

    /// As cryptsetup writes it; with a token.
    const GOOD: &str = r#"{"keyslots":{"0":{"type":"luks2","key_size":64,"af":{"type":"luks1",
        "stripes":4000,"hash":"sha256"},"area":{"type":"raw","offset":"32768","size":"258048",
        "encryption":"aes-xts-plain64","key_size":64},"kdf":{"type":"argon2id","time":4,
        "memory":1048576,"cpus":4,"salt":"AAAA"}}},"tokens":{"0":{"type":"systemd-recovery",
        "keyslots":["0"]}},"segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic",
        "iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096}},"digests":{"0":{
        "type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,
        "salt":"AAAA","digest":"AAAA"}},"config":{"json_size":"12288","keyslots_size":"16744448",
        "flags":["allow-discards"]}}"#;

    fn parse(text: &str) -> Result<Metadata, MetadataError> {
        let area = [text.as_bytes(), &[0; 8]].concat();
        Metadata::parse(&area, HEADER).map(|(metadata, _)| metadata)
    }

    #[test]
    fn sound_headers_are_read() {
        let metadata = parse(GOOD).unwrap();
        let slot = &metadata.keyslots[&0];
        let memory = Bytes::mib(1024);
        let kdf = Kdf::Argon2 {
            id: true,
            time: 4,
            memory,
            cpus: 4,
        };
        assert_eq!((slot.kdf.as_ref(), slot.priority), (Some(&kdf), 1));
        assert_eq!(metadata.header_end(HEADER), Some(Bytes::mib(16)));
        assert_eq!(metadata.tokens[&0].kind, "systemd-recovery");
        assert_eq!(metadata.config.flags, ["allow-discards"]);
        let (number, segment) = metadata.data().next().unwrap();
        assert_eq!((number, segment.size), (0, None));
        assert_eq!(segment.sector_size, SectorSize::S4096);
        assert_eq!(metadata.digest_of(0).map(|(number, _)| number), Some(0));
        assert_eq!(Limits::with_memory(memory).check(&metadata), Ok(()));
        let less = Limits::with_memory(Bytes::mib(1023)).check(&metadata);
        assert!(matches!(less, Err(Refusal::KdfMemory { slot: 0, .. })));
    }

    #[test]
    fn text_ends_with_nul_and_nothing_follows() {
        let parse = |area: &[u8]| Metadata::parse(area, HEADER).err();
        assert_eq!(parse(GOOD.as_bytes()), Some(MetadataError::Rest));
        let behind = [GOOD.as_bytes(), b"\0\0x"].concat();
        assert_eq!(parse(&behind), Some(MetadataError::Rest));
        for damaged in [&b"\0"[..], b"[]\0", b"{}\0", b"{\0"] {
            let error = parse(damaged);
            assert!(matches!(error, Some(MetadataError::Json(_))), "{error:?}");
        }
    }

    proptest! {
        /// Whatever is written over a sound header: it is refused, or what is left holds together.
        #[test]
        fn changes_are_refused_or_sound(
            at in 0..GOOD.len(), length in 0_usize..4, new in "[0-9a-z\"{},:\\[\\]-]{0,6}"
        ) {
            let end = (at + length).min(GOOD.len());
            let text = format!("{}{new}{}", &GOOD[..at], &GOOD[end..]);
            if let Ok(metadata) = parse(&text) {
                let end = metadata.header_end(HEADER).unwrap();
                for slot in metadata.keyslots.values() {
                    prop_assert!(slot.area.start >= Bytes::kib(32));
                    prop_assert!(slot.area.end().unwrap() <= end);
                }
            }
        }
    }
}
