//! Where the data of a file is (btrfs documentation, "On-disk Format": "EXTENT_DATA").

use std::ops::Range;

use filetree::ReadError;

use super::Volume;
use super::compression::{Algorithm, LARGEST};
use super::field::{u8_at, u16_at, u64_at, wide};
use super::tree::Item;

/// Bytes before the data that is within the item, and of an item that says where the data is.
const HEADER: usize = 21;
const SIZE: usize = 53;

/// Bytes of a file, and where they come from. What is in no piece is a hole.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) range: Range<u64>,
    pub(super) origin: Origin,
}

/// Where bytes come from.
#[derive(Debug)]
pub(super) enum Origin {
    /// They are here.
    Inline(Box<[u8]>),
    /// They are here, compressed.
    InlinePacked(Algorithm, Box<[u8]>),
    /// They begin at this address.
    Plain(u64),
    /// They are within an extent that is compressed, from `skip` on.
    Packed { extent: Packed, skip: u64 },
}

/// A compressed extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Packed {
    pub(super) address: u64,
    /// Bytes, compressed.
    pub(super) length: usize,
    /// Bytes, decompressed.
    pub(super) plain: usize,
    pub(super) algorithm: Algorithm,
}

/// The part of a file that an item describes, and its data if it is no hole.
pub(super) fn parse(
    volume: &Volume,
    item: &Item,
) -> Result<(Range<u64>, Option<Origin>), ReadError> {
    let bytes = item.bytes();
    if bytes.len() < HEADER {
        return Err(volume.damaged(item, "an extent of a file is cut off"));
    }
    if u8_at(bytes, 17) != 0 || u16_at(bytes, 18) != 0 {
        return Err(volume.source.unsupported("it has files that are encrypted"));
    }
    let algorithm = Algorithm::from_number(&volume.source, u8_at(bytes, 16))?;
    let stored = Stored {
        volume,
        start: item.key.offset,
        plain: u64_at(bytes, 8),
        algorithm,
        bytes,
    };
    let parsed = match u8_at(bytes, 20) {
        0 => stored.inline(),
        1 => stored.regular(),
        // Space that was never written to.
        2 => stored.regular().map(|(range, _)| (range, None)),
        _ => None,
    };
    parsed.ok_or_else(|| volume.damaged(item, "an extent of a file is impossible"))
}

struct Stored<'a> {
    volume: &'a Volume,
    /// Where it is in the file.
    start: u64,
    /// Bytes of the extent, decompressed.
    plain: u64,
    algorithm: Option<Algorithm>,
    bytes: &'a [u8],
}

impl Stored<'_> {
    /// Data within the item, only at the beginning of a file; zeros fill its sector.
    fn inline(&self) -> Option<(Range<u64>, Option<Origin>)> {
        let data = &self.bytes[HEADER..];
        if self.start != 0 || self.plain > LARGEST {
            return None;
        }
        let origin = match self.algorithm {
            None if wide(data.len()) != self.plain => return None,
            None => Origin::Inline(data.into()),
            Some(algorithm) => Origin::InlinePacked(algorithm, data.into()),
        };
        let sector = self.volume.superblock.sector_size;
        Some((0..self.plain.next_multiple_of(sector), Some(origin)))
    }

    fn regular(&self) -> Option<(Range<u64>, Option<Origin>)> {
        if self.bytes.len() != SIZE {
            return None;
        }
        let field = |index: usize| u64_at(self.bytes, HEADER + index * 8);
        let (address, length, skip, used) = (field(0), field(1), field(2), field(3));
        let mask = self.volume.superblock.sector_size - 1;
        let range = self.start..self.start.checked_add(used)?;
        if (self.start | address | length | skip | used) & mask != 0 || used == 0 {
            return None;
        }
        if address == 0 {
            return Some((range, None));
        }
        self.volume.chunks.places(address, length)?;
        let end = skip.checked_add(used)?;
        let origin = match self.algorithm {
            None => (end <= length).then_some(Origin::Plain(address.checked_add(skip)?))?,
            Some(algorithm) => Origin::Packed {
                extent: self.packed(algorithm, address, length, end)?,
                skip,
            },
        };
        Some((range, Some(origin)))
    }

    fn packed(&self, algorithm: Algorithm, address: u64, length: u64, end: u64) -> Option<Packed> {
        let sound = length <= LARGEST && self.plain <= LARGEST && end <= self.plain;
        Some(Packed {
            address,
            length: usize::try_from(length).ok().filter(|_| sound)?,
            plain: usize::try_from(self.plain).ok()?,
            algorithm,
        })
    }
}
