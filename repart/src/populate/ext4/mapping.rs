//! From a file's blocks to the disk's: extent trees of ext4, indirect blocks of ext2 and ext3.

use filetree::WriteError;

use super::bytes::{low16, low32, put16, put32};
use super::checksum::crc32c;
use super::volume::{Volume, to_usize};

/// `count` blocks of a file that follow each other on the disk, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) count: u64,
}

/// The 60 bytes in the inode, and the blocks that they lead to.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) field: Vec<u8>,
    /// Address in bytes and contents.
    pub(super) blocks: Vec<(u64, Vec<u8>)>,
}

impl Map {
    /// Maps `runs`, in order, taking blocks for the map itself from `volume`. `None` where the
    /// file has blocks that the format cannot count to.
    pub(super) fn make(
        volume: &mut Volume,
        runs: &[Run],
        inode_seed: u32,
    ) -> Result<Option<Self>, WriteError> {
        let mut map = Self::default();
        if volume.geometry.extents {
            let fits = runs
                .last()
                .is_none_or(|run| run.logical + run.count < 1 << 32);
            if fits {
                map.extents(volume, runs, inode_seed)?;
            }
            return Ok(fits.then_some(map));
        }
        let per_block = volume.geometry.block_size / 4;
        let limit = 12 + per_block + per_block.pow(2) + per_block.pow(3);
        if runs
            .last()
            .is_some_and(|run| run.logical + run.count > limit)
            || volume.geometry.blocks >= 1 << 32
        {
            return Ok(None);
        }
        map.indirect(volume, runs)?;
        Ok(Some(map))
    }

    fn extents(&mut self, volume: &mut Volume, runs: &[Run], seed: u32) -> Result<(), WriteError> {
        let mut nodes: Vec<(u64, [u8; 12])> = runs.iter().map(leaf).collect();
        let mut depth = 0;
        let block_size = volume.geometry.block_size;
        let capacity = to_usize((block_size - 12) / 12);
        while nodes.len() > 4 {
            let mut above = Vec::new();
            for part in nodes.chunks(capacity) {
                let (address, _) = volume.take_blocks(1)?;
                let mut block = vec![0; to_usize(block_size)];
                node(&mut block, part, capacity, depth);
                if volume.geometry.metadata_checksums {
                    let tail = 12 + 12 * capacity;
                    let checksum = crc32c(seed, &block[..tail]);
                    put32(&mut block, tail, checksum);
                }
                self.blocks.push((address * block_size, block));
                above.push((part[0].0, index(part[0].0, address)));
            }
            nodes = above;
            depth += 1;
        }
        self.field = vec![0; 60];
        node(&mut self.field, &nodes, 4, depth);
        Ok(())
    }

    fn indirect(&mut self, volume: &mut Volume, runs: &[Run]) -> Result<(), WriteError> {
        let blocks = |run: &Run| {
            let Run {
                logical,
                physical,
                count,
            } = *run;
            (0..count).map(move |step| (logical + step, physical + step))
        };
        let mut pairs = runs.iter().flat_map(blocks).peekable();
        let per_block = volume.geometry.block_size / 4;
        self.field = vec![0; 60];
        while let Some((logical, physical)) = pairs.next_if(|(logical, _)| *logical < 12) {
            put32(&mut self.field, to_usize(logical) * 4, low32(physical));
        }
        let mut base = 12;
        for level in 1..=3u32 {
            let span = per_block.pow(level);
            let mut within = Vec::new();
            while let Some((logical, physical)) = pairs.next_if(|(at, _)| *at < base + span) {
                within.push((logical - base, physical));
            }
            if !within.is_empty() {
                let block = self.level(volume, &within, level)?;
                put32(
                    &mut self.field,
                    to_usize(u64::from(11 + level)) * 4,
                    low32(block),
                );
            }
            base += span;
        }
        Ok(())
    }

    /// A block of pointers, `level` of them above the data; returns its number.
    fn level(
        &mut self,
        volume: &mut Volume,
        pairs: &[(u64, u64)],
        level: u32,
    ) -> Result<u64, WriteError> {
        let block_size = volume.geometry.block_size;
        let span = (block_size / 4).pow(level - 1);
        let (address, _) = volume.take_blocks(1)?;
        let mut block = vec![0; to_usize(block_size)];
        for part in pairs.chunk_by(|a, b| a.0 / span == b.0 / span) {
            let slot = part[0].0 / span;
            let to = if level == 1 {
                part[0].1
            } else {
                let below: Vec<_> = part.iter().map(|(at, to)| (at % span, *to)).collect();
                self.level(volume, &below, level - 1)?
            };
            put32(&mut block, to_usize(slot) * 4, low32(to));
        }
        self.blocks.push((address * block_size, block));
        Ok(address)
    }
}

fn node(area: &mut [u8], entries: &[(u64, [u8; 12])], capacity: usize, depth: u16) {
    put16(area, 0, 0xf30a);
    put16(area, 2, low16(super::length(entries.len())));
    put16(area, 4, low16(super::length(capacity)));
    put16(area, 6, depth);
    for (slot, (_, entry)) in entries.iter().enumerate() {
        area[12 + slot * 12..24 + slot * 12].copy_from_slice(entry);
    }
}

fn leaf(run: &Run) -> (u64, [u8; 12]) {
    let mut entry = [0; 12];
    put32(&mut entry, 0, low32(run.logical));
    put16(&mut entry, 4, low16(run.count));
    put16(&mut entry, 6, low16(run.physical >> 32));
    put32(&mut entry, 8, low32(run.physical));
    (run.logical, entry)
}

fn index(logical: u64, block: u64) -> [u8; 12] {
    let mut entry = [0; 12];
    put32(&mut entry, 0, low32(logical));
    put32(&mut entry, 4, low32(block));
    put16(&mut entry, 8, low16(block >> 32));
    entry
}
