//! Chunks: which addresses there are, and where they lie on the device. Pure.

use super::items::{Fields, Key, kind};

pub(super) const DATA: u64 = 1;
pub(super) const SYSTEM: u64 = 2;
pub(super) const METADATA: u64 = 4;
/// Everything is there twice.
pub(super) const DUP: u64 = 32;

pub(super) const MIB: u64 = 1 << 20;
const LARGEST: u64 = 1 << 30;
/// Where copies of the superblock lie, which no chunk may cover.
pub(super) const COPIES: [u64; 2] = [64 << 20, 256 << 30];

/// A range of addresses.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) profile: u64,
    /// Where it begins on the device: twice for DUP.
    pub(super) stripes: Vec<u64>,
    /// Bytes in use, from the start.
    pub(super) used: u64,
}

/// The space of one device, taken from the front.
pub(super) struct Space {
    pub(super) size: u64,
    next: u64,
    address: u64,
    pub(super) chunks: Vec<Chunk>,
}

impl Space {
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            next: MIB,
            address: MIB,
            chunks: Vec::new(),
        }
    }

    /// Takes chunks for `length` bytes, a multiple of 1 MiB; `None` where the device is too small.
    pub(super) fn take(&mut self, mut length: u64, profile: u64) -> Option<()> {
        let copies = if profile & DUP == 0 { 1 } else { 2 };
        while length > 0 {
            let end = self.end_of_run();
            let room = (end - self.next) / copies / MIB * MIB;
            let take = length.min(room).min(LARGEST);
            if take == 0 {
                // On behind the copy of the superblock.
                self.next = end.checked_add(MIB).filter(|next| *next < self.size)?;
                continue;
            }
            let stripes = (0..copies).map(|copy| self.next + copy * take).collect();
            self.chunks.push(Chunk {
                start: self.address,
                length: take,
                profile,
                stripes,
                used: 0,
            });
            self.next += copies * take;
            self.address += take;
            length -= take;
        }
        Some(())
    }

    /// Gives back what the chunks that were taken last do not use.
    pub(super) fn trim(&mut self, profile: u64) {
        while let Some(chunk) = self.chunks.last_mut() {
            let used = chunk.used.next_multiple_of(MIB);
            if chunk.profile != profile || used == chunk.length {
                return;
            }
            chunk.length = used;
            self.next = chunk.stripes[0] + used;
            self.address = chunk.start + used;
            if used > 0 {
                return;
            }
            self.chunks.pop();
        }
    }

    /// The byte behind all that has been taken.
    pub(super) fn end(&self) -> u64 {
        self.next
    }

    fn end_of_run(&self) -> u64 {
        let copy = COPIES.into_iter().find(|copy| *copy >= self.next);
        copy.unwrap_or(u64::MAX).min(self.size)
    }

    /// The place of `length` bytes at an address on the device.
    pub(super) fn places(&self, address: u64) -> impl Iterator<Item = u64> + '_ {
        let holds =
            move |chunk: &&Chunk| (chunk.start..chunk.start + chunk.length).contains(&address);
        let chunk = self.chunks.iter().find(holds);
        chunk.into_iter().flat_map(move |chunk| {
            chunk
                .stripes
                .iter()
                .map(move |stripe| stripe + (address - chunk.start))
        })
    }

    /// Bytes of the device that chunks take.
    pub(super) fn taken(&self) -> u64 {
        self.chunks.iter().map(Chunk::on_device).sum()
    }
}

impl Chunk {
    fn on_device(&self) -> u64 {
        self.stripes.iter().map(|_| self.length).sum()
    }

    pub(super) fn key(&self) -> Key {
        Key(256, kind::CHUNK, self.start)
    }

    pub(super) fn item(&self, sector: u64, device: &[u8; 16]) -> Vec<u8> {
        let head = Fields::default()
            .u64(self.length)
            .u64(2)
            .u64(65536)
            .u64(self.profile)
            .u32(65536u32)
            .u32(65536u32)
            .u32(sector)
            .u16(self.stripes.len())
            .u16(1u16);
        let stripes = self.stripes.iter();
        stripes
            .fold(head, |head, stripe| head.u64(1).u64(*stripe).put(device))
            .0
    }
}
