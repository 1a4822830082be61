//! The superblock of a dm-integrity device (the kernel's drivers/md/dm-integrity.c, versions 1 to 6),
//! and where its journal, tags and data lie ([`layout`]).
//!
//! Invariant: a [`Superblock`] has a known version, sectors of 512 to 4096 bytes, an interleave that the
//! kernel takes, and data of at least one sector. Pure.

pub mod layout;

use std::fmt;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use layout::{Layout, LayoutError};

/// Bytes that a superblock fills; the rest of its four KiB is zeros.
pub const SUPERBLOCK_SIZE: usize = 64;

const MAGIC: [u8; 8] = *b"integrt\0";
const NEWEST: u8 = 6;
/// Sectors between two areas of tags, as powers of two.
const INTERLEAVE: std::ops::RangeInclusive<u8> = 3..=31;

/// The bytes exactly as stored. Nothing here has been checked.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: u8,
    log2_interleave: u8, // sectors of 512 bytes
    tag_size: U16,       // bytes
    journal_sections: U32,
    provided_sectors: U64, // of 512 bytes
    flags: U32,
    log2_sectors_per_block: u8,
    log2_blocks_per_bit: u8,
    padding: [u8; 2],
    recalculated: U64, // sectors of 512 bytes
    padding2: [u8; 8],
    salt: [u8; 16],
}

const _: () = assert!(size_of::<Raw>() == SUPERBLOCK_SIZE);

/// What an integrity device says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The version of the format, 1 to 6.
    pub version: u8,
    /// How many sectors of data lie between two areas of tags, as a power of two; `None` where the tags
    /// are on a device of their own, or come with each sector.
    pub log2_interleave: Option<u8>,
    /// Bytes of a tag.
    pub tag_size: u16,
    /// How many sections the journal has.
    pub journal_sections: u32,
    /// Sectors of 512 bytes that the device offers.
    pub provided_sectors: u64,
    /// What it has besides.
    pub flags: Flags,
    /// Sectors of 512 bytes that share a tag, as a power of two: 0 to 3.
    pub log2_sectors_per_block: u8,
    /// Blocks for which a bit of the bitmap stands, as a power of two.
    pub log2_blocks_per_bit: u8,
    /// How far tags have been calculated anew, in sectors of 512 bytes.
    pub recalculated: u64,
    /// What is hashed before each sector, where [`Flags::FIXED_HMAC`] is set.
    pub salt: [u8; 16],
}

/// Bits that say what a device has.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u32);

/// A superblock that is there but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum SuperblockError {
    #[error("the integrity superblock has version {0}, only 1 to 6 are known")]
    Version(u8),
    #[error("the integrity superblock has the flags {0:#x}, of which some are not known")]
    Flags(u32),
    #[error(
        "the integrity superblock has sectors of 2^{0} times 512 bytes, at most 4096 are possible"
    )]
    SectorSize(u8),
    #[error(
        "the integrity superblock has 2^{0} sectors between tags, only 2^3 to 2^31 are possible"
    )]
    Interleave(u8),
    #[error("the integrity superblock has tags of no bytes")]
    TagSize,
    #[error("the integrity superblock has no journal")]
    NoJournal,
    #[error("the integrity superblock offers {0} sectors, which is no whole number of blocks")]
    DataSize(u64),
}

impl Flags {
    /// The journal is authenticated.
    pub const JOURNAL_MAC: Self = Self(1);
    /// Tags are being calculated anew.
    pub const RECALCULATING: Self = Self(2);
    /// A bitmap, in place of the journal, tells what may not be in order.
    pub const DIRTY_BITMAP: Self = Self(4);
    /// Areas of tags end at four KiB, not at 128.
    pub const FIXED_PADDING: Self = Self(8);
    /// The salt is part of what is hashed.
    pub const FIXED_HMAC: Self = Self(16);
    /// Tags come with each sector of the device.
    pub const INLINE: Self = Self(32);

