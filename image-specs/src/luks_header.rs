//! The binary header of LUKS (version 1, and the first 4096 bytes of version 2): enough to tell what
//! a partition holds, and what its JSON area says about the encryption.
//!
//! Invariant: a parsed version 2 header has a size that a reader may allocate. Pure.

use sha2::{Digest as _, Sha256};
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::units::Bytes;

mod cipher;
mod limits;
mod metadata;
mod raw;
mod version1;

pub use cipher::Cipher;
pub use limits::{Limits, Refusal};
pub use metadata::{
    Config, Digest, Integrity, Kdf, Keyslot, Metadata, MetadataError, Segment, Token,
};
pub use version1::{Luks1, Luks1Error};

const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
const SECOND_MAGIC: [u8; 6] = *b"SKUL\xba\xbe";

/// Where the second copy of a version 2 header may begin, in bytes; each is also a size that the
/// header may have.
pub const SECOND_OFFSETS: [u64; 9] = [
    0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x10_0000, 0x20_0000, 0x40_0000,
];

/// Where the JSON area of a version 2 header begins.
const JSON: usize = 4096;

/// What both versions begin with.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Prefix {
    magic: [u8; 6],
    version: U16,
}

/// Version 1, as stored. Nothing here has been checked.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw1 {
    prefix: Prefix,
    cipher: [u8; 32], // NUL-padded, as all text here
    mode: [u8; 32],
    hash: [u8; 32],
    payload_offset: U32, // sectors of 512 bytes
    key_bytes: U32,
    digest: [u8; 20],
    digest_salt: [u8; 32],
    digest_iterations: U32,
    uuid: [u8; 40],
}
const _: () = assert!(size_of::<Raw1>() == 208);

/// Version 2, as stored. Nothing here has been checked.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw2 {
    prefix: Prefix,
    header_size: U64, // bytes, with the JSON area
    sequence: U64,
    label: [u8; 48],
    checksum_algorithm: [u8; 32],
    salt: [u8; 64],
    uuid: [u8; 40],
    subsystem: [u8; 48],
    offset: U64, // bytes, of this copy
    _pad: [u8; 184],
    checksum: [u8; 64],
}
const _: () = assert!(size_of::<Raw2>() == 512);

/// A LUKS header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LuksHeader {
    /// Version 1.
    V1 {
        /// The text of its UUID, as stored.
        uuid: String,
        /// Where the encrypted data begins.
        data_offset: Bytes,
    },
    /// Version 2.
    V2(Luks2),
}

/// The binary part of a version 2 header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Luks2 {
    /// The text of its UUID, as stored.
    pub uuid: String,
    /// The label; often empty.
    pub label: String,
    /// A second label; often empty.
    pub subsystem: String,
    /// Binary and JSON part together.
    pub header_size: Bytes,
    /// Counts updates: of two intact copies the higher one holds.
    pub sequence: u64,
    /// Where this copy says that it stands.
    pub offset: Bytes,
    salt: [u8; 64],
    checksum: [u8; 32],
}

/// A damaged or unknown LUKS header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LuksError {
    /// The bytes end within the header.
    #[error("the LUKS header is cut off after {0} bytes")]
    Truncated(usize),
    /// Neither version 1 nor 2.
    #[error("LUKS version {0} is not known; 1 and 2 are")]
    Version(u16),
    /// A size that no LUKS2 header has.
    #[error("a LUKS2 header of {0} bytes does not exist; the header is damaged")]
    HeaderSize(u64),
    /// A text field that is not ASCII, or without its NUL.
    #[error("the LUKS header's {0} is not readable text; the header is damaged")]
    Text(&'static str),
    /// A checksum that we do not compute.
    #[error("the LUKS header is checked by {0:?}; only sha256 is known")]
    Algorithm(String),
    /// The checksum does not fit.
    #[error("the LUKS header's checksum is wrong; the header is damaged")]
    Checksum,
    /// The JSON area cannot be read.
    #[error("the LUKS header's JSON area is damaged: {0}")]
    Json(String),
    /// The JSON area speaks of no data.
    #[error("the LUKS header lists no segment of data")]
    NoSegment,
    /// Something is not encrypted.
    #[error("the LUKS header asks for the null cipher: nothing would be encrypted")]
    NullCipher,
}

impl LuksHeader {
    /// Reads the start of a partition (512 bytes are enough); `Ok(None)` is no LUKS.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, LuksError> {
        let Ok((prefix, _)) = Prefix::ref_from_prefix(bytes) else {
            return Ok(None);
        };
        match (prefix.magic, prefix.version.get()) {
            (MAGIC, 1) => parse1(bytes).map(Some),
            (MAGIC, 2) => Luks2::parse(bytes).map(|header| Some(Self::V2(header))),
            (MAGIC, version) => Err(LuksError::Version(version)),
            _ => Ok(None),
        }
    }

    /// 1 or 2.
    pub const fn version(&self) -> u8 {
        match self {
            Self::V1 { .. } => 1,
            Self::V2(_) => 2,
        }
    }

    /// The text of the UUID, as stored.
    pub fn uuid(&self) -> &str {
        match self {
            Self::V1 { uuid, .. } => uuid,
            Self::V2(header) => &header.uuid,
        }
    }

    /// The label, where there is one.
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::V1 { .. } => None,
            Self::V2(header) => Some(&*header.label).filter(|label| !label.is_empty()),
        }
    }
}

