//! The table of extents that files have with 48-bit block numbers: records of 4 to 32 bytes.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use filetree::ReadError;

use super::super::bytes::{u16_at, u32_at, u64_at};
use super::super::cache::Window;
use super::super::inode::RawInode;
use super::super::{Area, damaged, unsupported};
use super::{Extent, Header, Method, Pcluster, Stored, advice, algorithm};

/// In the stored length.
const LENGTH: u32 = (2 << 20) - 1;
const PARTIAL: u32 = 1 << 27;
const ALGORITHM: u32 = 28;

/// The table of a file.
#[derive(Debug)]
pub(super) struct Extents {
    size: u64,
    header: Header,
    start: u64,
    record: u64,
    count: u64,
    /// Of a table with lengths only: a record, and where its bytes are.
    known: Mutex<(u64, u64)>,
}

/// Where an extent is; a hole before all records has none.
struct Found {
    range: Range<u64>,
    record: Option<Record>,
    /// It is the last.
    last: bool,
}

/// A record.
#[derive(Clone, Copy, Debug)]
struct Record {
    stored: u32,
    place: u64,
}

impl Extents {
    pub(super) fn new(inode: &RawInode, header: Header) -> Result<Self, ReadError> {
        if header.has(advice::INLINE) {
            let what = "a file has a table of extents, and data beside the inode";
            return Err(unsupported(what.to_owned()));
        }
        let record = 4 << (header.advice >> 1 & 3);
        let high = u64::from(u16_at(&header.raw, 6));
        Ok(Self {
            size: inode.size,
            header,
            start: header.end.next_multiple_of(record),
            record,
            count: high << 32 | u64::from(u32_at(&header.raw, 0)),
            known: Mutex::new((0, u64::MAX)),
        })
    }

    /// The extent that has the byte `offset`, which is within the size.
    pub(super) fn extent(&self, window: &mut Window<'_>, offset: u64) -> Result<Extent, ReadError> {
        let Found {
            range,
            record,
            last,
        } = match self.record {
            4 | 8 => self.regular(window, offset)?,
            _ => self.search(window, offset)?,
        };
        let Some(Record { stored, place }) = record else {
            let stored = Stored::Hole;
            return Ok(Extent { range, stored });
        };
        let stored = if last && self.header.has(advice::FRAGMENT) {
            let high = if self.record > 4 { place << 32 } else { 0 };
            Stored::Packed(high | u64::from(stored))
        } else if stored & LENGTH == 0 {
            Stored::Hole
        } else {
            Stored::Pcluster(self.pcluster(window, stored, place)?)
        };
        Ok(Extent { range, stored })
    }

    fn pcluster(
        &self,
        window: &Window<'_>,
        stored: u32,
        place: u64,
    ) -> Result<Pcluster, ReadError> {
        let size = u64::from(stored & LENGTH);
        let aligned = (place | size).is_multiple_of(window.image.superblock.block());
        let method = match u8::try_from(stored >> ALGORITHM).unwrap_or(0) {
            0 if aligned && self.header.has(advice::INTERLACED) => Method::Interlaced,
            0 => Method::Shifted,
            number => Method::Compressed(algorithm(number - 1, place)?),
        };
        Ok(Pcluster {
            area: Area::Image,
            place,
            size,
            method,
            partial: stored & PARTIAL != 0,
        })
    }

    /// Extents of one length each: found by their number.
    fn regular(&self, window: &mut Window<'_>, offset: u64) -> Result<Found, ReadError> {
        let bits = self.header.bits;
        let index = offset >> bits;
        let record = match self.record {
            8 => {
                let raw: [u8; 8] = window.take(self.place(self.start, index)?)?;
                Record {
                    stored: u32_at(&raw, 0),
                    place: u32_at(&raw, 4).into(),
                }
            }
            _ => self.sum(window, index)?,
        };
        let begin = index << bits;
        let end = begin.saturating_add(1 << bits);
        Ok(Found {
            range: begin..end.min(self.size),
            record: Some(record),
            last: end >= self.size,
        })
    }

    /// The place of an extent is behind all that come before.
    fn sum(&self, window: &mut Window<'_>, index: u64) -> Result<Record, ReadError> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut at, mut place) = known;
        if place == u64::MAX || at > index {
            (at, place) = (0, u64_at(&window.take::<8>(self.start)?, 0));
        }
        let table = self.start.saturating_add(8);
        loop {
            let raw: [u8; 4] = window.take(self.place(table, at)?)?;
            let stored = u32_at(&raw, 0);
            if at == index {
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = (at, place);
                return Ok(Record { stored, place });
            }
            place = place.saturating_add((stored & LENGTH).into());
            at += 1;
        }
    }

    /// Extents of any length: found by halves.
    fn search(&self, window: &mut Window<'_>, offset: u64) -> Result<Found, ReadError> {
        let (mut low, mut high) = (0, self.count);
        let (mut begin, mut end) = (offset, self.size);
        let mut record = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let (at, this) = self.irregular(window, middle)?;
            if at > offset {
                high = middle;
                end = at;
            } else {
                low = middle + 1;
                begin = at;
                record = Some(this);
            }
        }
        Ok(Found {
            range: begin..end.min(self.size),
            record,
            last: low >= self.count,
        })
    }

    fn irregular(&self, window: &mut Window<'_>, index: u64) -> Result<(u64, Record), ReadError> {
        let place = self.place(self.start, index)?;
        let raw: [u8; 16] = window.take(place)?;
        let high = match self.record {
            32 => u32_at(&window.take::<4>(place.saturating_add(16))?, 0),
            _ => 0,
        };
        let record = Record {
            stored: u32_at(&raw, 0),
            place: u64_at(&raw, 4),
        };
        Ok((u64::from(high) << 32 | u64::from(u32_at(&raw, 12)), record))
    }

    fn place(&self, table: u64, index: u64) -> Result<u64, ReadError> {
        index
            .checked_mul(self.record)
            .and_then(|at| at.checked_add(table))
            .ok_or(damaged(table, "a table of extents is too long"))
    }
}
