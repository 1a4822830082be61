//! Directory entries as they are stored. Pure.

use filetree::Timestamp;

use super::layout::{Directory, Entry};
use super::names::UNITS;
use super::parameters::Width;

const VOLUME: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const LONG_NAME: u8 = 0x0f;

/// Marks the entry that holds the end of a long name.
const LAST: u8 = 0x40;

/// A directory with all its entries; the root's begins with the label.
pub(super) fn encode(
    directory: &Directory,
    label: Option<(&[u8; 11], Timestamp)>,
    width: Width,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some((label, time)) = label {
        push(&mut bytes, label, VOLUME, Stamp::of(time), (0, 0), width);
    }
    if let Some(parent) = directory.parent {
        let time = Stamp::of(directory.time);
        let own = directory.cluster.unwrap_or(0);
        push(&mut bytes, b".          ", DIRECTORY, time, (own, 0), width);
        push(
            &mut bytes,
            b"..         ",
            DIRECTORY,
            time,
            (parent, 0),
            width,
        );
    }
    for entry in &directory.entries {
        push_long(&mut bytes, entry);
        let attributes = if entry.directory { DIRECTORY } else { ARCHIVE };
        let time = Stamp::of(entry.time);
        let place = (entry.cluster, entry.size);
        push(
            &mut bytes,
            &entry.name.short,
            attributes,
            time,
            place,
            width,
        );
    }
    bytes
}

fn push(
    bytes: &mut Vec<u8>,
    name: &[u8; 11],
    attributes: u8,
    time: Stamp,
    (cluster, size): (u32, u32),
    width: Width,
) {
    let [low, high] = [cluster & 0xffff, cluster >> 16]
        .map(|half| [half.to_le_bytes()[0], half.to_le_bytes()[1]]);
    let high = if width == Width::Fat32 { high } else { [0, 0] };
    bytes.extend_from_slice(name);
    // Created, read and changed are one moment: a tree knows no other.
    bytes.extend_from_slice(&[attributes, 0, time.hundredths]);
    bytes.extend_from_slice(&time.time.to_le_bytes());
    bytes.extend_from_slice(&time.date.to_le_bytes());
    bytes.extend_from_slice(&time.date.to_le_bytes());
    bytes.extend_from_slice(&high);
    bytes.extend_from_slice(&time.time.to_le_bytes());
    bytes.extend_from_slice(&time.date.to_le_bytes());
    bytes.extend_from_slice(&low);
    bytes.extend_from_slice(&size.to_le_bytes());
}

/// The long name's entries, its end first.
fn push_long(bytes: &mut Vec<u8>, entry: &Entry) {
    let sum = entry
        .name
        .short
        .iter()
        .fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let parts: Vec<_> = entry.name.long.chunks(UNITS).zip(1u8..).collect();
    for (index, (part, number)) in parts.iter().rev().enumerate() {
        // What is left of the last one: a NUL, then ones.
        let filler = std::iter::once(0).chain(std::iter::repeat(0xffff));
        let units: Vec<u8> = part
            .iter()
            .copied()
            .chain(filler)
            .take(UNITS)
            .flat_map(u16::to_le_bytes)
            .collect();
        bytes.push(if index == 0 { number | LAST } else { *number });
        bytes.extend_from_slice(&units[..10]);
        bytes.extend_from_slice(&[LONG_NAME, 0, sum]);
        bytes.extend_from_slice(&units[10..22]);
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&units[22..]);
    }
}

/// A moment in UTC as FAT has it: two seconds' steps from 1980 to 2107.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    date: u16,
    time: u16,
    /// What is missing to the moment of creation, 0 to 199.
    hundredths: u8,
}

const FIRST: i64 = 315_532_800; // 1980-01-01
const LAST_MOMENT: i64 = 4_354_819_199; // 2107-12-31 23:59:59

impl Stamp {
    fn of(time: Timestamp) -> Self {
        let seconds = time.seconds.clamp(FIRST, LAST_MOMENT);
        let (year, month, day) = civil(seconds / 86_400);
        let in_day = seconds % 86_400;
        let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
        Self {
            date: small((year - 1980) << 9 | month << 5 | day),
            time: small(hour << 11 | minute << 5 | (second / 2)),
            hundredths: if second % 2 == 1 { 100 } else { 0 },
        }
    }
}

/// Year, month and day of a day after 1970.
fn civil(mut days: i64) -> (i64, i64, i64) {
    let mut year = 1970;
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    let february = 28 + i64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn small(value: i64) -> u16 {
    u16::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_encoded() {
        for (seconds, date, time, hundredths) in [
            (0, (1, 1, 0), (0, 0, 0), 0),
            (1_612_325_107, (2, 3, 41), (4, 5, 3), 100), // 2021-02-03 04:05:07
            (1_709_251_199, (2, 29, 44), (23, 59, 29), 100), // 2024-02-29 23:59:59
            (i64::MAX, (12, 31, 127), (23, 59, 29), 100),
        ] {
            let stamp = Stamp::of(Timestamp {
                seconds,
                nanoseconds: 0,
            });
            assert_eq!(stamp.date, date.2 << 9 | date.0 << 5 | date.1, "{seconds}");
            assert_eq!(stamp.time, time.0 << 11 | time.1 << 5 | time.2, "{seconds}");
            assert_eq!(stamp.hundredths, hundredths, "{seconds}");
        }
    }
}
