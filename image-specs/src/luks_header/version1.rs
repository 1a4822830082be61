//! Version 1 headers in whole (LUKS On-Disk Format Specification 1.2.3): what must hold before a
//! library may look at one. Pure.

use zerocopy::FromBytes;
use zerocopy::byteorder::big_endian::U32;
use zerocopy::{Immutable, IntoBytes, KnownLayout, Unaligned};

use super::limits::{Limits, Refusal, is_null};
use super::{LuksError, MAGIC, Raw1, text};
use crate::units::Bytes;

/// A slot that holds a key.
const ACTIVE: u32 = 0x00ac_71f3;
/// Where slots end; nothing begins before it.
const FIRST_SECTOR: u32 = 2;

/// A key slot, as stored. Nothing here has been checked.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSlot {
    active: U32,
    iterations: U32,
    salt: [u8; 32],
    offset: U32, // sectors of 512 bytes
    stripes: U32,
}
const _: () = assert!(size_of::<RawSlot>() == 48);

/// A version 1 header that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Luks1 {
    /// The text of its UUID.
    pub uuid: String,
    /// What encrypts data and key slots, as dm-crypt spells it.
    pub cipher: String,
    /// Where the data begins.
    pub data_offset: Bytes,
    /// Where the last key slot ends.
    pub end: Bytes,
}

/// A version 1 header that may not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Luks1Error {
    /// It is damaged.
    #[error(transparent)]
    Damaged(#[from] LuksError),
    /// It asks for what it does not get.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A key slot is impossible.
    #[error("key slot {0} in the LUKS header lies where none can; it is damaged or forged")]
    Slot(usize),
    /// No key has this size.
    #[error("the LUKS header speaks of a key of {0} bytes; it is damaged or forged")]
    KeySize(u32),
}

impl Luks1 {
    /// Reads the first kilobyte of a version 1 volume.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, Luks1Error> {
        let cut = || LuksError::Truncated(bytes.len());
        let (raw, rest) = Raw1::ref_from_prefix(bytes).map_err(|_| cut())?;
        let (slots, _) = <[RawSlot; 8]>::ref_from_prefix(rest).map_err(|_| cut())?;
        if raw.prefix.magic != MAGIC || raw.prefix.version.get() != 1 {
            return Err(LuksError::Version(raw.prefix.version.get()).into());
        }
        text(&raw.hash, "hash")?;
        let name = text(&raw.cipher, "cipher")?;
        let cipher = format!("{name}-{}", text(&raw.mode, "cipher mode")?);
        if is_null(&cipher) {
            return Err(Refusal::NullCipher("a segment".to_owned()).into());
        }
        let key = raw.key_bytes.get();
        if !(1..=512).contains(&key) {
            return Err(Luks1Error::KeySize(key));
        }
        if raw.digest_iterations.get() > limits.iterations {
            return Err(Refusal::KdfTime("the digest".to_owned()).into());
        }
        let mut end = Bytes::new(1024);
        for (number, slot) in slots.iter().enumerate() {
            end = end.max(check(number, slot, raw, limits)?);
        }
        Ok(Self {
            uuid: text(&raw.uuid, "UUID")?,
            cipher,
            data_offset: Bytes::new(u64::from(raw.payload_offset.get()) * 512),
            end,
        })
    }
}

/// Where the slot ends.
fn check(number: usize, slot: &RawSlot, raw: &Raw1, limits: &Limits) -> Result<Bytes, Luks1Error> {
    let size = u64::from(raw.key_bytes.get()) * 4000;
    let (start, payload) = (slot.offset.get(), raw.payload_offset.get());
    let end = u64::from(start) * 512 + size;
    let before_data = payload == 0 || end <= u64::from(payload) * 512;
    if slot.stripes != 4000 || start < FIRST_SECTOR || !before_data {
        return Err(Luks1Error::Slot(number));
    }
    if slot.active == ACTIVE && slot.iterations.get() > limits.iterations {
        return Err(Refusal::KdfTime(format!("key slot {number}")).into());
    }
    Ok(Bytes::new(end))
}
