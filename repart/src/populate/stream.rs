//! Gathers small writes that follow each other into large ones.

use std::io;

use filetree::{ContentError, OpenContent, WriteAt, WriteError};

/// How much is gathered before it is written.
const FULL: usize = 1024 * 1024;
/// One place of writing that moves mostly forward. What is not flushed is lost.
#[derive(Debug)]
pub(super) struct Stream {
    block_size: u64,
    start: u64,
    pending: Vec<u8>,
}

impl Stream {
    /// Gaps of less than `block_size` bytes are filled with zeros rather than left out: they lie in
    /// the blocks written before and after.
    pub(super) fn new(block_size: u64) -> Self {
        Self {
            block_size,
            start: 0,
            pending: Vec::new(),
        }
    }

    /// Writes `bytes` at `offset`, at the latest when [`Stream::flush`] is called.
    pub(super) fn put(
        &mut self,
        target: &mut dyn WriteAt,
        bytes: &[u8],
        offset: u64,
    ) -> Result<(), WriteError> {
        self.seek(target, offset)?;
        self.pending.extend_from_slice(bytes);
        self.relieve(target)
    }

    /// Copies `size` bytes of `content` from `from` to `offset`.
    pub(super) fn copy(
        &mut self,
        target: &mut dyn WriteAt,
        content: &OpenContent,
        (mut from, size): (u64, u64),
        mut offset: u64,
    ) -> Result<(), WriteError> {
        let end = from + size;
        while from < end {
            self.seek(target, offset)?;
            let room = FULL.saturating_sub(self.pending.len()).max(1);
            let part = usize::try_from(end - from).map_or(room, |left| left.min(room));
            let filled = self.pending.len();
            self.pending.resize(filled + part, 0);
            let read: Result<(), ContentError> =
                content.read_exact_at(&mut self.pending[filled..], from);
            read?;
            let part = length(part);
            from += part;
            offset += part;
            self.relieve(target)?;
        }
        Ok(())
    }

    /// Writes what is still pending.
    pub(super) fn flush(&mut self, target: &mut dyn WriteAt) -> Result<(), WriteError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let written: io::Result<()> = target.write_all_at(&self.pending, self.start);
        written.map_err(WriteError::Target)?;
        self.start += length(self.pending.len());
        self.pending.clear();
        Ok(())
    }

    fn relieve(&mut self, target: &mut dyn WriteAt) -> Result<(), WriteError> {
        match self.pending.len() >= FULL {
            true => self.flush(target),
            false => Ok(()),
        }
    }

    /// Makes `offset` the place where the next byte goes.
    fn seek(&mut self, target: &mut dyn WriteAt, offset: u64) -> Result<(), WriteError> {
        let end = self.start + length(self.pending.len());
        let gap = offset.checked_sub(end);
        match gap {
            Some(0) => {}
            Some(gap) if gap < self.block_size && !self.pending.is_empty() => {
                let fill = usize::try_from(gap).unwrap_or(0);
                self.pending.resize(self.pending.len() + fill, 0);
            }
            _ => {
                self.flush(target)?;
                self.start = offset;
            }
        }
        Ok(())
    }
}

/// A length in memory as a number of bytes on a disk.
pub(super) fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
