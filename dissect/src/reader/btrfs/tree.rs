//! The items of a tree, in order (btrfs documentation, "On-disk Format": "B-tree").
//!
//! A block is used only if it is what its pointer said: in its place, of that generation, one level
//! below, with that first key and no key behind the next pointer's. So a walk of a tree comes to
//! each block once at most, and ends.

use std::ops::Range;
use std::sync::Arc;

use filetree::ReadError;

use super::Volume;
use super::checksum::LONGEST;
use super::field::{narrow, u8_at, u32_at, u64_at, wide};
use super::key::{Key, Level, Pointer};
use super::superblock::{OFFSET, Superblock};

/// Bytes of a block before its items or pointers.
const HEADER: usize = 101;
/// Bytes of the header of an item, whose data is at the other end of the leaf.
const ITEM: usize = 25;
/// Bytes of a pointer.
const POINTER: usize = 33;

/// A block of a tree, checked.
#[derive(Clone, Debug)]
struct Node {
    bytes: Arc<[u8]>,
    /// Where it is in the image.
    offset: u64,
    pointer: Pointer,
}

/// An item of a tree.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) key: Key,
    node: Node,
    range: Range<usize>,
}

/// The items of a tree from some key on.
#[derive(Debug)]
pub(super) struct Items<'a> {
    volume: &'a Volume,
    /// From the root down to a leaf, each with the index of the next item or of the block below.
    path: Vec<(Node, usize)>,
}

impl Volume {
    /// The items from `key` on.
    pub(super) fn items(&self, root: &Pointer, key: Key) -> Result<Items<'_>, ReadError> {
        let mut items = self.before(root, key)?;
        if let Some((leaf, at)) = items.path.last_mut() {
            let is_before = leaf.key(*at).is_some_and(|known| known < key);
            *at += usize::from(is_before);
        }
        Ok(items)
    }

    /// The items from the last one on whose key is `key` or before it, or from the first.
    pub(super) fn before(&self, root: &Pointer, key: Key) -> Result<Items<'_>, ReadError> {
        let mut items = Items {
            volume: self,
            path: Vec::new(),
        };
        items.descend(*root, |node| {
            let behind = node.search(key);
            behind.saturating_sub(1)
        })?;
        Ok(items)
    }

    /// The item with exactly this key.
    pub(super) fn item(&self, root: &Pointer, key: Key) -> Result<Option<Item>, ReadError> {
        let item = self.items(root, key)?.next()?;
        Ok(item.filter(|item| item.key == key))
    }

    /// The block that `pointer` leads to, from the first copy that is sound.
    fn node(&self, pointer: Pointer) -> Result<Node, ReadError> {
        let size = self.superblock.node_size;
        let aligned = pointer.address.is_multiple_of(self.superblock.sector_size);
        let places = self.chunks.places(pointer.address, wide(size));
        let (first, second) = places.filter(|_| aligned).ok_or_else(|| {
            let what = "a block of a tree is in no chunk";
            self.source.damaged(OFFSET, what)
        })?;
        let node = self.node_at(first, pointer);
        match (node, second) {
            (Err(error), Some(second)) => self.node_at(second, pointer).map_err(|_| error),
            (node, _) => node,
        }
    }

    fn node_at(&self, offset: u64, pointer: Pointer) -> Result<Node, ReadError> {
        let damaged = |what| self.source.damaged(offset, what);
        let size = self.superblock.node_size;
        let bytes = self.source.checked_block(offset, size, |bytes| {
            check(bytes, &self.superblock, self.verify).map_err(damaged)
        })?;
        let node = Node {
            bytes,
            offset,
            pointer,
        };
        node.is_expected().map_err(damaged)?;
        Ok(node)
    }
}

