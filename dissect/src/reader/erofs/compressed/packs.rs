//! Packed entries of the table of clusters: where each pack is, and what is in it. Pure.

use super::super::bytes::u32_at;
use super::{Header, advice};

/// In a distance: it is the number of blocks instead.
pub(super) const BLOCKS: u32 = 1 << 11;

/// Where the packs of each kind begin, and how many clusters they have: first some of 4 bytes, then
/// some of 2 bytes, then again of 4.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packs {
    start: u64,
    before: u64,
    dense: u64,
}

/// A pack, and which of its entries is meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pack {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) count: usize,
    pub(super) index: usize,
}

impl Packs {
    pub(super) fn new(clusters: u64, header: &Header) -> Self {
        let start = header.end;
        // Dense packs are aligned to their 32 bytes.
        let before = (32 - start % 32) / 4 % 8;
        let dense = match header.has(advice::COMPACT_2B) {
            true => clusters.saturating_sub(before) / 16 * 16,
            false => 0,
        };
        Self {
            start,
            before,
            dense,
        }
    }

    pub(super) fn pack(&self, number: u64) -> Pack {
        let dense_start = self.start.saturating_add(self.before * 4);
        let (start, number, width, count) = if number < self.before {
            (self.start, number, 4, 2)
        } else if number - self.before < self.dense {
            (dense_start, number - self.before, 2, 16)
        } else {
            let start = dense_start.saturating_add(self.dense * 2);
            (start, number - self.before - self.dense, 4, 2)
        };
        let place = number.saturating_mul(width).saturating_add(start);
        // Packs are aligned where they are stored, not within the table.
        let size = width * count;
        let start = place - place % size;
        Pack {
            start,
            end: start.saturating_add(size),
            count: if count == 2 { 2 } else { 16 },
            index: usize::try_from((place - start) / width).unwrap_or(0),
        }
    }
}

/// The entries of a pack: bits in a row, a number first, then two bits for the kind.
pub(super) struct Entries<'a> {
    raw: &'a [u8],
    /// Bits of an entry.
    width: usize,
    /// Bits of its number.
    low: u8,
}

impl<'a> Entries<'a> {
    pub(super) fn new(raw: &'a [u8], count: usize, bits: u8) -> Self {
        Self {
            raw,
            width: (raw.len() - 4) * 8 / count,
            low: bits.max(12),
        }
    }

    pub(super) fn at(&self, index: usize) -> (u16, u32) {
        let bit = index * self.width;
        let word = u32_at(self.raw, bit / 8) >> (bit % 8);
        let kind = u16::try_from(word >> self.low & 3).unwrap_or(0);
        (kind, word & ((1 << self.low) - 1))
    }

    /// How many blocks the extents have that begin in the pack before this entry, counted so that
    /// the number at the pack's end and this one give the block. `None` if that is damaged.
    pub(super) fn blocks_before(&self, index: usize, big: bool) -> Option<u64> {
        let mut at = index;
        let mut blocks = u64::from(!big);
        while at > 0 {
            at -= 1;
            match self.at(at) {
                (2, low) if big && low & BLOCKS != 0 => {
                    blocks += u64::from(low & !BLOCKS);
                    at = at.saturating_sub(1);
                }
                // To the second cluster of its extent, which says how many blocks there are.
                (2, low) if big => at = at.saturating_sub(steps(low.checked_sub(2)?)),
                (2, low) => match at.checked_sub(steps(low)) {
                    Some(head) => {
                        at = head;
                        blocks += 1;
                    }
                    None => at = 0,
                },
                _ => blocks += 1,
            }
        }
        Some(blocks)
    }
}

fn steps(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
