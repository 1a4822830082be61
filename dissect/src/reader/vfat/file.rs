//! A file's data: its clusters are looked up when it is read for the first time.

use std::io;
use std::sync::{Arc, OnceLock};

use filetree::{Content, ReadAt, ReadError};

use super::super::file::{Piece, Pieces};
use super::Volume;

#[derive(Debug)]
struct File {
    volume: Arc<Volume>,
    /// The first cluster, or 0.
    first: u32,
    size: u64,
    pieces: OnceLock<Pieces>,
}

/// The content of a file of `size` bytes. FAT knows no holes.
pub(super) fn content(volume: Arc<Volume>, first: u32, size: u64) -> Content {
    let file = File {
        volume,
        first,
        size,
        pieces: OnceLock::new(),
    };
    let data = if size == 0 { Vec::new() } else { vec![0..size] };
    Content::from_reader(Arc::new(file), size, data)
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let pieces = match self.pieces.get() {
            Some(pieces) => pieces,
            None => {
                let found = self.pieces().map_err(ReadError::into_io)?;
                self.pieces.get_or_init(|| found)
            }
        };
        pieces.read_exact_at(buffer, offset)
    }
}

impl File {
    fn pieces(&self) -> Result<Pieces, ReadError> {
        let volume = &self.volume;
        let mut pieces: Vec<Piece> = Vec::new();
        let mut at = 0;
        let mut chain = volume.chain(self.first);
        while at < self.size {
            let Some(cluster) = chain.next() else {
                let what = "a file has fewer clusters than bytes";
                return Err(volume.source.damaged(volume.boot.table, what));
            };
            let (_, start) = cluster?;
            let end = (at + volume.boot.cluster).min(self.size);
            match pieces.last_mut() {
                Some(last) if last.start + (at - last.range.start) == start => last.range.end = end,
                _ => pieces.push(Piece {
                    range: at..end,
                    start,
                }),
            }
            at = end;
        }
        Ok(Pieces::new(Arc::clone(&volume.source), self.size, pieces))
    }
}
