//! Sorted items as a tree of blocks. Pure.

use super::items::{Fields, GENERATION, Key};

/// Bytes of a tree block.
pub(super) const NODE: u64 = 16384;
const NODE_LENGTH: usize = 16384;
const HEADER: usize = 101;
const ITEM: usize = 25;
const POINTER: usize = 33;
/// The largest item that a block can hold.
pub(super) const LARGEST: usize = NODE_LENGTH - HEADER - ITEM;

/// A tree's items, sorted when it is laid out.
#[derive(Clone, Debug, Default)]
pub(super) struct Items {
    pub(super) owner: u64,
    pub(super) all: Vec<(Key, Vec<u8>)>,
}

/// What all blocks of one file system say.
pub(super) struct Identity {
    pub(super) uuid: [u8; 16],
    pub(super) chunk_tree: [u8; 16],
}

impl Items {
    pub(super) fn new(owner: u64) -> Self {
        Self {
            owner,
            all: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, key: Key, value: Vec<u8>) {
        self.all.push((key, value));
    }

    /// How many blocks each level takes, leaves first.
    pub(super) fn levels(&self) -> Vec<usize> {
        let mut levels = vec![leaves(self.all.iter().map(|item| item.1.len())).len()];
        while let Some(below) = levels.last().copied().filter(|count| *count > 1) {
            levels.push(below.div_ceil((NODE_LENGTH - HEADER) / POINTER));
        }
        levels
    }

    /// How many blocks the tree takes.
    pub(super) fn blocks(&self) -> u64 {
        self.levels().iter().map(|count| wide(*count)).sum()
    }

    /// The blocks, sealed, each with its address and level: leaves first, the root last. Block number
    /// n of the tree lies at `address(n)`.
    pub(super) fn blocks_at(
        &self,
        identity: &Identity,
        address: impl Fn(u64) -> u64,
    ) -> Vec<(u64, u8, Vec<u8>)> {
        let mut out = Vec::new();
        let mut below = Vec::new();
        let mut rest = &self.all[..];
        for count in leaves(self.all.iter().map(|item| item.1.len())) {
            let (part, tail) = rest.split_at(count);
            rest = tail;
            let at = address(wide(out.len()));
            below.push((part.first().map_or(Key::default(), |item| item.0), at));
            out.push((
                at,
                0,
                identity.seal(leaf(part), (at, self.owner), (part.len(), 0)),
            ));
        }
        let mut level = 0;
        while below.len() > 1 {
            level += 1;
            let mut above = Vec::new();
            for part in below.chunks((NODE_LENGTH - HEADER) / POINTER) {
                let at = address(wide(out.len()));
                above.push((part[0].0, at));
                let body = part.iter().fold(Fields::default(), |body, (key, at)| {
                    body.put(&key.bytes()).u64(*at).u64(GENERATION)
                });
                out.push((
                    at,
                    level,
                    identity.seal(body.0, (at, self.owner), (part.len(), level)),
                ));
            }
            below = above;
        }
        out
    }
}

impl Identity {
    fn seal(&self, body: Vec<u8>, (at, owner): (u64, u64), (count, level): (usize, u8)) -> Vec<u8> {
        let mut block = Fields::default()
            .pad(32)
            .put(&self.uuid)
            .u64(at)
            // Written, with mixed back references.
            .u64(1 << 56 | 1)
            .put(&self.chunk_tree)
            .u64(GENERATION)
            .u64(owner)
            .u32(count)
            .u8(level)
            .put(&body)
            .pad(NODE_LENGTH)
            .0;
        seal(&mut block);
        block
    }
}

/// Stores the checksum of all behind it.
pub(super) fn seal(block: &mut [u8]) {
    let crc = crc32c::crc32c(&block[32..]);
    block[..4].copy_from_slice(&crc.to_le_bytes());
}

/// How many items go into each leaf: one leaf, empty, where there are none.
fn leaves(sizes: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut counts = vec![0];
    let mut used = 0;
    for size in sizes {
        if used + size + ITEM > NODE_LENGTH - HEADER {
            counts.push(0);
            used = 0;
        }
        used += size + ITEM;
        if let Some(count) = counts.last_mut() {
            *count += 1;
        }
    }
    counts
}

/// Item headers from the front, their data from the back.
fn leaf(items: &[(Key, Vec<u8>)]) -> Vec<u8> {
    let mut end = NODE_LENGTH - HEADER;
    let mut front = Fields::default();
    let mut block = vec![0; end];
    for (key, value) in items {
        end -= value.len();
        front = front.put(&key.bytes()).u32(end).u32(value.len());
        block[end..end + value.len()].copy_from_slice(value);
    }
    block[..front.0.len()].copy_from_slice(&front.0);
    block
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