fn parse1(bytes: &[u8]) -> Result<LuksHeader, LuksError> {
    let (raw, _) = Raw1::ref_from_prefix(bytes).map_err(|_| LuksError::Truncated(bytes.len()))?;
    Ok(LuksHeader::V1 {
        uuid: text(&raw.uuid, "UUID")?,
        data_offset: Bytes::new(u64::from(raw.payload_offset.get()) * 512),
    })
}

impl Luks2 {
    /// Reads a second copy; `Ok(None)` where there is none.
    pub fn parse_second(bytes: &[u8]) -> Result<Option<Self>, LuksError> {
        match Prefix::ref_from_prefix(bytes) {
            Ok((prefix, _)) if prefix.magic == SECOND_MAGIC => match prefix.version.get() {
                2 => Self::parse(bytes).map(Some),
                version => Err(LuksError::Version(version)),
            },
            _ => Ok(None),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, LuksError> {
        let (raw, _) =
            Raw2::ref_from_prefix(bytes).map_err(|_| LuksError::Truncated(bytes.len()))?;
        let header_size = raw.header_size.get();
        if !SECOND_OFFSETS.contains(&header_size) {
            return Err(LuksError::HeaderSize(header_size));
        }
        let algorithm = text(&raw.checksum_algorithm, "checksum algorithm")?;
        if algorithm != "sha256" {
            return Err(LuksError::Algorithm(algorithm));
        }
        let mut checksum = [0; 32];
        checksum.copy_from_slice(&raw.checksum[..32]);
        Ok(Self {
            uuid: text(&raw.uuid, "UUID")?,
            label: text(&raw.label, "label")?,
            subsystem: text(&raw.subsystem, "subsystem")?,
            header_size: Bytes::new(header_size),
            sequence: raw.sequence.get(),
            offset: Bytes::new(raw.offset.get()),
            salt: raw.salt,
            checksum,
        })
    }

    /// Writes a copy of this header, the first or the second one, with this JSON text; `None` where
    /// the text has no room in it.
    pub fn encode(&self, json: &str, second: bool) -> Option<Vec<u8>> {
        let size = usize::try_from(self.header_size.get()).ok()?;
        let mut bytes = vec![0; size];
        // A NUL ends the text.
        let area = bytes.get_mut(JSON..size.checked_sub(1)?)?;
        area.get_mut(..json.len())?.copy_from_slice(json.as_bytes());
        let mut raw = Raw2 {
            prefix: Prefix {
                magic: if second { SECOND_MAGIC } else { MAGIC },
                version: U16::new(2),
            },
            header_size: U64::new(self.header_size.get()),
            sequence: U64::new(self.sequence),
            label: padded(&self.label)?,
            checksum_algorithm: padded("sha256")?,
            salt: self.salt,
            uuid: padded(&self.uuid)?,
            subsystem: padded(&self.subsystem)?,
            offset: U64::new(if second { self.header_size.get() } else { 0 }),
            _pad: [0; 184],
            checksum: [0; 64],
        };
        bytes.get_mut(..512)?.copy_from_slice(raw.as_bytes());
        raw.checksum[..32].copy_from_slice(&Sha256::digest(&bytes));
        bytes.get_mut(..512)?.copy_from_slice(raw.as_bytes());
        Some(bytes)
    }

    /// The JSON area within the [`Self::header_size`] bytes of this copy.
    pub fn json_area<'a>(&self, header: &'a [u8]) -> Option<&'a [u8]> {
        header.get(JSON..usize::try_from(self.header_size.get()).ok()?)
    }

    /// Checks the checksum over `header`, the [`Self::header_size`] bytes of this copy.
    pub fn verify(&self, header: &[u8]) -> Result<(), LuksError> {
        const FIELD: std::ops::Range<usize> = 448..512;
        let size = usize::try_from(self.header_size.get()).unwrap_or(usize::MAX);
        let (Some(before), Some(behind)) = (header.get(..FIELD.start), header.get(FIELD.end..size))
        else {
            return Err(LuksError::Truncated(header.len()));
        };
        let digest = Sha256::new()
            .chain_update(before)
            .chain_update([0; FIELD.end - FIELD.start])
            .chain_update(behind)
            .finalize();
        (digest[..] == self.checksum)
            .then_some(())
            .ok_or(LuksError::Checksum)
    }
}

/// Text with at least one NUL behind it.
fn padded<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut field = [0; N];
    field
        .get_mut(..N - 1)?
        .get_mut(..text.len())?
        .copy_from_slice(text.as_bytes());
    Some(field)
}

