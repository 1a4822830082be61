//! Writes a planned EROFS image: metadata and data each from front to back, every source read once.

use filetree::{Content, Kind, Tree, WriteAt, WriteError};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::chunks::Chunks;
use super::directory::Listing;
use super::disk::{
    COMPATIBLE, Compact, Extended, HOLE, INCOMPATIBLE_CHUNKED, MAGIC, SUPERBLOCK_OFFSET, Superblock,
};
use super::plan::{Data, Placed, Plan};
use super::{Erofs, length};
use crate::populate::stream::Stream;

struct Image<'a> {
    writer: &'a Erofs,
    plan: &'a Plan,
    tree: &'a Tree,
    target: &'a mut dyn WriteAt,
    metadata: Stream,
    data: Stream,
    first: Vec<u8>, // the superblock's block, kept for the checksum
}

pub(super) fn write(
    writer: &Erofs,
    plan: &Plan,
    tree: &Tree,
    target: &mut dyn WriteAt,
) -> Result<(), WriteError> {
    let mut image = Image {
        writer,
        plan,
        tree,
        target,
        metadata: Stream::new(u64::from(writer.block_size)),
        data: Stream::new(u64::from(writer.block_size)),
        first: vec![0; checked_bytes(writer.block_size)],
    };
    for (number, placed) in (1u32..).zip(&plan.inodes) {
        image.inode(placed, number)?;
    }
    image.meta(&plan.shared.encode(), plan.shared_at)?;
    image.finish()
}

/// How many bytes from the superblock on its checksum covers.
fn checked_bytes(block_size: u32) -> usize {
    let size = u64::from(block_size);
    let covered = if size > SUPERBLOCK_OFFSET {
        size - SUPERBLOCK_OFFSET
    } else {
        size
    };
    usize::try_from(covered).unwrap_or(0)
}

