//! Crash harness: what a disk may hold after a power cut during a recorded run.
//!
//! Between two flushes a disk may have done any of the effects asked for, in any order, and of one
//! write any of its sectors; what was flushed is there. A sector itself is old or new, never half.
//! From a log of [`MemoryDevice`](blockdev::MemoryDevice) this makes: every prefix; every prefix with
//! a first, and with a last, part of the next write; every subset of the writes since the flush (a
//! bounded choice where they are many); and a bounded choice of arbitrary subsets of their sectors.

mod image;
pub mod log_writes;

use blockdev::memory::Event;
use image_specs::units::SectorSize;

pub use image::Image;

/// With so many effects between two flushes, all subsets are tried.
const ALL_SUBSETS: usize = 8;
/// How many arbitrary subsets of effects, and of sectors, are tried between two flushes.
const SAMPLES: u64 = 64;
/// How many places a write is torn at.
const TEARS: usize = 64;

/// A recorded run, ready to be cut.
#[derive(Debug)]
pub struct Recording<'a> {
    before: Image,
    log: &'a [Event],
    sector: usize,
    torn: bool,
}

/// Sees each state with a word on where the power failed.
type Judge<'j> = &'j mut dyn FnMut(&str, &Image);

impl<'a> Recording<'a> {
    /// A run that started on a disk with the bytes `before`.
    pub fn new(before: Vec<u8>, log: &'a [Event], sector: SectorSize) -> Self {
        Self {
            before: Image::new(&before, sector),
            log,
            sector: usize::try_from(sector.get()).unwrap(),
            torn: true,
        }
    }

    /// The same with writes that are done as a whole or not at all: a tenth of the states, for logs
    /// of many effects.
    #[must_use]
    pub fn whole_writes(self) -> Self {
        Self {
            torn: false,
            ..self
        }
    }

    /// Shows the bytes of every state to `judge` and returns how many there were.
    pub fn crash_everywhere(&self, judge: &mut dyn FnMut(&str, &[u8])) -> usize {
        self.images(&mut |word, image| judge(word, &image.to_vec()))
    }

    /// Shows every state to `judge` and returns how many there were.
    pub fn images(&self, judge: Judge<'_>) -> usize {
        let mut count = 0;
        let mut state = self.before.clone();
        let mut counted = |word: &str, bytes: &Image| {
            count += 1;
            judge(word, bytes);
        };
        counted("before anything", &state);
        for (number, epoch) in self.log.split_inclusive(ends_epoch).enumerate() {
            let word = |what: String| format!("epoch {number}: {what}");
            self.prefixes(&state, epoch, &mut |what, bytes| {
                counted(&word(what.to_owned()), bytes);
            });
            self.subsets(&state, epoch, &mut |what, bytes| {
                counted(&word(what.to_owned()), bytes);
            });
            if self.torn {
                self.sector_subsets(&state, epoch, &mut |what, bytes| {
                    counted(&word(what.to_owned()), bytes);
                });
            }
            for event in epoch {
                apply(&mut state, event, &mut |_| true, self.sector);
            }
        }
        count
    }

    fn prefixes(&self, base: &Image, epoch: &[Event], judge: Judge<'_>) {
        let mut state = base.clone();
        for (index, event) in epoch.iter().enumerate() {
            let pieces = if self.torn { self.pieces(event) } else { 0 };
            for at in tears(pieces) {
                let mut front = state.clone();
                apply(&mut front, event, &mut |piece| piece < at, self.sector);
                judge(&format!("{at} first sectors of effect {index}"), &front);
                let mut back = state.clone();
                apply(&mut back, event, &mut |piece| piece >= at, self.sector);
                judge(&format!("all but {at} sectors of effect {index}"), &back);
            }
            apply(&mut state, event, &mut |_| true, self.sector);
            judge(&format!("effects to {index}"), &state);
        }
    }

    fn subsets(&self, base: &Image, epoch: &[Event], judge: Judge<'_>) {
        let all = epoch.len() <= ALL_SUBSETS;
        let choices = if all { 1 << epoch.len() } else { SAMPLES };
        let mut random = Random(1);
        for choice in 0..choices {
            let chosen = if all { choice } else { random.next() };
            let mut state = base.clone();
            for (index, event) in epoch.iter().enumerate() {
                if chosen >> (index % 64) & 1 == 1 {
                    apply(&mut state, event, &mut |_| true, self.sector);
                }
            }
            judge(&format!("subset {chosen:#x}"), &state);
        }
    }

