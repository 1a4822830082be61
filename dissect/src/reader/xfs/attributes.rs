//! Extended attributes: within the inode, or in leaves with values beside them ("XFS Algorithms &
//! Data Structures", "Extended Attributes").

use std::collections::{BTreeMap, HashSet};

use filetree::ReadError;

use super::bytes::{be16, be32, be64, is_sound, wide};
use super::extents::{self, Extent};
use super::inode::{Format, Stored};
use super::{FileType, Volume, acl};

/// Which namespace, and what else an entry says of itself.
mod flags {
    pub(super) const LOCAL: u8 = 0x1;
    pub(super) const TRUSTED: u8 = 0x2;
    pub(super) const SECURITY: u8 = 0x4;
    /// A link to the parent, which is no attribute.
    pub(super) const PARENT: u8 = 0x8;
    pub(super) const INCOMPLETE: u8 = 0x80;
}

/// Bytes of what blocks of attributes begin with, version 4 and 5, and of what values have in front.
const OLD_LEAF: usize = 32;
const LEAF: usize = 80;
const OLD_NODE: usize = 16;
const NODE: usize = 64;
const VALUE: usize = 56;
const CHECKSUM: usize = 12;
/// Bytes of the longest value that Linux knows.
const MAX_VALUE: usize = 65536;
/// Blocks of attributes are numbered with 32 bits; a tree of them is not deeper than this.
const MAX_DEPTH: usize = 6;

/// All attributes by their full names, as programs see them.
pub(super) fn read(
    volume: &Volume,
    inode: &Stored,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
    let mut found = Found {
        volume,
        inode,
        extents: Vec::new(),
        visited: HashSet::new(),
        all: BTreeMap::new(),
    };
    match inode.attributes() {
        None => (),
        Some(root) if root.format == Format::Local => found.short(root.bytes)?,
        // The fork was made, but has nothing in it.
        Some(root) if root.format == Format::Extents && root.extents == 0 => (),
        Some(root) => {
            found.extents = extents::read(volume, inode, root)?;
            found.leaves()?;
        }
    }
    Ok(found.all)
}

