//! Reading encrypted data.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use blockdev::io::ReadAt;

use super::{BulkError, Cipher, Worker};

/// Bytes that are decrypted at once.
const CHUNK: usize = 256 * 1024;

/// What `R` holds, decrypted. Offset 0 is the segment's start.
///
/// Where the image has a hole, what comes out is what dm-crypt would give as well: noise.
#[derive(Debug)]
pub struct Decrypting<R> {
    inner: R,
    cipher: Cipher,
    /// Those that no thread uses this moment: making one takes longer than a small read.
    idle: Mutex<Vec<Worker>>,
}

impl<R: ReadAt> Decrypting<R> {
    /// Reads a segment: `inner` begins where it begins.
    pub fn new(inner: R, cipher: Cipher) -> Self {
        Self {
            inner,
            cipher,
            idle: Mutex::default(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: ReadAt> ReadAt for Decrypting<R> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let idle = self.idle().pop();
        let mut worker = match idle {
            Some(worker) => worker,
            None => self.cipher.decryptor().map_err(other)?,
        };
        let read = decrypt(&mut worker, buffer, offset, |sectors, at| {
            self.inner.read_exact_at(sectors, at)
        });
        self.idle().push(worker);
        read
    }
}

/// Reads any bytes: `read` gives whole sectors, which are decrypted.
pub(super) fn decrypt(
    worker: &mut Worker,
    buffer: &mut [u8],
    offset: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let sector = worker.sector();
    let grain = u64::try_from(sector).unwrap_or(512);
    let mut scratch = Vec::new();
    let mut at = offset;
    let mut rest = buffer;
    while !rest.is_empty() {
        let inside = usize::try_from(at % grain).unwrap_or(0);
        let start = at - at % grain;
        // Whole sectors go where they are wanted, others take a way round.
        let (part, done) = if inside == 0 && rest.len() >= sector {
            let whole = rest.len() - rest.len() % sector;
            let (part, behind) = rest.split_at_mut(whole.min(CHUNK));
            read(part, start)?;
            worker.run(part, start / 512).map_err(other)?;
            let done = part.len();
            (behind, done)
        } else {
            scratch.resize(sector, 0);
            read(&mut scratch, start)?;
            worker.run(&mut scratch, start / 512).map_err(other)?;
            let (part, behind) = rest.split_at_mut(rest.len().min(sector - inside));
            part.copy_from_slice(&scratch[inside..inside + part.len()]);
            let done = part.len();
            (behind, done)
        };
        rest = part;
        at = u64::try_from(done)
            .ok()
            .and_then(|done| at.checked_add(done))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
    }
    Ok(())
}

pub(super) fn other(error: BulkError) -> io::Error {
    io::Error::other(error)
}
