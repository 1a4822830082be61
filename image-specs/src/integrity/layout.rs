//! Where journal, tags and data of an integrity device lie, as the kernel lays it out: superblock (four
//! KiB), journal, then areas of tags, each before the data that it is for.
//!
//! Invariant: every position of a [`Layout`] lies within the device that it was made for. Pure.

use super::{Flags, Superblock};
use crate::units::Bytes;

/// Sectors of 512 bytes of the superblock.
const SUPERBLOCK_SECTORS: u64 = 8;
/// Sectors of a block of the journal's entries.
const JOURNAL_BLOCK: u64 = 8;
/// Bytes of a journal sector before its commit ID.
const ENTRY_ROOM: u64 = 504;
/// Bytes at the end of these for a part of the section's MAC.
const MAC_ROOM: u64 = 8;
/// To what areas of tags are padded: sectors, and (before [`Flags::FIXED_PADDING`]) a power of two of them.
const PADDING: u64 = 8;
/// Sectors between areas of tags, if nothing else is said: a power of two.
const DEFAULT_INTERLEAVE: u32 = 32768;
const MOST_JOURNAL_SECTORS: u64 = 131_072;

/// What decides the layout of a device with tags among its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Bytes of a tag.
    pub tag_size: u16,
    /// Sectors of 512 bytes that share a tag, as a power of two.
    pub log2_sectors_per_block: u8,
    /// Sectors for the journal; `None` for the kernel's choice.
    pub journal_sectors: Option<u64>,
    /// Sectors between areas of tags; `None` for the kernel's choice.
    pub interleave: Option<u32>,
    /// [`Flags::JOURNAL_MAC`], [`Flags::FIXED_PADDING`], [`Flags::FIXED_HMAC`].
    pub flags: Flags,
}

/// How the journal is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Sections.
    pub sections: u64,
    /// Sectors of a section: those with entries, then those for data.
    pub section_sectors: u64,
    /// Bytes of an entry.
    pub entry_size: u64,
    /// Entries in a sector.
    pub entries_per_sector: u64,
}

/// Where everything is, in sectors of 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How the journal is built; it begins behind the superblock.
    pub journal: Journal,
    /// Where the first area of tags begins.
    pub initial_sectors: u64,
    /// Sectors of an area of tags.
    pub run: u64,
    /// Sectors that the device offers.
    pub provided_sectors: u64,
    /// Sectors between areas of tags, as a power of two.
    pub log2_interleave: u8,
    /// Sectors of 512 bytes that share a tag, as a power of two.
    pub log2_sectors_per_block: u8,
    /// Bytes of a tag.
    pub tag_size: u16,
}

/// No device can have this layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum LayoutError {
    #[error("{0} bytes are too few for an integrity device with its journal and tags")]
    TooSmall(u64),
    #[error("the integrity superblock tells of more than the {0} bytes that are there")]
    Beyond(u64),
    #[error("tags of {0} bytes do not fit into a sector of the journal")]
    TagSize(u16),
    #[error("the integrity device has its tags elsewhere")]
    Separate,
}

impl Parameters {
    /// The superblock and layout that the kernel would choose for a device of this size.
    pub fn fit(&self, size: Bytes, salt: [u8; 16]) -> Result<(Superblock, Layout), LayoutError> {
        let sectors = size.get() / 512;
        let journal_sectors = self
            .journal_sectors
            .unwrap_or_else(|| MOST_JOURNAL_SECTORS.min(sectors >> 7));
        let interleave = self.interleave.filter(|sectors| *sectors > 0);
        let log2 = interleave
            .unwrap_or(DEFAULT_INTERLEAVE)
            .ilog2()
            .clamp(3, 31);
        let mut layout = Layout {
            journal: Journal::new(self, 0)?,
            initial_sectors: 0,
            run: 0,
            provided_sectors: 0,
            log2_interleave: u8::try_from(log2).unwrap_or(31),
            log2_sectors_per_block: self.log2_sectors_per_block.min(3),
            tag_size: self.tag_size,
        };
        let sections = (journal_sectors / layout.journal.section_sectors).max(1);
        let sections = u32::try_from(sections).unwrap_or(u32::MAX);
        layout.place(self, sections)?;
        layout.provide(sectors);
        if layout.provided_sectors == 0 {
            return Err(LayoutError::TooSmall(size.get()));
        }
        Ok((self.superblock(&layout, sections, salt), layout))
    }

