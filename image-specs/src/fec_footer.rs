//! The footer that says where the parity of a verity hash partition lies: ours, `docs/fec-footer.md`.
//!
//! Invariant: a [`Footer`] has 2 to 24 roots, blocks whose size is one of verity's, and an offset and a
//! count of them that stay below 2⁶³ bytes. Whether that fits the partition and its tree, only they can
//! tell. Pure.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::units::Bytes;

/// Bytes of a footer: the last of its partition.
pub const FOOTER_SIZE: usize = 4096;

const MAGIC: [u8; 8] = *b"ddi-fec\0";
const VERSION: u32 = 1;
const ROOTS: std::ops::RangeInclusive<u8> = 2..=24;
const BLOCK: std::ops::RangeInclusive<u32> = 512..=512 * 1024;

/// The bytes exactly as stored. Nothing here has been checked.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U32,
    roots: U32,
    offset: U64,   // bytes from the start of the partition
    blocks: U64,   // blocks of data and tree that are protected
    block: U32,    // bytes
    checksum: U32, // CRC-32 of all bytes, with zeros here
    rest: [u8; 4056],
}

const _: () = assert!(size_of::<Raw>() == FOOTER_SIZE);

/// Where parity is, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Parity bytes in a code word: 2 to 24.
    pub roots: u8,
    /// Where the parity begins in the partition: a multiple of the block size.
    pub offset: Bytes,
    /// How many blocks of data and tree are protected.
    pub blocks: u64,
    /// Bytes of a block: a power of two from 512 to 524288.
    pub block: u32,
}

/// A footer that is there but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum FooterError {
    #[error("the footer of the parity has version {0}, only 1 is known")]
    Version(u32),
    #[error("the checksum of the footer of the parity is {found:#010x}, it says {stored:#010x}")]
    Checksum { stored: u32, found: u32 },
    #[error("the footer of the parity has something behind its fields")]
    Rest,
    #[error(
        "the footer says that there are {0} parity bytes in a code word, only 2 to 24 are possible"
    )]
    Roots(u32),
    #[error(
        "the footer says that parity is of blocks of {0} bytes, not a power of two from 512 to 524288"
    )]
    BlockSize(u32),
    #[error(
        "the footer says that parity begins at byte {offset}, which is no place for blocks of {block} bytes"
    )]
    Offset { offset: u64, block: u32 },
    #[error("the footer says that {0} blocks have parity, which no partition can hold")]
    Blocks(u64),
}

impl Footer {
    /// Parses the last bytes of a partition. `Ok(None)` means that they are no footer.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, FooterError> {
        let Ok(raw) = Raw::ref_from_bytes(bytes) else {
            return Ok(None);
        };
        if raw.magic != MAGIC {
            return Ok(None);
        }
        if raw.version != VERSION {
            return Err(FooterError::Version(raw.version.get()));
        }
        let (stored, found) = (raw.checksum.get(), raw.checksum());
        if stored != found {
            return Err(FooterError::Checksum { stored, found });
        }
        if raw.rest.iter().any(|byte| *byte != 0) {
            return Err(FooterError::Rest);
        }
        let wide = FooterError::Roots(raw.roots.get());
        let footer = Self {
            roots: u8::try_from(raw.roots.get()).map_err(|_| wide)?,
            offset: Bytes::new(raw.offset.get()),
            blocks: raw.blocks.get(),
            block: raw.block.get(),
        };
        footer.check()?;
        Ok(Some(footer))
    }

    /// The bytes to store. What a parsed footer cannot have is refused.
    pub fn encode(&self) -> Result<[u8; FOOTER_SIZE], FooterError> {
        self.check()?;
        let mut raw = Raw {
            magic: MAGIC,
            version: VERSION.into(),
            roots: u32::from(self.roots).into(),
            offset: self.offset.get().into(),
            blocks: self.blocks.into(),
            block: self.block.into(),
            checksum: 0.into(),
            rest: [0; 4056],
        };
        raw.checksum = raw.checksum().into();
        let mut bytes = [0; FOOTER_SIZE];
        bytes.copy_from_slice(raw.as_bytes());
        Ok(bytes)
    }

    fn check(&self) -> Result<(), FooterError> {
        let (offset, block) = (self.offset.get(), self.block);
        if !ROOTS.contains(&self.roots) {
            return Err(FooterError::Roots(self.roots.into()));
        }
        if !block.is_power_of_two() || !BLOCK.contains(&block) {
            return Err(FooterError::BlockSize(block));
        }
        // Positions in files are signed.
        let possible = |bytes: u64| i64::try_from(bytes).is_ok();
        if !offset.is_multiple_of(block.into()) || !possible(offset) {
            return Err(FooterError::Offset { offset, block });
        }
        let protected = self.blocks.checked_mul(block.into());
        match protected.is_some_and(|bytes| bytes > 0 && possible(bytes)) {
            true => Ok(()),
            false => Err(FooterError::Blocks(self.blocks)),
        }
    }
}

