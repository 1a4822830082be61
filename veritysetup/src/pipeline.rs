//! Work on all chunks of something, by several threads and in order, with bounded memory; and the
//! digests of all data blocks, made that way.
//!
//! Workers take chunks of the data in turn, read each into a buffer of their own (never a mapping:
//! a file that shrinks must be an error, not a signal) and hash it. The caller's thread receives
//! the chunks in order; workers do not run further ahead of it than a window.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::hasher::{BlockHasher, HashError};
use crate::io::ReadAt;
use crate::params::Params;

/// Bytes that a worker reads at once: few enough to still be in the second-level cache when they
/// are hashed, many enough that handing them on costs nothing.
const CHUNK: u64 = 512 * 1024;

/// How many chunks the workers may be ahead of the consumer, in all.
const WINDOW: u64 = 32;

/// Why the data's digests cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The data cannot be read.
    #[error("cannot read the data at byte {offset}")]
    Read {
        /// Where the read began.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// It cannot be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// The digests of some data blocks that follow each other.
pub(crate) struct Digests {
    /// The first block's index.
    pub(crate) first: u64,
    /// The digests, back to back.
    pub(crate) bytes: Vec<u8>,
}

/// Calls `consume` with the digests of all data blocks, in order, until it fails.
pub(crate) fn run<E: From<DataError>>(
    params: &Params,
    data: &dyn ReadAt,
    threads: NonZeroUsize,
    mut consume: impl FnMut(Digests) -> Result<(), E>,
) -> Result<(), E> {
    let job = Job {
        data,
        hasher: BlockHasher::new(params, params.data_block).map_err(DataError::from)?,
        block: params.data_block.in_memory(),
        blocks: params.data_blocks,
        blocks_per_chunk: (CHUNK / params.data_block.get()).max(1),
    };
    let chunks = params.data_blocks.div_ceil(job.blocks_per_chunk);
    let work = |chunk, buffer: &mut Buffer| job.hash(chunk, buffer);
    in_order(chunks, threads, work, |chunk, bytes| {
        let first = chunk * job.blocks_per_chunk;
        consume(Digests { first, bytes })
    })
}

/// Does `work` for each chunk from 0 to `chunks`, several at a time, and calls `consume` with the
/// results in order, until one of the two fails.
pub(crate) fn in_order<S: Default, T: Send, W: Send, E: From<W>>(
    chunks: u64,
    threads: NonZeroUsize,
    work: impl Fn(u64, &mut S) -> Result<T, W> + Sync,
    mut consume: impl FnMut(u64, T) -> Result<(), E>,
) -> Result<(), E> {
    let tickets = Tickets::new(chunks);
    let count = u64::try_from(threads.get()).unwrap_or(u64::MAX);
    thread::scope(|scope| {
        let (sender, receiver) = channel();
        for _ in 0..count.min(chunks) {
            let sender = sender.clone();
            let (tickets, work) = (&tickets, &work);
            scope.spawn(move || labour(tickets, work, &sender));
        }
        drop(sender);
        let _stop = StopOnDrop(&tickets);
        drain(&tickets, &receiver, &mut consume)
    })
}

/// What a worker does: with scratch of its own, until nothing is left or something fails.
fn labour<S: Default, T, W>(
    tickets: &Tickets,
    work: &impl Fn(u64, &mut S) -> Result<T, W>,
    sender: &Sender<Done<T, W>>,
) {
    let mut scratch = S::default();
    while let Some(chunk) = tickets.take() {
        let result = work(chunk, &mut scratch);
        let failed = result.is_err();
        if sender.send(Done { chunk, result }).is_err() || failed {
            break;
        }
    }
}

/// Passes the chunks on in order.
fn drain<T, W, E: From<W>>(
    tickets: &Tickets,
    receiver: &Receiver<Done<T, W>>,
    consume: &mut impl FnMut(u64, T) -> Result<(), E>,
) -> Result<(), E> {
    let mut early = BTreeMap::new();
    let mut wanted = 0;
    // The channel closes when all chunks are taken, or a worker has panicked (which the scope
    // passes on).
    while let Ok(Done { chunk, result }) = receiver.recv() {
        early.insert(chunk, result);
        while let Some(result) = early.remove(&wanted) {
            consume(wanted, result?)?;
            wanted += 1;
            tickets.allow(wanted + WINDOW);
        }
    }
    Ok(())
}

struct Job<'a> {
    data: &'a dyn ReadAt,
    hasher: BlockHasher,
    block: usize,
    blocks: u64,
    blocks_per_chunk: u64,
}

struct Done<T, W> {
    chunk: u64,
    result: Result<T, W>,
}

impl Job<'_> {
    fn hash(&self, chunk: u64, buffer: &mut Buffer) -> Result<Vec<u8>, DataError> {
        let first = chunk * self.blocks_per_chunk;
        let count = (self.blocks - first).min(self.blocks_per_chunk);
        let count = usize::try_from(count).unwrap_or_else(|_| unreachable!("a chunk is small"));
        let buffer = buffer.of_size(count * self.block);
        // Levels::new has checked that the whole size fits.
        let offset = first * u64::try_from(self.block).unwrap_or(u64::MAX);
        self.data
            .read_exact_at(buffer, offset)
            .map_err(|source| DataError::Read { offset, source })?;
        Ok(self.hasher.digests(buffer)?)
    }
}

/// Memory to read into, aligned so that neither the kernel's copy nor the hash crosses cache lines.
#[derive(Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    const ALIGNMENT: usize = 4096;

    pub(crate) fn of_size(&mut self, size: usize) -> &mut [u8] {
        if self.0.len() < size + Self::ALIGNMENT {
            self.0 = vec![0; size + Self::ALIGNMENT];
        }
        let start = self.0.as_ptr().addr().wrapping_neg() % Self::ALIGNMENT;
        &mut self.0[start..start + size]
    }
}

/// Hands out chunk numbers, within the window.
struct Tickets {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    next: u64,
    allowed: u64,
    end: u64,
    /// How many workers wait for the window to move.
    waiting: u32,
}

impl Tickets {
    fn new(end: u64) -> Self {
        Self {
            state: Mutex::new(State {
                next: 0,
                allowed: WINDOW,
                end,
                waiting: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// The next chunk to work on, waiting for the window; `None` when there are no more.
    fn take(&self) -> Option<u64> {
        let mut state = self.lock();
        state.waiting += 1;
        state = self
            .changed
            .wait_while(state, |state| {
                state.next < state.end && state.next >= state.allowed
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        let chunk = state.next;
        (chunk < state.end).then(|| {
            state.next += 1;
            chunk
        })
    }

    fn allow(&self, allowed: u64) {
        let mut state = self.lock();
        state.allowed = allowed;
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the workers end when the consumer has.
struct StopOnDrop<'a>(&'a Tickets);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.lock().end = 0;
        self.0.changed.notify_all();
    }
}
