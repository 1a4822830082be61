//! The tables of owners, fragments and extended attributes.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::ReadError;
use super::inode::NO_XATTRS;
use super::metadata::{BLOCK, Budget, Cursor, Source};
use super::superblock::{Superblock, u16_at, u32_at, u64_at};

#[derive(Debug)]
pub(super) struct Tables {
    pub(super) ids: Vec<u32>,
    /// Place and stored size of each.
    pub(super) fragments: Vec<(u64, u32)>,
    pub(super) xattrs: Xattrs,
}

/// The table of attribute sets; the sets themselves are read when they are asked for.
#[derive(Debug, Default)]
pub(super) struct Xattrs {
    /// Where the pairs begin.
    start: u64,
    /// Where in them each set is, and how many pairs it has.
    sets: Vec<(u64, u32)>,
}

/// In a pair's kind: the value is stored elsewhere.
const ELSEWHERE: u16 = 0x100;

/// Bytes of the longest value that Linux takes.
const LONGEST_VALUE: u32 = 65_536;

impl Tables {
    pub(super) fn read(
        source: &mut Source,
        superblock: &Superblock,
        budget: &mut Budget,
    ) -> Result<Self, ReadError> {
        let ids = table::<4>(source, superblock.ids, superblock.id_count.into(), budget)?;
        let count = superblock.fragment_count;
        let fragments = match superblock.fragments.filter(|_| count > 0) {
            Some(place) => table::<16>(source, place, count, budget)?,
            None => Vec::new(),
        };
        let xattrs = match superblock.xattrs {
            Some(place) => Xattrs::read(source, place, budget)?,
            None => Xattrs::default(),
        };
        Ok(Self {
            ids: ids.iter().map(|raw| u32_at(raw, 0)).collect(),
            fragments: fragments
                .iter()
                .map(|raw| (u64_at(raw, 0), u32_at(raw, 8)))
                .collect(),
            xattrs,
        })
    }
}

/// Reads `count` entries of `N` bytes from blocks whose places stand at `place`.
fn table<const N: usize>(
    source: &mut Source,
    place: u64,
    count: u32,
    budget: &mut Budget,
) -> Result<Vec<[u8; N]>, ReadError> {
    let size = u64::try_from(N).unwrap_or(u64::MAX);
    budget.take(u64::from(count).saturating_mul(size).saturating_mul(2))?;
    let each = BLOCK / N;
    let mut entries = Vec::new();
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    let mut at = place;
    while left > 0 {
        let mut block = [0; 8];
        source.image.read(&mut block, at)?;
        at = at.saturating_add(8);
        let mut cursor = Cursor::new(u64::from_le_bytes(block), 0);
        for _ in 0..left.min(each) {
            entries.push(source.take(&mut cursor)?);
        }
        left -= left.min(each);
    }
    Ok(entries)
}

impl Xattrs {
    fn read(source: &mut Source, place: u64, budget: &mut Budget) -> Result<Self, ReadError> {
        let mut header = [0; 16];
        source.image.read(&mut header, place)?;
        let sets = table::<16>(source, place.saturating_add(16), u32_at(&header, 8), budget)?;
        Ok(Self {
            start: u64_at(&header, 0),
            sets: sets
                .iter()
                .map(|raw| (u64_at(raw, 0), u32_at(raw, 8)))
                .collect(),
        })
    }

    /// The attributes of the set with this index.
    pub(super) fn set(
        &self,
        source: &mut Source,
        index: u32,
        budget: &mut Budget,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
        let mut pairs = BTreeMap::new();
        if index == NO_XATTRS {
            return Ok(pairs);
        }
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let Some((reference, count)) = self.sets.get(index).copied() else {
            return Err(self.damaged("a set of attributes is missing in the table"));
        };
        let mut cursor = Cursor::at(self.start, reference)?;
        for _ in 0..count {
            let (key, value) = self.pair(source, &mut cursor, budget)?;
            if pairs.insert(key, value).is_some() {
                return Err(self.damaged("a set of attributes has a name twice"));
            }
        }
        Ok(pairs)
    }

    fn pair(
        &self,
        source: &mut Source,
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
        source: &mut Source,
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
        ReadError::Damaged {
            offset: self.start,
            what,
        }
    }
}
