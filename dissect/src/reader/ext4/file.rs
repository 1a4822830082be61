//! The data of a file, read from the image when it is asked for.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use filetree::{Content, ReadAt};

use super::super::source::Source;
use super::map::Extent;

/// A file by its extents; what is in none is a hole.
#[derive(Debug)]
struct File {
    source: Arc<Source>,
    size: u64,
    /// In order, within the size.
    pieces: Vec<Piece>,
}

/// Bytes of a file and where they begin in the image.
#[derive(Debug)]
struct Piece {
    range: Range<u64>,
    start: u64,
}

/// Bytes with zeros behind them.
#[derive(Debug)]
struct Short {
    bytes: Vec<u8>,
    size: u64,
}

/// The content of `size` bytes in `extents`, which lie within the image.
pub(super) fn content(source: Arc<Source>, size: u64, block: u64, extents: &[Extent]) -> Content {
    let pieces: Vec<Piece> = extents
        .iter()
        .map(|extent| {
            let start = extent.logical * block;
            Piece {
                range: start..(start + extent.length * block).min(size),
                start: extent.physical * block,
            }
        })
        .collect();
    let mut data: Vec<Range<u64>> = Vec::new();
    for piece in &pieces {
        match data.last_mut() {
            Some(last) if last.end == piece.range.start => last.end = piece.range.end,
            _ => data.push(piece.range.clone()),
        }
    }
    let file = File {
        source,
        size,
        pieces,
    };
    Content::from_reader(Arc::new(file), size, data)
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

impl ReadAt for File {
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