    fn sector_subsets(&self, base: &Image, epoch: &[Event], judge: Judge<'_>) {
        let mut random = Random(2);
        for sample in 0..SAMPLES {
            let mut state = base.clone();
            for event in epoch {
                apply(
                    &mut state,
                    event,
                    &mut |_| random.next() & 1 == 1,
                    self.sector,
                );
            }
            judge(&format!("sectors at random, {sample}"), &state);
        }
    }

    fn pieces(&self, event: &Event) -> usize {
        match range(event) {
            Some((start, end)) => end.div_ceil(self.sector) - start / self.sector,
            None => 0,
        }
    }
}

/// A flush ends what may be reordered. So does a change of size: a file system journals it.
fn ends_epoch(event: &Event) -> bool {
    matches!(event, Event::Flush | Event::Resize(_))
}

fn tears(pieces: usize) -> impl Iterator<Item = usize> {
    (1..pieces).step_by(pieces.div_ceil(TEARS).max(1))
}

fn range(event: &Event) -> Option<(usize, usize)> {
    let of = |start: u64, size: u64| {
        let start = usize::try_from(start).unwrap();
        (start, start + usize::try_from(size).unwrap())
    };
    match event {
        Event::Write { offset, bytes } => Some(of(*offset, u64::try_from(bytes.len()).unwrap())),
        Event::Zero(extent) | Event::Discard(extent) => {
            Some(of(extent.start.get(), extent.size.get()))
        }
        Event::Resize(_) | Event::Flush => None,
    }
}

/// Does those sectors of an effect, numbered from its first one, that `wanted` says.
fn apply(state: &mut Image, event: &Event, wanted: &mut dyn FnMut(usize) -> bool, sector: usize) {
    if let Event::Resize(size) = event {
        state.resize(usize::try_from(*size).unwrap());
    }
    let Some((start, end)) = range(event) else {
        return;
    };
    let first = start / sector;
    for piece in first..end.div_ceil(sector) {
        if !wanted(piece - first) {
            continue;
        }
        let from = (piece * sector).max(start);
        let to = ((piece + 1) * sector).min(end);
        state.change(from..to, &mut |done, part| match event {
            Event::Write { bytes, .. } => {
                let at = from - start + done;
                part.copy_from_slice(&bytes[at..at + part.len()]);
            }
            Event::Zero(_) => part.fill(0),
            _ => part.fill(blockdev::memory::DISCARDED),
        });
    }
}

/// A fixed sequence that looks random (xorshift64*): a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn writes_between_flushes_come_in_any_order_and_no_other() {
        let write = |offset, byte| Event::Write {
            offset,
            bytes: vec![byte; 512],
        };
        let log = [write(0, 1), write(512, 2), Event::Flush, write(1024, 3)];
        let mut seen = BTreeSet::new();
        let recording = Recording::new(vec![0; 1536], &log, SectorSize::S512);
        let count = recording.crash_everywhere(&mut |_, bytes| {
            seen.insert([bytes[0], bytes[512], bytes[1024]]);
        });
        let expected = [[0, 0, 0], [1, 0, 0], [0, 2, 0], [1, 2, 0], [1, 2, 3]];
        assert_eq!(seen, BTreeSet::from(expected));
        assert!(count > seen.len());
    }

    #[test]
    fn writes_are_torn_at_sectors() {
        let log = [Event::Write {
            offset: 0,
            bytes: vec![1; 2048],
        }];
        let mut seen = BTreeSet::new();
        Recording::new(vec![0; 2048], &log, SectorSize::S512).crash_everywhere(&mut |_, bytes| {
            seen.insert([bytes[0], bytes[512], bytes[1024], bytes[1536]]);
            assert!(
                bytes
                    .chunks(512)
                    .all(|sector| sector.iter().all(|byte| *byte == sector[0]))
            );
        });
        for state in [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]] {
            assert!(seen.contains(&state));
        }
    }
}
