//! Writing btrfs from a tree, in-process: one device, data once, metadata twice.
//!
//! All trees are sorted lists of items here and are packed into blocks from the leaves up, so the
//! same tree gives the same bytes: inodes are numbered in the order of the walk, space is taken in
//! order, and every UUID follows from the file system's. The layout keeps clear of the copies of the
//! superblock. Reference: "On-disk Format" (btrfs documentation).

mod compression;
mod contents;
mod data;
mod items;
mod node;
mod packed;
mod space;

use std::fs::File;
use std::os::unix::fs::FileExt;

use filetree::{Timestamp, Tree, WriteError};
use sha2::{Digest, Sha256};

pub use compression::{Compression, CompressionError};
use contents::Contents;
use items::{Fields, GENERATION, Key, Root, kind};
use node::{Identity, Items, NODE};
use space::{DATA, DUP, METADATA, MIB, SYSTEM, Space};

/// Tree numbers.
mod tree_id {
    pub(super) const ROOT: u64 = 1;
    pub(super) const EXTENT: u64 = 2;
    pub(super) const CHUNK: u64 = 3;
    pub(super) const DEV: u64 = 4;
    pub(super) const FS: u64 = 5;
    pub(super) const CSUM: u64 = 7;
    pub(super) const UUID: u64 = 9;
    pub(super) const FREE_SPACE: u64 = 10;
    pub(super) const DATA_RELOC: u64 = 0u64.wrapping_sub(9);
    /// The first subvolume's.
    pub(super) const FIRST_FREE: u64 = 256;
}

/// Bytes of the chunk that holds the chunk tree.
const SYSTEM_CHUNK: u64 = 4 * MIB;

/// How a btrfs is to be.
#[derive(Clone, Debug)]
pub struct Btrfs {
    /// Label, at most 255 bytes.
    pub label: String,
    /// The file system's UUID.
    pub uuid: [u8; 16],
    /// Bytes of a sector: 4096, or a larger power of two up to 16384.
    pub sector: u64,
    /// When it was made.
    pub time: Timestamp,
    /// The directories of the tree that become subvolumes.
    pub subvolumes: Vec<Subvolume>,
    /// The path of the subvolume to mount by default.
    pub default: Option<Vec<u8>>,
    /// How files' data is compressed, but where it is overwritten in place.
    pub compression: Option<Compression>,
}

/// A directory that becomes a subvolume.
#[derive(Clone, Debug)]
pub struct Subvolume {
    /// Its path in the tree.
    pub path: Vec<u8>,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Whether its files are overwritten in place, without checksums.
    pub no_cow: bool,
}

impl Btrfs {
    /// Writes the file system to `image`, which reads as zeros, as large as the image is.
    pub fn write(&self, tree: &Tree, image: &File) -> Result<(), WriteError> {
        let size = image.metadata().map_err(WriteError::Target)?.len();
        let written = self.write_within(tree, Some(image), size / self.sector * self.sector);
        match (written, self.compression) {
            (Ok(_), _) => Ok(()),
            // How much there is, is not known before all is compressed.
            (Err(WriteError::TooSmall { available, .. }), Some(_)) => Err(WriteError::TooSmall {
                needed: self.size(tree)?,
                available,
            }),
            (Err(error), _) => Err(error),
        }
    }

    /// The bytes of the smallest image that [`Btrfs::write`] can fill with `tree`. Reads only the files
    /// that are kept within the metadata; where data is compressed, all.
    pub fn size(&self, tree: &Tree) -> Result<u64, WriteError> {
        // The layout does not depend on what is behind it.
        self.write_within(tree, None, 1 << 60)
    }

