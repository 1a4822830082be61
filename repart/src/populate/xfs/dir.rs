//! Directories as stored: within the inode, in one block, or in data blocks with leaves by hash,
//! and the seals of such blocks. Pure.

use filetree::Kind;

use super::super::bytes::Block;
use super::superblock::Superblock;

/// The part of a directory's address space where leaves begin, in bytes.
const LEAVES: u64 = 32 << 30;
/// Where the lists of free room begin.
const ROOM: u64 = 64 << 30;
/// Bytes before a data block's entries, and before a leaf's.
const HEADER: usize = 64;
const BLOCK_FORM: &[u8; 4] = b"XDB3";
const DATA: &[u8; 4] = b"XDD3";
const FREE: &[u8; 4] = b"XDF3";
const LEAF_ALONE: u16 = 0x3df1;
const LEAF: u16 = 0x3dff;
const NODE: u16 = 0x3ebe;

/// A name in a directory.
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) number: u64,
    pub(super) kind: u8,
}

pub(super) struct Directory<'a> {
    pub(super) number: u64,
    parent: u64,
    entries: Vec<Entry<'a>>,
}

/// A directory in blocks.
pub(super) struct Blocks {
    /// Bytes of the data blocks: the directory's size.
    pub(super) data_size: u64,
    /// Runs of blocks, each with its first block's place in the fork.
    pub(super) runs: Vec<(u64, Vec<Block>)>,
}

/// A name's hash, and where its entry lies in units of 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hashed(u32, u32);

impl<'a> Directory<'a> {
    pub(super) fn new(number: u64, parent: u64, entries: Vec<Entry<'a>>) -> Self {
        Self {
            number,
            parent,
            entries,
        }
    }

    /// The form within the inode; `None` where there are too many entries for any inode.
    pub(super) fn short_form(&self) -> Option<Vec<u8>> {
        let count = u8::try_from(self.entries.len()).ok()?;
        let numbers = || {
            self.entries
                .iter()
                .map(|entry| entry.number)
                .chain([self.parent])
        };
        let wide = numbers().any(|number| number > u64::from(u32::MAX));
        let put = |bytes: &mut Vec<u8>, number: u64| {
            let all = number.to_be_bytes();
            bytes.extend_from_slice(if wide { &all } else { &all[4..] });
        };
        let mut bytes = vec![count, if wide { count } else { 0 }];
        put(&mut bytes, self.parent);
        let mut offset = HEADER + entry_size(1) + entry_size(2);
        for entry in &self.entries {
            bytes.push(u8::try_from(entry.name.len()).ok()?);
            bytes.extend_from_slice(&u16::try_from(offset).ok()?.to_be_bytes());
            bytes.extend_from_slice(entry.name);
            bytes.push(entry.kind);
            put(&mut bytes, entry.number);
            offset += entry_size(entry.name.len());
        }
        if wide {
            // The parent counts as one of the wide ones where it alone needs it.
            bytes[1] = u8::try_from(numbers().filter(|n| *n > u64::from(u32::MAX)).count()).ok()?;
        }
        Some(bytes)
    }

    /// The form in blocks of `size` bytes; `None` for more entries than are supported.
    pub(super) fn blocks(&self, size: u64) -> Option<Blocks> {
        let bytes = usize::try_from(size).ok()?;
        if let Some(block) = self.one_block(bytes) {
            return Some(Blocks {
                data_size: size,
                runs: vec![(0, vec![block])],
            });
        }
        let (data, mut hashes, rooms) = self.data_blocks(bytes);
        hashes.sort_unstable();
        let data_size = size * u64::try_from(data.len()).ok()?;
        let mut runs = vec![(0, data)];
        match leaf_alone(bytes, &hashes, &rooms) {
            Some(leaf) => runs.push((LEAVES / size, vec![leaf])),
            None => {
                runs.push((LEAVES / size, leaves(bytes, &hashes, LEAVES / size)?));
                runs.push((ROOM / size, room_lists(bytes, &rooms)));
            }
        }
        Some(Blocks { data_size, runs })
    }

