//! What dm-log-writes recorded of a device, as effects for a [`Recording`](super::Recording): what the
//! whole stack above it really did, in the order in which it was flushed.
//!
//! The log is as the kernel's `Documentation/admin-guide/device-mapper/log-writes.rst` and its driver
//! have it: a sector with magic, version, number of entries and sector size; then each entry in a
//! sector of its own, with the data behind it.

use blockdev::memory::Event;
use image_specs::units::{Bytes, Extent};

const MAGIC: u64 = 0x6a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1 << 0;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// The effects that the log names, in order.
///
/// # Panics
///
/// If this is no such log, or it is cut off.
pub fn events(log: &[u8]) -> Vec<Event> {
    assert_eq!(number(log, 0), MAGIC, "this is no log of dm-log-writes");
    assert_eq!(number(log, 8), VERSION);
    let entries = number(log, 16);
    let sector = usize::try_from(number(log, 24) & 0xffff_ffff).unwrap();
    let mut events = Vec::new();
    let mut at = sector;
    for _ in 0..entries {
        at += entry(&log[at..], sector, &mut events);
    }
    events
}

/// Takes in the entry at the start of `log`; returns its size with its data.
fn entry(log: &[u8], sector: usize, events: &mut Vec<Event>) -> usize {
    let [first, count, flags] = [0, 8, 16].map(|at| number(log, at));
    let unit = u64::try_from(sector).unwrap();
    let (offset, size) = (first * unit, count * unit);
    if flags & FLUSH != 0 {
        events.push(Event::Flush);
    }
    if flags & DISCARD != 0 {
        events.push(Event::Discard(Extent::new(
            Bytes::new(offset),
            Bytes::new(size),
        )));
        return sector;
    }
    if flags & MARK != 0 || size == 0 {
        return sector;
    }
    let end = sector + usize::try_from(size).unwrap();
    events.push(Event::Write {
        offset,
        bytes: log[sector..end].to_vec(),
    });
    if flags & FUA != 0 {
        events.push(Event::Flush);
    }
    end
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_become_effects() {
        let mut log = Vec::new();
        let mut put = |numbers: &[u64], data: &[u8]| {
            let start = log.len();
            numbers
                .iter()
                .for_each(|number| log.extend(number.to_le_bytes()));
            log.resize(start + 512, 0);
            log.extend(data);
        };
        put(&[MAGIC, VERSION, 5, 512], &[]);
        put(&[2, 1, 0, 0], &[1; 512]);
        put(&[0, 0, FLUSH, 0], &[]);
        put(&[8, 16, DISCARD, 0], &[]);
        put(&[0, 0, MARK, 4], &[]);
        put(&[1, 1, FLUSH | FUA, 0], &[2; 512]);
        let write = |offset, byte| Event::Write {
            offset,
            bytes: vec![byte; 512],
        };
        let discarded = Extent::new(Bytes::new(4096), Bytes::new(8192));
        assert_eq!(
            events(&log),
            [
                write(1024, 1),
                Event::Flush,
                Event::Discard(discarded),
                Event::Flush,
                write(512, 2),
                Event::Flush,
            ]
        );
    }
}
