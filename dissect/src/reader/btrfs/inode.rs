//! Inodes and what is kept beside them (btrfs documentation, "On-disk Format": "INODE_ITEM",
//! "XATTR_ITEM").

use std::collections::BTreeMap;
use std::sync::Arc;

use filetree::{DeviceNumber, Inode, Kind, Metadata, ReadError, Timestamp};

use super::data::Sums;
use super::field::{narrow, u32_at, u64_at};
use super::key::{Key, kind};
use super::subvolume::Subvolume;
use super::tree::Item;
use super::{Volume, directory, file};

const SIZE: usize = 160;
/// `flags`: data without checksums.
const NO_CHECKSUMS: u64 = 1;
/// The kind of an entry that is an attribute.
const ATTRIBUTE: u8 = 8;
/// Bytes of the attributes of one inode.
const MAX_ATTRIBUTES: usize = 16 << 20;
/// Bytes of the longest target of a symlink.
const MAX_TARGET: u64 = 4095;

/// The kinds of file, in the high bits of the mode.
mod file_type {
    pub(super) const FIFO: u32 = 0o01;
    pub(super) const CHARACTER: u32 = 0o02;
    pub(super) const DIRECTORY: u32 = 0o04;
    pub(super) const BLOCK: u32 = 0o06;
    pub(super) const REGULAR: u32 = 0o10;
    pub(super) const SYMLINK: u32 = 0o12;
    pub(super) const SOCKET: u32 = 0o14;
}

/// What an inode says of its file.
#[derive(Debug)]
struct Stored {
    item: Item,
    size: u64,
    uid: u32,
    gid: u32,
    mode: u32,
    device: u64,
    sums: Sums,
    mtime: Timestamp,
}

/// Reads an inode with its attributes; a directory comes without its entries.
pub(super) fn read(
    volume: &Arc<Volume>,
    subvolume: Subvolume,
    number: u64,
) -> Result<Inode, ReadError> {
    let stored = Stored::read(volume, subvolume, number)?;
    Ok(Inode {
        metadata: Metadata {
            mode: u16::try_from(stored.mode & 0o7777).unwrap_or(0),
            uid: stored.uid,
            gid: stored.gid,
            mtime: stored.mtime,
            xattrs: attributes(volume, subvolume, number)?,
        },
        kind: stored.kind(volume, subvolume, number)?,
    })
}

/// Fails if the inode is no directory.
pub(super) fn check_directory(
    volume: &Volume,
    subvolume: Subvolume,
    number: u64,
) -> Result<(), ReadError> {
    let stored = Stored::read(volume, subvolume, number)?;
    if stored.mode >> 12 == file_type::DIRECTORY {
        return Ok(());
    }
    Err(volume.damaged(&stored.item, "it is no directory"))
}

impl Stored {
    fn read(volume: &Volume, subvolume: Subvolume, number: u64) -> Result<Self, ReadError> {
        let key = Key::new(number, kind::INODE, 0);
        let item = volume.item(&subvolume.root, key)?;
        let item = item.ok_or_else(|| {
            let what = "a name leads to no inode";
            volume.source.damaged(super::superblock::OFFSET, what)
        })?;
        Self::parse(&item).map_err(|what| volume.damaged(&item, what))
    }

    fn parse(item: &Item) -> Result<Self, &'static str> {
        let bytes = item.bytes();
        if bytes.len() != SIZE {
            return Err("an inode is cut off");
        }
        let nanoseconds = u32_at(bytes, 144);
        if nanoseconds >= 1_000_000_000 {
            return Err("a time has too many nanoseconds");
        }
        let size = u64_at(bytes, 16);
        if size > u64::MAX >> 1 {
            return Err("the size of a file is impossible");
        }
        Ok(Self {
            item: item.clone(),
            size,
            uid: u32_at(bytes, 44),
            gid: u32_at(bytes, 48),
            mode: u32_at(bytes, 52),
            device: u64_at(bytes, 56),
            sums: match u64_at(bytes, 64) & NO_CHECKSUMS {
                0 => Sums::Verified,
                _ => Sums::None,
            },
            mtime: Timestamp {
                seconds: u64_at(bytes, 136).cast_signed(),
                nanoseconds,
            },
        })
    }

    fn kind(
        &self,
        volume: &Arc<Volume>,
        subvolume: Subvolume,
        number: u64,
    ) -> Result<Kind, ReadError> {
        let content = || {
            let whose = file::Whose {
                subvolume,
                inode: number,
                size: self.size,
                sums: self.sums,
            };
            file::content(volume, &whose)
        };
        Ok(match self.mode >> 12 {
            file_type::DIRECTORY => Kind::Directory(Default::default()),
            file_type::REGULAR => Kind::File(content()?),
            file_type::SYMLINK => Kind::Symlink(self.target(volume, content)?),
            file_type::CHARACTER => Kind::CharacterDevice(self.device()),
            file_type::BLOCK => Kind::BlockDevice(self.device()),
            file_type::FIFO => Kind::Fifo,
            file_type::SOCKET => Kind::Socket,
            _ => return Err(volume.damaged(&self.item, "an inode is of an unknown kind")),
        })
    }

    /// As the kernel has it in memory: 20 bits of the minor number below the major one.
    fn device(&self) -> DeviceNumber {
        let part = |bits: u64| u32::try_from(bits).unwrap_or(0);
        DeviceNumber {
            major: part(self.device >> 20 & 0xfff),
            minor: part(self.device & 0xf_ffff),
        }
    }

    /// Where a symlink leads.
    fn target(
        &self,
        volume: &Volume,
        content: impl Fn() -> Result<filetree::Content, ReadError>,
    ) -> Result<Box<[u8]>, ReadError> {
        let damaged = |what| volume.damaged(&self.item, what);
        if self.size == 0 || self.size > MAX_TARGET {
            return Err(damaged("the length of a symlink is impossible"));
        }
        let mut target = vec![0; narrow(self.size)];
        let open = content()?.open();
        let outcome = open.and_then(|open| open.read_exact_at(&mut target, 0));
        outcome.map_err(|_| damaged("a symlink cannot be read"))?;
        if target.contains(&0) {
            return Err(damaged("a symlink has a NUL"));
        }
        Ok(target.into())
    }
}

/// All attributes by their full names. Lists of access control are stored as programs see them.
fn attributes(
    volume: &Volume,
    subvolume: Subvolume,
    number: u64,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
    let mut all = BTreeMap::new();
    let mut size = 0;
    let mut items = volume.items(&subvolume.root, Key::new(number, kind::XATTR, 0))?;
    while let Some(item) = items.next()? {
        if (item.key.object, item.key.kind) != (number, kind::XATTR) {
            break;
        }
        for stored in directory::stored(volume, &item)? {
            let is_name = !stored.name.is_empty() && !stored.name.contains(&0);
            if stored.kind != ATTRIBUTE || !is_name || stored.name.len() > 255 {
                return Err(volume.damaged(&item, "an extended attribute is impossible"));
            }
            size += item.bytes().len();
            if size > MAX_ATTRIBUTES {
                return Err(ReadError::Memory(16 << 20));
            }
            all.insert(stored.name.to_vec(), stored.value.to_vec());
        }
    }
    Ok(all)
}