impl Items<'_> {
    /// The next item; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Item>, ReadError> {
        while let Some((node, at)) = self.path.last_mut() {
            if *at < node.count() {
                let index = *at;
                *at += 1;
                return Ok(Some(node.item(index)));
            }
            if !self.step()? {
                break;
            }
        }
        Ok(None)
    }

    /// Goes to the next leaf, if there is one.
    fn step(&mut self) -> Result<bool, ReadError> {
        while self.path.pop().is_some() {
            let Some((node, at)) = self.path.last_mut() else {
                break;
            };
            *at += 1;
            if let Some(pointer) = node.below(*at) {
                self.descend(pointer, |_| 0)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes down to a leaf.
    fn descend(
        &mut self,
        pointer: Pointer,
        choose: impl Fn(&Node) -> usize,
    ) -> Result<(), ReadError> {
        let mut next = Some(pointer);
        while let Some(pointer) = next {
            let node = self.volume.node(pointer)?;
            let at = choose(&node);
            next = node.below(at);
            self.path.push((node, at));
        }
        Ok(())
    }
}

impl Item {
    pub(super) fn bytes(&self) -> &[u8] {
        self.node.bytes.get(self.range.clone()).unwrap_or_default()
    }

    /// Where it is in the image.
    pub(super) fn position(&self) -> u64 {
        self.node.offset + wide(self.range.start)
    }
}

impl Node {
    fn count(&self) -> usize {
        count(&self.bytes)
    }

    fn is_leaf(&self) -> bool {
        self.pointer.level.below().is_none()
    }

    fn key(&self, index: usize) -> Option<Key> {
        let size = if self.is_leaf() { ITEM } else { POINTER };
        (index < self.count()).then(|| Key::at(&self.bytes, HEADER + index * size))
    }

    /// How many keys are `key` or before it.
    fn search(&self, key: Key) -> usize {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle).is_some_and(|known| known <= key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// What leads to the block below with this index; `None` in a leaf.
    fn below(&self, index: usize) -> Option<Pointer> {
        let level = self.pointer.level.below()?;
        let first = self.key(index)?;
        let at = HEADER + index * POINTER + Key::SIZE;
        Some(Pointer {
            address: u64_at(&self.bytes, at),
            generation: u64_at(&self.bytes, at + 8),
            level,
            first: Some(first),
            end: self.key(index + 1).or(self.pointer.end),
        })
    }

    fn item(&self, index: usize) -> Item {
        let range = item_range(&self.bytes, index);
        Item {
            key: Key::at(&self.bytes, HEADER + index * ITEM),
            node: self.clone(),
            range,
        }
    }

    /// Whether it is what the pointer says.
    fn is_expected(&self) -> Result<(), &'static str> {
        let pointer = &self.pointer;
        if u64_at(&self.bytes, 48) != pointer.address {
            return Err("a block of a tree says that it is elsewhere");
        }
        if u64_at(&self.bytes, 80) != pointer.generation {
            return Err("a block of a tree is of another generation than its pointer");
        }
        if Level::new(u8_at(&self.bytes, 100)) != Ok(pointer.level) {
            return Err("a block of a tree is of another level than its pointer");
        }
        let first = self.key(0);
        if pointer.first.is_some() && pointer.first != first {
            return Err("a block of a tree begins with another key than its pointer");
        }
        let last = self.count().checked_sub(1).and_then(|last| self.key(last));
        match (last, pointer.end) {
            (Some(last), Some(end)) if last >= end => Err("a block of a tree has others' keys"),
            _ => Ok(()),
        }
    }
}

/// Checks what a block says of itself.
fn check(bytes: &[u8], superblock: &Superblock, verify: bool) -> Result<(), &'static str> {
    if verify && !superblock.checksum.is(bytes, &bytes[LONGEST..]) {
        return Err("the checksum of a block of a tree is wrong");
    }
    if bytes[32..48] != superblock.uuid {
        return Err("a block of a tree is of another file system");
    }
    let level = Level::new(u8_at(bytes, 100))?;
    let is_leaf = level.below().is_none();
    let (size, room) = (if is_leaf { ITEM } else { POINTER }, bytes.len() - HEADER);
    let count = count(bytes);
    if count > room / size || (count == 0 && !is_leaf) {
        return Err("a block of a tree has too many or no items");
    }
    let keys = (0..count).map(|index| Key::at(bytes, HEADER + index * size));
    if !keys.is_sorted_by(|one, next| one < next) {
        return Err("the keys of a tree are not in order");
    }
    if is_leaf { check_items(bytes) } else { Ok(()) }
}

/// The data of items lies behind their headers, from the end of the leaf on, without gaps.
fn check_items(bytes: &[u8]) -> Result<(), &'static str> {
    let count = count(bytes);
    let mut end = bytes.len();
    for index in 0..count {
        let range = item_range(bytes, index);
        if range.end != end || range.start > end || range.start < HEADER + count * ITEM {
            return Err("the items of a leaf overlap");
        }
        end = range.start;
    }
    Ok(())
}

fn item_range(bytes: &[u8], index: usize) -> Range<usize> {
    let at = HEADER + index * ITEM + Key::SIZE;
    let start = u64::from(u32_at(bytes, at)) + wide(HEADER);
    let end = start + u64::from(u32_at(bytes, at + 4));
    narrow(start)..narrow(end)
}

fn count(bytes: &[u8]) -> usize {
    narrow(u32_at(bytes, 96).into())
}