struct Found<'a> {
    volume: &'a Volume,
    inode: &'a Stored,
    extents: Vec<Extent>,
    /// Blocks of leaves and nodes.
    visited: HashSet<u64>,
    all: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Found<'_> {
    /// Attributes within the inode.
    fn short(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let (volume, inode) = (self.volume, self.inode);
        let impossible = || {
            let what = "a list of extended attributes is impossible";
            volume.source.damaged(inode.offset, what)
        };
        let [_, _, count, _, rest @ ..] = bytes else {
            return Err(impossible());
        };
        let mut rest = rest;
        for _ in 0..*count {
            let [name, value, flags, behind @ ..] = rest else {
                return Err(impossible());
            };
            let (name, value) = (usize::from(*name), usize::from(*value));
            let name = behind.split_at_checked(name);
            let (name, behind) = name.ok_or_else(impossible)?;
            let value = behind.split_at_checked(value);
            let (value, behind) = value.ok_or_else(impossible)?;
            self.add(name, value.to_vec(), *flags)?;
            rest = behind;
        }
        Ok(())
    }

    /// All leaves, beginning with the first one that the tree leads to.
    fn leaves(&mut self) -> Result<(), ReadError> {
        let mut number = 0;
        for _ in 0..MAX_DEPTH {
            let bytes = self.block(number)?;
            match (be16(&bytes, 8), self.volume.superblock.version5) {
                (0x3bee, true) | (0xfbee, false) => return self.leaf(bytes),
                (0x3ebe, true) | (0xfebe, false) => (),
                _ => return Err(self.damaged("a block of extended attributes is none")),
            }
            let header = self.header(OLD_NODE, NODE);
            number = be32(&bytes, header + 4);
        }
        Err(self.damaged("the tree of extended attributes is too deep"))
    }

    /// A leaf and those that follow.
    fn leaf(&mut self, mut bytes: Vec<u8>) -> Result<(), ReadError> {
        loop {
            let header = self.header(OLD_LEAF, LEAF);
            let counts = if self.volume.superblock.version5 {
                56
            } else {
                12
            };
            let count = usize::from(be16(&bytes, counts));
            let entries = bytes.get(header..header + count * 8);
            let entries = entries.ok_or_else(|| self.impossible())?;
            for entry in entries.chunks_exact(8) {
                self.entry(&bytes, usize::from(be16(entry, 4)), entry[6])?;
            }
            match be32(&bytes, 0) {
                0 => return Ok(()),
                next => bytes = self.block(next)?,
            }
            let magic = if self.volume.superblock.version5 {
                0x3bee
            } else {
                0xfbee
            };
            if be16(&bytes, 8) != magic {
                return Err(self.damaged("a block of extended attributes is none"));
            }
        }
    }

    fn entry(&mut self, leaf: &[u8], at: usize, flags: u8) -> Result<(), ReadError> {
        let bytes = leaf.get(at..).unwrap_or_default();
        if flags & flags::INCOMPLETE != 0 {
            return Ok(());
        }
        if flags & flags::LOCAL != 0 {
            let head = bytes.get(..3).ok_or_else(|| self.impossible())?;
            let (value, name) = (usize::from(be16(head, 0)), usize::from(head[2]));
            let parts = bytes
                .get(3..3 + name + value)
                .ok_or_else(|| self.impossible())?;
            let (name, value) = parts.split_at(name);
            return self.add(name, value.to_vec(), flags);
        }
        let head = bytes.get(..9).ok_or_else(|| self.impossible())?;
        let name = bytes.get(9..9 + usize::from(head[8]));
        let name = name.ok_or_else(|| self.impossible())?;
        let length = usize::try_from(be32(head, 4)).unwrap_or(usize::MAX);
        if length > MAX_VALUE {
            return Err(self.damaged("an extended attribute is too long"));
        }
        let value = self.remote(be32(head, 0), length)?;
        self.add(name, value, flags)
    }

    /// A value in blocks of its own.
    fn remote(&self, first: u32, length: usize) -> Result<Vec<u8>, ReadError> {
        let superblock = &self.volume.superblock;
        let header = if superblock.version5 { VALUE } else { 0 };
        let room = superblock.block_size - header;
        let mut value = Vec::new();
        let first = u64::from(first);
        for number in first..first + wide(length.div_ceil(room)) {
            let wanted = number..number + 1;
            let bytes = extents::blocks(self.volume, self.inode, &self.extents, wanted)?;
            let owned = !superblock.checksums
                || bytes.starts_with(b"XARM")
                    && is_sound(&bytes, CHECKSUM)
                    && be64(&bytes, 32) == self.inode.number;
            if !owned {
                return Err(self.damaged("the checksum of an extended attribute is wrong"));
            }
            let left = (length - value.len()).min(room);
            value.extend_from_slice(&bytes[header..header + left]);
        }
        Ok(value)
    }

    /// A block of a leaf or node, which nothing else may use.
    fn block(&mut self, number: u32) -> Result<Vec<u8>, ReadError> {
        let number = u64::from(number);
        if !self.visited.insert(number) {
            return Err(self.damaged("extended attributes have a block twice"));
        }
        let bytes = extents::blocks(self.volume, self.inode, &self.extents, number..number + 1)?;
        let owned = !self.volume.superblock.checksums
            || is_sound(&bytes, CHECKSUM) && be64(&bytes, 48) == self.inode.number;
        if !owned {
            return Err(self.damaged("the checksum of extended attributes is wrong"));
        }
        Ok(bytes)
    }

    fn add(&mut self, name: &[u8], value: Vec<u8>, flags: u8) -> Result<(), ReadError> {
        const NAMESPACES: u8 = flags::TRUSTED | flags::SECURITY | flags::PARENT;
        let kind = self.inode.file_type();
        let prefix: &[u8] = match flags & NAMESPACES {
            flags::TRUSTED => match name {
                b"SGI_ACL_FILE" => return self.add_acl(b"system.posix_acl_access", &value),
                b"SGI_ACL_DEFAULT" => return self.add_acl(b"system.posix_acl_default", &value),
                _ => b"trusted.",
            },
            flags::SECURITY => b"security.",
            // Linux shows them on files and directories only.
            0 if matches!(kind, Some(FileType::Regular | FileType::Directory)) => b"user.",
            _ => return Ok(()),
        };
        if name.is_empty() || name.contains(&0) {
            return Err(self.impossible());
        }
        self.all.insert([prefix, name].concat(), value);
        Ok(())
    }

    fn add_acl(&mut self, name: &[u8], value: &[u8]) -> Result<(), ReadError> {
        if self.inode.file_type() == Some(FileType::Symlink) {
            return Ok(());
        }
        let shown = acl::shown(value).map_err(|what| self.damaged(what))?;
        if let Some(shown) = shown {
            self.all.insert(name.to_vec(), shown);
        }
        Ok(())
    }

    fn header(&self, old: usize, new: usize) -> usize {
        if self.volume.superblock.version5 {
            new
        } else {
            old
        }
    }

    fn impossible(&self) -> ReadError {
        self.damaged("a list of extended attributes is impossible")
    }

    fn damaged(&self, what: &'static str) -> ReadError {
        self.volume.source.damaged(self.inode.offset, what)
    }
}
