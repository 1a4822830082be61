//! A directory's blocks: a plain list of entries. Pure.

use super::bytes::{put16, put32};
use super::checksum::crc32c;

/// An entry: inode number, kind, name.
pub(super) struct Entry<'a> {
    pub(super) inode: u32,
    pub(super) kind: u8,
    pub(super) name: &'a [u8],
}

/// How blocks are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    pub(super) block_size: usize,
    /// Whether entries have a kind.
    pub(super) kinds: bool,
    /// The directory's checksum seed.
    pub(super) seed: Option<u32>,
}

/// The blocks of a directory, one after the other.
pub(super) fn encode(entries: &[Entry<'_>], format: Format) -> Vec<u8> {
    let room = format.block_size - if format.seed.is_some() { 12 } else { 0 };
    let mut bytes = Vec::new();
    let (mut at, mut last) = (room, 0); // within the block; no block yet
    for entry in entries {
        let size = 8 + entry.name.len().next_multiple_of(4);
        if at + size > room {
            finish(&mut bytes, (last, room), format);
            bytes.resize(bytes.len() + format.block_size, 0);
            at = 0;
        }
        let start = bytes.len() - format.block_size;
        let place = &mut bytes[start + at..start + at + size];
        put32(place, 0, entry.inode);
        put16(place, 4, u16::try_from(size).unwrap_or(0));
        place[6] = u8::try_from(entry.name.len()).unwrap_or(u8::MAX);
        place[7] = if format.kinds { entry.kind } else { 0 };
        place[8..8 + entry.name.len()].copy_from_slice(entry.name);
        last = at;
        at += size;
    }
    finish(&mut bytes, (last, room), format);
    bytes
}

/// Lets the last entry reach to the end, and sets the checksum.
fn finish(bytes: &mut [u8], (last, room): (usize, usize), format: Format) {
    let Some(start) = bytes.len().checked_sub(format.block_size) else {
        return;
    };
    let block = &mut bytes[start..];
    put16(block, last + 4, u16::try_from(room - last).unwrap_or(0));
    if let Some(seed) = format.seed {
        let checksum = crc32c(seed, &block[..room]);
        put16(block, room + 4, 12);
        block[room + 7] = 0xde;
        put32(block, room + 8, checksum);
    }
}