    /// All entries as (name, number, kind), `.` and `..` first.
    fn all(&self) -> impl Iterator<Item = (&[u8], u64, u8)> {
        let dots = [(&b"."[..], self.number, 2), (&b".."[..], self.parent, 2)];
        let entries = self.entries.iter();
        dots.into_iter()
            .chain(entries.map(|entry| (entry.name, entry.number, entry.kind)))
    }

    fn one_block(&self, size: usize) -> Option<Block> {
        let entries: usize = self.all().map(|(name, ..)| entry_size(name.len())).sum();
        let count = self.entries.len() + 2;
        let leaves = size.checked_sub(count * 8 + 8)?;
        if HEADER + entries > leaves {
            return None;
        }
        let mut block = Block(vec![0; size]);
        block.put(0, BLOCK_FORM);
        let mut hashes = Vec::new();
        let mut at = HEADER;
        for (name, number, kind) in self.all() {
            hashes.push(Hashed(hash(name), u32::try_from(at / 8).ok()?));
            at = put_entry(&mut block, at, (name, number, kind));
        }
        put_room(&mut block, at, leaves);
        hashes.sort_unstable();
        put_hashes(&mut block, leaves, &hashes);
        block.u32(size - 8, count);
        Some(block)
    }

    /// The data blocks, the hashes of all their entries, and the room left in each.
    fn data_blocks(&self, size: usize) -> (Vec<Block>, Vec<Hashed>, Vec<u16>) {
        let fresh = || {
            let mut block = Block(vec![0; size]);
            block.put(0, DATA);
            block
        };
        let (mut blocks, mut hashes, mut rooms) = (Vec::new(), Vec::new(), Vec::new());
        let (mut block, mut at) = (fresh(), HEADER);
        for (name, number, kind) in self.all() {
            if at + entry_size(name.len()) > size {
                rooms.push(put_room(&mut block, at, size));
                blocks.push(std::mem::replace(&mut block, fresh()));
                at = HEADER;
            }
            let place = (blocks.len() * size + at) / 8;
            hashes.push(Hashed(hash(name), u32::try_from(place).unwrap_or(u32::MAX)));
            at = put_entry(&mut block, at, (name, number, kind));
        }
        rooms.push(put_room(&mut block, at, size));
        blocks.push(block);
        (blocks, hashes, rooms)
    }
}

/// The one leaf of a directory, with its room list at the end; `None` where that does not fit.
fn leaf_alone(size: usize, hashes: &[Hashed], rooms: &[u16]) -> Option<Block> {
    let lists = size.checked_sub(4 + rooms.len() * 2)?;
    if HEADER + hashes.len() * 8 > lists {
        return None;
    }
    let mut block = Block(vec![0; size]);
    block.u16(8, LEAF_ALONE);
    block.u16(56, hashes.len());
    put_hashes(&mut block, HEADER, hashes);
    for (index, room) in rooms.iter().enumerate() {
        block.u16(lists + index * 2, *room);
    }
    block.u32(size - 4, rooms.len());
    Some(block)
}

/// A node over leaves: the node first, at `first` in the fork, the leaves behind it.
fn leaves(size: usize, hashes: &[Hashed], first: u64) -> Option<Vec<Block>> {
    let most = (size - HEADER) / 8;
    let parts: Vec<&[Hashed]> = hashes.chunks(most).collect();
    if parts.len() > most {
        return None;
    }
    let number = |index: usize| first + 1 + u64::try_from(index).unwrap_or(0);
    let mut node = Block(vec![0; size]);
    node.u16(8, NODE);
    node.u16(56, parts.len());
    node.u16(58, 1u16);
    let mut blocks = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        node.u32(HEADER + index * 8, part[part.len() - 1].0);
        node.u32(HEADER + index * 8 + 4, number(index));
        let mut leaf = Block(vec![0; size]);
        if index + 1 < parts.len() {
            leaf.u32(0, number(index + 1));
        }
        if index > 0 {
            leaf.u32(4, number(index - 1));
        }
        leaf.u16(8, LEAF);
        leaf.u16(56, part.len());
        put_hashes(&mut leaf, HEADER, part);
        blocks.push(leaf);
    }
    blocks.insert(0, node);
    Some(blocks)
}

