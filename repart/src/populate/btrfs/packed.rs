//! Files' data on its way to the device compressed. Two threads compress; pieces are placed in the
//! order of the files, so that the bytes do not depend on who was faster.

use std::fs::File;
use std::os::unix::fs::FileExt;

use filetree::{Content, OpenContent, WriteError};

use super::compression::{Compression, PIECE};
use super::contents::{Contents, FileData, LARGEST_EXTENT, ranges};
use super::data::{Csums, Room};
use super::items::{DataExtent, Key, kind};
use super::space::Space;

/// Pieces that are held in memory at a time.
const BATCH: usize = 64;

/// A piece of a file.
struct Piece {
    file: FileData,
    /// Where in the file it begins.
    at: u64,
    /// Whole sectors, with zeros behind the end of the file.
    plain: Vec<u8>,
    packed: Option<Vec<u8>>,
}

/// The writing of all files; without an image all is done but that.
pub(super) struct Packing<'p, 'a> {
    pub(super) contents: &'p mut Contents<'a>,
    pub(super) compression: Compression,
    pub(super) image: Option<&'p File>,
    pub(super) space: &'p mut Space,
    pub(super) sector: u64,
}

impl Packing<'_, '_> {
    /// Writes the files, and returns the checksums.
    pub(super) fn all(&mut self, files: &[FileData]) -> Result<Csums, WriteError> {
        let mut csums = Csums::default();
        let mut room = Room { chunk: 0 };
        let mut batch = Vec::with_capacity(BATCH);
        for file in files {
            let Some(content) = self.contents.content(file.inode) else {
                continue;
            };
            let open = content.open()?;
            for (start, end) in ranges(content, self.sector) {
                for at in (start..end).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX)) {
                    batch.push(read(*file, (content, &open), (at, end.min(at + PIECE)))?);
                    if batch.len() == BATCH {
                        self.flush(&mut batch, &mut room, &mut csums)?;
                    }
                }
            }
            open.finish()?;
        }
        self.flush(&mut batch, &mut room, &mut csums)?;
        Ok(csums)
    }

    fn flush(
        &mut self,
        batch: &mut Vec<Piece>,
        room: &mut Room,
        csums: &mut Csums,
    ) -> Result<(), WriteError> {
        let half = batch.len() / 2;
        let (one, other) = batch.split_at_mut(half);
        let (compression, sector) = (self.compression, self.sector);
        std::thread::scope(|scope| {
            scope.spawn(move || pack(one, compression, sector));
            pack(other, compression, sector);
        });
        for piece in batch.drain(..) {
            self.place(&piece, room, csums)?;
        }
        Ok(())
    }

    /// Takes space for a piece and writes it, in parts where it is plain and a chunk ends.
    fn place(
        &mut self,
        piece: &Piece,
        room: &mut Room,
        csums: &mut Csums,
    ) -> Result<(), WriteError> {
        let mut rest = piece.packed.as_deref().unwrap_or(&piece.plain);
        let least = if piece.packed.is_some() {
            length(rest)
        } else {
            self.sector
        };
        let mut at = piece.at;
        while !rest.is_empty() {
            let (address, place, taken) = room.take(length(rest), least, self.space);
            if taken == 0 {
                let available = self.space.size;
                return Err(WriteError::TooSmall {
                    needed: available.saturating_add(1),
                    available,
                });
            }
            let (bytes, others) = rest.split_at(usize::try_from(taken).unwrap_or(rest.len()));
            if let Some(image) = self.image {
                let written = image.write_all_at(bytes, place);
                written.map_err(WriteError::Target)?;
            }
            if piece.file.checksums {
                csums.add(address, bytes, self.sector);
            }
            let begins = self.space.chunks[room.chunk].start == address;
            self.note(piece, at, (address, taken), begins);
            rest = others;
            at += taken;
        }
        Ok(())
    }

    /// Adds the items of an extent, or has the one before go on; none goes on into another chunk.
    fn note(&mut self, piece: &Piece, at: u64, (start, length): (u64, u64), begins: bool) {
        let tree = &mut self.contents.trees[piece.file.tree];
        let packed = piece.packed.as_ref().map(|_| self.compression.number());
        let extent = DataExtent {
            root: tree.owner,
            inode: piece.file.number,
            offset: at,
            start,
            length,
            plain: packed.map_or(length, |_| self::length(&piece.plain)),
            compression: packed.unwrap_or(0),
        };
        if let (Some(last), Some(item)) = (self.contents.extents.last_mut(), tree.all.last_mut())
            && !begins
            && last.goes_on_with(&extent)
            && last.length + length <= LARGEST_EXTENT
        {
            last.length += length;
            last.plain += length;
            item.1 = last.in_file();
            return;
        }
        tree.add(
            Key(piece.file.number, kind::EXTENT_DATA, at),
            extent.in_file(),
        );
        self.contents.extents.push(extent);
    }
}

/// Reads what of a file is in the range; what is behind its end is zeros.
fn read(
    file: FileData,
    (content, open): (&Content, &OpenContent),
    (at, end): (u64, u64),
) -> Result<Piece, WriteError> {
    let mut plain = vec![0; usize::try_from(end - at).unwrap_or(0)];
    let live = content.size().saturating_sub(at).min(end - at);
    let live = usize::try_from(live).unwrap_or(0);
    open.read_exact_at(&mut plain[..live], at)?;
    Ok(Piece {
        file,
        at,
        plain,
        packed: None,
    })
}

/// Compresses what may be: what has no checksums, btrfs keeps as it is.
fn pack(pieces: &mut [Piece], compression: Compression, sector: u64) {
    let Some(mut compressor) = compression.compressor() else {
        return;
    };
    let sector = usize::try_from(sector).unwrap_or(usize::MAX);
    for piece in pieces.iter_mut().filter(|piece| piece.file.checksums) {
        piece.packed = compressor.pack(&piece.plain, sector);
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
