//! Forward error correction: parity that repairs data and hash tree, as veritysetup and the kernel
//! have it.
//!
//! `Params + Roots → Layout`: [`encode`] reads data and tree once and writes parity. Several threads
//! take some rounds each, which lie together in as many places as a code word has symbols; memory is
//! bounded. [`repair`] puts right what the tree shows to be wrong, and believes only what the tree then
//! confirms. Formats: [`Layout`] for places, the module `code` for the code.

mod area;
mod code;
mod decode;
mod field;
mod input;
mod layout;
mod repair;

use std::io;
use std::num::NonZeroUsize;

pub use area::{Area, AreaError, device_size_at_most};
pub use input::Place;
pub use layout::{Layout, LayoutError, Roots};
pub use repair::{Outcome, RepairError, Sources, repair};

use crate::io::{ReadAt, WriteAt};
use crate::pipeline::{self, Buffer};
use code::{Encoder, Syndromes};
use input::Input;

/// Bytes of a row, at most (if a block is not larger): one row for each root and that which is read
/// fit into the second-level cache.
const ROW: u64 = 64 * 1024;

/// Why parity cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Data or tree cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Parity cannot be written.
    #[error("cannot write parity at byte {offset}")]
    Write {
        /// Where, from the start of the parity.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

/// Something that is protected, or its parity, cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the {what} at byte {offset}")]
pub struct ReadError {
    /// `data`, `hash tree` or `parity`.
    pub what: &'static str,
    /// Where, from its start.
    pub offset: u64,
    /// Why.
    pub source: io::Error,
}

/// Writes the parity of data and tree, with `threads` threads.
///
/// `hash` begins where the hash device does, `parity` where parity is to begin; it needs
/// [`Layout::size`] bytes, each of which is written once.
pub fn encode(
    layout: &Layout,
    (data, hash): (&dyn ReadAt, &dyn ReadAt),
    parity: &mut dyn WriteAt,
    threads: NonZeroUsize,
) -> Result<(), EncodeError> {
    let input = Input::new(layout, data, hash);
    let encoder = Encoder::new(layout.roots);
    let chunks = Chunks::new(layout);
    let work = |chunk, scratch: &mut Scratch| -> Result<Vec<u8>, ReadError> {
        let rounds = chunks.rounds(chunk);
        input.syndromes(&rounds, scratch)?;
        let zeros = vec![0; rounds.width];
        for _ in 0..layout.roots.count() {
            scratch.syndromes.push(&zeros);
        }
        let mut parity = vec![0; rounds.width * layout.roots.count()];
        encoder.parity(&scratch.syndromes, &mut parity);
        Ok(parity)
    };
    pipeline::in_order(chunks.count(), threads, work, |chunk, bytes: Vec<u8>| {
        let offset = chunks.rounds(chunk).parity_offset;
        let written = parity.write_all_at(&bytes, offset);
        written.map_err(|source| EncodeError::Write { offset, source })
    })
}

/// What a worker keeps from chunk to chunk.
#[derive(Default)]
struct Scratch {
    buffer: Buffer,
    syndromes: Syndromes,
}

/// How the rounds are dealt out.
struct Chunks<'a> {
    layout: &'a Layout,
    per_chunk: u64,
}

/// Rounds that are done at once.
struct Rounds {
    first: u64,
    /// Bytes of a row: blocks of one symbol of all the rounds.
    width: usize,
    /// Where their parity begins.
    parity_offset: u64,
}

impl Rounds {
    /// `count` rounds, which make a row that is small enough.
    fn new(layout: &Layout, first: u64, count: u64) -> Self {
        let width = usize::try_from(count * layout.block);
        Self {
            first,
            width: width.unwrap_or_else(|_| unreachable!("a row is small")),
            parity_offset: first * layout.block * u64::from(layout.roots.get()),
        }
    }
}

impl<'a> Chunks<'a> {
    fn new(layout: &'a Layout) -> Self {
        // Many roots need many rows.
        let row = ROW * 2 / u64::from(layout.roots.get());
        let most = (row / layout.block).max(1);
        // Small images have work for several threads, too.
        let per_chunk = most.min(layout.rounds.div_ceil(8)).max(1);
        Self { layout, per_chunk }
    }

    fn count(&self) -> u64 {
        self.layout.rounds.div_ceil(self.per_chunk)
    }

    fn rounds(&self, chunk: u64) -> Rounds {
        let first = chunk * self.per_chunk;
        let count = (self.layout.rounds - first).min(self.per_chunk);
        Rounds::new(self.layout, first, count)
    }
}