    /// Writes to the image, or only lays out and returns the size that the outcome needs.
    fn write_within(
        &self,
        tree: &Tree,
        image: Option<&File>,
        size: u64,
    ) -> Result<u64, WriteError> {
        if !matches!(self.sector, 4096 | 8192 | 16384) || self.label.len() > 255 {
            let what = format!(
                "btrfs cannot have sectors of {} bytes, or this label",
                self.sector
            );
            return Err(WriteError::Parameters(what));
        }
        let mut space = Space::new(size);
        let too_small = |needed: u64| WriteError::TooSmall {
            needed: needed.max(size + 1),
            available: size,
        };
        space
            .take(SYSTEM_CHUNK, SYSTEM | DUP)
            .ok_or_else(|| too_small(16 * MIB))?;
        let mut contents = Contents::survey(self, tree)?;
        let plain = contents.data_bytes();
        // Compressed, an extent may leave the end of a chunk empty; what is too much is given back.
        let slack = self.compression.map_or(0, |_| plain / 4096 + 2 * MIB);
        let data = (plain + slack).next_multiple_of(MIB);
        let taken = space.take(data, DATA);
        if self.compression.is_none() {
            taken.ok_or_else(|| too_small(data + 16 * MIB))?;
        }
        contents.write(image, &mut space, self.compression)?;
        space.trim(DATA);
        let build = Build {
            btrfs: self,
            identity: Identity {
                uuid: self.uuid,
                chunk_tree: self.derived("chunk tree"),
            },
            device: self.derived("device"),
            space,
            contents,
        };
        build.finish(image, too_small)
    }

    /// A UUID that follows from the file system's.
    fn derived(&self, what: &str) -> [u8; 16] {
        let hash = Sha256::new()
            .chain_update(self.uuid)
            .chain_update(what)
            .finalize();
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&hash[..16]);
        // Version 4, the DCE variant.
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }
}

/// A file system whose contents are written and whose trees are not.
struct Build<'a> {
    btrfs: &'a Btrfs,
    identity: Identity,
    device: [u8; 16],
    space: Space,
    contents: Contents<'a>,
}

/// A tree with the number of its first block, counted through the metadata.
struct Placed {
    items: Items,
    first: u64,
}