impl Image<'_> {
    fn inode(&mut self, placed: &Placed, number: u32) -> Result<(), WriteError> {
        let inode = self.tree.inode(placed.id);
        let mut header = self.encode_inode(placed, number);
        header.extend(placed.attributes.encode(self.plan.shared_at));
        self.meta(&header, placed.at)?;
        let behind = placed.at + length(header.len());
        match (&inode.kind, &placed.data) {
            (_, Data::None { .. }) => Ok(()),
            (Kind::File(content), Data::Chunked { block, chunks }) => {
                self.table(chunks, *block, behind)?;
                self.chunks(content, chunks, self.address(*block))
            }
            (Kind::File(content), Data::Flat { block, inline }) => {
                self.file(content, (self.address(*block), behind), *inline)
            }
            (Kind::Symlink(target), Data::Flat { block, inline }) => {
                self.bytes(target, (self.address(*block), behind), *inline)
            }
            (_, Data::Flat { block, inline }) => {
                let block_size = u64::from(self.writer.block_size);
                let listing = Listing::of(self.tree, placed.id, placed.parent, block_size);
                let bytes = listing.encode(self.tree, |id| self.plan.number(id));
                self.bytes(&bytes, (self.address(*block), behind), *inline)
            }
            (_, Data::Chunked { .. }) => Ok(()), // only files are planned so
        }
    }

    fn encode_inode(&self, placed: &Placed, number: u32) -> Vec<u8> {
        let inode = self.tree.inode(placed.id);
        let metadata = &inode.metadata;
        let (layout, data) = self.data_field(&placed.data);
        let xattr_count = U16::new(placed.attributes.count().unwrap_or(0));
        let mode = U16::new(type_bits(&inode.kind) | metadata.mode & 0o7777);
        let short = |value: u32| U16::new(u16::try_from(value).unwrap_or(u16::MAX));
        if placed.extended {
            let inode = Extended {
                format: (layout << 1 | 1).into(),
                xattr_count,
                mode,
                reserved: 0.into(),
                size: placed.size.into(),
                data: data.into(),
                number: number.into(),
                uid: metadata.uid.into(),
                gid: metadata.gid.into(),
                seconds: metadata.mtime.seconds.cast_unsigned().into(),
                nanoseconds: metadata.mtime.nanoseconds.into(),
                links: placed.links.into(),
                reserved2: [0; 16],
            };
            return inode.as_bytes().to_vec();
        }
        let inode = Compact {
            format: (layout << 1).into(),
            xattr_count,
            mode,
            links: short(placed.links),
            size: U32::new(u32::try_from(placed.size).unwrap_or(u32::MAX)),
            reserved: 0.into(),
            data: data.into(),
            number: number.into(),
            uid: short(metadata.uid),
            gid: short(metadata.gid),
            reserved2: 0.into(),
        };
        inode.as_bytes().to_vec()
    }

    /// The number of the data's layout, and the field that says where they are.
    fn data_field(&self, data: &Data) -> (u16, u32) {
        match data {
            Data::None { device } => (0, *device),
            Data::Flat { block, inline: 0 } => (0, self.block(*block)),
            Data::Flat { block, .. } => (2, self.block(*block)),
            Data::Chunked { chunks, .. } => (4, u32::from(chunks.shift)),
        }
    }

    /// A block of the data as a block of the image.
    fn block(&self, block: u64) -> u32 {
        // The plan's size was checked.
        u32::try_from(self.plan.first_block + block).unwrap_or(u32::MAX)
    }

    /// Where a block of the data begins, in bytes.
    fn address(&self, block: u64) -> u64 {
        (self.plan.first_block + block) * u64::from(self.writer.block_size)
    }

    fn table(&mut self, chunks: &Chunks, block: u64, at: u64) -> Result<(), WriteError> {
        let mut next = 0;
        let mut bytes = Vec::new();
        for (chunk, position) in chunks.placed() {
            for _ in next..chunk {
                bytes.extend(HOLE.to_le_bytes());
            }
            bytes.extend(self.block(block + position).to_le_bytes());
            next = chunk + 1;
        }
        for _ in next..chunks.count {
            bytes.extend(HOLE.to_le_bytes());
        }
        self.meta(&bytes, at)
    }

    fn chunks(&mut self, content: &Content, chunks: &Chunks, at: u64) -> Result<(), WriteError> {
        let chunk_size = u64::from(self.writer.block_size) << chunks.shift;
        let open = content.open()?;
        let mut stored = at; // where the run begins
        let mut ranges = content.data().iter().peekable();
        for run in &chunks.stored {
            let (from, to) = (run.start * chunk_size, run.end * chunk_size);
            while let Some(range) = ranges.next_if(|range| range.start < to) {
                let size = range.end - range.start;
                let place = stored + (range.start - from);
                self.data
                    .copy(self.target, &open, (range.start, size), place)?;
            }
            stored += to - from;
        }
        Ok(open.finish()?)
    }

    /// Writes a file's data at `places.0`, the last `inline` bytes at `places.1`.
    fn file(
        &mut self,
        content: &Content,
        places: (u64, u64),
        inline: u64,
    ) -> Result<(), WriteError> {
        let open = content.open()?;
        let whole = content.size() - inline;
        for range in content.data() {
            let end = range.end.min(whole);
            if range.start < end {
                let part = (range.start, end - range.start);
                self.data
                    .copy(self.target, &open, part, places.0 + range.start)?;
            }
        }
        if inline > 0 {
            let mut tail = vec![0; usize::try_from(inline).unwrap_or(0)];
            open.read_exact_at(&mut tail, whole)?;
            self.meta(&tail, places.1)?;
        }
        Ok(open.finish()?)
    }

    fn bytes(&mut self, bytes: &[u8], places: (u64, u64), inline: u64) -> Result<(), WriteError> {
        let whole = bytes.len() - usize::try_from(inline).unwrap_or(0);
        if whole > 0 {
            self.data.put(self.target, &bytes[..whole], places.0)?;
        }
        self.meta(&bytes[whole..], places.1)
    }

    /// Writes metadata, and remembers what the superblock's checksum covers.
    fn meta(&mut self, bytes: &[u8], at: u64) -> Result<(), WriteError> {
        let from = usize::try_from(at - SUPERBLOCK_OFFSET).unwrap_or(usize::MAX);
        if from < self.first.len() {
            let end = self.first.len().min(from + bytes.len());
            self.first[from..end].copy_from_slice(&bytes[..end - from]);
        }
        self.metadata.put(self.target, bytes, at)
    }

    fn finish(mut self) -> Result<(), WriteError> {
        let chunked = |placed: &Placed| matches!(placed.data, Data::Chunked { .. });
        let chunked = self.plan.inodes.iter().any(chunked);
        let build_time = self.writer.build_time;
        let mut superblock = Superblock {
            magic: MAGIC.into(),
            compatible: COMPATIBLE.into(),
            block_bits: u8::try_from(self.writer.block_size.ilog2()).unwrap_or(0),
            root: u16::try_from(self.plan.number(filetree::InodeId::ROOT))
                .unwrap_or(0)
                .into(),
            inodes: length(self.plan.inodes.len()).into(),
            build_seconds: build_time.seconds.cast_unsigned().into(),
            build_nanoseconds: build_time.nanoseconds.into(),
            blocks: U32::new(u32::try_from(self.plan.blocks).unwrap_or(u32::MAX)),
            uuid: self.writer.uuid.into_bytes(),
            incompatible: if chunked { INCOMPATIBLE_CHUNKED } else { 0 }.into(),
            ..Superblock::default()
        };
        self.first[..size_of::<Superblock>()].copy_from_slice(superblock.as_bytes());
        // The kernel's CRC-32C does not invert the result.
        superblock.checksum = (!crc32c::crc32c(&self.first)).into();
        self.metadata
            .put(self.target, superblock.as_bytes(), SUPERBLOCK_OFFSET)?;
        self.metadata.flush(self.target)?;
        self.data.flush(self.target)
    }
}

fn type_bits(kind: &Kind) -> u16 {
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