/// A NUL-padded field of printable text.
fn text(field: &[u8], name: &'static str) -> Result<String, LuksError> {
    let end = field.iter().position(|byte| *byte == 0);
    let bytes = field.get(..end.unwrap_or(field.len())).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) if end.is_some() && !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err(LuksError::Text(name)),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A header as cryptsetup writes it.
    fn formatted(arguments: &[&str]) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(20 << 20).unwrap();
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), "secret").unwrap();
        let status = Command::new("cryptsetup")
            .args([
                "luksFormat",
                "--batch-mode",
                "--pbkdf=pbkdf2",
                "--pbkdf-force-iterations=1000",
            ])
            .args(["--uuid=11111111-2222-3333-4444-555555555555", "--key-file"])
            .arg(key.path())
            .args(arguments)
            .arg(file.path())
            .status()
            .expect("cryptsetup is in the package cryptsetup-bin");
        assert!(status.success());
        std::fs::read(file.path()).unwrap()
    }

    #[test]
    fn reads_what_cryptsetup_writes() {
        let bytes = formatted(&["--type=luks2", "--label=data", "--subsystem=sub"]);
        let Some(LuksHeader::V2(first)) = LuksHeader::parse(&bytes[..512]).unwrap() else {
            panic!("no LUKS2");
        };
        assert_eq!((&*first.label, &*first.subsystem), ("data", "sub"));
        assert_eq!(first.uuid, "11111111-2222-3333-4444-555555555555");
        assert_eq!(
            (first.header_size, first.offset),
            (Bytes::kib(16), Bytes::ZERO)
        );
        first.verify(&bytes).unwrap();
        let second = Luks2::parse_second(&bytes[0x4000..]).unwrap().unwrap();
        assert_eq!(
            (second.sequence, second.offset),
            (first.sequence, first.header_size)
        );
        second.verify(&bytes[0x4000..]).unwrap();

        let bytes = formatted(&["--type=luks1"]);
        let header = LuksHeader::parse(&bytes).unwrap().unwrap();
        assert_eq!((header.version(), header.label()), (1, None));
        assert_eq!(header.uuid(), "11111111-2222-3333-4444-555555555555");
    }

    fn valid() -> Vec<u8> {
        let mut bytes = vec![0; 0x4000];
        bytes[..6].copy_from_slice(&MAGIC);
        bytes[7] = 2;
        bytes[14] = 0x40;
        bytes[72..78].copy_from_slice(b"sha256");
        let digest = Sha256::digest(&bytes);
        bytes[448..480].copy_from_slice(&digest);
        bytes
    }

    #[test]
    fn damage_is_named() {
        for (change, error) in [
            (&[][..], None),
            (&[(7, 3)], Some(LuksError::Version(3))),
            (&[(14, 0x41)], Some(LuksError::HeaderSize(0x4100))),
            (
                &[(8, 0xff)],
                Some(LuksError::HeaderSize(0xff00_0000_0000_4000)),
            ),
            (&[(74, b'b')], Some(LuksError::Algorithm("shb256".into()))),
            (&[(24, 7)], Some(LuksError::Text("label"))),
            (&[(168, 0xff)], Some(LuksError::Text("UUID"))),
        ] {
            let mut bytes = valid();
            for (at, byte) in change {
                bytes[*at] = *byte;
            }
            assert_eq!(LuksHeader::parse(&bytes).err(), error, "{change:?}");
        }
        assert_eq!(
            LuksHeader::parse(&valid()[..511]),
            Err(LuksError::Truncated(511))
        );
        assert_eq!(LuksHeader::parse(b"LUKS\xba"), Ok(None));
        assert_eq!(LuksHeader::parse(&[0; 512]), Ok(None));
        assert_eq!(Luks2::parse_second(&valid()), Ok(None));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut header = Luks2::parse(&valid()).unwrap();
        header.label = "x".repeat(47);
        header.uuid = "11111111-2222-3333-4444-555555555555".into();
        header.sequence = 7;
        for second in [false, true] {
            let bytes = header.encode("{}", second).unwrap();
            let parsed = match second {
                true => Luks2::parse_second(&bytes).unwrap().unwrap(),
                false => Luks2::parse(&bytes).unwrap(),
            };
            parsed.verify(&bytes).unwrap();
            assert_eq!((&parsed.label, parsed.sequence), (&header.label, 7));
            assert_eq!(parsed.offset, Bytes::kib(if second { 16 } else { 0 }));
            assert_eq!(&parsed.json_area(&bytes).unwrap()[..3], b"{}\0");
        }
        assert_eq!(header.encode(&"x".repeat(0x4000 - 4096), false), None);
        header.label.push('x');
        assert_eq!(header.encode("{}", false), None);
    }

    #[test]
    fn checksums_cover_the_json() {
        let mut bytes = valid();
        let header = Luks2::parse(&bytes).unwrap();
        assert_eq!(header.verify(&bytes), Ok(()));
        assert_eq!(
            header.verify(&bytes[..0x3fff]),
            Err(LuksError::Truncated(0x3fff))
        );
        bytes[0x3fff] = 1;
        assert_eq!(header.verify(&bytes), Err(LuksError::Checksum));
    }
}
