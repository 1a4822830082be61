//! The data of a file, read from the image when it is asked for.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use filetree::{Content, ReadAt, ReadError};

use super::data::Sums;
use super::extent::{self, Origin, Piece};
use super::field::{narrow, wide};
use super::key::{Key, kind};
use super::subvolume::Subvolume;
use super::{Volume, compression::Algorithm};

/// Which file, and what its inode says of its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose {
    pub(super) subvolume: Subvolume,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) sums: Sums,
}

#[derive(Debug)]
struct File {
    volume: Arc<Volume>,
    size: u64,
    sums: Sums,
    /// In order, within the size.
    pieces: Vec<Piece>,
}

/// Finds the data of a file.
pub(super) fn content(volume: &Arc<Volume>, whose: &Whose) -> Result<Content, ReadError> {
    let pieces = pieces(volume, whose)?;
    if let [piece] = &pieces[..]
        && piece.range == (0..whose.size)
        && let Origin::Inline(bytes) = &piece.origin
        && let Some(bytes) = bytes.get(..narrow(whose.size))
    {
        return Ok(Content::from_bytes(bytes));
    }
    let mut data: Vec<Range<u64>> = Vec::new();
    for piece in &pieces {
        match data.last_mut() {
            Some(last) if last.end == piece.range.start => last.end = piece.range.end,
            _ => data.push(piece.range.clone()),
        }
    }
    let file = File {
        volume: Arc::clone(volume),
        size: whose.size,
        sums: whose.sums,
        pieces,
    };
    Ok(Content::from_reader(Arc::new(file), whose.size, data))
}

/// Finds the pieces, which are no more than the tree has items for.
fn pieces(volume: &Volume, whose: &Whose) -> Result<Vec<Piece>, ReadError> {
    let mut pieces = Vec::new();
    let mut end = 0;
    let root = &whose.subvolume.root;
    let mut items = volume.items(root, Key::new(whose.inode, kind::EXTENT_DATA, 0))?;
    while let Some(item) = items.next()? {
        if (item.key.object, item.key.kind) != (whose.inode, kind::EXTENT_DATA) {
            break;
        }
        let (mut range, origin) = extent::parse(volume, &item)?;
        if range.start < end {
            return Err(volume.damaged(&item, "the extents of a file overlap"));
        }
        end = range.end;
        range.end = range.end.min(whose.size);
        if let Some(origin) = origin.filter(|_| !range.is_empty()) {
            pieces.push(Piece { range, origin });
        }
    }
    Ok(pieces)
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(wide(buffer.len()));
        let end = end.filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let first = self
            .pieces
            .partition_point(|piece| piece.range.end <= offset);
        let (mut at, mut rest) = (offset, buffer);
        for piece in &self.pieces[first..] {
            let part = piece.range.start.clamp(at, end)..piece.range.end.min(end);
            if part.is_empty() {
                break;
            }
            let (hole, behind) = rest.split_at_mut(narrow(part.start - at));
            let (data, behind) = behind.split_at_mut(narrow(part.end - part.start));
            hole.fill(0);
            self.fill(data, piece, part.start - piece.range.start)
                .map_err(ReadError::into_io)?;
            (at, rest) = (part.end, behind);
        }
        rest.fill(0);
        Ok(())
    }

    fn memory(&self) -> usize {
        self.pieces.iter().map(Piece::memory).sum()
    }
}

impl File {
    /// Fills `buffer` with the bytes of a piece from `within` on.
    fn fill(&self, buffer: &mut [u8], piece: &Piece, within: u64) -> Result<(), ReadError> {
        match &piece.origin {
            Origin::Inline(bytes) => copy(bytes, within, buffer),
            Origin::InlinePacked(algorithm, packed) => {
                copy(
                    &self.inline(*algorithm, packed, &piece.range)?,
                    within,
                    buffer,
                );
            }
            Origin::Plain(address) => self.volume.data(address + within, buffer, self.sums)?,
            Origin::Packed { extent, skip } => {
                let plain = self.volume.unpacked(*extent, self.sums)?;
                copy(&plain, skip + within, buffer);
            }
        }
        Ok(())
    }

    fn inline(
        &self,
        algorithm: Algorithm,
        packed: &[u8],
        range: &Range<u64>,
    ) -> Result<Vec<u8>, ReadError> {
        let sector = narrow(self.volume.superblock.sector_size);
        let plain = algorithm.unpack(packed, narrow(range.end), sector);
        plain.ok_or_else(|| {
            let what = "compressed data within an inode is damaged";
            self.volume.source.damaged(super::superblock::OFFSET, what)
        })
    }
}

impl Piece {
    fn memory(&self) -> usize {
        size_of::<Self>().saturating_add(match &self.origin {
            Origin::Inline(bytes) | Origin::InlinePacked(_, bytes) => bytes.len(),
            Origin::Plain(_) | Origin::Packed { .. } => 0,
        })
    }
}

/// Copies from `from` on, with zeros where the bytes have ended.
fn copy(bytes: &[u8], from: u64, buffer: &mut [u8]) {
    let stored = bytes.get(narrow(from)..).unwrap_or_default();
    let (data, rest) = buffer.split_at_mut(stored.len().min(buffer.len()));
    data.copy_from_slice(&stored[..data.len()]);
    rest.fill(0);
}