    fn superblock(&self, layout: &Layout, sections: u32, salt: [u8; 16]) -> Superblock {
        let version = match self.flags {
            flags if flags.has(Flags::FIXED_HMAC) => 5,
            flags if flags.has(Flags::FIXED_PADDING) => 4,
            _ => 1,
        };
        let salted = self.flags.has(Flags::FIXED_HMAC);
        // The kernel lets one bit of a bitmap stand for as much as fits there without a journal.
        Superblock {
            version,
            log2_interleave: Some(layout.log2_interleave),
            tag_size: self.tag_size,
            journal_sections: sections,
            provided_sectors: layout.provided_sectors,
            flags: self.flags,
            log2_sectors_per_block: layout.log2_sectors_per_block,
            log2_blocks_per_bit: 15 - layout.log2_sectors_per_block,
            recalculated: 0,
            salt: if salted { salt } else { [0; 16] },
        }
    }
}

impl Journal {
    fn new(parameters: &Parameters, sections: u32) -> Result<Self, LayoutError> {
        let log2 = parameters.log2_sectors_per_block.min(3);
        // A sector number, the last eight bytes of each sector, and the tag.
        let plain = 8 + (8_u64 << log2) + u64::from(parameters.tag_size);
        let entry_size = plain.next_multiple_of(8);
        let room = match parameters.flags.has(Flags::JOURNAL_MAC) {
            true => ENTRY_ROOM - MAC_ROOM,
            false => ENTRY_ROOM,
        };
        let entries_per_sector = room / entry_size;
        if entries_per_sector == 0 {
            return Err(LayoutError::TagSize(parameters.tag_size));
        }
        let data = (entries_per_sector * JOURNAL_BLOCK) << log2;
        Ok(Self {
            sections: u64::from(sections),
            section_sectors: data + JOURNAL_BLOCK,
            entry_size,
            entries_per_sector,
        })
    }

    /// Sectors of a section that hold entries: the first ones.
    pub const fn entry_sectors(&self) -> u64 {
        JOURNAL_BLOCK
    }

    /// Where the journal begins.
    pub const fn start(&self) -> u64 {
        SUPERBLOCK_SECTORS
    }

    /// The `commit_id` of a sector of a section that is in order for the first time round.
    pub const fn commit_id(section: u64, sector: u64) -> u64 {
        0x1111_1111_1111_1111 ^ (section << 32) ^ sector
    }
}

impl Layout {
    /// The layout of a device with this superblock, which has `size` bytes.
    pub fn of(superblock: &Superblock, size: Bytes) -> Result<Self, LayoutError> {
        let log2_interleave = superblock.log2_interleave.ok_or(LayoutError::Separate)?;
        let parameters = Parameters {
            tag_size: superblock.tag_size,
            log2_sectors_per_block: superblock.log2_sectors_per_block,
            journal_sectors: None,
            interleave: None,
            flags: superblock.flags,
        };
        let mut layout = Self {
            journal: Journal::new(&parameters, superblock.journal_sections)?,
            initial_sectors: 0,
            run: 0,
            provided_sectors: superblock.provided_sectors,
            log2_interleave,
            log2_sectors_per_block: superblock.log2_sectors_per_block.min(3),
            tag_size: superblock.tag_size,
        };
        layout.place(&parameters, superblock.journal_sections)?;
        match layout.end().is_some_and(|end| end <= size.get() / 512) {
            true => Ok(layout),
            false => Err(LayoutError::Beyond(size.get())),
        }
    }

    /// The sectors that a device with this superblock can offer when it has `size` bytes: more than its
    /// superblock tells where it has grown.
    pub fn room(superblock: &Superblock, size: Bytes) -> Result<u64, LayoutError> {
        let mut layout = Self::of(superblock, Bytes::MAX)?;
        layout.provide(size.get() / 512);
        match layout.provided_sectors {
            0 => Err(LayoutError::TooSmall(size.get())),
            sectors => Ok(sectors),
        }
    }

    /// Where the sector of data lies, and the byte of its tag.
    pub fn find(&self, sector: u64) -> (u64, u64) {
        let area = sector >> self.log2_interleave;
        let within = sector & ((1 << self.log2_interleave) - 1);
        let start = self.area_start(area);
        let tag = (within >> self.log2_sectors_per_block) * u64::from(self.tag_size);
        (start + self.run + within, start * 512 + tag)
    }

    /// Where an area begins: its tags, and then its data.
    pub fn area_start(&self, area: u64) -> u64 {
        self.initial_sectors + (area << self.log2_interleave) + area * self.run
    }

    /// How many areas there are.
    pub fn areas(&self) -> u64 {
        let last = self.provided_sectors.saturating_sub(1) >> self.log2_interleave;
        last + 1
    }

