//! What does not fit into an inode: files' data, long symlinks, attributes.

use std::ops::Range;

use filetree::{Content, WriteError};

use super::super::bytes::Block;
use super::fork::{self, Fork};
use super::{Extent, Filler, attr, dir, inode};

impl Filler<'_> {
    pub(super) fn file(
        &mut self,
        body: &mut inode::Body,
        content: &Content,
    ) -> Result<(), WriteError> {
        body.size = content.size();
        let mut extents;
        let block = self.superblock.block_size();
        let mut ranges = block_ranges(content, block);
        let most = body.most_extents();
        loop {
            // Space is taken so that each range is one run, but at the end of a group.
            merge_closest(
                &mut ranges,
                most.saturating_sub(self.groups.len()).max(most / 2),
            );
            extents = Vec::new();
            let kept = self.groups.clone();
            for range in &ranges {
                extents.extend(self.allocate(range.start, range.end - range.start)?);
            }
            if extents.len() <= most || ranges.len() <= 1 {
                break;
            }
            self.groups = kept;
            merge_closest(&mut ranges, 1);
        }
        let open = content.open()?;
        for extent in &extents {
            self.copy(&open, content, extent)?;
        }
        open.finish()?;
        body.set_extents(extents)
            .map_err(|()| WriteError::Parameters("the free space is in too many pieces".to_owned()))
    }

    /// Copies one extent's data; what lies in a hole or behind the end stays zero.
    fn copy(
        &self,
        open: &filetree::OpenContent,
        content: &Content,
        extent: &Extent,
    ) -> Result<(), WriteError> {
        let block = self.superblock.block_size();
        let place = self.superblock.block_at(extent.start);
        let (from, to) = (
            extent.offset * block,
            (extent.offset + extent.count) * block,
        );
        let mut buffer = vec![0; 1 << 20];
        for range in content.data() {
            let mut at = range.start.max(from);
            let end = range.end.min(to);
            while at < end {
                let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 20);
                open.read_exact_at(&mut buffer[..length], at)?;
                self.write(&buffer[..length], place + (at - from))?;
                at += u64::try_from(length).unwrap_or(0);
            }
        }
        Ok(())
    }

    pub(super) fn symlink(
        &mut self,
        body: &mut inode::Body,
        number: u64,
        target: &[u8],
        unsupported: &dyn Fn(String) -> WriteError,
    ) -> Result<(), WriteError> {
        if target.is_empty() || target.len() > 1023 {
            let what = "XFS symbolic links say 1 to 1023 bytes";
            return Err(unsupported(what.to_owned()));
        }
        body.size = u64::try_from(target.len()).unwrap_or(0);
        if target.len() <= body.room() {
            body.data = Fork::Local(target.to_vec());
            return Ok(());
        }
        let size = self.superblock.block_size();
        let extents = self.remote(0, target, size, |block, at| {
            block.put(0, b"XSLM");
            block.u64(32, number);
            block.u64(40, at);
        })?;
        body.set_extents(extents)
            .map_err(|()| unsupported("the free space is in too many pieces".to_owned()))
    }

    /// Writes the leaf with the attributes that do not fit into the inode, and their long values.
    pub(super) fn attribute_leaf(
        &mut self,
        number: u64,
        attributes: &attr::Attributes,
        unsupported: &dyn Fn(String) -> WriteError,
    ) -> Result<Fork, WriteError> {
        let size = self.superblock.block_size();
        let leaf = attributes.leaf(size).ok_or_else(|| {
            unsupported(
                "its extended attributes need more than a block, which is not supported".to_owned(),
            )
        })?;
        let mut extents = self.allocate(0, 1)?;
        let place = extents[0].start;
        let mut block = leaf.block;
        dir::seal_da(&mut block, &self.superblock, place, number);
        let at = self.superblock.block_at(place);
        self.write(&block.0, at)?;
        for (offset, value) in leaf.remote {
            extents.extend(self.remote(offset, value, size, |block, at| {
                block.put(0, b"XARM");
                block.u64(32, number);
                block.u64(40, at);
                block.u64(48, u64::MAX);
            })?);
        }
        match extents.len() {
            0..=9 => Ok(Fork::Extents(fork::joined(extents))),
            _ => Err(unsupported(
                "it has too many long extended attributes".to_owned(),
            )),
        }
    }

    /// Spreads a value over blocks with a header each: length and offset, UUID and checksum here,
    /// the rest by `stamp`, which is told the block's address in sectors.
    fn remote(
        &mut self,
        offset: u64,
        value: &[u8],
        size: u64,
        stamp: impl Fn(&mut Block, u64),
    ) -> Result<Vec<Extent>, WriteError> {
        let room = usize::try_from(size).unwrap_or(usize::MAX) - 56;
        let count = u64::try_from(value.len().div_ceil(room)).unwrap_or(0);
        let extents = self.allocate(offset, count)?;
        let places: Vec<u64> = extents
            .iter()
            .flat_map(|extent| extent.start_blocks())
            .collect();
        for (index, (part, place)) in value.chunks(room).zip(places).enumerate() {
            let mut block = Block::new(size);
            block.u32(4, index * room);
            block.u32(8, part.len());
            block.put(16, &self.superblock.uuid);
            stamp(&mut block, self.superblock.sector_of(place));
            block.put(56, part);
            block.crc(12);
            let at = self.superblock.block_at(place);
            self.write(&block.0, at)?;
        }
        Ok(extents)
    }
}

/// The blocks of a file that hold data.
fn block_ranges(content: &Content, block: u64) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for data in content.data() {
        let (start, end) = (data.start / block, data.end.div_ceil(block));
        match ranges.last_mut() {
            Some(last) if last.end >= start => last.end = last.end.max(end),
            _ => ranges.push(start..end),
        }
    }
    ranges
}

/// Gives up the smallest holes until no more than `most` ranges are left.
fn merge_closest(ranges: &mut Vec<Range<u64>>, most: usize) {
    let excess = ranges.len().saturating_sub(most.max(1));
    if excess == 0 {
        return;
    }
    let mut holes: Vec<(u64, usize)> = (1..ranges.len())
        .map(|at| (ranges[at].start - ranges[at - 1].end, at))
        .collect();
    holes.sort_unstable();
    let mut filled: Vec<usize> = holes[..excess].iter().map(|(_, at)| *at).collect();
    filled.sort_unstable();
    for at in filled.into_iter().rev() {
        ranges[at - 1].end = ranges[at].end;
        ranges.remove(at);
    }
}