/// The blocks that say how much room each data block has.
fn room_lists(size: usize, rooms: &[u16]) -> Vec<Block> {
    let most = (size - HEADER) / 2;
    let list = |(index, part): (usize, &[u16])| {
        let mut block = Block(vec![0; size]);
        block.put(0, FREE);
        block.u32(48, index * most);
        block.u32(52, part.len());
        block.u32(56, part.len());
        for (index, room) in part.iter().enumerate() {
            block.u16(HEADER + index * 2, *room);
        }
        block
    };
    rooms.chunks(most).enumerate().map(list).collect()
}

fn put_entry(block: &mut Block, at: usize, (name, number, kind): (&[u8], u64, u8)) -> usize {
    let end = at + entry_size(name.len());
    block.u64(at, number);
    block.u8(at + 8, name.len());
    block.put(at + 9, name);
    block.u8(at + 9 + name.len(), kind);
    block.u16(end - 2, at);
    end
}

/// Marks what is between `at` and `end` as free, and returns how much it is.
fn put_room(block: &mut Block, at: usize, end: usize) -> u16 {
    let room = end - at;
    if room > 0 {
        block.u16(at, 0xffffu16);
        block.u16(at + 2, room);
        block.u16(end - 2, at);
        block.u16(48, at);
        block.u16(50, room);
    }
    u16::try_from(room).unwrap_or(u16::MAX)
}

fn put_hashes(block: &mut Block, at: usize, hashes: &[Hashed]) {
    for (index, Hashed(hash, place)) in hashes.iter().enumerate() {
        block.u32(at + index * 8, *hash);
        block.u32(at + index * 8 + 4, *place);
    }
}

/// Number, name length, name, kind and the entry's own offset, to the next 8 bytes.
fn entry_size(name: usize) -> usize {
    (8 + 1 + name + 1 + 2).next_multiple_of(8)
}

/// The kind of a file as directories note it.
pub(super) fn kind(kind: &Kind) -> u8 {
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

/// The hash of a name, in directories and attributes.
pub(super) fn hash(name: &[u8]) -> u32 {
    let mut hash = 0u32;
    let chunks = name.chunks_exact(4);
    let rest = chunks.remainder();
    for part in chunks {
        let value = u32::from(part[0]) << 21
            ^ u32::from(part[1]) << 14
            ^ u32::from(part[2]) << 7
            ^ u32::from(part[3]);
        hash = value ^ hash.rotate_left(28);
    }
    let Some(turn) = u32::try_from(rest.len()).ok().filter(|turn| *turn > 0) else {
        return hash;
    };
    let value = rest
        .iter()
        .fold(0u32, |value, byte| value << 7 ^ u32::from(*byte));
    value ^ hash.rotate_left(7 * turn)
}

/// Notes on a directory's block where it lies and whose it is, and its checksum.
pub(super) fn seal(block: &mut Block, superblock: &Superblock, place: u64, owner: u64) {
    if !block.0.starts_with(b"XD") {
        return seal_da(block, superblock, place, owner);
    }
    block.u64(8, superblock.sector_of(place));
    block.put(24, &superblock.uuid);
    block.u64(40, owner);
    block.crc(4);
}

/// The same for leaves and nodes, of attributes too.
pub(super) fn seal_da(block: &mut Block, superblock: &Superblock, place: u64, owner: u64) {
    block.u64(16, superblock.sector_of(place));
    block.put(32, &superblock.uuid);
    block.u64(48, owner);
    block.crc(12);
}
