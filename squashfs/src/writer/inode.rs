//! Inodes as squashfs stores them: the small form where it holds the inode, else the extended one.
//! Pure.
#![forbid(unsafe_code)]

use filetree::{DeviceNumber, Inode, Kind};

use super::NO_XATTRS;
use crate::ffi::{FileLayout, Layout};

/// What every inode begins with, and what decides between its forms.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) kind: u16,
    pub(super) mode: u16,
    pub(super) uid: u16,
    pub(super) gid: u16,
    pub(super) mtime: u32,
    pub(super) number: u32,
    pub(super) links: u32,
    pub(super) xattrs: u32,
}

/// The extended form's number is the small one's plus this.
const EXTENDED: u16 = 7;

const DIRECTORY: u16 = 1;
const FILE: u16 = 2;
const SYMLINK: u16 = 3;
const BLOCK_DEVICE: u16 = 4;
const CHARACTER_DEVICE: u16 = 5;
const FIFO: u16 = 6;
const SOCKET: u16 = 7;

/// The number of an inode's small form.
pub(super) fn kind(inode: &Inode) -> u16 {
    match inode.kind {
        Kind::Directory(_) => DIRECTORY,
        Kind::File(_) => FILE,
        Kind::Symlink(_) => SYMLINK,
        Kind::BlockDevice(_) => BLOCK_DEVICE,
        Kind::CharacterDevice(_) => CHARACTER_DEVICE,
        Kind::Fifo => FIFO,
        Kind::Socket => SOCKET,
    }
}

/// Permission and type bits, as `stat` gives them: the library makes an entry's type out of them.
pub(super) fn mode(inode: &Inode) -> u16 {
    let kind = match inode.kind {
        Kind::Directory(_) => 0o040_000,
        Kind::File(_) => 0o100_000,
        Kind::Symlink(_) => 0o120_000,
        Kind::BlockDevice(_) => 0o060_000,
        Kind::CharacterDevice(_) => 0o020_000,
        Kind::Fifo => 0o010_000,
        Kind::Socket => 0o140_000,
    };
    kind | (inode.metadata.mode & 0o7777)
}

impl Head {
    fn encode(&self, extended: bool) -> Bytes {
        Bytes::default()
            .u16(self.kind + if extended { EXTENDED } else { 0 })
            .u16(self.mode)
            .u16(self.uid)
            .u16(self.gid)
            .u32(self.mtime)
            .u32(self.number)
    }

    fn has_xattrs(&self) -> bool {
        self.xattrs != NO_XATTRS
    }
}

pub(super) fn directory(head: &Head, layout: &Layout, parent: u32) -> Vec<u8> {
    // A listing counts 3 bytes for `.` and `..`, which it does not store.
    let size = layout.size.saturating_add(3);
    match u16::try_from(size) {
        Ok(size) if !head.has_xattrs() => head
            .encode(false)
            .u32(layout.block)
            .u32(head.links)
            .u16(size)
            .u16(layout.offset)
            .u32(parent),
        _ => head
            .encode(true)
            .u32(head.links)
            .u32(size)
            .u32(layout.block)
            .u32(parent)
            .u16(layout.indexes)
            .u16(layout.offset)
            .u32(head.xattrs)
            .raw(&layout.index),
    }
    .0
}

pub(super) fn file(head: &Head, layout: &FileLayout) -> Vec<u8> {
    let small = u32::try_from(layout.start)
        .ok()
        .zip(u32::try_from(layout.size).ok())
        .filter(|_| !head.has_xattrs() && head.links == 1 && layout.sparse == 0);
    let bytes = match small {
        Some((start, size)) => head
            .encode(false)
            .u32(start)
            .u32(layout.fragment)
            .u32(layout.fragment_offset)
            .u32(size),
        None => head
            .encode(true)
            .u64(layout.start)
            .u64(layout.size)
            .u64(layout.sparse)
            .u32(head.links)
            .u32(layout.fragment)
            .u32(layout.fragment_offset)
            .u32(head.xattrs),
    };
    let blocks = layout.blocks.iter();
    blocks.fold(bytes, |bytes, size| bytes.u32(*size)).0
}

/// `None` if the target is too long.
pub(super) fn symlink(head: &Head, target: &[u8]) -> Option<Vec<u8>> {
    let length = u32::from(u16::try_from(target.len()).ok()?);
    let bytes = head
        .encode(head.has_xattrs())
        .u32(head.links)
        .u32(length)
        .raw(target);
    Some(head.with_xattrs(bytes))
}

/// `None` if the number does not fit 12 + 20 bits.
pub(super) fn device(head: &Head, number: DeviceNumber) -> Option<Vec<u8>> {
    if number.major > 0xfff || number.minor > 0xf_ffff {
        return None;
    }
    let packed = number.minor & 0xff | number.major << 8 | (number.minor & !0xff) << 12;
    let bytes = head.encode(head.has_xattrs()).u32(head.links).u32(packed);
    Some(head.with_xattrs(bytes))
}

pub(super) fn ipc(head: &Head) -> Vec<u8> {
    head.with_xattrs(head.encode(head.has_xattrs()).u32(head.links))
}

impl Head {
    fn with_xattrs(&self, bytes: Bytes) -> Vec<u8> {
        if self.has_xattrs() {
            bytes.u32(self.xattrs).0
        } else {
            bytes.0
        }
    }
}

/// Little-endian numbers, one after the other.
#[derive(Debug, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(self, value: u16) -> Self {
        self.raw(&value.to_le_bytes())
    }

    fn u32(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.raw(&value.to_le_bytes())
    }
}
