//! Encrypting ranges of a source, with all processors and bounded memory.
//!
//! Workers take pieces in turn, read and encrypt them; the caller's thread writes them as they come.
//! Buffers go round, so there are never more than a few for each worker.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use blockdev::io::{ReadAt, WriteAt};
use image_specs::units::Extent;

use super::{BulkError, Cipher};

/// Bytes of a piece: few enough to be in the second-level cache when they are encrypted.
const PIECE: u64 = 512 * 1024;
/// Buffers for each worker.
const BUFFERS: usize = 3;

/// A range could not be encrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source cannot be read.
    #[error("cannot read the data to encrypt at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The target cannot be written.
    #[error("cannot write encrypted data at byte {offset}")]
    Write {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// A range that does not begin and end with sectors.
    #[error("{size} bytes from {start} on are no whole sectors")]
    Unaligned {
        /// Its start.
        start: u64,
        /// Its size.
        size: u64,
    },
    /// It cannot be encrypted.
    #[error(transparent)]
    Cipher(#[from] BulkError),
}

/// A piece of the work.
type Piece = (u64, usize);
type Done = Result<(u64, Vec<u8>), CopyError>;

/// Encrypts `extents` of `source` into `target`, where offset 0 of both is the segment's start; what
/// lies between them is left alone. `threads` encrypt.
pub fn copy(
    cipher: &Cipher,
    source: &dyn ReadAt,
    target: &mut dyn WriteAt,
    extents: &[Extent],
    threads: NonZeroUsize,
) -> Result<(), CopyError> {
    let pieces = Mutex::new(pieces(cipher, extents)?);
    let (give_back, spare) = channel();
    for _ in 0..threads.get() * BUFFERS {
        let _ = give_back.send(Vec::new());
    }
    let spare = Mutex::new(spare);
    let (pieces, spare) = (&pieces, &spare);
    thread::scope(|scope| {
        let (give, take) = sync_channel(threads.get());
        for _ in 0..threads.get() {
            let give = give.clone();
            scope.spawn(move || work(cipher, source, pieces, spare, &give));
        }
        drop(give);
        // This end of both channels goes with it, and then the workers do.
        write(take, target, give_back)
    })
}

/// Writes what comes.
fn write(
    take: Receiver<Done>,
    target: &mut dyn WriteAt,
    give_back: Sender<Vec<u8>>,
) -> Result<(), CopyError> {
    for done in take {
        let (offset, bytes) = done?;
        let written = target.write_all_at(&bytes, offset);
        written.map_err(|source| CopyError::Write { offset, source })?;
        let _ = give_back.send(bytes);
    }
    Ok(())
}

fn pieces(
    cipher: &Cipher,
    extents: &[Extent],
) -> Result<impl Iterator<Item = Piece> + Send + use<>, CopyError> {
    let sector = cipher.sector_size().bytes().get();
    for extent in extents {
        let whole = extent.start.is_multiple_of(sector) && extent.size.is_multiple_of(sector);
        if !whole || extent.end().is_none() {
            return Err(CopyError::Unaligned {
                start: extent.start.get(),
                size: extent.size.get(),
            });
        }
    }
    let extents = extents.to_vec();
    Ok(extents.into_iter().flat_map(|extent| {
        let (start, size) = (extent.start.get(), extent.size.get());
        (0..size.div_ceil(PIECE)).map(move |index| {
            let done = index * PIECE;
            let length = usize::try_from((size - done).min(PIECE)).unwrap_or(usize::MAX);
            (start + done, length)
        })
    }))
}

/// Reads and encrypts pieces until there are none, or nobody wants them.
fn work(
    cipher: &Cipher,
    source: &dyn ReadAt,
    pieces: &Mutex<impl Iterator<Item = Piece>>,
    spare: &Mutex<Receiver<Vec<u8>>>,
    give: &SyncSender<Done>,
) {
    let mut worker = match cipher.encryptor() {
        Ok(worker) => worker,
        Err(error) => {
            let _ = give.send(Err(error.into()));
            return;
        }
    };
    loop {
        let buffer = spare.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let piece = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        let (Ok(mut buffer), Some((offset, length))) = (buffer, piece) else {
            return;
        };
        buffer.resize(length, 0);
        let read = source.read_exact_at(&mut buffer, offset);
        let done = read
            .map_err(|source| CopyError::Read { offset, source })
            .and_then(|()| Ok(worker.run(&mut buffer, offset / 512)?))
            .map(|()| (offset, buffer));
        let failed = done.is_err();
        if give.send(done).is_err() || failed {
            return;
        }
    }
}
