//! Keys and items as stored, little-endian. Pure.

use filetree::{Kind, Metadata, Timestamp};

/// All is written in one transaction.
pub(super) const GENERATION: u64 = 1;

/// What an item is, as its key's type says.
pub(super) mod kind {
    pub(in super::super) const INODE: u8 = 1;
    pub(in super::super) const INODE_REF: u8 = 12;
    pub(in super::super) const INODE_EXTREF: u8 = 13;
    pub(in super::super) const XATTR: u8 = 24;
    pub(in super::super) const DIR_ITEM: u8 = 84;
    pub(in super::super) const DIR_INDEX: u8 = 96;
    pub(in super::super) const EXTENT_DATA: u8 = 108;
    pub(in super::super) const CSUM: u8 = 128;
    pub(in super::super) const ROOT: u8 = 132;
    pub(in super::super) const ROOT_BACKREF: u8 = 144;
    pub(in super::super) const ROOT_REF: u8 = 156;
    pub(in super::super) const EXTENT: u8 = 168;
    pub(in super::super) const METADATA: u8 = 169;
    pub(in super::super) const BLOCK_GROUP: u8 = 192;
    pub(in super::super) const FREE_INFO: u8 = 198;
    pub(in super::super) const FREE_EXTENT: u8 = 199;
    pub(in super::super) const DEV_EXTENT: u8 = 204;
    pub(in super::super) const DEV: u8 = 216;
    pub(in super::super) const CHUNK: u8 = 228;
    pub(in super::super) const UUID: u8 = 251;
}

/// Where an item is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(pub(super) u64, pub(super) u8, pub(super) u64);

/// A run of little-endian fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(pub(super) Vec<u8>);

impl Key {
    pub(super) fn bytes(self) -> Vec<u8> {
        Fields::default().u64(self.0).u8(self.1).u64(self.2).0
    }
}

impl Fields {
    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(self, value: impl TryInto<u16>) -> Self {
        self.put(&value.try_into().unwrap_or(u16::MAX).to_le_bytes())
    }

    pub(super) fn u32(self, value: impl TryInto<u32>) -> Self {
        self.put(&value.try_into().unwrap_or(u32::MAX).to_le_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.put(&value.to_le_bytes())
    }

    pub(super) fn put(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn time(self, time: Timestamp) -> Self {
        self.put(&time.seconds.to_le_bytes()).u32(time.nanoseconds)
    }

    /// Zeros up to `length`.
    pub(super) fn pad(mut self, length: usize) -> Self {
        self.0.resize(length, 0);
        self
    }
}

/// The facts of an inode that are not in its metadata.
pub(super) struct Numbers {
    pub(super) size: u64,
    pub(super) bytes: u64,
    pub(super) links: u32,
    pub(super) flags: u64,
}

pub(super) fn inode(
    metadata: &Metadata,
    kind: &Kind,
    numbers: &Numbers,
    created: Timestamp,
) -> Vec<u8> {
    let (file_type, device) = match kind {
        Kind::Fifo => (0o010_000, 0),
        Kind::CharacterDevice(number) => (0o020_000, device(number.major, number.minor)),
        Kind::Directory(_) => (0o040_000, 0),
        Kind::BlockDevice(number) => (0o060_000, device(number.major, number.minor)),
        Kind::File(_) => (0o100_000, 0),
        Kind::Symlink(_) => (0o120_000, 0),
        Kind::Socket => (0o140_000, 0),
    };
    Fields::default()
        .u64(GENERATION)
        .u64(GENERATION)
        .u64(numbers.size)
        .u64(numbers.bytes)
        .u64(0)
        .u32(numbers.links)
        .u32(metadata.uid)
        .u32(metadata.gid)
        .u32(file_type | u32::from(metadata.mode))
        .u64(device)
        .u64(numbers.flags)
        .pad(112)
        .time(metadata.mtime)
        .time(metadata.mtime)
        .time(metadata.mtime)
        .time(created)
        .0
}

/// A device's number as the kernel has it in memory.
fn device(major: u32, minor: u32) -> u64 {
    u64::from(major) << 20 | u64::from(minor)
}

/// What directories note about a file's kind.
pub(super) fn file_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory(_) => 2,
        Kind::CharacterDevice(_) => 3,
        Kind::BlockDevice(_) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}

/// The type of a directory item that is an extended attribute.
pub(super) const XATTR_TYPE: u8 = 8;

/// A name in a directory, or an extended attribute.
pub(super) fn entry(target: Key, file_type: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    Fields::default()
        .put(&target.bytes())
        .u64(GENERATION)
        .u16(value.len())
        .u16(name.len())
        .u8(file_type)
        .put(name)
        .put(value)
        .0
}

/// The hash by which names are sorted.
pub(super) fn name_hash(name: &[u8]) -> u64 {
    u64::from(raw_crc(0xffff_fffe, name))
}

/// The hash of a name in the longer form of references.
pub(super) fn extref_hash(parent: u64, name: &[u8]) -> u64 {
    let seed = u32::try_from(parent & 0xffff_ffff).unwrap_or(0);
    u64::from(raw_crc(seed, name))
}

/// CRC32C without the inversions at start and end.
fn raw_crc(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// One of a file's extents on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct DataExtent {
    pub(super) root: u64,
    pub(super) inode: u64,
    pub(super) offset: u64,
    pub(super) start: u64,
    /// Bytes on the disk.
    pub(super) length: u64,
    /// Bytes of the file.
    pub(super) plain: u64,
    /// The algorithm's number; 0 where it is not compressed.
    pub(super) compression: u8,
}

impl DataExtent {
    /// Whether both are one, as nothing is compressed and nothing between them.
    pub(super) fn goes_on_with(&self, next: &Self) -> bool {
        let plain = self.compression == 0 && next.compression == 0;
        plain
            && (self.root, self.inode) == (next.root, next.inode)
            && self.offset + self.length == next.offset
            && self.start + self.length == next.start
    }

