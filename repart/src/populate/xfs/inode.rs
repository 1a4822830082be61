//! An inode as stored. Pure.

use filetree::{Kind, Metadata, Timestamp};

use super::super::bytes::Block;
use super::Extent;
use super::attr::Attributes;
use super::fork::{Fork, joined};
use super::superblock::Superblock;

/// Where the forks part, unless they need it otherwise: as the kernel does for 512-byte inodes.
const USUAL_DATA: usize = 192;
/// The least that an attribute fork with extents gets.
const LEAST_ATTRIBUTES: usize = 144;

/// The least that the data fork gets beside attributes.
const LEAST_DATA: usize = 56;

/// What follows an inode's core.
pub(super) struct Body {
    literal: usize,
    /// Bytes that the attributes would take inline; `None` where they cannot be.
    attribute_size: Option<usize>,
    pub(super) size: u64,
    pub(super) data: Fork,
    pub(super) attributes: Fork,
}

/// An inode's own facts.
pub(super) struct Core<'a> {
    pub(super) number: u64,
    pub(super) links: u32,
    pub(super) metadata: &'a Metadata,
    pub(super) kind: &'a Kind,
    pub(super) created: Timestamp,
}

impl Body {
    pub(super) fn new(literal: usize, attribute_size: Option<usize>) -> Self {
        Self {
            literal,
            attribute_size,
            size: 0,
            data: Fork::Extents(Vec::new()),
            attributes: Fork::Local(Vec::new()),
        }
    }

    /// How many bytes of data fit into the inode.
    pub(super) fn room(&self) -> usize {
        match self.attribute_size {
            Some(0) => self.literal,
            _ => self.literal - LEAST_ATTRIBUTES.min(self.literal),
        }
    }

    pub(super) fn most_extents(&self) -> usize {
        self.room() / 16
    }

    pub(super) fn set_extents(&mut self, extents: Vec<Extent>) -> Result<(), ()> {
        let extents = joined(extents);
        let fits = extents.len() <= self.most_extents();
        self.data = Fork::Extents(extents);
        fits.then_some(()).ok_or(())
    }

    /// The attributes as they are stored within the inode, if there is room for them.
    pub(super) fn inline_attributes(&self, attributes: &Attributes) -> Option<Vec<u8>> {
        let size = self.attribute_size?;
        // The data fork keeps room for the root of a tree of extents.
        let data = self.data.bytes().len().max(LEAST_DATA);
        let fits = data.next_multiple_of(8) + size.next_multiple_of(8) <= self.literal;
        fits.then(|| attributes.inline())
    }

    /// Bytes before the attribute fork; 0 where there is none.
    fn parting(&self) -> usize {
        let (data, attributes) = (self.data.bytes().len(), self.attributes.bytes().len());
        let usual = USUAL_DATA.min(self.literal.saturating_sub(LEAST_ATTRIBUTES));
        if attributes == 0 {
            0
        } else if matches!(self.data, Fork::Device(_)) {
            8
        } else if data <= usual && usual + attributes <= self.literal {
            usual
        } else {
            (self.literal - attributes) / 8 * 8
        }
    }
}

/// The bytes of an inode in use.
pub(super) fn encode(superblock: &Superblock, core: &Core<'_>, body: &Body) -> Vec<u8> {
    let mut block = blank(superblock, core.number);
    let metadata = core.metadata;
    block.u16(2, file_type(core.kind) | metadata.mode);
    block.u8(5, body.data.format());
    block.u32(8, metadata.uid);
    block.u32(12, metadata.gid);
    block.u32(16, core.links);
    for at in [32, 40, 48] {
        block.u64(at, time(superblock, metadata.mtime));
    }
    block.u64(144, time(superblock, core.created));
    block.u64(56, body.size);
    let (extents, blocks) = body.data.extents();
    let (attribute_extents, attribute_blocks) = body.attributes.extents();
    block.u64(64, blocks + attribute_blocks);
    block.u32(76, extents);
    block.u16(80, attribute_extents);
    let parting = body.parting();
    block.u8(82, parting / 8);
    block.u8(
        83,
        if parting == 0 {
            2
        } else {
            body.attributes.format()
        },
    );
    block.u64(104, 1);
    if superblock.big_time {
        block.u64(120, 1 << 3);
    }
    block.put(176, &body.data.bytes());
    if parting > 0 {
        block.put(176 + parting, &body.attributes.bytes());
    }
    block.crc(100);
    block.0
}

/// The bytes of an inode that is free.
pub(super) fn spare(superblock: &Superblock, number: u64) -> Vec<u8> {
    let mut block = blank(superblock, number);
    block.crc(100);
    block.0
}

fn blank(superblock: &Superblock, number: u64) -> Block {
    let mut block = Block::new(superblock.inode_size);
    block.put(0, b"IN");
    block.u8(4, 3u8);
    block.u32(96, u32::MAX);
    block.u64(152, number);
    block.put(160, &superblock.uuid);
    block
}

fn file_type(kind: &Kind) -> u16 {
    match kind {
        Kind::Fifo => 0o010_000,
        Kind::CharacterDevice(_) => 0o020_000,
        Kind::Directory(_) => 0o040_000,
        Kind::BlockDevice(_) => 0o060_000,
        Kind::File(_) => 0o100_000,
        Kind::Symlink(_) => 0o120_000,
        Kind::Socket => 0o140_000,
    }
}

/// A time as stored, the nearest that the format can hold.
pub(super) fn time(superblock: &Superblock, time: Timestamp) -> u64 {
    let least = i64::from(i32::MIN);
    if superblock.big_time {
        let seconds = time.seconds.clamp(least, 16_299_260_424) - least;
        let seconds = u64::try_from(seconds).unwrap_or(0);
        return seconds * 1_000_000_000 + u64::from(time.nanoseconds);
    }
    let seconds = time.seconds.clamp(least, i64::from(i32::MAX));
    let low = u64::from_be_bytes(seconds.to_be_bytes()) & 0xffff_ffff;
    low << 32 | u64::from(time.nanoseconds)
}
