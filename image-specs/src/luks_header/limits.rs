//! Which LUKS2 headers may be used: what a forged one could ask for is refused before anything
//! costs time or memory, or passes plain text off as encrypted. Pure.

use super::metadata::{Kdf, Metadata, Segment};
use crate::units::Bytes;

/// What a header may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most memory that a KDF may take.
    pub kdf_memory: Bytes,
    /// The most bytes that a KDF may pass over: memory times passes.
    pub kdf_work: Bytes,
    /// The most iterations of PBKDF2.
    pub iterations: u32,
}

/// What a header asks for, and does not get.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nothing would be encrypted.
    #[error("{0} of the LUKS header asks for the null cipher: nothing would be encrypted")]
    NullCipher(String),
    /// Part of the data is not encrypted.
    #[error("segment {0} of the LUKS header is not encrypted")]
    Plain(u32),
    /// A kind of segment that is not known.
    #[error("segment {number} of the LUKS header is of kind {kind:?}, which is not known")]
    Segment {
        /// Which.
        number: u32,
        /// Its kind.
        kind: String,
    },
    /// There is no data.
    #[error("the LUKS header lists no segment of data")]
    NoSegment,
    /// The encryption is being changed, or the header says so.
    #[error(
        "the LUKS header says that its encryption is being changed; finish that with cryptsetup \
         reencrypt, if it is not a forgery"
    )]
    Reencryption,
    /// Something newer.
    #[error("the LUKS header requires {0:?}, which is not known: it is of a newer version")]
    Requirement(String),
    /// The KDF takes too much memory.
    #[error(
        "key slot {slot} takes {} MiB of memory to open, and {} MiB are allowed here",
        wants.get() >> 20, limit.get() >> 20
    )]
    KdfMemory {
        /// Which slot.
        slot: u32,
        /// What it takes.
        wants: Bytes,
        /// What is allowed.
        limit: Bytes,
    },
    /// The KDF takes too much time.
    #[error("{0} of the LUKS header would take hours to open: it is damaged or forged")]
    KdfTime(String),
    /// The KDF asks for more threads than there can be.
    #[error("key slot {0} of the LUKS header asks for more threads than there can be")]
    KdfThreads(u32),
}

impl Limits {
    /// Limits where so much memory may be used.
    pub const fn with_memory(memory: Bytes) -> Self {
        Self {
            kdf_memory: memory,
            kdf_work: Bytes::mib(512 << 10),
            iterations: 1 << 28,
        }
    }

    /// Whether a header may be used.
    pub fn check(&self, metadata: &Metadata) -> Result<(), Refusal> {
        requirements(metadata)?;
        for (number, slot) in &metadata.keyslots {
            if slot.reencryption {
                return Err(Refusal::Reencryption);
            }
            if slot.cipher.as_deref().is_none_or(is_null) {
                return Err(Refusal::NullCipher(format!("key slot {number}")));
            }
            if let Some(kdf) = &slot.kdf {
                self.check_kdf(*number, kdf)?;
            }
        }
        for (number, digest) in &metadata.digests {
            if digest.iterations > self.iterations {
                return Err(Refusal::KdfTime(format!("digest {number}")));
            }
        }
        if metadata.segments.is_empty() {
            return Err(Refusal::NoSegment);
        }
        let mut segments = metadata.segments.iter();
        segments.try_for_each(|(number, segment)| check_segment(*number, segment))
    }

    fn check_kdf(&self, slot: u32, kdf: &Kdf) -> Result<(), Refusal> {
        let slow = || Refusal::KdfTime(format!("key slot {slot}"));
        match kdf {
            Kdf::Pbkdf2 { iterations, .. } if *iterations > self.iterations => Err(slow()),
            Kdf::Pbkdf2 { .. } => Ok(()),
            Kdf::Argon2 { memory, .. } if *memory > self.kdf_memory => Err(Refusal::KdfMemory {
                slot,
                wants: *memory,
                limit: self.kdf_memory,
            }),
            Kdf::Argon2 { cpus, .. } if *cpus > 256 => Err(Refusal::KdfThreads(slot)),
            Kdf::Argon2 { time, memory, .. } => {
                let work = memory.get().checked_mul(u64::from(*time));
                match work.is_some_and(|work| work <= self.kdf_work.get()) {
                    true => Ok(()),
                    false => Err(slow()),
                }
            }
        }
    }
}

fn requirements(metadata: &Metadata) -> Result<(), Refusal> {
    let all = &metadata.config.requirements;
    // One that is not known says more than one that is.
    let newer = all.iter().find(|name| !name.contains("reencrypt"));
    match (newer, all.first()) {
        (Some(name), _) => Err(Refusal::Requirement(name.clone())),
        (None, Some(_)) => Err(Refusal::Reencryption),
        (None, None) => Ok(()),
    }
}

fn check_segment(number: u32, segment: &Segment) -> Result<(), Refusal> {
    if segment
        .flags
        .iter()
        .any(|flag| flag.starts_with("backup-") || flag == "in-reencryption")
    {
        return Err(Refusal::Reencryption);
    }
    match segment.kind.as_str() {
        "linear" => Err(Refusal::Plain(number)),
        "crypt" if is_null(&segment.cipher) => {
            Err(Refusal::NullCipher(format!("segment {number}")))
        }
        "crypt" => Ok(()),
        kind => Err(Refusal::Segment {
            number,
            kind: kind.to_owned(),
        }),
    }
}

/// Whether a cipher encrypts nothing.
pub(super) fn is_null(name: &str) -> bool {
    // dm-crypt knows the cipher as "cipher_null", the kernel's own name is "ecb(cipher_null)".
    name.is_empty() || name.starts_with("null") || name.contains("cipher_null")
}
