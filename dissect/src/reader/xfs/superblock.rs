//! The superblock, checked, and how numbers of blocks and inodes become places ("XFS Algorithms &
//! Data Structures", "Superblocks").

use filetree::ReadError;

use super::super::source::Source;
use super::bytes::{be16, be32, be64, is_sound};

/// Bytes of the part that has fields.
const SIZE: usize = 512;
const CHECKSUM: usize = 224;

/// `sb_features_incompat`: types in directories, sparse inodes, a second UUID, long times, repair
/// wanted, large counts of extents, exchanged mappings, pointers to parents.
const KNOWN: u32 = 0xff;
const FILE_TYPES: u32 = 0x1;
/// A second UUID may differ from the one in metadata.
const DIRECTORIES_2: u16 = 0x2000;
/// The same as [`FILE_TYPES`] in version 4.
const OLD_FILE_TYPES: u32 = 0x200;
const MORE_BITS: u16 = 0x8000;

/// What the superblock says, proven to be possible.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    /// Bytes of a block, a power of two.
    pub(super) block_size: usize,
    /// Bytes of an inode, a power of two.
    pub(super) inode_size: usize,
    /// Blocks of one block of a directory, a power of two.
    pub(super) directory_blocks: u64,
    pub(super) root: u64,
    /// Whether this is version 5, whose metadata say what they are.
    pub(super) version5: bool,
    /// Whether checksums are to be verified.
    pub(super) checksums: bool,
    /// Whether entries of directories have types.
    pub(super) file_types: bool,
    blocks: u64,
    group_blocks: u64,
    group_log: u32,
    inodes_log: u32,
}

impl Superblock {
    /// Parses and checks; `None` if this is no XFS.
    pub(super) fn read(source: &Source, verify: bool) -> Result<Option<Self>, ReadError> {
        if source.size() < 512 {
            return Ok(None);
        }
        let mut bytes = [0; SIZE];
        source.read(0, &mut bytes)?;
        if !bytes.starts_with(b"XFSB") {
            return Ok(None);
        }
        let damaged = |what| source.damaged(0, what);
        let version = be16(&bytes, 100) & 0xf;
        let unknown = be32(&bytes, 216) & !KNOWN;
        match version {
            4 | 5 if version == 5 && unknown != 0 => {
                let what =
                    format!("it has features that are not known (incompatible, {unknown:#x})");
                return Err(source.unsupported(&what));
            }
            4 if be16(&bytes, 100) & DIRECTORIES_2 == 0 => {
                return Err(source.unsupported("its directories are of version 1"));
            }
            4 | 5 => (),
            _ => return Err(source.unsupported("it is of an unknown version")),
        }
        let sector = usize::from(be16(&bytes, 102));
        if !sector.is_power_of_two() || !(512..=32768).contains(&sector) {
            return Err(damaged("the sector size is impossible"));
        }
        let new = Self::parse(&bytes, verify).map_err(damaged)?;
        if new.checksums {
            let whole = source.block(0, sector)?;
            if !is_sound(&whole, CHECKSUM) {
                return Err(damaged("the checksum of the superblock is wrong"));
            }
        }
        let length = new.blocks.checked_mul(1 << be_log(&bytes, 120));
        if length.is_none_or(|length| length > source.size()) {
            return Err(damaged("it has more blocks than there is room for"));
        }
        Ok(Some(new))
    }

    fn parse(bytes: &[u8; SIZE], verify: bool) -> Result<Self, &'static str> {
        let version5 = be16(bytes, 100) & 0xf == 5;
        let [block_log, inode_log, inodes_log, group_log, directory_log] =
            [120, 122, 123, 124, 192].map(|at| be_log(bytes, at));
        let (blocks, group_blocks) = (be64(bytes, 8), u64::from(be32(bytes, 84)));
        let groups = u64::from(be32(bytes, 88));
        let possible = [
            (
                (9..=16).contains(&block_log) && be32(bytes, 4) == 1 << block_log,
                "the block size is impossible",
            ),
            (
                (8..=11).contains(&inode_log)
                    && u32::from(be16(bytes, 104)) == 1 << inode_log
                    && inode_log + inodes_log == block_log,
                "the inode size is impossible",
            ),
            (
                block_log + directory_log <= 16,
                "the size of blocks of directories is impossible",
            ),
            (
                group_log < 32 && (1..=1 << group_log).contains(&group_blocks),
                "the size of groups is impossible",
            ),
            (
                groups > 0
                    && blocks <= groups * group_blocks
                    && blocks > (groups - 1) * group_blocks,
                "the count of groups is impossible",
            ),
        ];
        if let Some((_, what)) = possible.iter().find(|(holds, _)| !holds) {
            return Err(what);
        }
        let old_types = be16(bytes, 100) & MORE_BITS != 0 && be32(bytes, 200) & OLD_FILE_TYPES != 0;
        Ok(Self {
            block_size: 1 << block_log,
            inode_size: 1 << inode_log,
            directory_blocks: 1 << directory_log,
            root: be64(bytes, 56),
            version5,
            checksums: version5 && verify,
            file_types: match version5 {
                true => be32(bytes, 216) & FILE_TYPES != 0,
                false => old_types,
            },
            blocks,
            group_blocks,
            group_log,
            inodes_log,
        })
    }

    /// The place of a block, counted from the first one, if `length` blocks from there on are within
    /// one group.
    pub(super) fn block(&self, number: u64, length: u64) -> Option<u64> {
        let (group, within) = (
            number >> self.group_log,
            number & ((1 << self.group_log) - 1),
        );
        let start = group.checked_mul(self.group_blocks)?;
        let room = self.blocks.checked_sub(start)?.min(self.group_blocks);
        let fits = within.checked_add(length)? <= room;
        fits.then_some(start + within)
    }

    /// The byte at which an inode begins.
    pub(super) fn inode(&self, number: u64) -> Option<u64> {
        let block = self.block(number >> self.inodes_log, 1)?;
        let index = number & ((1 << self.inodes_log) - 1);
        Some(block * self.block_u64() + index * super::bytes::wide(self.inode_size))
    }

    pub(super) fn block_u64(&self) -> u64 {
        super::bytes::wide(self.block_size)
    }
}

fn be_log(bytes: &[u8; SIZE], at: usize) -> u32 {
    bytes[at].into()
}
