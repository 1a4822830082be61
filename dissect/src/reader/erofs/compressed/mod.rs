//! Compressed content: extents, each from a run of stored bytes (a physical cluster), from the file of
//! packed ends, or a hole.
//!
//! What is stored says how long it is only by where the next extent begins: `clusters` has the table of
//! logical clusters, `extents` the newer table of extents.

mod clusters;
mod extents;
mod packs;

use std::ops::Range;
use std::sync::Arc;

use filetree::ReadError;

use super::bytes::{length, u16_at, u64_at, wide};
use super::cache::Window;
use super::decompress::Algorithm;
use super::inode::{Layout, RawInode};
use super::{Area, Image, damaged, unsupported};
use clusters::Clusters;
use extents::Extents;

/// Bytes that a physical cluster has at most, and that it gives at most.
const LONGEST_STORED: u64 = 1 << 20;
const LONGEST: u64 = 12 << 20;

/// What a header says of its inode.
mod advice {
    pub(super) const COMPACT_2B: u16 = 0x01;
    pub(super) const EXTENTS: u16 = 0x01;
    pub(super) const BIG_FIRST: u16 = 0x02;
    pub(super) const BIG_SECOND: u16 = 0x04;
    pub(super) const INLINE: u16 = 0x08;
    pub(super) const INTERLACED: u16 = 0x10;
    pub(super) const FRAGMENT: u16 = 0x20;
}

/// The map of a compressed file.
#[derive(Debug)]
pub(super) struct Compressed {
    size: u64,
    area: Area,
    map: Map,
}

#[derive(Debug)]
enum Map {
    /// All of it is in the packed file, from there on.
    Packed(u64),
    Clusters(Clusters),
    Extents(Extents),
}

/// A part of a file that is stored as one.
#[derive(Clone, Debug)]
struct Extent {
    /// In the file.
    range: Range<u64>,
    stored: Stored,
}

#[derive(Clone, Debug)]
enum Stored {
    Hole,
    /// In the packed file, from there on.
    Packed(u64),
    Pcluster(Pcluster),
}

/// Stored bytes, and what to do with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pcluster {
    area: Area,
    place: u64,
    size: u64,
    method: Method,
    /// They give more than the extent has of them.
    partial: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// As they are.
    Shifted,
    /// As they are, turned so that each byte stands in its place in a block.
    Interlaced,
    Compressed(Algorithm),
}

/// The eight bytes in front of a map.
#[derive(Clone, Copy, Debug)]
struct Header {
    raw: [u8; 8],
    /// Where it ends.
    end: u64,
    advice: u16,
    /// Bytes of a logical cluster are 2 to the power of this.
    bits: u8,
}

impl Compressed {
    /// `fragments` says whether there may be parts in the packed file.
    pub(super) fn new(image: &Image, inode: &RawInode, fragments: bool) -> Result<Self, ReadError> {
        let header = Header::read(image, inode)?;
        let map = match inode.layout {
            _ if header.raw[7] & 0x80 != 0 => Map::Packed(u64_at(&header.raw, 0) & !(1 << 63)),
            Layout::Full if header.has(advice::EXTENTS) => {
                Map::Extents(Extents::new(inode, header)?)
            }
            _ => Map::Clusters(Clusters::new(image, inode, header)?),
        };
        if !fragments && (matches!(map, Map::Packed(_)) || header.has(advice::FRAGMENT)) {
            let what = "a special file has parts in the packed file";
            return Err(damaged(inode.place, what));
        }
        Ok(Self {
            size: inode.size,
            area: inode.area,
            map,
        })
    }

    pub(super) fn read(
        &self,
        image: &Image,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<(), ReadError> {
        let mut window = Window::new(image, self.area);
        let (mut buffer, mut offset) = (buffer, offset);
        while !buffer.is_empty() {
            let extent = self.extent(&mut window, offset)?;
            let left = extent.range.end.saturating_sub(offset);
            if left == 0 || offset < extent.range.start {
                return Err(damaged(offset, "the extents of a file are not in order"));
            }
            let (now, later) = buffer.split_at_mut(buffer.len().min(length(left)));
            extent.read(image, now, offset - extent.range.start)?;
            offset += wide(now.len());
            buffer = later;
        }
        Ok(())
    }

    fn extent(&self, window: &mut Window<'_>, offset: u64) -> Result<Extent, ReadError> {
        match &self.map {
            Map::Packed(start) => Ok(Extent {
                range: 0..self.size,
                stored: Stored::Packed(*start),
            }),
            Map::Clusters(clusters) => clusters.extent(window, offset),
            Map::Extents(extents) => extents.extent(window, offset),
        }
    }
}

impl Header {
    fn read(image: &Image, inode: &RawInode) -> Result<Self, ReadError> {
        let place = inode.body().next_multiple_of(8);
        let mut raw = [0; 8];
        image.read(inode.area, &mut raw, place)?;
        let bits = image.superblock.block_bits + (raw[7] & 15);
        if bits > 24 {
            return Err(damaged(place, "the clusters of a file are too big"));
        }
        Ok(Self {
            raw,
            end: place.saturating_add(8),
            advice: u16_at(&raw, 4),
            bits,
        })
    }

