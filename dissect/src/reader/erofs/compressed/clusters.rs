//! The table of logical clusters: for each, whether an extent begins in it, or how far back one does.
//!
//! Entries have 8 bytes, or they are packed: two in 8 bytes, or sixteen in 32, with the number of the
//! block at the end of each pack.

use std::sync::OnceLock;

use filetree::ReadError;

use super::super::bytes::{u16_at, u32_at};
use super::super::cache::Window;
use super::super::inode::{Layout, RawInode};
use super::super::{Area, Image, damaged};
use super::packs::{BLOCKS, Entries, Pack, Packs};
use super::{Extent, Header, LONGEST, Method, Pcluster, Stored, advice, algorithm};

/// In an entry of 8 bytes: its extent has only a part of what is stored.
const PARTIAL: u16 = 1 << 15;

/// The table of a file.
#[derive(Debug)]
pub(super) struct Clusters {
    size: u64,
    header: Header,
    area: Area,
    kind: Kind,
    block_bits: u8,
    tail: OnceLock<Tail>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Full { start: u64 },
    Packed(Packs),
}

/// Where an extent begins.
#[derive(Clone, Copy, Debug)]
struct Head {
    kind: HeadKind,
    /// In its cluster, in bytes.
    offset: u64,
    block: u64,
    partial: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadKind {
    Plain,
    First,
    Second,
}

#[derive(Clone, Copy, Debug)]
enum Cluster {
    Head(Head),
    /// The extent began so many clusters before, and has so many blocks, if that is said.
    Rest {
        back: u64,
        blocks: Option<u64>,
    },
}

/// The last extent, where it is stored in another way.
#[derive(Clone, Copy, Debug)]
struct Tail {
    /// The cluster where it begins.
    head: u64,
    /// What its head has for a block.
    block: u64,
    /// Where the table ends.
    end: u64,
}

impl Clusters {
    pub(super) fn new(image: &Image, inode: &RawInode, header: Header) -> Result<Self, ReadError> {
        let block_bits = image.superblock.block_bits;
        let kind = match inode.layout {
            Layout::Full => Kind::Full {
                start: header.end.saturating_add(8),
            },
            _ => Kind::Packed(Packs::new(inode.size.div_ceil(1 << block_bits), &header)),
        };
        if matches!(kind, Kind::Packed(_)) {
            let big = advice::BIG_FIRST | advice::BIG_SECOND;
            let dense = header.has(advice::COMPACT_2B);
            if header.bits > 14 || (dense && header.bits > 12) {
                let what = "the clusters of a packed table are too big";
                return Err(damaged(inode.place, what));
            }
            if header.has(big) && header.advice & big != big {
                let what = "a packed table has big clusters of one kind only";
                return Err(damaged(inode.place, what));
            }
        }
        Ok(Self {
            size: inode.size,
            header,
            area: inode.area,
            kind,
            block_bits,
            tail: OnceLock::new(),
        })
    }

    /// The extent that has the byte `offset`, which is within the size.
    pub(super) fn extent(&self, window: &mut Window<'_>, offset: u64) -> Result<Extent, ReadError> {
        let at = offset >> self.header.bits;
        let within = offset & ((1 << self.header.bits) - 1);
        let (number, head, end) = match self.load(window, at)? {
            Cluster::Head(head) if within >= head.offset => (at, head, None),
            Cluster::Head(next) => {
                let (number, head) = self.back(window, at, 1)?;
                (number, head, Some(self.begin(at, next)))
            }
            Cluster::Rest { back, .. } => {
                let (number, head) = self.back(window, at, back)?;
                (number, head, None)
            }
        };
        let end = match end {
            Some(end) => end,
            None => self.end(window, at, number)?,
        };
        Ok(Extent {
            range: self.begin(number, head)..end.min(self.size),
            stored: self.stored(window, number, head)?,
        })
    }

    fn begin(&self, number: u64, head: Head) -> u64 {
        (number << self.header.bits) + head.offset
    }

    /// The head that is so far back, over several steps if need be.
    fn back(
        &self,
        window: &mut Window<'_>,
        from: u64,
        back: u64,
    ) -> Result<(u64, Head), ReadError> {
        let bogus = || self.damaged("the way back to the beginning of an extent is wrong");
        let (mut at, mut back) = (from, back);
        loop {
            at = at.checked_sub(back).ok_or_else(bogus)?;
            if back == 0 || from - at > LONGEST >> self.header.bits {
                return Err(bogus());
            }
            match self.load(window, at)? {
                Cluster::Head(head) => return Ok((at, head)),
                Cluster::Rest { back: more, .. } => back = more,
            }
        }
    }

    /// Where the next extent begins.
    fn end(&self, window: &mut Window<'_>, at: u64, head: u64) -> Result<u64, ReadError> {
        let mut next = at + 1;
        while next << self.header.bits < self.size {
            if next - head > LONGEST >> self.header.bits {
                return Err(self.damaged("a compressed extent is too long"));
            }
            if let Cluster::Head(head) = self.load(window, next)? {
                return Ok(self.begin(next, head));
            }
            next += 1;
        }
        Ok(self.size)
    }

    fn stored(
        &self,
        window: &mut Window<'_>,
        number: u64,
        head: Head,
    ) -> Result<Stored, ReadError> {
        let header = &self.header;
        let method = match head.kind {
            HeadKind::Plain if header.has(advice::INTERLACED) => Method::Interlaced,
            HeadKind::Plain => Method::Shifted,
            HeadKind::First => Method::Compressed(algorithm(header.raw[6] & 15, header.end)?),
            HeadKind::Second => Method::Compressed(algorithm(header.raw[6] >> 4, header.end)?),
        };
        if header.has(advice::INLINE | advice::FRAGMENT) {
            let tail = self.tail(window)?;
            if tail.head == number {
                return Ok(self.tail_stored(tail, method, head.partial));
            }
        }
        Ok(Stored::Pcluster(Pcluster {
            area: Area::Image,
            // At most 2³² blocks of at most 2¹⁶ bytes.
            place: head.block << self.block_bits,
            size: self.blocks(window, number, head)? << self.block_bits,
            method,
            partial: head.partial,
        }))
    }