    const KNOWN: u32 = 63;
    const NAMES: [(Self, &'static str); 6] = [
        (Self::JOURNAL_MAC, "have_journal_mac"),
        (Self::RECALCULATING, "recalculating"),
        (Self::DIRTY_BITMAP, "dirty_bitmap"),
        (Self::FIXED_PADDING, "fix_padding"),
        (Self::FIXED_HMAC, "fix_hmac"),
        (Self::INLINE, "inline"),
    ];

    /// Whether all of `other` is set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The names of those that are set, as integritysetup has them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let set = Self::NAMES
            .into_iter()
            .filter(move |(flag, _)| self.has(*flag));
        set.map(|(_, name)| name)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Superblock {
    /// Parses the start of a device. `Ok(None)` means that no superblock is there.
    pub fn parse(start: &[u8]) -> Result<Option<Self>, SuperblockError> {
        let Ok((raw, _)) = Raw::ref_from_prefix(start) else {
            return Ok(None);
        };
        if raw.magic != MAGIC {
            return Ok(None);
        }
        if !(1..=NEWEST).contains(&raw.version) {
            return Err(SuperblockError::Version(raw.version));
        }
        let log2_interleave = match raw.log2_interleave {
            0 | 0xff => None,
            other => Some(other),
        };
        let parsed = Self {
            version: raw.version,
            log2_interleave,
            tag_size: raw.tag_size.get(),
            journal_sections: raw.journal_sections.get(),
            provided_sectors: raw.provided_sectors.get(),
            flags: Flags(raw.flags.get()),
            log2_sectors_per_block: raw.log2_sectors_per_block,
            log2_blocks_per_bit: raw.log2_blocks_per_bit,
            recalculated: raw.recalculated.get(),
            salt: raw.salt,
        };
        parsed.check()?;
        Ok(Some(parsed))
    }

    /// The bytes to store. What a parsed superblock cannot have is refused.
    pub fn encode(&self) -> Result<[u8; SUPERBLOCK_SIZE], SuperblockError> {
        self.check()?;
        let raw = Raw {
            magic: MAGIC,
            version: self.version,
            log2_interleave: self.log2_interleave.unwrap_or(0),
            tag_size: self.tag_size.into(),
            journal_sections: self.journal_sections.into(),
            provided_sectors: self.provided_sectors.into(),
            flags: self.flags.0.into(),
            log2_sectors_per_block: self.log2_sectors_per_block,
            log2_blocks_per_bit: self.log2_blocks_per_bit,
            padding: [0; 2],
            recalculated: self.recalculated.into(),
            padding2: [0; 8],
            salt: self.salt,
        };
        let mut bytes = [0; SUPERBLOCK_SIZE];
        bytes.copy_from_slice(raw.as_bytes());
        Ok(bytes)
    }

    /// Bytes of a sector of the device.
    pub const fn sector_size(&self) -> u32 {
        512 << self.log2_sectors_per_block
    }

    fn check(&self) -> Result<(), SuperblockError> {
        if !(1..=NEWEST).contains(&self.version) {
            return Err(SuperblockError::Version(self.version));
        }
        if self.flags.0 & !Flags::KNOWN != 0 {
            return Err(SuperblockError::Flags(self.flags.0));
        }
        if self.log2_sectors_per_block > 3 {
            return Err(SuperblockError::SectorSize(self.log2_sectors_per_block));
        }
        if let Some(log2) = self
            .log2_interleave
            .filter(|log2| !INTERLEAVE.contains(log2))
        {
            return Err(SuperblockError::Interleave(log2));
        }
        if self.tag_size == 0 {
            return Err(SuperblockError::TagSize);
        }
        if self.journal_sections == 0 && !self.flags.has(Flags::INLINE) {
            return Err(SuperblockError::NoJournal);
        }
        let block = 1 << self.log2_sectors_per_block;
        match self.provided_sectors > 0 && self.provided_sectors.is_multiple_of(block) {
            true => Ok(()),
            false => Err(SuperblockError::DataSize(self.provided_sectors)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel wrote on 64 MiB with crc32c.
    const KERNEL: [u8; 64] = [
        0x69, 0x6e, 0x74, 0x65, 0x67, 0x72, 0x74, 0, 5, 15, 4, 0, 5, 0, 0, 0, 0x88, 0xf8, 1, 0, 0,
        0, 0, 0, 0x18, 0, 0, 0, 0, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a,
        0x8f, 0x96, 0xcd, 0xf7, 0x12, 0x76, 0x7b, 0x71, 0x16, 0x2b, 0xef, 0x31, 0x19, 0x0a, 0x89,
    ];

    #[test]
    fn the_kernels_is_read_and_written() {
        let found = Superblock::parse(&KERNEL).unwrap().unwrap();
        assert_eq!((found.version, found.log2_interleave), (5, Some(15)));
        assert_eq!((found.tag_size, found.journal_sections), (4, 5));
        assert_eq!(
            (found.provided_sectors, found.sector_size()),
            (129_160, 512)
        );
        assert_eq!(
            format!("{:?}", found.flags),
            "{\"fix_padding\", \"fix_hmac\"}"
        );
        assert_eq!(found.encode().unwrap(), KERNEL);
    }

    #[test]
    fn damage_is_named() {
        for (offset, value, error) in [
            (8, 0, SuperblockError::Version(0)),
            (8, 7, SuperblockError::Version(7)),
            (9, 2, SuperblockError::Interleave(2)),
            (9, 32, SuperblockError::Interleave(32)),
            (10, 0, SuperblockError::TagSize),
            (12, 0, SuperblockError::NoJournal),
            (24, 0x58, SuperblockError::Flags(0x58)),
            (28, 4, SuperblockError::SectorSize(4)),
        ] {
            let mut bytes = KERNEL;
            bytes[offset] = value;
            assert_eq!(Superblock::parse(&bytes), Err(error), "{offset}");
        }
        let mut bytes = KERNEL;
        bytes[16..24].fill(0);
        assert_eq!(Superblock::parse(&bytes), Err(SuperblockError::DataSize(0)));
        (bytes[16], bytes[28]) = (4, 3);
        assert_eq!(Superblock::parse(&bytes), Err(SuperblockError::DataSize(4)));
    }

    #[test]
    fn what_is_not_ours_is_no_failure() {
        assert_eq!(Superblock::parse(&KERNEL[..63]), Ok(None));
        assert_eq!(Superblock::parse(&[0; 64]), Ok(None));
        let mut other = KERNEL;
        other[0] = b'I';
        assert_eq!(Superblock::parse(&other), Ok(None));
    }

    #[test]
    fn tags_of_their_own_device_have_no_interleave() {
        for value in [0, 0xff] {
            let mut bytes = KERNEL;
            bytes[9] = value;
            let found = Superblock::parse(&bytes).unwrap().unwrap();
            assert_eq!(found.log2_interleave, None);
        }
    }
}
