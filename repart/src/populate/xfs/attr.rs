//! Extended attributes as stored: within the inode, or in a leaf with long values apart. Pure.

use std::collections::BTreeMap;

use super::super::bytes::Block;
use super::dir::hash;

const LOCAL: u8 = 1;
const ROOT: u8 = 2;
const SECURE: u8 = 4;
const LEAF: u16 = 0x3bee;
/// Bytes before a leaf's entries.
const HEADER: usize = 80;

/// The attributes of one file, translated to XFS's names.
pub(super) struct Attributes(Vec<Attribute>);

struct Attribute {
    space: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// A leaf block, and the long values with their place in the fork.
pub(super) struct Leaf<'a> {
    pub(super) block: Block,
    pub(super) remote: Vec<(u64, &'a [u8])>,
}

impl Attributes {
    pub(super) fn of(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Self, String> {
        let all = xattrs.iter().map(|(name, value)| {
            translate(name, value).ok_or_else(|| {
                let name = String::from_utf8_lossy(name);
                format!("XFS cannot hold the extended attribute {name}")
            })
        });
        all.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes within the inode; `None` where a value is too long for that.
    pub(super) fn inline_size(&self) -> Option<usize> {
        if self.is_empty() {
            return Some(0);
        }
        let short = self.0.len() < 256 && self.0.iter().all(|one| one.value.len() < 256);
        let size = |one: &Attribute| 3 + one.name.len() + one.value.len();
        short.then(|| 4 + self.0.iter().map(size).sum::<usize>())
    }

    pub(super) fn inline(&self) -> Vec<u8> {
        let mut bytes = vec![0, 0, u8::try_from(self.0.len()).unwrap_or(u8::MAX), 0];
        for one in &self.0 {
            bytes.push(u8::try_from(one.name.len()).unwrap_or(u8::MAX));
            bytes.push(u8::try_from(one.value.len()).unwrap_or(u8::MAX));
            bytes.push(one.space);
            bytes.extend_from_slice(&one.name);
            bytes.extend_from_slice(&one.value);
        }
        let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        bytes[..2].copy_from_slice(&size.to_be_bytes());
        bytes
    }

    /// The form in blocks of `size`; `None` where names and short values need more than one.
    pub(super) fn leaf(&self, size: u64) -> Option<Leaf<'_>> {
        let bytes = usize::try_from(size).ok()?;
        let mut sorted: Vec<(u32, &Attribute)> =
            self.0.iter().map(|one| (hash(&one.name), one)).collect();
        sorted.sort_by_key(|(hash, _)| *hash);
        let entries = HEADER + sorted.len() * 8;
        let mut block = Block::new(size);
        let mut remote = Vec::new();
        let (mut end, mut next) = (bytes, 1);
        for (index, (hash, one)) in sorted.iter().enumerate() {
            let body = one.body(bytes, next);
            end = end.checked_sub(body.len()).filter(|end| *end >= entries)?;
            block.put(end, &body);
            let at = HEADER + index * 8;
            block.u32(at, *hash);
            block.u16(at + 4, end);
            block.u8(
                at + 6,
                one.space | if one.is_local(bytes) { LOCAL } else { 0 },
            );
            if !one.is_local(bytes) {
                remote.push((next, one.value.as_slice()));
                next += u64::try_from(one.value.len().div_ceil(bytes - 56)).ok()?;
            }
        }
        block.u16(8, LEAF);
        block.u16(56, sorted.len());
        block.u16(58, bytes - end);
        block.u16(60, end);
        block.u16(64, entries);
        block.u16(66, end - entries);
        Some(Leaf { block, remote })
    }
}

impl Attribute {
    fn is_local(&self, block: usize) -> bool {
        (3 + self.name.len() + self.value.len()).next_multiple_of(4) < block / 2 + block / 4
    }

    /// Name and value for a leaf, or name and the place of the value.
    fn body(&self, block: usize, remote: u64) -> Vec<u8> {
        let name_length = u8::try_from(self.name.len()).unwrap_or(u8::MAX);
        let mut body = Vec::new();
        if self.is_local(block) {
            let length = u16::try_from(self.value.len()).unwrap_or(u16::MAX);
            body.extend_from_slice(&length.to_be_bytes());
            body.push(name_length);
            body.extend_from_slice(&self.name);
            body.extend_from_slice(&self.value);
        } else {
            let place = u32::try_from(remote).unwrap_or(u32::MAX);
            let length = u32::try_from(self.value.len()).unwrap_or(u32::MAX);
            body.extend_from_slice(&place.to_be_bytes());
            body.extend_from_slice(&length.to_be_bytes());
            body.push(name_length);
            body.extend_from_slice(&self.name);
        }
        body.resize(body.len().next_multiple_of(4), 0);
        body
    }
}

fn translate(name: &[u8], value: &[u8]) -> Option<Attribute> {
    let attribute = |space, name: &[u8], value: Vec<u8>| {
        let fits = (1..256).contains(&name.len()) && value.len() <= 65536;
        fits.then(|| Attribute {
            space,
            name: name.to_vec(),
            value,
        })
    };
    match name {
        b"system.posix_acl_access" => attribute(ROOT, b"SGI_ACL_FILE", acl(value)?),
        b"system.posix_acl_default" => attribute(ROOT, b"SGI_ACL_DEFAULT", acl(value)?),
        _ => {
            let (space, rest) = [
                (0, &b"user."[..]),
                (ROOT, b"trusted."),
                (SECURE, b"security."),
            ]
            .into_iter()
            .find_map(|(space, prefix)| Some((space, name.strip_prefix(prefix)?)))?;
            attribute(space, rest, value.to_vec())
        }
    }
}

/// An access control list from the kernel's form (version 2, little-endian, 8 bytes an entry) to
/// XFS's (a count, 12 bytes an entry, big-endian).
fn acl(value: &[u8]) -> Option<Vec<u8>> {
    let entries = value.strip_prefix(&2u32.to_le_bytes())?;
    if entries.len() % 8 != 0 {
        return None;
    }
    let count = u32::try_from(entries.len() / 8).ok()?;
    let mut bytes = count.to_be_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        let [t0, t1, p0, p1, i0, i1, i2, i3] = *entry else {
            return None;
        };
        bytes.extend_from_slice(&[0, 0, t1, t0, i3, i2, i1, i0, p1, p0, 0, 0]);
    }
    Some(bytes)
}
