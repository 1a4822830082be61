//! Fills an empty file system with a tree: inodes, directories and data in the order of the tree, every
//! source read once.

use filetree::{Content, InodeId, Kind, Tree, WriteError};

use super::bytes::{low16, put32, u16_at, u32_at};
use super::checksum::crc32c;
use super::directory::{self, Entry, Format};
use super::inode::{self, EXTENTS, Fields};
use super::mapping::{Map, Run};
use super::volume::{Volume, to_usize};
use super::xattr::Attributes;
use super::{Disk, backend, length, unsupported};
use crate::populate::stream::Stream;

const ROOT: u32 = 2;
const LOST_AND_FOUND: &[u8] = b"lost+found";
const MAX_LINKS: u32 = 65000;

struct Filling<'a> {
    disk: &'a mut dyn Disk,
    tree: &'a Tree,
    volume: Volume,
    numbers: Vec<u32>, // by the index in the tree
    links: Vec<u32>,
    parents: Vec<InodeId>,
    lost_and_found: Option<u32>,
    table: Stream,
    data: Stream,
}

/// Puts `tree` into the empty file system on `disk`.
pub(super) fn fill(tree: &Tree, disk: &mut dyn Disk) -> Result<(), WriteError> {
    let mut volume = Volume::open(disk)?;
    let lost_and_found = empty_root(&mut volume, disk)?;
    let block_size = volume.geometry.block_size;
    let mut filling = Filling {
        disk,
        tree,
        volume,
        numbers: vec![0; tree.len()],
        links: tree.link_counts(),
        parents: vec![InodeId::ROOT; tree.len()],
        lost_and_found,
        table: Stream::new(1),
        data: Stream::new(block_size),
    };
    let found = filling.number()?;
    for (path, id) in &found {
        filling.inode(*id, path)?;
    }
    filling.table.flush(filling.disk)?;
    filling.data.flush(filling.disk)?;
    filling.volume.close(filling.disk)
}

/// Takes the root directory's block away, and says which inode `lost+found` is.
fn empty_root(volume: &mut Volume, disk: &dyn Disk) -> Result<Option<u32>, WriteError> {
    let mut root = vec![0; volume.geometry.inode_size];
    let at = volume.inode_address(ROOT);
    disk.read_exact_at(&mut root, at)
        .map_err(WriteError::Target)?;
    let block = match u32_at(&root, 32) & EXTENTS {
        0 => u64::from(u32_at(&root, 40)),
        _ => u64::from(u32_at(&root, 60)) | u64::from(u16_at(&root, 58)) << 32,
    };
    if block <= volume.geometry.first_block || block >= volume.geometry.blocks {
        return Err(backend("mke2fs left an odd root directory"));
    }
    let mut entries = vec![0; to_usize(volume.geometry.block_size)];
    let at = block * volume.geometry.block_size;
    disk.read_exact_at(&mut entries, at)
        .map_err(WriteError::Target)?;
    volume.release(block);
    let mut at = 0;
    while at + 8 + LOST_AND_FOUND.len() <= entries.len() {
        let size = usize::from(u16_at(&entries, at + 4));
        let name = &entries[at + 8..at + 8 + LOST_AND_FOUND.len()];
        if usize::from(entries[at + 6]) == LOST_AND_FOUND.len() && name == LOST_AND_FOUND {
            return Ok(Some(u32_at(&entries, at)));
        }
        at += size.max(12);
    }
    Ok(None)
}