    /// The file's side.
    pub(super) fn in_file(&self) -> Vec<u8> {
        Fields::default()
            .u64(GENERATION)
            .u64(self.plain)
            .u8(self.compression)
            // Neither encrypted nor otherwise encoded; an extent of its own.
            .put(&[0, 0, 0, 1])
            .u64(self.start)
            .u64(self.length)
            .u64(0)
            .u64(self.plain)
            .0
    }

    /// The extent tree's side.
    pub(super) fn in_extents(&self) -> Vec<u8> {
        Fields::default()
            .u64(1)
            .u64(GENERATION)
            .u64(1)
            .u8(178)
            .u64(self.root)
            .u64(self.inode)
            .u64(self.offset)
            .u32(1u32)
            .0
    }
}

/// Data within the file's item.
pub(super) fn inline_extent(bytes: &[u8]) -> Vec<u8> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    Fields::default()
        .u64(GENERATION)
        .u64(length)
        .u32(0u32)
        .u8(0)
        .put(bytes)
        .0
}

/// A tree block in the extent tree.
pub(super) fn metadata_extent(owner: u64) -> Vec<u8> {
    Fields::default()
        .u64(1)
        .u64(GENERATION)
        .u64(2)
        .u8(176)
        .u64(owner)
        .0
}

/// What the root tree says about a tree.
pub(super) struct Root<'a> {
    pub(super) block: u64,
    pub(super) level: u8,
    pub(super) blocks: u64,
    /// The number of the root directory; 0 where there is none.
    pub(super) directory: u64,
    pub(super) flags: u64,
    pub(super) uuid: &'a [u8; 16],
    pub(super) time: Timestamp,
}

impl Root<'_> {
    pub(super) fn bytes(&self, node: u64) -> Vec<u8> {
        let metadata = Metadata {
            mode: 0o755,
            mtime: self.time,
            ..Metadata::default()
        };
        let numbers = Numbers {
            size: 3,
            bytes: node,
            links: 1,
            // The fields behind the inode mean something.
            flags: 1 << 31,
        };
        let directory = Kind::Directory(Default::default());
        Fields(inode(&metadata, &directory, &numbers, self.time))
            .u64(GENERATION)
            .u64(self.directory)
            .u64(self.block)
            .u64(0)
            .u64(self.blocks * node)
            .u64(0)
            .u64(self.flags)
            .u32(1u32)
            .pad(238)
            .u8(self.level)
            .u64(GENERATION)
            .put(self.uuid)
            .pad(295)
            .u64(GENERATION)
            .u64(GENERATION)
            .pad(327)
            .time(self.time)
            .time(self.time)
            .pad(439)
            .0
    }
}
