//! Extended attributes of an EROFS image: those that several files have are stored once. Pure.

use std::collections::BTreeMap;

use filetree::{Inode, InodeId, Tree, WriteError};
use zerocopy::IntoBytes;

use super::disk::{XattrEntry, XattrHeader};
use super::unsupported;

/// The prefixes that have a number, and whether anything may follow.
const PREFIXES: [(&[u8], u8, bool); 5] = [
    (b"user.", 1, true),
    (b"system.posix_acl_access", 2, false),
    (b"system.posix_acl_default", 3, false),
    (b"trusted.", 4, true),
    (b"security.", 6, true),
];

/// How many shared attributes an inode can name.
const MAX_SHARED: usize = 255;

/// The entries that are stored once for all files, by their bytes.
#[derive(Debug, Default)]
pub(super) struct Shared {
    offsets: BTreeMap<Vec<u8>, u64>, // offset in the area
    size: u64,
}

/// The attributes of one inode.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    shared: Vec<u64>, // offsets in the shared area
    own: Vec<u8>,
}

impl Shared {
    /// Finds what at least two of the inodes have.
    pub(super) fn collect(tree: &Tree, inodes: &[(Vec<u8>, InodeId)]) -> Result<Self, WriteError> {
        let mut counts: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for (path, id) in inodes {
            for entry in entries(tree.inode(*id), path)? {
                *counts.entry(entry).or_default() += 1;
            }
        }
        let mut shared = Self::default();
        for (entry, count) in counts {
            if count > 1 {
                let offset = shared.size;
                shared.size += super::length(entry.len());
                shared.offsets.insert(entry, offset);
            }
        }
        Ok(shared)
    }

    /// How many bytes the area takes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The area's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Entries and offsets were given out in the same order.
        self.offsets.keys().flatten().copied().collect()
    }
}

impl Attributes {
    /// Splits an inode's attributes into shared and own ones.
    pub(super) fn of(inode: &Inode, path: &[u8], shared: &Shared) -> Result<Self, WriteError> {
        let mut attributes = Self::default();
        for entry in entries(inode, path)? {
            match shared.offsets.get(&entry) {
                Some(offset) if attributes.shared.len() < MAX_SHARED => {
                    attributes.shared.push(*offset);
                }
                _ => attributes.own.extend(entry),
            }
        }
        match attributes.count() {
            Some(_) => Ok(attributes),
            None => Err(unsupported(
                path,
                "EROFS holds at most 256 KiB of extended attributes of one file",
            )),
        }
    }

    /// How many bytes they take behind the inode.
    pub(super) fn size(&self) -> u64 {
        match self.shared.is_empty() && self.own.is_empty() {
            true => 0,
            false => {
                super::length(size_of::<XattrHeader>() + 4 * self.shared.len() + self.own.len())
            }
        }
    }

    /// The inode's field that says how large they are.
    pub(super) fn count(&self) -> Option<u16> {
        match self.size() {
            0 => Some(0),
            size => u16::try_from((size - 12) / 4 + 1).ok(),
        }
    }

    /// The bytes behind the inode, with the shared area at byte `area`.
    pub(super) fn encode(&self, area: u64) -> Vec<u8> {
        if self.size() == 0 {
            return Vec::new();
        }
        let header = XattrHeader {
            name_filter: 0.into(),
            shared: u8::try_from(self.shared.len()).unwrap_or(u8::MAX),
            reserved: [0; 7],
        };
        let mut bytes = header.as_bytes().to_vec();
        for offset in &self.shared {
            let number = u32::try_from((area + offset) / 4).unwrap_or(u32::MAX);
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&self.own);
        bytes
    }
}

/// Each attribute as stored, in the order of the names.
fn entries(inode: &Inode, path: &[u8]) -> Result<Vec<Vec<u8>>, WriteError> {
    let encode = |(name, value): (&Vec<u8>, &Vec<u8>)| {
        entry(name, value).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            unsupported(path, &format!("EROFS cannot hold the extended attribute {name:?}; remove it or choose another file system"))
        })
    };
    inode.metadata.xattrs.iter().map(encode).collect()
}

fn entry(name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let matching = |(prefix, index, more): &(&[u8], u8, bool)| {
        let rest = name.strip_prefix(*prefix)?;
        (rest.is_empty() != *more).then_some((rest, *index))
    };
    let (rest, prefix) = PREFIXES.iter().find_map(matching)?;
    let entry = XattrEntry {
        name_length: u8::try_from(rest.len()).ok()?,
        prefix,
        value_size: u16::try_from(value.len()).ok()?.into(),
    };
    let mut bytes = [entry.as_bytes(), rest, value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_packed() {
        assert_eq!(
            entry(b"user.ab", b"xyz").unwrap(),
            b"\x02\x01\x03\x00abxyz\0\0\0"
        );
        assert_eq!(
            entry(b"system.posix_acl_access", b"1").unwrap(),
            b"\x00\x02\x01\x001\0\0\0"
        );
        for bad in [&b"user."[..], b"system.posix_acl_access2", b"com.apple.x"] {
            assert_eq!(entry(bad, b""), None);
        }
        assert_eq!(entry(b"user.x", &[0; 65536]), None);
    }
}