impl Filling<'_> {
    /// Gives every inode its number, in the order of the first names; returns them so.
    fn number(&mut self) -> Result<Vec<(Vec<u8>, InodeId)>, WriteError> {
        let mut found = Vec::with_capacity(self.tree.len());
        for (path, id) in self.tree.walk() {
            let number = &mut self.numbers[id.index()];
            if *number != 0 {
                continue;
            }
            let node = self.tree.inode(id);
            if path == LOST_AND_FOUND && self.lost_and_found.is_some() {
                if node.entries().is_none_or(|entries| !entries.is_empty()) {
                    return Err(unsupported(
                        &path,
                        "ext4 keeps this name for a directory of its own; leave it out with ExcludeFilesTarget=/lost+found",
                    ));
                }
                continue;
            }
            *number = match id {
                InodeId::ROOT => ROOT,
                _ => self.volume.take_inode(node.entries().is_some())?,
            };
            for child in node.entries().into_iter().flat_map(|names| names.values()) {
                self.parents[child.index()] = id;
            }
            found.push((path, id));
        }
        Ok(found)
    }

    fn inode(&mut self, id: InodeId, path: &[u8]) -> Result<(), WriteError> {
        let node = self.tree.inode(id);
        let number = self.numbers[id.index()];
        let seed = inode::seed(&self.volume.geometry, number);
        let mut fields = self.fields(id, path)?;
        self.xattrs(path, &node.metadata, &mut fields)?;
        match &node.kind {
            Kind::File(content) => self.file(content, path, seed, &mut fields)?,
            Kind::Directory(_) => {
                let bytes = self.listing(id, seed);
                self.bytes(&bytes, path, seed, &mut fields)?;
            }
            Kind::Symlink(target) if target.len() < 60 => {
                fields.size = length(target.len());
                fields.map = target.to_vec();
            }
            Kind::Symlink(target) if length(target.len()) < self.volume.geometry.block_size => {
                self.bytes(target, path, seed, &mut fields)?;
                fields.size = length(target.len());
            }
            Kind::Symlink(_) => {
                return Err(unsupported(
                    path,
                    "the symlink's target is longer than a block",
                ));
            }
            Kind::CharacterDevice(device) | Kind::BlockDevice(device) => {
                fields.map = inode::device(*device).ok_or_else(|| {
                    unsupported(
                        path,
                        "ext4 holds major numbers below 4096 and minor numbers below 1048576",
                    )
                })?;
            }
            Kind::Fifo | Kind::Socket => {}
        }
        let encoded = inode::encode(&self.volume.geometry, number, &node.metadata, &fields);
        let at = self.volume.inode_address(number);
        self.table.put(self.disk, &encoded, at)
    }

    fn fields(&self, id: InodeId, path: &[u8]) -> Result<Fields, WriteError> {
        let node = self.tree.inode(id);
        let mut links = self.links[id.index()];
        if id == InodeId::ROOT && self.lost_and_found.is_some() {
            let own = self.tree.lookup(LOST_AND_FOUND).is_some();
            links += u32::from(!own);
        }
        if links > MAX_LINKS {
            if node.entries().is_none() || !self.volume.geometry.many_links {
                return Err(unsupported(
                    path,
                    "ext file systems count at most 65000 links",
                ));
            }
            links = 1;
        }
        Ok(Fields {
            mode: inode::mode(&node.kind, &node.metadata),
            links: low16(links.into()),
            ..Fields::default()
        })
    }

    fn xattrs(
        &mut self,
        path: &[u8],
        metadata: &filetree::Metadata,
        fields: &mut Fields,
    ) -> Result<(), WriteError> {
        let geometry = &self.volume.geometry;
        let room = match geometry.inode_size {
            128 => 0,
            size => size - 128 - usize::from(geometry.extra_size),
        };
        let block_size = to_usize(geometry.block_size);
        let attributes = Attributes::place(metadata, path, room, block_size)?;
        fields.xattrs = attributes.inode;
        if let Some(mut block) = attributes.block {
            let (number, _) = self.volume.take_blocks(1)?;
            if self.volume.geometry.metadata_checksums {
                let seed = crc32c(self.volume.geometry.seed, &number.to_le_bytes());
                let checksum = crc32c(seed, &block);
                put32(&mut block, 16, checksum);
            }
            let at = number * self.volume.geometry.block_size;
            self.data.put(self.disk, &block, at)?;
            fields.xattr_block = number;
            fields.blocks += 1;
        }
        Ok(())
    }

    fn listing(&self, id: InodeId, seed: u32) -> Vec<u8> {
        let geometry = &self.volume.geometry;
        let entry = |id: InodeId, name| Entry {
            inode: self.numbers[id.index()],
            kind: inode::entry_type(&self.tree.inode(id).kind),
            name,
        };
        let mut entries = vec![entry(id, b"."), entry(self.parents[id.index()], b"..")];
        let lost = self.lost_and_found.filter(|_| id == InodeId::ROOT);
        if let Some(inode) = lost {
            entries.push(Entry {
                inode,
                kind: 2,
                name: LOST_AND_FOUND,
            });
        }
        let named = self.tree.inode(id).entries().into_iter().flatten();
        let named = named.map(|(name, child)| entry(*child, name.as_bytes()));
        entries.extend(named.filter(|entry| lost.is_none() || entry.name != LOST_AND_FOUND));
        let format = Format {
            block_size: to_usize(geometry.block_size),
            kinds: geometry.file_types,
            seed: geometry.metadata_checksums.then_some(seed),
        };
        directory::encode(&entries, format)
    }

    /// Takes blocks for these of the file, given as ranges of block numbers.
    fn runs(&mut self, ranges: &[(u64, u64)]) -> Result<Vec<Run>, WriteError> {
        let mut runs = Vec::new();
        for &(start, end) in ranges {
            let mut logical = start;
            while logical < end {
                let (physical, count) = self.volume.take_blocks(end - logical)?;
                runs.push(Run {
                    logical,
                    physical,
                    count,
                });
                logical += count;
            }
        }
        Ok(runs)
    }

    /// Maps the blocks, writes the map, and notes both in the inode.
    fn map(
        &mut self,
        runs: &[Run],
        path: &[u8],
        seed: u32,
        fields: &mut Fields,
    ) -> Result<(), WriteError> {
        let map = Map::make(&mut self.volume, runs, seed)?.ok_or_else(|| {
            unsupported(path, "the file is larger than this file system can hold")
        })?;
        fields.blocks += runs.iter().map(|run| run.count).sum::<u64>();
        fields.blocks += length(map.blocks.len());
        for (at, block) in &map.blocks {
            self.data.put(self.disk, block, *at)?;
        }
        fields.map = map.field;
        if self.volume.geometry.extents {
            fields.flags |= EXTENTS;
        }
        Ok(())
    }

    fn bytes(
        &mut self,
        bytes: &[u8],
        path: &[u8],
        seed: u32,
        fields: &mut Fields,
    ) -> Result<(), WriteError> {
        let block_size = self.volume.geometry.block_size;
        let runs = self.runs(&[(0, length(bytes.len()).div_ceil(block_size))])?;
        fields.size = length(bytes.len());
        for run in &runs {
            let from = to_usize(run.logical * block_size);
            let end = bytes
                .len()
                .min(to_usize((run.logical + run.count) * block_size));
            self.data
                .put(self.disk, &bytes[from..end], run.physical * block_size)?;
        }
        self.map(&runs, path, seed, fields)
    }

    fn file(
        &mut self,
        content: &Content,
        path: &[u8],
        seed: u32,
        fields: &mut Fields,
    ) -> Result<(), WriteError> {
        let block_size = self.volume.geometry.block_size;
        fields.size = content.size();
        if fields.size >= 1 << 31 {
            self.volume.set_large_file();
        }
        let runs = self.runs(&blocks_of(content, block_size))?;
        let open = content.open()?;
        let mut ranges = content.data().iter().cloned().peekable();
        for run in &runs {
            let start = run.logical * block_size;
            let end = start + run.count * block_size;
            while let Some(range) = ranges.peek_mut().filter(|range| range.start < end) {
                let part = (range.start, range.end.min(end) - range.start);
                let to = run.physical * block_size + (range.start - start);
                self.data.copy(self.disk, &open, part, to)?;
                if range.end > end {
                    range.start = end;
                    break;
                }
                ranges.next();
            }
        }
        open.finish()?;
        self.map(&runs, path, seed, fields)
    }
}

/// The blocks of a file that hold data, as ranges that do not touch.
fn blocks_of(content: &Content, block_size: u64) -> Vec<(u64, u64)> {
    let mut blocks: Vec<(u64, u64)> = Vec::new();
    for range in content.data() {
        let (start, end) = (range.start / block_size, range.end.div_ceil(block_size));
        match blocks.last_mut() {
            Some(last) if last.1 >= start => last.1 = end,
            _ => blocks.push((start, end)),
        }
    }
    blocks
}
