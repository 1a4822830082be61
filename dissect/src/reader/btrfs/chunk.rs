//! Where addresses lie on the device: chunks, first those in the superblock, with which the tree of
//! all can be read (btrfs documentation, "On-disk Format": "CHUNK_ITEM").

use filetree::ReadError;

use super::Volume;
use super::field::{u16_at, u64_at};
use super::key::{Key, kind};
use super::superblock::{OFFSET, Superblock};
use crate::reader::source::Source;

/// The object of all chunks' keys.
const CHUNKS: u64 = 256;
/// Bytes of a chunk before its stripes, and of a stripe.
const HEADER: usize = 48;
const STRIPE: usize = 32;

/// What a chunk is for and how it is spread.
mod profile {
    /// Data, system, metadata.
    pub(super) const USES: u64 = 0x7;
    /// Twice on one device.
    pub(super) const DUP: u64 = 0x20;
}

/// A run of addresses.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    start: u64,
    /// In bytes, behind `start`.
    end: u64,
    /// Where it begins in the image, in bytes.
    first: u64,
    /// Where its copy begins.
    second: Option<u64>,
}

/// All chunks, by their addresses.
#[derive(Debug)]
pub(super) struct Chunks(Vec<Chunk>);

impl Chunks {
    /// The chunks that the superblock lists.
    pub(super) fn of_superblock(
        source: &Source,
        superblock: &Superblock,
    ) -> Result<Self, ReadError> {
        let mut chunks = Vec::new();
        let mut rest = &superblock.system_chunks[..];
        while !rest.is_empty() {
            let key = Key::at(rest, 0);
            let item = rest.get(Key::SIZE..).unwrap_or_default();
            let length = HEADER + STRIPE * usize::from(u16_at(item, 44));
            let item = item
                .get(..length)
                .filter(|_| is_chunk(key))
                .ok_or_else(|| source.damaged(OFFSET, "the superblock's chunks are impossible"))?;
            chunks.push(Chunk::parse((source, superblock), key, item, OFFSET)?);
            rest = &rest[Key::SIZE + length..];
        }
        Self::new(source, chunks)
    }

    /// All chunks, of which those of the superblock are known.
    pub(super) fn read(volume: &Volume) -> Result<Self, ReadError> {
        let (source, superblock) = (&volume.source, &volume.superblock);
        let mut chunks = volume.chunks.0.clone();
        let known = chunks.len();
        let mut items = volume.items(&superblock.chunk_root, Key::new(CHUNKS, kind::CHUNK, 0))?;
        while let Some(item) = items.next()? {
            if !is_chunk(item.key) {
                break;
            }
            let chunk = Chunk::parse(
                (source, superblock),
                item.key,
                item.bytes(),
                item.position(),
            )?;
            if !chunks[..known]
                .iter()
                .any(|known| known.start == chunk.start)
            {
                chunks.push(chunk);
            }
        }
        Self::new(source, chunks)
    }

    fn new(source: &Source, mut chunks: Vec<Chunk>) -> Result<Self, ReadError> {
        chunks.sort_by_key(|chunk| chunk.start);
        let overlap = chunks.windows(2).any(|pair| pair[0].end > pair[1].start);
        let mut places: Vec<(u64, u64)> = chunks.iter().flat_map(Chunk::places).collect();
        places.sort_unstable();
        let shared = places.windows(2).any(|pair| pair[0].1 > pair[1].0);
        if overlap || shared {
            return Err(source.damaged(OFFSET, "chunks overlap"));
        }
        Ok(Self(chunks))
    }

    /// Where `length` bytes from `address` on are in the image, with the copy if there is one.
    pub(super) fn places(&self, address: u64, length: u64) -> Option<(u64, Option<u64>)> {
        let behind = self.0.partition_point(|chunk| chunk.start <= address);
        let chunk = self.0.get(behind.checked_sub(1)?)?;
        let end = address.checked_add(length)?;
        let within = address - chunk.start;
        let at = |start: u64| start + within;
        (end <= chunk.end).then(|| (at(chunk.first), chunk.second.map(at)))
    }
}

impl Chunk {
    fn parse(
        (source, superblock): (&Source, &Superblock),
        key: Key,
        item: &[u8],
        offset: u64,
    ) -> Result<Self, ReadError> {
        let damaged = || source.damaged(offset, "a chunk is impossible");
        let stripes = u16_at(item, 44);
        if item.len() != HEADER + STRIPE * usize::from(stripes) {
            return Err(damaged());
        }
        let expected = match u64_at(item, 24) & !profile::USES {
            0 => 1,
            profile::DUP => 2,
            _ => return Err(source.unsupported("it has chunks spread by RAID")),
        };
        let device = |stripe: &[u8]| u64_at(stripe, 0);
        let mut all = item[HEADER..].chunks_exact(STRIPE);
        if all
            .clone()
            .any(|stripe| device(stripe) != superblock.device)
        {
            return Err(source.unsupported("it has chunks on other devices"));
        }
        let (start, length) = (key.offset, u64_at(item, 0));
        let end = start.checked_add(length);
        let mask = superblock.sector_size - 1;
        let sound = stripes == expected && length != 0 && (start | length) & mask == 0;
        let end = end.filter(|_| sound).ok_or_else(damaged)?;
        let mut places = all.by_ref().map(|stripe| u64_at(stripe, 8));
        let within = |place: &u64| {
            place
                .checked_add(length)
                .is_some_and(|end| end <= source.size())
        };
        let first = places.next().filter(within);
        let second = places.next();
        if second.is_some_and(|place| !within(&place)) {
            return Err(source.damaged(offset, "a chunk is not within the image"));
        }
        let first =
            first.ok_or_else(|| source.damaged(offset, "a chunk is not within the image"))?;
        Ok(Self {
            start,
            end,
            first,
            second,
        })
    }

    /// The parts of the image that it takes.
    fn places(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let length = self.end - self.start;
        let starts = [Some(self.first), self.second];
        starts
            .into_iter()
            .flatten()
            .map(move |start| (start, start + length))
    }
}

fn is_chunk(key: Key) -> bool {
    (key.object, key.kind) == (CHUNKS, kind::CHUNK)
}
