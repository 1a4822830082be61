//! The tables of owners, fragments and extended attributes.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use filetree::ReadError;

use super::damaged;
use super::inode::NO_XATTRS;
use super::metadata::{BLOCK, Budget, Cursor, Source};
use super::superblock::{Superblock, u16_at, u32_at, u64_at};

/// The owners, and where the other tables are: their entries are read when they are asked for.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) ids: Vec<u32>,
    fragments: Option<Table<16>>,
    xattrs: Option<Xattrs>,
}

/// A table of entries of `N` bytes, in blocks whose places stand at `place`.
#[derive(Clone, Copy, Debug)]
struct Table<const N: usize> {
    place: u64,
    count: u32,
}

/// The table of attribute sets.
#[derive(Clone, Copy, Debug)]
struct Xattrs {
    /// Where the pairs begin.
    start: u64,
    /// Where in them each set is, and how many pairs it has.
    sets: Table<16>,
}

/// In a pair's kind: the value is stored elsewhere.
const ELSEWHERE: u16 = 0x100;

/// Bytes of the longest value that Linux takes.
const LONGEST_VALUE: u32 = 65_536;

impl Tables {
    pub(super) fn read(source: &Source, superblock: &Superblock) -> Result<Self, ReadError> {
        let ids = Table::<4> {
            place: superblock.ids,
            count: superblock.id_count.into(),
        };
        let ids = (0..ids.count).map(|index| ids.entry(source, index));
        let ids: Result<_, _> = ids.map(|raw| Ok(u32_at(&raw?, 0))).collect();
        let xattrs = superblock.xattrs.map(|place| Xattrs::read(source, place));
        Ok(Self {
            ids: ids?,
            fragments: superblock.fragments.map(|place| Table {
                place,
                count: superblock.fragment_count,
            }),
            xattrs: xattrs.transpose()?,
        })
    }

    /// Place and stored size of a block of file ends.
    pub(super) fn fragment(&self, source: &Source, index: u32) -> Result<(u64, u32), ReadError> {
        let table = self
            .fragments
            .filter(|table| index < table.count)
            .ok_or(damaged(0, "a fragment is missing in the table"))?;
        let raw = table.entry(source, index)?;
        Ok((u64_at(&raw, 0), u32_at(&raw, 8)))
    }

    /// The attributes of the set with this index.
    pub(super) fn xattrs(
        &self,
        source: &Source,
        index: u32,
        budget: &mut Budget,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
        match self.xattrs {
            _ if index == NO_XATTRS => Ok(BTreeMap::new()),
            Some(xattrs) => xattrs.set(source, index, budget),
            None => Err(damaged(0, "the table of attributes is missing")),
        }
    }
}

impl<const N: usize> Table<N> {
    /// The entry with this index, which is below the count.
    fn entry(self, source: &Source, index: u32) -> Result<[u8; N], ReadError> {
        let each = u32::try_from(BLOCK / N).unwrap_or(1);
        let place = self.place.saturating_add(u64::from(index / each) * 8);
        let mut block = [0; 8];
        source.image.read(&mut block, place)?;
        let within = u16::try_from(index % each).unwrap_or(0) * u16::try_from(N).unwrap_or(0);
        source.take(&mut Cursor::new(u64::from_le_bytes(block), within))
    }
}

impl Xattrs {
    fn read(source: &Source, place: u64) -> Result<Self, ReadError> {
        let mut header = [0; 16];
        source.image.read(&mut header, place)?;
        Ok(Self {
            start: u64_at(&header, 0),
            sets: Table {
                place: place.saturating_add(16),
                count: u32_at(&header, 8),
            },
        })
    }

    fn set(
        &self,
        source: &Source,
        index: u32,
        budget: &mut Budget,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
        let mut pairs = BTreeMap::new();
        if index >= self.sets.count {
            return Err(self.damaged("a set of attributes is missing in the table"));
        }
        let raw = self.sets.entry(source, index)?;
        let mut cursor = Cursor::at(self.start, u64_at(&raw, 0))?;
        for _ in 0..u32_at(&raw, 8) {
            let (key, value) = self.pair(source, &mut cursor, budget)?;
            if pairs.insert(key, value).is_some() {
                return Err(self.damaged("a set of attributes has a name twice"));
            }
        }
        Ok(pairs)
    }

    fn pair(
        &self,
        source: &Source,
        cursor: &mut Cursor,
        budget: &mut Budget,
    ) -> Result<(Vec<u8>, Vec<u8>), ReadError> {
        let head: [u8; 4] = source.take(cursor)?;
        let (kind, length) = (u16_at(&head, 0), u16_at(&head, 2));
        let prefix = match kind & 0xff {
            0 => &b"user."[..],
            1 => b"trusted.",
            2 => b"security.",
            _ => return Err(self.damaged("there is no such kind of attribute")),
        };
        if length > 255 {
            return Err(self.damaged("an attribute's name is too long"));
        }
        let key = [prefix, &source.bytes(cursor, usize::from(length))?].concat();
        let size = source.take::<4>(cursor).map(u32::from_le_bytes)?;
        let value = if kind & ELSEWHERE != 0 {
            let reference = source.take::<8>(cursor).map(u64::from_le_bytes)?;
            let mut elsewhere = Cursor::at(self.start, reference)?;
            let size = source.take::<4>(&mut elsewhere).map(u32::from_le_bytes)?;
            self.value(source, &mut elsewhere, size, budget)?
        } else {
            self.value(source, cursor, size, budget)?
        };
        Ok((key, value))
    }

    fn value(
        &self,
        source: &Source,
        cursor: &mut Cursor,
        size: u32,
        budget: &mut Budget,
    ) -> Result<Vec<u8>, ReadError> {
        if size > LONGEST_VALUE {
            return Err(self.damaged("an attribute's value is too long"));
        }
        budget.take(u64::from(size) + 384)?;
        source.bytes(cursor, usize::try_from(size).unwrap_or(0))
    }

    fn damaged(&self, what: &'static str) -> ReadError {
        damaged(self.start, what)
    }
}