    fn tail_stored(&self, tail: Tail, method: Method, partial: bool) -> Stored {
        if self.header.has(advice::INLINE) {
            return Stored::Pcluster(Pcluster {
                area: self.area,
                place: tail.end,
                size: u16_at(&self.header.raw, 2).into(),
                method,
                partial,
            });
        }
        let low = u64::from(u32_at(&self.header.raw, 0));
        Stored::Packed(match self.kind {
            Kind::Full { .. } => tail.block << 32 | low,
            Kind::Packed(_) => low,
        })
    }

    fn tail(&self, window: &mut Window<'_>) -> Result<Tail, ReadError> {
        if let Some(tail) = self.tail.get() {
            return Ok(*tail);
        }
        let last = (self.size - 1) >> self.header.bits;
        let within = (self.size - 1) & ((1 << self.header.bits) - 1);
        let (head, begin) = match self.load(window, last)? {
            Cluster::Head(head) if within >= head.offset => (last, head),
            Cluster::Head(_) => self.back(window, last, 1)?,
            Cluster::Rest { back, .. } => self.back(window, last, back)?,
        };
        let end = match self.kind {
            Kind::Full { start } => start + (last + 1) * 8,
            Kind::Packed(packs) => packs.pack(last).end,
        };
        let block = begin.block;
        Ok(*self.tail.get_or_init(|| Tail { head, block, end }))
    }

    /// How many blocks are stored: said in the cluster that follows, or one.
    fn blocks(&self, window: &mut Window<'_>, number: u64, head: Head) -> Result<u64, ReadError> {
        let big = match head.kind {
            HeadKind::First => advice::BIG_FIRST,
            HeadKind::Plain | HeadKind::Second => advice::BIG_SECOND,
        };
        let next = number + 1;
        if !self.header.has(big) || next << self.header.bits >= self.size {
            return Ok(1);
        }
        match self.load(window, next)? {
            Cluster::Head(_) => Ok(1),
            Cluster::Rest { blocks, .. } => blocks
                .filter(|blocks| *blocks > 0)
                .ok_or_else(|| self.damaged("an extent does not say how many blocks it has")),
        }
    }

    fn load(&self, window: &mut Window<'_>, number: u64) -> Result<Cluster, ReadError> {
        match self.kind {
            Kind::Full { start } => {
                let place = number.checked_mul(8).and_then(|at| at.checked_add(start));
                let place = place.ok_or_else(|| self.damaged("a table is too long"))?;
                self.full(window.take(place)?)
            }
            Kind::Packed(packs) => {
                let pack = packs.pack(number);
                match pack.count {
                    2 => self.packed(&window.take::<8>(pack.start)?, pack),
                    _ => self.packed(&window.take::<32>(pack.start)?, pack),
                }
            }
        }
    }

    fn full(&self, raw: [u8; 8]) -> Result<Cluster, ReadError> {
        let advise = u16_at(&raw, 0);
        if advise & 3 == 2 {
            return self.rest(u16_at(&raw, 4).into());
        }
        let offset = u16_at(&raw, 2).into();
        let block = u32_at(&raw, 4).into();
        self.head(advise & 3, offset, block, advise & PARTIAL != 0)
    }

    fn head(
        &self,
        kind: u16,
        offset: u64,
        block: u64,
        partial: bool,
    ) -> Result<Cluster, ReadError> {
        if offset >> self.header.bits != 0 {
            return Err(self.damaged("an extent begins behind its cluster"));
        }
        Ok(Cluster::Head(Head {
            kind: match kind {
                0 => HeadKind::Plain,
                1 => HeadKind::First,
                _ => HeadKind::Second,
            },
            offset,
            block,
            partial,
        }))
    }

    fn rest(&self, distance: u32) -> Result<Cluster, ReadError> {
        let (back, blocks) = match distance & BLOCKS {
            0 => (distance.into(), None),
            _ => (1, Some(u64::from(distance & !BLOCKS))),
        };
        if blocks.is_some() && !self.header.has(advice::BIG_FIRST | advice::BIG_SECOND) {
            return Err(self.damaged("an extent has several blocks, but none may"));
        }
        Ok(Cluster::Rest { back, blocks })
    }

    fn packed(&self, raw: &[u8], pack: Pack) -> Result<Cluster, ReadError> {
        let entries = Entries::new(raw, pack.count, self.header.bits);
        let (kind, low) = entries.at(pack.index);
        if kind != 2 {
            let block = u32_at(raw, raw.len() - 4);
            let before = entries.blocks_before(pack.index, self.header.has(advice::BIG_FIRST));
            let before = before.ok_or_else(|| self.damaged("a packed table is damaged"))?;
            return self.head(kind, low.into(), u64::from(block) + before, false);
        }
        if pack.index + 1 < pack.count || low & BLOCKS != 0 {
            return self.rest(low);
        }
        // The last one of a pack says how far it is to the next extent; so its neighbour is asked.
        let back = match entries.at(pack.index - 1) {
            (2, low) if low & BLOCKS != 0 => 2,
            (2, low) => low + 1,
            _ => 1,
        };
        self.rest(back)
    }

    fn damaged(&self, what: &'static str) -> ReadError {
        damaged(self.header.end, what)
    }
}
