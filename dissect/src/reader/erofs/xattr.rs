//! Extended attributes: beside the inode, shared, and with long prefixes.

use std::collections::BTreeMap;

use filetree::ReadError;

use super::bytes::{length, u16_at, u32_at};
use super::inode::RawInode;
use super::{Area, Image, damaged};

/// Bytes before the numbers of shared attributes.
const HEADER: usize = 12;
/// In the index of a name's prefix: it is a long one.
const LONG: u8 = 0x80;

/// All attributes of an inode, by their full names.
pub(super) fn all(
    image: &Image,
    inode: &RawInode,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
    let mut pairs = BTreeMap::new();
    if inode.xattr_size == 0 {
        return Ok(pairs);
    }
    // At most 4 × 65,535 + 8 bytes.
    let mut bytes = vec![0; length(inode.xattr_size)];
    image.read(inode.area, &mut bytes, inode.xattrs)?;
    let shared = usize::from(bytes[4]);
    let (head, mut own) = bytes.split_at_checked(HEADER + 4 * shared).ok_or(damaged(
        inode.xattrs,
        "there are too many shared attributes",
    ))?;
    for number in head[HEADER..].chunks_exact(4) {
        let (name, value) = shared_pair(image, u32_at(number, 0))?;
        add(&mut pairs, name, value, inode)?;
    }
    while own.len() >= 4 {
        let entry = Entry::parse(own);
        let end = entry.end();
        let whole = own.get(..end).ok_or(damaged(
            inode.xattrs,
            "an attribute is longer than its room",
        ))?;
        let (name, value) = entry.split(&whole[4..]);
        add(&mut pairs, entry.name(image, name)?, value.to_vec(), inode)?;
        own = own.get(end.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(pairs)
}

fn add(
    pairs: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    name: Option<Vec<u8>>,
    value: Vec<u8>,
    inode: &RawInode,
) -> Result<(), ReadError> {
    // What the kernel has no name for, it does not show.
    let Some(name) = name else { return Ok(()) };
    match pairs.insert(name, value) {
        None => Ok(()),
        Some(_) => Err(damaged(inode.xattrs, "an inode has an attribute twice")),
    }
}

fn shared_pair(image: &Image, number: u32) -> Result<(Option<Vec<u8>>, Vec<u8>), ReadError> {
    let area = match image.superblock.xattrs_in_box {
        true => Area::Box,
        false => Area::Image,
    };
    let place = image
        .superblock
        .xattrs
        .saturating_add(u64::from(number) * 4);
    let mut head = [0; 4];
    image.read(area, &mut head, place)?;
    let entry = Entry::parse(&head);
    let mut rest = vec![0; entry.end() - 4];
    image.read(area, &mut rest, place.saturating_add(4))?;
    let (name, value) = entry.split(&rest);
    Ok((entry.name(image, name)?, value.to_vec()))
}

/// The four bytes in front of name and value.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name: u8,
    index: u8,
    value: u16,
}

impl Entry {
    fn parse(raw: &[u8]) -> Self {
        Self {
            name: raw[0],
            index: raw[1],
            value: u16_at(raw, 2),
        }
    }

    fn end(self) -> usize {
        4 + usize::from(self.name) + usize::from(self.value)
    }

    fn split(self, rest: &[u8]) -> (&[u8], &[u8]) {
        rest.split_at_checked(usize::from(self.name))
            .unwrap_or_default()
    }

    /// The full name; `None` for a prefix that Linux does not have.
    fn name(self, image: &Image, name: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        if self.index & LONG == 0 {
            return Ok(prefix(self.index).map(|prefix| [prefix, name].concat()));
        }
        let index = usize::from(self.index & !LONG);
        let long = image.prefixes.get(index);
        let long = long.ok_or(damaged(0, "a prefix of attributes is missing in the table"))?;
        Ok(prefix(long[0]).map(|prefix| [prefix, &long[1..], name].concat()))
    }
}

fn prefix(index: u8) -> Option<&'static [u8]> {
    Some(match index {
        1 => b"user.",
        2 => b"system.posix_acl_access",
        3 => b"system.posix_acl_default",
        4 => b"trusted.",
        6 => b"security.",
        _ => return None,
    })
}

/// The long prefixes: an index of a short one, and what follows it.
pub(super) fn prefixes(image: &Image) -> Result<Vec<Vec<u8>>, ReadError> {
    let superblock = &image.superblock;
    let mut place = superblock.prefix_place;
    let mut prefixes = Vec::new();
    for _ in 0..superblock.prefixes {
        let mut head = [0; 2];
        read_prefix(image, &mut head, place)?;
        let size = match u16_at(&head, 0) {
            0 => 65_536,
            size => usize::from(size),
        };
        if size > 256 {
            return Err(damaged(place, "a prefix of attributes is too long"));
        }
        let mut prefix = vec![0; size];
        read_prefix(image, &mut prefix, place.saturating_add(2))?;
        place = place
            .saturating_add(2 + super::bytes::wide(size))
            .next_multiple_of(4);
        prefixes.push(prefix);
    }
    Ok(prefixes)
}

/// The table is in one of the special files, if there is one and the image does not say otherwise.
fn read_prefix(image: &Image, buffer: &mut [u8], place: u64) -> Result<(), ReadError> {
    match &image.packed {
        _ if image.superblock.plain_prefixes => image.read(Area::Image, buffer, place),
        _ if image.metabox.is_some() => image.read(Area::Box, buffer, place),
        Some(packed) => packed.read(image, buffer, place),
        None => image.read(Area::Image, buffer, place),
    }
}
