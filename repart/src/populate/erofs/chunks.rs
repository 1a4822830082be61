//! Files with holes: cut into chunks, of which only those with data are stored. Pure.

use std::ops::Range;

/// The largest chunk, as a power of two times the block size: holes may be coarser than that.
const MAX_SHIFT: u8 = 18;

/// A file's chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    /// A chunk is a block shifted by this.
    pub(super) shift: u8,
    /// How many chunks the file has.
    pub(super) count: u64,
    /// The chunks with data, in runs, in order.
    pub(super) stored: Vec<Range<u64>>,
    /// How many blocks the stored chunks take: the last chunk ends with the file.
    pub(super) blocks: u64,
}

impl Chunks {
    /// Cuts a file of `size` bytes whose `data` are no holes; `None` where that saves nothing.
    pub(super) fn cut(size: u64, data: &[Range<u64>], block_size: u64) -> Option<Self> {
        let written: u64 = data.iter().map(|range| range.end - range.start).sum();
        if size - written < block_size {
            return None;
        }
        let flat = size.div_ceil(block_size) * block_size;
        (0..=MAX_SHIFT)
            .rev()
            .map(|shift| Self::with_shift(size, data, block_size, shift))
            .min_by_key(|chunks| chunks.cost(block_size))
            .filter(|chunks| chunks.cost(block_size) < flat)
    }

    /// How many bytes are behind the inode.
    pub(super) fn table_size(&self) -> u64 {
        self.count * 4
    }

    /// Each stored chunk: its number and its first block, counted from the file's first one.
    pub(super) fn placed(&self) -> impl Iterator<Item = (u64, u64)> {
        let chunks = self.stored.iter().flat_map(Range::clone);
        // All before the last have the full size.
        chunks
            .enumerate()
            .map(|(position, chunk)| (chunk, super::length(position) << self.shift))
    }

    fn cost(&self, block_size: u64) -> u64 {
        self.table_size() + self.blocks * block_size
    }

    fn with_shift(size: u64, data: &[Range<u64>], block_size: u64, shift: u8) -> Self {
        let chunk = block_size << shift;
        let mut stored: Vec<Range<u64>> = Vec::new();
        for range in data {
            let (first, end) = (range.start / chunk, range.end.div_ceil(chunk));
            match stored.last_mut() {
                Some(last) if last.end >= first => last.end = end,
                _ => stored.push(first..end),
            }
        }
        let blocks = |run: &Range<u64>| {
            let end = (run.end * chunk).min(size);
            (end - run.start * chunk).div_ceil(block_size)
        };
        Self {
            shift,
            count: size.div_ceil(chunk),
            blocks: stored.iter().map(blocks).sum(),
            stored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_decide_the_chunk() {
        const GIB: u64 = 1 << 30;
        for (size, data, wanted) in [
            (8192, vec![0..8192], None),
            (8192, vec![0..5000], None), // no whole block saved
            (8192, vec![0..4096], Some((0, 2, 1))),
            (5 * GIB, vec![], Some((18, 5, 0))),
            (
                8 * GIB + 1,
                vec![4 * GIB..4 * GIB + 1],
                Some((11, 1025, 2048)),
            ),
            (12288, vec![0..10, 8192..12288], Some((0, 3, 2))),
        ] {
            let found = Chunks::cut(size, &data, 4096);
            let found = found.map(|chunks| (chunks.shift, chunks.count, chunks.blocks));
            assert_eq!(
                found.map(|(_, count, blocks)| (count, blocks)).is_some(),
                wanted.is_some(),
                "{size} {data:?}"
            );
            if wanted.is_some_and(|(shift, ..)| shift == 0 || shift == 18) {
                assert_eq!(found, wanted, "{size} {data:?}");
            }
        }
    }

    #[test]
    fn touching_runs_are_one() {
        let chunks = Chunks::with_shift(40960, &[0..10, 100..5000, 20000..20001], 4096, 1);
        assert_eq!(chunks.stored, [0..1, 2..3]);
        let placed: Vec<_> = chunks.placed().collect();
        assert_eq!(placed, [(0, 0), (2, 2)]);
    }
}