impl Raw {
    fn checksum(&self) -> u32 {
        let mut blank = self.clone();
        blank.checksum = 0.into();
        crc32fast::hash(blank.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn footer() -> Footer {
        Footer {
            roots: 2,
            offset: Bytes::new(16384),
            blocks: 131,
            block: 4096,
        }
    }

    /// The bytes with some of them replaced; the checksum is made good where that is asked for.
    fn changed(at: usize, bytes: &[u8], sealed: bool) -> Vec<u8> {
        let mut all = footer().encode().unwrap().to_vec();
        all[at..at + bytes.len()].copy_from_slice(bytes);
        if sealed {
            all[36..40].fill(0);
            let sum = crc32fast::hash(&all);
            all[36..40].copy_from_slice(&sum.to_le_bytes());
        }
        all
    }

    #[test]
    fn fields_are_where_the_format_says() {
        let bytes = footer().encode().unwrap();
        let start = "6464692d6665630001000000020000000040000000000000830000000000000000100000";
        assert_eq!(hex::encode(&bytes[..36]), start);
        assert!(bytes[40..].iter().all(|byte| *byte == 0));
        assert_eq!(Footer::parse(&bytes), Ok(Some(footer())));
    }

    #[test]
    fn what_is_no_footer_is_none() {
        let good = footer().encode().unwrap();
        for none in [
            &[][..],
            &[0; 4096],
            &good[1..],
            &[&good[..], &[0]].concat(),
            &changed(0, b"DDI-FEC\0", true),
        ] {
            assert_eq!(Footer::parse(none), Ok(None));
        }
    }

    #[test]
    fn footers_that_cannot_be_are_refused() {
        let offset = |offset, block| FooterError::Offset { offset, block };
        for (at, bytes, error) in [
            (8, &2_u32.to_le_bytes()[..], FooterError::Version(2)),
            (12, &0_u32.to_le_bytes(), FooterError::Roots(0)),
            (12, &1_u32.to_le_bytes(), FooterError::Roots(1)),
            (12, &25_u32.to_le_bytes(), FooterError::Roots(25)),
            (12, &258_u32.to_le_bytes(), FooterError::Roots(258)),
            (16, &4097_u64.to_le_bytes(), offset(4097, 4096)),
            (16, &(1_u64 << 63).to_le_bytes(), offset(1 << 63, 4096)),
            (24, &0_u64.to_le_bytes(), FooterError::Blocks(0)),
            (
                24,
                &(1_u64 << 51).to_le_bytes(),
                FooterError::Blocks(1 << 51),
            ),
            (24, &u64::MAX.to_le_bytes(), FooterError::Blocks(u64::MAX)),
            (32, &0_u32.to_le_bytes(), FooterError::BlockSize(0)),
            (32, &3072_u32.to_le_bytes(), FooterError::BlockSize(3072)),
            (
                32,
                &(1_u32 << 20).to_le_bytes(),
                FooterError::BlockSize(1 << 20),
            ),
            (40, &[1], FooterError::Rest),
            (4095, &[1], FooterError::Rest),
        ] {
            assert_eq!(Footer::parse(&changed(at, bytes, true)), Err(error));
        }
        for at in [13, 20, 30, 35, 36, 39, 40, 4095] {
            let found = Footer::parse(&changed(at, &[0x55], false));
            assert!(matches!(found, Err(FooterError::Checksum { .. })), "{at}");
        }
        let none = Footer {
            blocks: 0,
            ..footer()
        };
        assert_eq!(none.encode(), Err(FooterError::Blocks(0)));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(roots: u8, offset: u64, blocks: u64, shift in 0_u32..32) {
            let offset = Bytes::new(offset);
            let footer = Footer { roots, offset, blocks, block: 1 << shift };
            if let Ok(bytes) = footer.encode() {
                prop_assert_eq!(Footer::parse(&bytes), Ok(Some(footer)));
            }
        }
    }
}
