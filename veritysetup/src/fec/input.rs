//! What is protected, read in the order of code words.

use super::layout::Layout;
use super::{ReadError, Rounds, Scratch};
use crate::io::ReadAt;

/// Data, tree and the zeros behind, as one row of blocks.
pub(super) struct Input<'a> {
    layout: &'a Layout,
    data: &'a dyn ReadAt,
    hash: &'a dyn ReadAt,
}

/// Where a protected block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this byte of the data.
    Data(u64),
    /// At this byte of the hash device.
    Hash(u64),
    /// It is no block: it counts as zeros.
    Nowhere,
}

impl<'a> Input<'a> {
    pub(super) fn new(layout: &'a Layout, data: &'a dyn ReadAt, hash: &'a dyn ReadAt) -> Self {
        Self { layout, data, hash }
    }

    /// Reads all symbols but the parity of some rounds into `scratch.syndromes`.
    pub(super) fn syndromes(
        &self,
        rounds: &Rounds,
        scratch: &mut Scratch,
    ) -> Result<(), ReadError> {
        let Scratch { buffer, syndromes } = scratch;
        let row = buffer.of_size(rounds.width);
        syndromes.reset(self.layout.roots, rounds.width);
        let mut block = rounds.first;
        for _ in 0..self.layout.roots.message() {
            self.read(row, block)?;
            syndromes.push(row);
            block += self.layout.rounds;
        }
        Ok(())
    }

    /// The block at a place.
    pub(super) fn block(&self, place: Place) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; usize::try_from(self.layout.block).unwrap_or(0)];
        self.fill(&mut bytes, place)?;
        Ok(bytes)
    }

    /// Fills `buffer` with the blocks from `first` on.
    fn read(&self, buffer: &mut [u8], first: u64) -> Result<(), ReadError> {
        let block = usize::try_from(self.layout.block).unwrap_or(usize::MAX);
        let (mut rest, mut at) = (buffer, first);
        while !rest.is_empty() {
            let (place, end) = self.layout.place(at);
            let count = usize::try_from(end - at).unwrap_or(usize::MAX);
            let size = count.saturating_mul(block).min(rest.len());
            let (part, others) = rest.split_at_mut(size);
            self.fill(part, place)?;
            rest = others;
            at = end;
        }
        Ok(())
    }

    fn fill(&self, part: &mut [u8], place: Place) -> Result<(), ReadError> {
        let (what, from, offset) = match place {
            Place::Data(offset) => ("data", self.data, offset),
            Place::Hash(offset) => ("hash tree", self.hash, offset),
            Place::Nowhere => {
                part.fill(0);
                return Ok(());
            }
        };
        let read = from.read_exact_at(part, offset);
        read.map_err(|source| ReadError {
            what,
            offset,
            source,
        })
    }
}

impl Layout {
    /// Where a block is, and the first that is not in the same place as those before it.
    pub(super) fn place(&self, block: u64) -> (Place, u64) {
        if block < self.data_blocks {
            (Place::Data(block * self.block), self.data_blocks)
        } else if block < self.blocks {
            let offset = self.tree_start + (block - self.data_blocks) * self.block;
            (Place::Hash(offset), self.blocks)
        } else {
            (Place::Nowhere, u64::MAX)
        }
    }
}
