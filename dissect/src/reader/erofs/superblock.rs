//! The superblock: where the areas are, and which features an image has. Pure.

use filetree::ReadError;

use super::bytes::{u16_at, u32_at, u64_at};
use super::{damaged, unsupported};

/// Where it begins, in bytes.
pub(super) const PLACE: u64 = 1024;
/// Bytes of it that are known, with all extensions.
pub(super) const SIZE: usize = 144;

const MAGIC: u32 = 0xe0f5_e1e2;

/// Features that a reader may ignore.
const CHECKSUM: u32 = 0x1;
const SHARED_XATTRS_IN_BOX: u32 = 0x8;
const PLAIN_PREFIXES: u32 = 0x10;

/// Features that a reader must know.
const ZERO_PADDING: u32 = 0x1;
const FRAGMENTS: u32 = 0x20;
const WIDE: u32 = 0x80;
const BOX: u32 = 0x100;
const ALL: u32 = 0x1ff;

/// A checked superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Bytes of a block are 2 to the power of this.
    pub(super) block_bits: u8,
    /// Whether the block of the superblock has a checksum to be checked.
    pub(super) checksum: Option<u32>,
    /// The root directory's number.
    pub(super) root: u64,
    /// What the times of compact inodes are counted from.
    pub(super) epoch: u64,
    pub(super) nanoseconds: u32,
    /// Where inodes begin, in bytes.
    pub(super) inodes: u64,
    /// Where shared attributes begin, in bytes.
    pub(super) xattrs: u64,
    /// Whether they are in the metadata box.
    pub(super) xattrs_in_box: bool,
    /// How many long prefixes of attributes there are.
    pub(super) prefixes: u8,
    /// Where they begin, in bytes.
    pub(super) prefix_place: u64,
    /// Whether that is a place in the image, not in a special file.
    pub(super) plain_prefixes: bool,
    /// The file that holds the ends of others.
    pub(super) packed: Option<u64>,
    /// The file that holds inodes.
    pub(super) metabox: Option<u64>,
    /// Whether compressed data stands at the end of its blocks.
    pub(super) zero_padding: bool,
}

impl Superblock {
    /// Parses the bytes at [`PLACE`]; `None` means that it is no erofs.
    pub(super) fn parse(raw: &[u8; SIZE]) -> Result<Option<Self>, ReadError> {
        if u32_at(raw, 0) != MAGIC {
            return Ok(None);
        }
        let (compatible, needed) = (u32_at(raw, 8), u32_at(raw, 80));
        if needed & !ALL != 0 {
            let unknown = needed & !ALL;
            return Err(unsupported(format!("it has unknown features {unknown:#x}")));
        }
        if u16_at(raw, 86) != 0 {
            return Err(unsupported("its data is on several devices".to_owned()));
        }
        let block_bits = raw[12];
        if !(9..=16).contains(&block_bits) {
            return Err(damaged(PLACE + 12, "the block size is none that erofs has"));
        }
        if raw[90] != 0 {
            let what = "its directories have blocks of another size";
            return Err(unsupported(what.to_owned()));
        }
        let wide_root = Some(u64_at(raw, 112)).filter(|root| needed & WIDE != 0 && *root != 0);
        let special = |at, feature| Some(u64_at(raw, at)).filter(|_| needed & feature != 0);
        Ok(Some(Self {
            block_bits,
            checksum: Some(u32_at(raw, 4)).filter(|_| compatible & CHECKSUM != 0),
            root: wide_root.unwrap_or(u64::from(u16_at(raw, 14))),
            epoch: u64_at(raw, 24),
            nanoseconds: u32_at(raw, 32),
            inodes: u64::from(u32_at(raw, 40)) << block_bits,
            xattrs: u64::from(u32_at(raw, 44)) << block_bits,
            xattrs_in_box: compatible & SHARED_XATTRS_IN_BOX != 0,
            prefixes: raw[91],
            prefix_place: u64::from(u32_at(raw, 92)) * 4,
            plain_prefixes: compatible & PLAIN_PREFIXES != 0,
            packed: special(96, FRAGMENTS).filter(|inode| *inode != 0),
            metabox: special(128, BOX),
            zero_padding: needed & ZERO_PADDING != 0,
        }))
    }

    /// Bytes of a block.
    pub(super) fn block(&self) -> u64 {
        1 << self.block_bits
    }
}

/// The checksum over the superblock's block, from [`PLACE`] on.
pub(super) fn checksum(block: &[u8]) -> u32 {
    let (head, rest) = block.split_at(block.len().min(8));
    let start = crc32c::crc32c(&[head.get(..4).unwrap_or_default(), &[0; 4]].concat());
    !crc32c::crc32c_append(start, rest)
}
