//! Extended attributes: behind an inode's fields, in a block that several inodes may share, and with
//! their values in inodes of their own (kernel documentation, filesystems/ext4: "Extended
//! Attributes").

use std::collections::BTreeMap;
use std::sync::Arc;

use filetree::ReadError;

use super::checksum::{crc32c, crc32c_without};
use super::inode::{FileType, Stored, flags};
use super::superblock::{block_u64, u16_at, u32_at};
use super::{Volume, acl, map};

const MAGIC: u32 = 0xea02_0000;
/// Bytes of an entry before its name.
const ENTRY: usize = 16;
/// Bytes of the header of a block.
const HEADER: usize = 32;
/// Bytes of the longest value that Linux hands on.
const MAX_VALUE: u32 = 65536;
/// Bytes of the values of one inode that are in inodes of their own.
const MAX_VALUES: u64 = 4 << 20;
/// The namespace of what no program sees, and the name of the data of a file there.
const SYSTEM: u8 = 7;
const DATA: &[u8] = b"data";

/// All attributes by their full names, as programs see them.
pub(super) fn read(
    volume: &Volume,
    inode: &Stored,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
    let mut found = Found {
        volume,
        inode,
        large: 0,
        all: BTreeMap::new(),
    };
    if let Some(list) = List::behind(inode) {
        found.take(&list)?;
    }
    if let Some(block) = block(volume, inode)? {
        let offset = inode.attribute_block * block_u64(block.len());
        found.take(&List {
            bytes: &block,
            first: HEADER,
            offset,
        })?;
    }
    Ok(found.all)
}

/// The bytes of a file or directory within its inode that do not fit in the place of its map.
pub(super) fn inline_data<'a>(volume: &Volume, inode: &'a Stored) -> Result<&'a [u8], ReadError> {
    let Some(list) = List::behind(inode) else {
        return Ok(&[]);
    };
    let mut at = list.first;
    while let Some(entry) = list.entry(volume, at)? {
        if entry.namespace == SYSTEM && entry.name == DATA {
            return entry.value(volume, &list);
        }
        at = entry.end;
    }
    Ok(&[])
}

struct Found<'a> {
    volume: &'a Volume,
    inode: &'a Stored,
    /// Bytes of values from inodes of their own.
    large: u64,
    all: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A list of attributes with its values behind it.
struct List<'a> {
    /// What the places of values count in.
    bytes: &'a [u8],
    /// Where the first entry is.
    first: usize,
    /// Where the bytes are in the image.
    offset: u64,
}

struct Attribute<'a> {
    namespace: u8,
    name: &'a [u8],
    /// Where the value is, if it has no inode.
    value: usize,
    size: u32,
    /// The inode of the value, or 0.
    inode: u32,
    /// Where the next entry is.
    end: usize,
}

impl Found<'_> {
    fn take(&mut self, list: &List<'_>) -> Result<(), ReadError> {
        let mut at = list.first;
        while let Some(entry) = list.entry(self.volume, at)? {
            at = entry.end;
            if let Some(name) = self.full_name(&entry)
                && !self.all.contains_key(&name)
                && let Some(value) = self.value(list, &entry)?
            {
                self.all.insert(name, value);
            }
        }
        Ok(())
    }

    /// The value as programs see it; `None` if they see none.
    fn value(
        &mut self,
        list: &List<'_>,
        entry: &Attribute<'_>,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let stored = match entry.inode {
            0 => entry.value(self.volume, list)?.to_vec(),
            number => self.large(list, number, entry.size)?,
        };
        if !matches!(entry.namespace, 2 | 3) {
            return Ok(Some(stored));
        }
        acl::shown(&stored).map_err(|what| self.volume.source.damaged(list.offset, what))
    }

    /// The value in an inode of its own.
    fn large(&mut self, list: &List<'_>, number: u32, size: u32) -> Result<Vec<u8>, ReadError> {
        let source = &self.volume.source;
        if size > MAX_VALUE {
            return Err(source.damaged(list.offset, "an extended attribute is too long"));
        }
        self.large += u64::from(size);
        if self.large > MAX_VALUES {
            return Err(ReadError::Memory(MAX_VALUES));
        }
        large(self.volume, self.inode, number, size)
    }

    /// The name with its namespace; `None` for what no program sees.
    fn full_name(&self, entry: &Attribute<'_>) -> Option<Vec<u8>> {
        let kind = self.inode.file_type();
        let named = !entry.name.is_empty();
        let prefix: &[u8] = match entry.namespace {
            // Linux shows them on files and directories only.
            1 if matches!(kind, Some(FileType::Regular | FileType::Directory)) => b"user.",
            2 if kind != Some(FileType::Symlink) && !named => b"system.posix_acl_access",
            3 if kind != Some(FileType::Symlink) && !named => b"system.posix_acl_default",
            4 if named => b"trusted.",
            6 if named => b"security.",
            10 if named => b"gnu.",
            _ => return None,
        };
        Some([prefix, entry.name].concat())
    }
}

