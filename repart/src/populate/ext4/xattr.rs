//! Extended attributes of ext2, ext3 and ext4: as many as fit behind the inode, the others in one
//! block. Access control lists have a form of their own on the disk. Pure.

use filetree::{Metadata, WriteError};

use super::bytes::{put16, put32, u16_at, u32_at};
use super::unsupported;

const MAGIC: u32 = 0xea02_0000;
const ENTRY: usize = 16;

/// An attribute as the disk names it.
struct Attribute {
    prefix: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Where the attributes of one inode go.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// What stands behind the inode's fields; empty where nothing does.
    pub(super) inode: Vec<u8>,
    /// The block of those that do not fit there, its checksum not yet set.
    pub(super) block: Option<Vec<u8>>,
}

impl Attributes {
    /// Places the attributes of a file in `room` bytes behind its inode and a block.
    pub(super) fn place(
        metadata: &Metadata,
        path: &[u8],
        room: usize,
        block_size: usize,
    ) -> Result<Self, WriteError> {
        let mut left = room.saturating_sub(8); // magic and end
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for (name, value) in &metadata.xattrs {
            let attribute = Attribute::new(name, value).ok_or_else(|| {
                let name = String::from_utf8_lossy(name);
                unsupported(path, &format!("ext4 cannot hold the extended attribute {name:?}; remove it or choose another file system"))
            })?;
            let size = attribute.size();
            if size <= left {
                left -= size;
                near.push(attribute);
            } else {
                far.push(attribute);
            }
        }
        far.sort_by(|a, b| a.order().cmp(&b.order()));
        let total: usize = far.iter().map(Attribute::size).sum();
        if total + 36 > block_size {
            return Err(unsupported(
                path,
                &format!(
                    "its extended attributes need more than the {room} bytes behind the inode and one block of {block_size} bytes that ext4 has for them"
                ),
            ));
        }
        let mut attributes = Self::default();
        if !near.is_empty() {
            attributes.inode = vec![0; room];
            put32(&mut attributes.inode, 0, MAGIC);
            encode(&near, &mut attributes.inode[4..], 0, false);
        }
        if !far.is_empty() {
            attributes.block = Some(block(&far, block_size));
        }
        Ok(attributes)
    }
}

impl Attribute {
    fn new(name: &[u8], value: &[u8]) -> Option<Self> {
        let prefixes: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];
        let (prefix, name, value) = match name {
            b"system.posix_acl_access" => (2, &b""[..], acl(value)?),
            b"system.posix_acl_default" => (3, &b""[..], acl(value)?),
            _ => prefixes.iter().find_map(|(prefix, number)| {
                let rest = name.strip_prefix(*prefix)?;
                (!rest.is_empty()).then(|| (*number, rest, value.to_vec()))
            })?,
        };
        (name.len() <= 255).then(|| Self {
            prefix,
            name: name.to_vec(),
            value,
        })
    }

    /// By what a block's entries are sorted.
    fn order(&self) -> (u8, usize, &[u8]) {
        (self.prefix, self.name.len(), &self.name)
    }

    fn size(&self) -> usize {
        ENTRY + self.name.len().next_multiple_of(4) + self.value.len().next_multiple_of(4)
    }

    fn hash(&self) -> u32 {
        let name = self
            .name
            .iter()
            .fold(0u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        let mut value = self.value.clone();
        value.resize(value.len().next_multiple_of(4), 0);
        let words = value.chunks_exact(4).map(|word| u32_at(word, 0));
        words.fold(name, |hash, word| hash.rotate_left(16) ^ word)
    }
}

fn block(attributes: &[Attribute], size: usize) -> Vec<u8> {
    let mut block = vec![0; size];
    put32(&mut block, 0, MAGIC);
    put32(&mut block, 4, 1); // users
    put32(&mut block, 8, 1); // blocks
    encode(attributes, &mut block, 32, true);
    let hash = attributes
        .iter()
        .map(Attribute::hash)
        .try_fold(0u32, |all, hash| {
            (hash != 0).then_some(all.rotate_left(16) ^ hash)
        });
    put32(&mut block, 12, hash.unwrap_or(0));
    block
}

/// Entries go up from `at`, values down from the end.
fn encode(attributes: &[Attribute], area: &mut [u8], mut at: usize, hashed: bool) {
    let mut end = area.len() & !3;
    for attribute in attributes {
        end -= attribute.value.len().next_multiple_of(4);
        area[at] = u8::try_from(attribute.name.len()).unwrap_or(u8::MAX);
        area[at + 1] = attribute.prefix;
        let offset = if attribute.value.is_empty() { 0 } else { end };
        put16(area, at + 2, u16::try_from(offset).unwrap_or(0));
        let size = u32::try_from(attribute.value.len()).unwrap_or(0);
        put32(area, at + 8, size);
        put32(area, at + 12, if hashed { attribute.hash() } else { 0 });
        let name = at + ENTRY;
        area[name..name + attribute.name.len()].copy_from_slice(&attribute.name);
        area[end..end + attribute.value.len()].copy_from_slice(&attribute.value);
        at = name + attribute.name.len().next_multiple_of(4);
    }
}

/// An access control list from the form that programs see to the disk's.
fn acl(value: &[u8]) -> Option<Vec<u8>> {
    let entries = value.strip_prefix(&2u32.to_le_bytes())?;
    if entries.len() % 8 != 0 {
        return None;
    }
    let mut stored = 1u32.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        let named = matches!(u16_at(entry, 0), 0x02 | 0x08);
        stored.extend_from_slice(if named { entry } else { &entry[..4] });
    }
    Some(stored)
}