    /// The sectors of data of an area: the last one may be shorter.
    pub fn area_sectors(&self, area: u64) -> u64 {
        let start = area << self.log2_interleave;
        let left = self.provided_sectors.saturating_sub(start);
        left.min(1 << self.log2_interleave)
    }

    fn place(&mut self, parameters: &Parameters, sections: u32) -> Result<(), LayoutError> {
        self.journal = Journal::new(parameters, sections)?;
        // At most 2³² sections of some thousand sectors.
        self.initial_sectors =
            SUPERBLOCK_SECTORS + self.journal.sections * self.journal.section_sectors;
        let tags = u64::from(self.tag_size) << (self.log2_interleave - self.log2_sectors_per_block);
        let padding = match parameters.flags.has(Flags::FIXED_PADDING) {
            true => PADDING * 512,
            false => 512 << PADDING,
        };
        self.run = tags.next_multiple_of(padding) / 512;
        Ok(())
    }

    /// As much data as fits, to the bit that the kernel finds.
    fn provide(&mut self, sectors: u64) {
        self.provided_sectors = 0;
        for bit in (3..64).rev() {
            let before = self.provided_sectors;
            self.provided_sectors |= 1 << bit;
            if self.end().is_none_or(|end| end > sectors) {
                self.provided_sectors = before;
            }
        }
    }

    /// The first sector behind the data; `None` past 2⁶⁴.
    fn end(&self) -> Option<u64> {
        let last = self.provided_sectors.checked_sub(1)?;
        let runs = (last >> self.log2_interleave).checked_add(1)?;
        let tags = runs.checked_mul(self.run)?;
        self.initial_sectors
            .checked_add(tags)?
            .checked_add(self.provided_sectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(tag_size: u16, log2_sectors_per_block: u8) -> Parameters {
        Parameters {
            tag_size,
            log2_sectors_per_block,
            journal_sectors: None,
            interleave: None,
            flags: Flags::FIXED_PADDING.with(Flags::FIXED_HMAC),
        }
    }

    /// Sections and sectors that the kernel chose.
    #[test]
    fn the_kernel_chooses_the_same() {
        for (size, tag, log2, sections, sectors) in
            [(64, 4, 0, 5, 129_160), (64, 32, 3, 3, 129_248)]
        {
            let (superblock, layout) = parameters(tag, log2)
                .fit(Bytes::mib(size), [7; 16])
                .unwrap();
            assert_eq!(superblock.journal_sections, sections, "{size} {tag} {log2}");
            assert_eq!(layout.provided_sectors, sectors, "{size} {tag} {log2}");
            assert_eq!(Layout::of(&superblock, Bytes::mib(size)).unwrap(), layout);
            assert!(Layout::of(&superblock, Bytes::mib(size - 1)).is_err());
            let room = |mib| Layout::room(&superblock, Bytes::mib(mib)).unwrap();
            assert_eq!(room(size), sectors);
            assert!(room(size + 1) > sectors && room(size - 1) < sectors);
            assert!(Layout::room(&superblock, Bytes::kib(4)).is_err());
        }
    }

    #[test]
    fn sectors_and_tags_do_not_meet() {
        let mut small = parameters(8, 0);
        small.interleave = Some(64);
        let (_, layout) = small.fit(Bytes::mib(1), [0; 16]).unwrap();
        assert_eq!(layout.run, 8, "64 tags of 8 bytes, padded");
        assert_eq!(
            layout.find(0),
            (layout.initial_sectors + 8, layout.initial_sectors * 512)
        );
        let (data, tag) = layout.find(65);
        assert_eq!(data, layout.initial_sectors + 72 + 8 + 1);
        assert_eq!(tag, (layout.initial_sectors + 72) * 512 + 8);
        let total: u64 = (0..layout.areas())
            .map(|area| layout.area_sectors(area))
            .sum();
        assert_eq!(total, layout.provided_sectors);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for size in [0, 512, 4096, 64 * 1024] {
            let error = parameters(4, 0).fit(Bytes::new(size), [0; 16]).unwrap_err();
            assert_eq!(error, LayoutError::TooSmall(size));
        }
        let error = parameters(500, 0).fit(Bytes::mib(64), [0; 16]).unwrap_err();
        assert_eq!(error, LayoutError::TagSize(500));
        let (mut lying, _) = parameters(4, 0).fit(Bytes::mib(64), [0; 16]).unwrap();
        for (sections, sectors) in [(u32::MAX, 8), (1, u64::MAX - 7)] {
            lying.journal_sections = sections;
            lying.provided_sectors = sectors;
            let error = Layout::of(&lying, Bytes::mib(64)).unwrap_err();
            assert_eq!(error, LayoutError::Beyond(64 << 20));
        }
    }
}
