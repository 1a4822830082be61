//! The 512 bytes before each member. Pure.

use super::BLOCK;

/// Offsets and lengths of the fields (POSIX.1-1988 ustar).
pub(super) mod field {
    use std::ops::Range;

    pub(in super::super) const NAME: Range<usize> = 0..100;
    pub(in super::super) const MODE: Range<usize> = 100..108;
    pub(in super::super) const UID: Range<usize> = 108..116;
    pub(in super::super) const GID: Range<usize> = 116..124;
    pub(in super::super) const SIZE: Range<usize> = 124..136;
    pub(in super::super) const MTIME: Range<usize> = 136..148;
    pub(in super::super) const CHECKSUM: Range<usize> = 148..156;
    pub(in super::super) const TYPE: usize = 156;
    pub(in super::super) const LINK: Range<usize> = 157..257;
    pub(in super::super) const MAGIC: Range<usize> = 257..265;
    pub(in super::super) const MAJOR: Range<usize> = 329..337;
    pub(in super::super) const MINOR: Range<usize> = 337..345;
    pub(in super::super) const PREFIX: Range<usize> = 345..500;
}

/// The marks of the two dialects.
pub(super) const USTAR: &[u8; 8] = b"ustar\x0000";

/// A header as stored.
#[derive(Clone)]
pub(super) struct Header(pub(super) [u8; 512]);

const _: () = assert!(BLOCK == 512);

impl Header {
    /// A ustar header with all numbers zero.
    pub(super) fn new(kind: u8) -> Self {
        let mut header = Self([0; 512]);
        header.0[field::TYPE] = kind;
        header.0[field::MAGIC].copy_from_slice(USTAR);
        for numbers in [
            field::MODE,
            field::UID,
            field::GID,
            field::MAJOR,
            field::MINOR,
        ] {
            header.set_number(numbers, 0);
        }
        header.set_number(field::SIZE, 0);
        header.set_number(field::MTIME, 0);
        header
    }

    /// Stores a number in octal; `false` where it has too many digits.
    pub(super) fn set_number(&mut self, at: std::ops::Range<usize>, value: u64) -> bool {
        let digits = at.len() - 1;
        let text = format!("{value:0digits$o}");
        let fits = text.len() == digits;
        if fits {
            self.0[at.start..at.end - 1].copy_from_slice(text.as_bytes());
        }
        fits
    }

    /// Stores bytes; `false`, with as many as fit, where they are too long.
    pub(super) fn set_bytes(&mut self, at: std::ops::Range<usize>, value: &[u8]) -> bool {
        let length = value.len().min(at.len());
        self.0[at.start..at.start + length].copy_from_slice(&value[..length]);
        length == value.len()
    }

    /// Computes and stores the checksum: the last thing to do.
    pub(super) fn seal(&mut self) {
        let sum = self.sum();
        let text = format!("{sum:06o}\0 ");
        self.0[field::CHECKSUM].copy_from_slice(text.as_bytes());
    }

    /// Whether the checksum is right.
    pub(super) fn is_sound(&self) -> bool {
        self.number(field::CHECKSUM) == Some(i64::from(self.sum()))
    }

    fn sum(&self) -> u32 {
        let bytes = self.0.iter().enumerate();
        bytes
            .map(|(at, byte)| match field::CHECKSUM.contains(&at) {
                true => u32::from(b' '),
                false => u32::from(*byte),
            })
            .sum()
    }

    /// A number: octal, or base 256 (GNU) where the first bit is set. `None` where it is neither.
    pub(super) fn number(&self, at: std::ops::Range<usize>) -> Option<i64> {
        let bytes = &self.0[at];
        match bytes.first() {
            Some(first @ (0x80 | 0xff)) => {
                let start = if *first == 0xff { -1i64 } else { 0 };
                bytes[1..].iter().try_fold(start, |value, byte| {
                    value.checked_mul(256)?.checked_add(i64::from(*byte))
                })
            }
            _ => octal(bytes),
        }
    }

    /// A string up to its NUL.
    pub(super) fn text(&self, at: std::ops::Range<usize>) -> &[u8] {
        let bytes = &self.0[at];
        bytes.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

fn octal(bytes: &[u8]) -> Option<i64> {
    bytes
        .iter()
        .skip_while(|byte| **byte == b' ')
        .take_while(|byte| !matches!(byte, 0 | b' '))
        .try_fold(0i64, |value, byte| match byte {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
            _ => None,
        })
}