impl Build<'_> {
    fn finish(
        mut self,
        image: Option<&File>,
        too_small: impl Fn(u64) -> WriteError,
    ) -> Result<u64, WriteError> {
        // Sizes first: the extent tree has an item for each block, its own too.
        let mut fixed = std::mem::take(&mut self.contents.trees);
        fixed.extend([self.uuid_tree(), self.relocation_tree()]);
        let reserve = 64;
        let mut blocks = fixed.iter().map(Items::blocks).sum::<u64>() + reserve;
        blocks += self.extent_blocks(blocks);
        let wanted = (blocks * NODE * 5 / 4).next_multiple_of(MIB) + 4 * MIB;
        let taken = self.space.take(wanted, METADATA | DUP);
        taken.ok_or_else(|| too_small(self.space.taken() + 2 * wanted + 2 * MIB))?;
        let metadata = self
            .space
            .chunks
            .iter()
            .position(|chunk| chunk.profile & METADATA != 0);
        let metadata = metadata.ok_or_else(|| too_small(wanted))?;

        let Some(image) = image else {
            return Ok(self.space.end());
        };

        fixed.push(self.dev_tree());
        let (own, total) = self.count(&fixed);
        self.use_blocks(metadata, total);
        self.space.chunks[0].used = self.chunk_tree().blocks() * NODE;

        let free = self.free_space_tree();
        let mut placed = Vec::new();
        let mut next = 0;
        for items in fixed.into_iter().chain([free]) {
            let first = next;
            next += items.blocks();
            placed.push(Placed { items, first });
        }
        let extents_first = next;
        let roots = self.root_tree(&self.roots(&placed, (extents_first, own)));
        let roots_first = extents_first + own;
        placed.push(Placed {
            items: roots,
            first: roots_first,
        });
        let extents = self.extent_tree(total, &self.owners(&placed, (extents_first, own)));
        placed.push(Placed {
            items: extents,
            first: extents_first,
        });
        self.write_trees(image, &placed, roots_first)?;
        Ok(self.space.size)
    }

    /// How many blocks the extent tree takes, and all trees in the metadata do.
    fn count(&self, fixed: &[Items]) -> (u64, u64) {
        let counted: u64 = fixed.iter().map(Items::blocks).sum();
        let root_blocks = self.root_tree(&fixed_roots(fixed)).blocks();
        let free_blocks = self.free_space_tree().blocks();
        let mut own = 1;
        loop {
            let needed = self
                .extent_tree(counted + root_blocks + free_blocks + own, &[])
                .blocks();
            if needed <= own {
                break;
            }
            own = needed;
        }
        (own, counted + root_blocks + free_blocks + own)
    }

    /// Blocks of an extent tree for `others` blocks of other trees, and a few to spare.
    fn extent_blocks(&self, others: u64) -> u64 {
        let items = u64::try_from(self.contents.extents.len()).unwrap_or(u64::MAX);
        (items * 78 + others * 58) / (NODE - 512) * 11 / 10 + 8
    }

    /// Spreads `blocks` over the metadata chunks, in order.
    fn use_blocks(&mut self, first: usize, blocks: u64) {
        let mut left = blocks * NODE;
        for chunk in &mut self.space.chunks[first..] {
            chunk.used = left.min(chunk.length);
            left -= chunk.used;
        }
    }

    /// The address of a block of metadata.
    fn address(&self, block: u64) -> u64 {
        let mut offset = block * NODE;
        for chunk in self
            .space
            .chunks
            .iter()
            .filter(|chunk| chunk.profile & METADATA != 0)
        {
            if offset < chunk.length {
                return chunk.start + offset;
            }
            offset -= chunk.length;
        }
        u64::MAX
    }

    fn chunk_tree(&self) -> Items {
        let mut items = Items::new(tree_id::CHUNK);
        items.add(Key(1, kind::DEV, 1), self.device_item());
        for chunk in &self.space.chunks {
            items.add(chunk.key(), chunk.item(self.btrfs.sector, &self.device));
        }
        items
    }

    fn device_item(&self) -> Vec<u8> {
        Fields::default()
            .u64(1)
            .u64(self.space.size)
            .u64(self.space.taken())
            .u32(self.btrfs.sector)
            .u32(self.btrfs.sector)
            .u32(self.btrfs.sector)
            .pad(66)
            .put(&self.device)
            .put(&self.identity.uuid)
            .0
    }

    fn dev_tree(&self) -> Items {
        let mut items = Items::new(tree_id::DEV);
        for chunk in &self.space.chunks {
            for stripe in &chunk.stripes {
                let item = Fields::default()
                    .u64(tree_id::CHUNK)
                    .u64(256)
                    .u64(chunk.start)
                    .u64(chunk.length)
                    .put(&self.identity.chunk_tree);
                items.add(Key(1, kind::DEV_EXTENT, *stripe), item.0);
            }
        }
        items.all.sort_by_key(|item| item.0);
        items
    }

    fn uuid_tree(&self) -> Items {
        let mut items = Items::new(tree_id::UUID);
        for root in &self.contents.roots {
            let uuid = self.root_uuid(root.id);
            let half = |at: usize| {
                uuid[at..at + 8]
                    .iter()
                    .rev()
                    .fold(0, |all, byte| all << 8 | u64::from(*byte))
            };
            items.add(
                Key(half(0), kind::UUID, half(8)),
                root.id.to_le_bytes().to_vec(),
            );
        }
        items.all.sort_by_key(|item| item.0);
        items
    }

    fn relocation_tree(&self) -> Items {
        let mut items = Items::new(tree_id::DATA_RELOC);
        contents::empty_root(&mut items, 256, self.btrfs.time);
        items
    }

    fn root_uuid(&self, id: u64) -> [u8; 16] {
        self.btrfs.derived(&format!("subvolume {id}"))
    }

    fn free_space_tree(&self) -> Items {
        let mut items = Items::new(tree_id::FREE_SPACE);
        for chunk in &self.space.chunks {
            let free = chunk.length - chunk.used;
            let info = Fields::default().u32(u64::from(free > 0)).u32(0u32);
            items.add(Key(chunk.start, kind::FREE_INFO, chunk.length), info.0);
            if free > 0 {
                items.add(
                    Key(chunk.start + chunk.used, kind::FREE_EXTENT, free),
                    Vec::new(),
                );
            }
        }
        items
    }

    /// The extent tree where `blocks` blocks of metadata are in use; `owners` says whose they are.
    fn extent_tree(&self, blocks: u64, owners: &[(u64, u8, u64)]) -> Items {
        let mut items = Items::new(tree_id::EXTENT);
        for chunk in &self.space.chunks {
            let item = Fields::default()
                .u64(chunk.used)
                .u64(256)
                .u64(chunk.profile);
            items.add(Key(chunk.start, kind::BLOCK_GROUP, chunk.length), item.0);
        }
        for extent in &self.contents.extents {
            items.add(
                Key(extent.start, kind::EXTENT, extent.length),
                extent.in_extents(),
            );
        }
        let system = self.chunk_tree();
        let start = self.space.chunks[0].start;
        for (at, level, _) in system.blocks_at(&self.identity, |block| start + block * NODE) {
            items.add(
                Key(at, kind::METADATA, level.into()),
                items::metadata_extent(tree_id::CHUNK),
            );
        }
        match owners {
            [] => {
                let fake = (0..blocks).map(|block| {
                    (
                        Key(u64::MAX, kind::METADATA, block),
                        items::metadata_extent(0),
                    )
                });
                items.all.extend(fake);
            }
            owners => {
                let real = owners.iter().map(|(block, level, owner)| {
                    (
                        Key(self.address(*block), kind::METADATA, (*level).into()),
                        items::metadata_extent(*owner),
                    )
                });
                items.all.extend(real);
            }
        }
        items.all.sort_by_key(|item| item.0);
        items
    }

    /// Every block of metadata with its level and tree.
    fn owners(&self, placed: &[Placed], (extents_first, own): (u64, u64)) -> Vec<(u64, u8, u64)> {
        let mut owners = Vec::new();
        let mut add = |first: u64, levels: Vec<usize>, owner: u64| {
            let mut block = first;
            for (level, count) in (0u8..).zip(levels) {
                for _ in 0..count {
                    owners.push((block, level, owner));
                    block += 1;
                }
            }
        };
        for tree in placed {
            add(tree.first, tree.items.levels(), tree.items.owner);
        }
        add(extents_first, levels_of(own), tree_id::EXTENT);
        owners
    }

    /// The roots that the root tree names: tree, root block, level, blocks.
    fn roots(&self, placed: &[Placed], (extents_first, own): (u64, u64)) -> Vec<RootAt> {
        let at = |tree: u64, first: u64, blocks: u64, levels: usize| RootAt {
            tree,
            block: self.address(first + blocks - 1),
            level: u8::try_from(levels - 1).unwrap_or(u8::MAX),
            blocks,
        };
        let mut roots: Vec<RootAt> = placed
            .iter()
            .map(|tree| {
                at(
                    tree.items.owner,
                    tree.first,
                    tree.items.blocks(),
                    tree.items.levels().len(),
                )
            })
            .collect();
        roots.push(at(
            tree_id::EXTENT,
            extents_first,
            own,
            levels_of(own).len(),
        ));
        roots
    }

    fn root_tree(&self, roots: &[RootAt]) -> Items {
        let mut items = Items::new(tree_id::ROOT);
        let none = [0; 16];
        for root in roots.iter().filter(|root| root.tree != tree_id::ROOT) {
            let subvolume = self.contents.roots.iter().find(|sub| sub.id == root.tree);
            let uuid = subvolume.map(|sub| self.root_uuid(sub.id));
            let directory = subvolume.is_some() || root.tree == tree_id::DATA_RELOC;
            let item = Root {
                block: root.block,
                level: root.level,
                blocks: root.blocks,
                directory: if directory { 256 } else { 0 },
                flags: u64::from(subvolume.is_some_and(|sub| sub.read_only)),
                uuid: uuid.as_ref().unwrap_or(&none),
                time: self.btrfs.time,
            };
            items.add(Key(root.tree, kind::ROOT, 0), item.bytes(NODE));
        }
        items.all.extend(self.contents.references.iter().cloned());
        contents::empty_root(&mut items, 6, self.btrfs.time);
        let target = Key(self.contents.default_root, kind::ROOT, u64::MAX);
        let entry = items::entry(target, 2, b"default", b"");
        items.add(Key(6, kind::DIR_ITEM, items::name_hash(b"default")), entry);
        items.all.sort_by_key(|item| item.0);
        items
    }

    fn write_trees(
        &self,
        image: &File,
        placed: &[Placed],
        roots_first: u64,
    ) -> Result<(), WriteError> {
        for tree in placed {
            let blocks = tree
                .items
                .blocks_at(&self.identity, |block| self.address(tree.first + block));
            self.write_blocks(image, blocks)?;
        }
        let start = self.space.chunks[0].start;
        let chunks = self.chunk_tree();
        let blocks = chunks.blocks_at(&self.identity, |block| start + block * NODE);
        let chunk_root = blocks.last().map_or((0, 0), |block| (block.0, block.1));
        self.write_blocks(image, blocks)?;
        let roots = placed
            .iter()
            .find(|tree| tree.first == roots_first && tree.items.owner == tree_id::ROOT);
        let root = roots.map_or((0, 0), |tree| {
            let level = u8::try_from(tree.items.levels().len() - 1).unwrap_or(0);
            (self.address(tree.first + tree.items.blocks() - 1), level)
        });
        let places = [64 << 10].into_iter().chain(space::COPIES);
        for at in places.filter(|at| at + 4096 <= self.space.size) {
            let superblock = self.superblock(at, root, chunk_root);
            image
                .write_all_at(&superblock, at)
                .map_err(WriteError::Target)?;
        }
        Ok(())
    }

    fn write_blocks(
        &self,
        image: &File,
        blocks: Vec<(u64, u8, Vec<u8>)>,
    ) -> Result<(), WriteError> {
        for (address, _, block) in blocks {
            for place in self.space.places(address) {
                image
                    .write_all_at(&block, place)
                    .map_err(WriteError::Target)?;
            }
        }
        Ok(())
    }

    fn superblock(&self, at: u64, root: (u64, u8), chunk_root: (u64, u8)) -> Vec<u8> {
        // Mixed back references, a default subvolume, blocks larger than pages, longer references,
        // small metadata items, no items for holes.
        let default = u64::from(self.contents.default_root != tree_id::FS);
        let compression = self.btrfs.compression.map_or(0, Compression::incompatible);
        let incompat = 0x361 | default << 1 | compression;
        let system = &self.space.chunks[0];
        let array = [
            system.key().bytes(),
            system.item(self.btrfs.sector, &self.device),
        ]
        .concat();
        let used: u64 = self.space.chunks.iter().map(|chunk| chunk.used).sum();
        let mut block = Fields::default()
            .pad(32)
            .put(&self.identity.uuid)
            .u64(at)
            .u64(1)
            .put(b"_BHRfS_M")
            .u64(GENERATION)
            .u64(root.0)
            .u64(chunk_root.0)
            .u64(0)
            .u64(0)
            .u64(self.space.size)
            .u64(used)
            .u64(6)
            .u64(1)
            .u32(self.btrfs.sector)
            .u32(NODE)
            .u32(NODE)
            .u32(self.btrfs.sector)
            .u32(array.len())
            .u64(GENERATION)
            .u64(0)
            // A free space tree, and it is valid.
            .u64(3)
            .u64(incompat)
            .u16(0u16)
            .u8(root.1)
            .u8(chunk_root.1)
            .u8(0)
            .put(&self.device_item())
            .put(self.btrfs.label.as_bytes())
            .pad(555)
            .u64(0)
            .u64(GENERATION)
            .pad(811)
            .put(&array)
            .pad(4096)
            .0;
        node::seal(&mut block);
        block
    }
}

/// Where a tree's root lies.
struct RootAt {
    tree: u64,
    block: u64,
    level: u8,
    blocks: u64,
}

/// The roots before anything has its place: only their number counts.
fn fixed_roots(trees: &[Items]) -> Vec<RootAt> {
    let known = trees.iter().map(|tree| tree.owner);
    let all = known.chain([tree_id::EXTENT, tree_id::FREE_SPACE]);
    all.map(|tree| RootAt {
        tree,
        block: 0,
        level: 0,
        blocks: 0,
    })
    .collect()
}

/// The levels of a tree of `blocks` blocks, as [`Items::levels`] would count them.
fn levels_of(blocks: u64) -> Vec<usize> {
    let mut leaves = usize::try_from(blocks).unwrap_or(usize::MAX);
    loop {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().copied().filter(|count| *count > 1) {
            levels.push(below.div_ceil(493));
        }
        match levels.iter().sum::<usize>() <= usize::try_from(blocks).unwrap_or(usize::MAX) {
            true => return levels,
            false => leaves -= 1,
        }
    }
}

#[cfg(test)]
mod tests;