impl<'a> List<'a> {
    /// The list behind the fields of an inode.
    fn behind(inode: &'a Stored) -> Option<Self> {
        let behind = inode.behind();
        let bytes = behind.get(4..).filter(|_| u32_at(behind, 0) == MAGIC)?;
        Some(Self {
            bytes,
            first: 0,
            offset: inode.behind_offset() + 4,
        })
    }

    /// The entry at `at`; `None` at the end of the list.
    fn entry(&self, volume: &Volume, at: usize) -> Result<Option<Attribute<'a>>, ReadError> {
        let damaged = || {
            let what = "a list of extended attributes is impossible";
            volume.source.damaged(self.offset + block_u64(at), what)
        };
        let rest = self.bytes.get(at..).unwrap_or_default();
        if rest.len() < 4 {
            return Err(damaged());
        }
        if u32_at(rest, 0) == 0 {
            return Ok(None);
        }
        let header = rest.get(..ENTRY).ok_or_else(damaged)?;
        let length = usize::from(header[0]);
        let name = rest.get(ENTRY..ENTRY + length).ok_or_else(damaged)?;
        if name.contains(&0) {
            return Err(damaged());
        }
        Ok(Some(Attribute {
            namespace: header[1],
            name,
            value: usize::from(u16_at(header, 2)),
            size: u32_at(header, 8),
            inode: u32_at(header, 4),
            end: at + (ENTRY + length).next_multiple_of(4),
        }))
    }
}

impl Attribute<'_> {
    /// The value in the list's own bytes.
    fn value<'b>(&self, volume: &Volume, list: &List<'b>) -> Result<&'b [u8], ReadError> {
        if self.size == 0 {
            return Ok(&[]);
        }
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let end = self.value.saturating_add(size);
        let value = list.bytes.get(self.value..end);
        value.filter(|_| self.value >= self.end).ok_or_else(|| {
            let what = "the value of an extended attribute is not within its block";
            volume.source.damaged(list.offset, what)
        })
    }
}

/// The block of attributes, checked.
fn block(volume: &Volume, inode: &Stored) -> Result<Option<Arc<[u8]>>, ReadError> {
    const CHECKSUM: usize = 16;
    let number = inode.attribute_block;
    if number == 0 {
        return Ok(None);
    }
    let damaged = |what| volume.source.damaged(inode.offset, what);
    if volume.superblock.offset(number).is_none() {
        return Err(damaged(
            "extended attributes are not within the file system",
        ));
    }
    let block = volume.block(number)?;
    if u32_at(&block, 0) != MAGIC || u32_at(&block, 8) != 1 {
        return Err(damaged("a block of extended attributes is none"));
    }
    let seed = crc32c(volume.superblock.seed, &number.to_le_bytes());
    let sum = || crc32c_without(seed, &block, CHECKSUM, 4);
    if volume.superblock.checksums && u32_at(&block, CHECKSUM) != sum() {
        return Err(damaged("the checksum of extended attributes is wrong"));
    }
    Ok(Some(block))
}

/// The value that is the data of inode `number`.
fn large(volume: &Volume, owner: &Stored, number: u32, size: u32) -> Result<Vec<u8>, ReadError> {
    let inode = Stored::read(volume, number)?;
    let damaged = |what| volume.source.damaged(inode.offset, what);
    let sound = volume.superblock.attribute_inodes
        && inode.has(flags::ATTRIBUTE)
        && inode.file_type() == Some(FileType::Regular)
        && !inode.has(flags::INLINE)
        && inode.size == u64::from(size);
    if !sound {
        return Err(damaged("the inode of an extended attribute is none"));
    }
    let block = block_u64(volume.superblock.block_size);
    let mut value = vec![0; usize::try_from(size).unwrap_or(0)];
    for extent in map::read(volume, &inode)? {
        let start = usize::try_from(extent.logical * block).unwrap_or(usize::MAX);
        let length = usize::try_from(extent.length * block).unwrap_or(usize::MAX);
        let end = start.saturating_add(length).min(value.len());
        let part = value.get_mut(start..end).unwrap_or_default();
        volume.source.read(extent.physical * block, part)?;
    }
    // Lustre's have no hash, but the number of the inode that they belong to.
    let lustre =
        inode.mtime.seconds == i64::from(owner.number) && inode.generation == owner.generation;
    let hash = || crc32c(volume.superblock.seed, &value);
    if volume.superblock.checksums && !lustre && inode.access_time != hash() {
        return Err(damaged("the checksum of an extended attribute is wrong"));
    }
    Ok(value)
}
