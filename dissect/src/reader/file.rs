//! The data of files, read from the image when it is asked for.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use filetree::{Content, ReadAt};

use super::source::Source;

/// Bytes of a file and where they begin in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) range: Range<u64>,
    pub(super) start: u64,
}

/// A file by its pieces; what is in none is a hole.
#[derive(Debug)]
pub(super) struct Pieces {
    source: Arc<Source>,
    size: u64,
    pieces: Vec<Piece>,
}

/// Bytes with zeros behind them.
#[derive(Debug)]
struct Short {
    bytes: Vec<u8>,
    size: u64,
}

impl Pieces {
    /// A file of `size` bytes; the pieces are in order and within the size.
    pub(super) fn new(source: Arc<Source>, size: u64, pieces: Vec<Piece>) -> Self {
        Self {
            source,
            size,
            pieces,
        }
    }

    /// What is no hole.
    pub(super) fn content(self) -> Content {
        let mut data: Vec<Range<u64>> = Vec::new();
        for piece in &self.pieces {
            match data.last_mut() {
                Some(last) if last.end == piece.range.start => last.end = piece.range.end,
                _ => data.push(piece.range.clone()),
            }
        }
        let size = self.size;
        Content::from_reader(Arc::new(self), size, data)
    }
}

/// The content of a file of `size` bytes that begins with `bytes`; the rest is a hole.
pub(super) fn short(mut bytes: Vec<u8>, size: u64) -> Content {
    bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if length == size {
        return Content::from_bytes(bytes);
    }
    let data = if length == 0 {
        Vec::new()
    } else {
        vec![0..length]
    };
    Content::from_reader(Arc::new(Short { bytes, size }), size, data)
}

impl ReadAt for Pieces {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let wanted = within(buffer, offset, self.size)?;
        let first = self
            .pieces
            .partition_point(|piece| piece.range.end <= offset);
        let mut at = offset;
        let mut rest = buffer;
        for piece in &self.pieces[first..] {
            let start = piece.range.start.clamp(at, wanted.end);
            let end = piece.range.end.min(wanted.end);
            if start >= end {
                break;
            }
            let (hole, behind) = rest.split_at_mut(length(start - at));
            let (data, behind) = behind.split_at_mut(length(end - start));
            hole.fill(0);
            let place = piece.start + (start - piece.range.start);
            self.source
                .read(place, data)
                .map_err(filetree::ReadError::into_io)?;
            (at, rest) = (end, behind);
        }
        rest.fill(0);
        Ok(())
    }
}

impl ReadAt for Short {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        within(buffer, offset, self.size)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let stored = self.bytes.get(start..).unwrap_or_default();
        let (data, rest) = buffer.split_at_mut(stored.len().min(buffer.len()));
        data.copy_from_slice(&stored[..data.len()]);
        rest.fill(0);
        Ok(())
    }
}

/// The bytes of the file that are asked for.
fn within(buffer: &[u8], offset: u64, size: u64) -> io::Result<Range<u64>> {
    let length = u64::try_from(buffer.len()).ok();
    let end = length.and_then(|length| offset.checked_add(length));
    match end.filter(|end| *end <= size) {
        Some(end) => Ok(offset..end),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A part of a buffer.
fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