    fn has(&self, advice: u16) -> bool {
        self.advice & advice != 0
    }
}

impl Extent {
    /// Fills `buffer` from the byte `skip` of the extent on.
    fn read(&self, image: &Image, buffer: &mut [u8], skip: u64) -> Result<(), ReadError> {
        match &self.stored {
            Stored::Hole => {
                buffer.fill(0);
                Ok(())
            }
            Stored::Packed(start) => {
                let packed = image.packed.as_ref();
                let packed = packed.ok_or(damaged(0, "the packed file is missing"))?;
                packed.read(image, buffer, start.saturating_add(skip))
            }
            Stored::Pcluster(pcluster) => pcluster.read(image, buffer, &self.range, skip),
        }
    }
}

impl Pcluster {
    fn read(
        &self,
        image: &Image,
        buffer: &mut [u8],
        extent: &Range<u64>,
        skip: u64,
    ) -> Result<(), ReadError> {
        let size = extent.end - extent.start;
        if self.size > LONGEST_STORED || size > LONGEST {
            return Err(damaged(self.place, "a compressed extent is too long"));
        }
        let algorithm = match self.method {
            Method::Compressed(algorithm) => algorithm,
            _ if size > self.size => {
                let what = "an extent is longer than what is stored of it";
                return Err(damaged(self.place, what));
            }
            Method::Shifted => {
                return image.read(self.area, buffer, self.place.saturating_add(skip));
            }
            Method::Interlaced => return self.turn(image, buffer, extent.start, skip),
        };
        if wide(buffer.len()) == size {
            return self.decompress(image, algorithm, buffer);
        }
        let all = image.cache.get((*self, size), || {
            let mut all = vec![0; length(size)];
            self.decompress(image, algorithm, &mut all)?;
            Ok(Arc::from(all))
        })?;
        let part = all.get(length(skip)..).unwrap_or_default();
        let part = part.get(..buffer.len());
        buffer.copy_from_slice(part.ok_or(damaged(self.place, "an extent is too short"))?);
        Ok(())
    }

    /// The first bytes of the extent, up to a block's border, stand at the end.
    fn turn(
        &self,
        image: &Image,
        buffer: &mut [u8],
        start: u64,
        skip: u64,
    ) -> Result<(), ReadError> {
        let block = image.superblock.block();
        let first = block - start % block;
        let count = length(first.saturating_sub(skip)).min(buffer.len());
        let (head, rest) = buffer.split_at_mut(count);
        let end = self.place.saturating_add(self.size);
        if !head.is_empty() {
            let place = end.checked_sub(first - skip);
            let place = place.filter(|place| *place >= self.place);
            let place = place.ok_or(damaged(self.place, "a plain extent is too short"))?;
            image.read(self.area, head, place)?;
        }
        match rest.is_empty() {
            true => Ok(()),
            false => {
                let within = skip.saturating_sub(first);
                image.read(self.area, rest, self.place.saturating_add(within))
            }
        }
    }

    fn decompress(
        &self,
        image: &Image,
        algorithm: Algorithm,
        output: &mut [u8],
    ) -> Result<(), ReadError> {
        let mut input = vec![0; length(self.size)];
        image.read(self.area, &mut input, self.place)?;
        let padded = image.superblock.zero_padding;
        if !padded && algorithm != Algorithm::Lz4 {
            return Err(unsupported(
                "compressed data stands at the front of its blocks".to_owned(),
            ));
        }
        let input = if padded {
            // Only the first block may begin with zeros.
            let block = length(image.superblock.block()).min(input.len());
            let begin = input[..block].iter().position(|byte| *byte != 0);
            let begin = begin.ok_or(damaged(self.place, "a compressed extent is empty"))?;
            &mut input[begin..]
        } else {
            &mut input[..]
        };
        let whole = padded && !self.partial;
        match image.decompressors.run(algorithm, input, output, whole) {
            Some(()) => Ok(()),
            None => Err(damaged(self.place, "an extent cannot be decompressed")),
        }
    }
}

fn algorithm(number: u8, place: u64) -> Result<Algorithm, ReadError> {
    Algorithm::new(number).ok_or_else(|| {
        unsupported(format!(
            "the data at byte {place} has the unknown compression {number}"
        ))
    })
}
