//! An entry of a directory, and the time in it. Pure.

use filetree::Timestamp;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of an entry.
pub(super) const SIZE: usize = 32;

const READ_ONLY: u8 = 0x01;
const VOLUME: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
/// The attributes of a part of a long name.
const LONG: u8 = 0x0f;
const DELETED: u8 = 0xe5;

/// As stored; every value is possible.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawEntry {
    pub(super) name: [u8; 11],
    attributes: u8,
    pub(super) case: u8,
    _created: [u8; 7],
    cluster_high: U16,
    time: U16,
    date: U16,
    cluster_low: U16,
    pub(super) size: U32, // bytes
}
const _: () = assert!(size_of::<RawEntry>() == SIZE);

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Nothing, or the label of the volume.
    Nothing,
    /// A part of a long name.
    LongName,
    /// `.` or `..`.
    Dots,
    /// A file or directory.
    File,
}

impl RawEntry {
    pub(super) fn used(&self) -> Use {
        if self.name[0] == DELETED {
            Use::Nothing
        } else if self.attributes == LONG {
            Use::LongName
        } else if self.name[0] == 0 || self.attributes & VOLUME != 0 {
            Use::Nothing
        } else if matches!(&self.name, b".          " | b"..         ") {
            Use::Dots
        } else {
            Use::File
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        self.attributes & DIRECTORY != 0
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.attributes & READ_ONLY != 0
    }

    /// The first cluster, or 0. Only FAT32 has more than 16 bits.
    pub(super) fn cluster(&self, wide: bool) -> u32 {
        let high = if wide { self.cluster_high.get() } else { 0 };
        u32::from(high) << 16 | u32::from(self.cluster_low.get())
    }

    /// The time of the last change, taken as UTC, in steps of two seconds.
    pub(super) fn mtime(&self) -> Timestamp {
        let (date, time) = (i64::from(self.date.get()), i64::from(self.time.get()));
        let month = (date >> 5 & 0xf).max(1);
        let day = (date & 0x1f).max(1);
        let seconds = (time & 0x1f) * 2 + (time >> 5 & 0x3f) * 60 + (time >> 11) * 3600;
        Timestamp {
            seconds: (days(date >> 9, month) + day - 1) * 86400 + seconds,
            nanoseconds: 0,
        }
    }
}

/// Days from 1970 to the first of a month, with years counted from 1980, at most 127. Months behind
/// December begin with the year, as Linux has it.
fn days(year: i64, month: i64) -> i64 {
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    const YEAR_2100: i64 = 120;
    let index = usize::try_from(month - 1).unwrap_or(0);
    let mut leap = (year + 3) / 4;
    if year > YEAR_2100 {
        leap -= 1;
    }
    if year % 4 == 0 && year != YEAR_2100 && month > 2 {
        leap += 1;
    }
    3652 + year * 365 + leap + BEFORE.get(index).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds are those of `date -u +%s`.
    #[test]
    fn times() {
        let stamp = |date: (u16, u16, u16), time: (u16, u16, u16)| {
            let mut bytes = [0; SIZE];
            let date = ((date.0 - 1980) << 9) + (date.1 << 5) + date.2;
            let time = (time.0 << 11) + (time.1 << 5) + time.2 / 2;
            bytes[22..24].copy_from_slice(&time.to_le_bytes());
            bytes[24..26].copy_from_slice(&date.to_le_bytes());
            let entry: RawEntry = zerocopy::transmute!(bytes);
            entry.mtime().seconds
        };
        for (date, time, wanted) in [
            ((1980, 1, 1), (0, 0, 0), 315_532_800),
            ((1980, 0, 0), (0, 0, 0), 315_532_800),
            ((2000, 2, 29), (23, 59, 58), 951_868_798),
            ((2024, 3, 1), (12, 30, 10), 1_709_296_210),
            ((2100, 3, 1), (0, 0, 0), 4_107_542_400),
            ((2107, 12, 31), (0, 0, 0), 4_354_732_800),
        ] {
            assert_eq!(stamp(date, time), wanted, "{date:?}");
        }
    }
}
