//! Where everything of an EROFS image goes. Pure: the same tree gives the same plan.
//!
//! Block 0 holds the superblock; the root's inode, the shared attributes and all other inodes follow,
//! each with its attributes and the end of its data (or its table of chunks) directly behind it; the
//! blocks of data come last, in the same order.

use filetree::{Content, Inode, InodeId, Kind, Timestamp, Tree, WriteError};

use super::chunks::Chunks;
use super::directory::Listing;
use super::disk::{SLOT, SUPERBLOCK_OFFSET, Superblock, device};
use super::xattr::{Attributes, Shared};
use super::{Erofs, length, unsupported};

/// A whole image.
pub(super) struct Plan {
    /// Every inode once, in the order of its first name.
    pub(super) inodes: Vec<Placed>,
    /// By the index in the tree: where the inode lies, in bytes.
    pub(super) addresses: Vec<u64>,
    pub(super) shared: Shared,
    /// Where the shared attributes begin, in bytes.
    pub(super) shared_at: u64,
    /// The first block of data.
    pub(super) first_block: u64,
    /// All blocks of the image.
    pub(super) blocks: u64,
}

/// One inode.
pub(super) struct Placed {
    pub(super) id: InodeId,
    pub(super) parent: InodeId,
    pub(super) links: u32,
    pub(super) extended: bool,
    pub(super) attributes: Attributes,
    pub(super) at: u64,
    pub(super) size: u64,
    pub(super) data: Data,
}

/// How the data of an inode are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// There are none; a device's number stands in the field for them.
    None { device: u32 },
    /// In blocks from this one of the data on, but for `inline` bytes at the end behind the inode.
    Flat { block: u64, inline: u64 },
    /// In chunks from this block of the data on.
    Chunked { block: u64, chunks: Chunks },
}

/// What is given out while planning.
struct Cursor {
    byte: u64,
    block: u64, // of the data
}

impl Plan {
    pub(super) fn make(writer: &Erofs, tree: &Tree) -> Result<Self, WriteError> {
        let (found, parents) = reachable(tree);
        let links = tree.link_counts();
        let shared = Shared::collect(tree, &found)?;
        let mut cursor = Cursor {
            byte: SUPERBLOCK_OFFSET + length(size_of::<Superblock>()),
            block: 0,
        };
        let mut addresses = vec![0; tree.len()];
        let mut inodes = Vec::with_capacity(found.len());
        let mut shared_at = 0;
        for (path, id) in &found {
            let attributes = Attributes::of(tree.inode(*id), path, &shared)?;
            let listing = (*id, parents[id.index()]);
            let mut placed = Placed::new(writer, tree, listing, (path, attributes))?;
            placed.links = links[id.index()];
            placed.extended = placed.needs_extended(tree.inode(*id), writer.build_time);
            cursor.place(&mut placed, u64::from(writer.block_size));
            addresses[id.index()] = placed.at;
            inodes.push(placed);
            if *id == InodeId::ROOT {
                shared_at = cursor.byte.next_multiple_of(4);
                cursor.byte = shared_at + shared.size();
            }
        }
        let first_block = cursor.byte.div_ceil(u64::from(writer.block_size));
        Ok(Self {
            inodes,
            addresses,
            shared,
            shared_at,
            first_block,
            blocks: first_block + cursor.block,
        })
    }

    /// The number by which directories name an inode.
    pub(super) fn number(&self, id: InodeId) -> u64 {
        self.addresses[id.index()] / SLOT
    }
}

impl Placed {
    fn new(
        writer: &Erofs,
        tree: &Tree,
        (id, parent): (InodeId, InodeId),
        (path, attributes): (&[u8], Attributes),
    ) -> Result<Self, WriteError> {
        let block_size = u64::from(writer.block_size);
        let kind = &tree.inode(id).kind;
        let flat = Data::Flat {
            block: 0,
            inline: 0,
        };
        let (size, data) = match kind {
            Kind::Directory(_) => (Listing::of(tree, id, parent, block_size).size(), flat),
            Kind::File(content) if content.size() > 0 => {
                (content.size(), data_of(content, block_size))
            }
            Kind::Symlink(target) => (length(target.len()), flat),
            Kind::CharacterDevice(number) | Kind::BlockDevice(number) => {
                let device = device(*number).ok_or_else(|| {
                    unsupported(
                        path,
                        "EROFS holds major numbers below 4096 and minor numbers below 1048576",
                    )
                })?;
                (0, Data::None { device })
            }
            Kind::File(_) | Kind::Fifo | Kind::Socket => (0, Data::None { device: 0 }),
        };
        Ok(Self {
            id,
            parent,
            links: 0,
            extended: false,
            attributes,
            at: 0,
            size,
            data,
        })
    }

    fn needs_extended(&self, inode: &Inode, build_time: Timestamp) -> bool {
        let metadata = &inode.metadata;
        metadata.mtime != build_time
            || u16::try_from(metadata.uid).is_err()
            || u16::try_from(metadata.gid).is_err()
            || u16::try_from(self.links).is_err()
            || u32::try_from(self.size).is_err()
    }

    /// The size of the inode alone.
    pub(super) fn inode_size(&self) -> u64 {
        if self.extended { 64 } else { 32 }
    }

    /// The size of the inode with its attributes.
    pub(super) fn header_size(&self) -> u64 {
        self.inode_size() + self.attributes.size()
    }
}

impl Cursor {
    /// Gives an inode its place and its data their blocks.
    fn place(&mut self, placed: &mut Placed, block_size: u64) {
        let (header, size) = (placed.header_size(), placed.size);
        let tail = size % block_size;
        let behind = match &mut placed.data {
            Data::None { .. } => 0,
            Data::Chunked { block, chunks } => {
                *block = self.block;
                self.block += chunks.blocks;
                chunks.table_size()
            }
            Data::Flat { block, inline } => {
                // The end of the data must lie in one block with the inode.
                *inline = if header + tail <= block_size { tail } else { 0 };
                *block = self.block;
                self.block += (size - *inline).div_ceil(block_size);
                *inline
            }
        };
        let start = self.byte.next_multiple_of(SLOT);
        let total = header + behind;
        let crosses = start % block_size + total > block_size;
        placed.at = match crosses && total <= block_size {
            true => start.next_multiple_of(block_size),
            false => start,
        };
        self.byte = placed.at + total;
    }
}

fn data_of(content: &Content, block_size: u64) -> Data {
    match Chunks::cut(content.size(), content.data(), block_size) {
        Some(chunks) => Data::Chunked { block: 0, chunks },
        None => Data::Flat {
            block: 0,
            inline: 0,
        },
    }
}

/// Every inode that a name leads to, with its first path; and by index the directory it lies in.
fn reachable(tree: &Tree) -> (Vec<(Vec<u8>, InodeId)>, Vec<InodeId>) {
    let mut parents = vec![InodeId::ROOT; tree.len()];
    let mut seen = vec![false; tree.len()];
    let mut found = Vec::with_capacity(tree.len());
    for (path, id) in tree.walk() {
        if std::mem::replace(&mut seen[id.index()], true) {
            continue;
        }
        for child in tree
            .inode(id)
            .entries()
            .into_iter()
            .flat_map(|names| names.values())
        {
            parents[child.index()] = id;
        }
        found.push((path, id));
    }
    (found, parents)
}
