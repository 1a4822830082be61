//! A checked partition table header. Pure.

use uuid::Uuid;
use zerocopy::FromBytes;

use super::layout::{ENTRY_SIZE, HEADER_SIZE, REVISION, RawHeader, SIGNATURE};
use crate::guid;
use crate::units::{Bytes, Extent, Lba, SectorSize};

/// The largest entry array that is accepted: 131,072 entries of 128 bytes.
pub const MAX_ENTRIES_SIZE: u64 = 16 * 1024 * 1024;

/// A header whose CRC, position, sizes and ranges are right. The entries are not yet looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sector size in which all positions are counted.
    pub sector_size: SectorSize,
    /// Where this header lies.
    pub my_lba: Lba,
    /// Where the other header is said to lie; anything at all.
    pub alternate_lba: Lba,
    /// First sector that partitions may use.
    pub first_usable: Lba,
    /// Last sector that partitions may use.
    pub last_usable: Lba,
    /// The disk's UUID.
    pub disk_guid: Uuid,
    /// Where the entries begin.
    pub entries_lba: Lba,
    /// Number of slots; at least 1.
    pub entry_count: u32,
    /// Bytes of a slot: at least 128, a multiple of 8.
    pub entry_size: u32,
    pub(super) entries_crc: u32,
}

/// A header that is there but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum HeaderError {
    #[error("{0} bytes are no disk sector")]
    SectorLength(usize),
    #[error("the header has revision {0:#010x}, only 1.x (0x0001....) is known")]
    Revision(u32),
    #[error("the header says it has {0} bytes, which is not between 92 and the sector size")]
    HeaderSize(u32),
    #[error("the header's checksum is {stored:#010x} but should be {computed:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("the header lies at sector {at} but says it lies at {stored}")]
    Position { at: u64, stored: u64 },
    #[error("the table has entries of {0} bytes, which is below 128 or no multiple of 8")]
    EntrySize(u32),
    #[error(
        "the table has {count} entries of {size} bytes; it must have some, and at most 16 MiB of them"
    )]
    EntryCount { count: u32, size: u32 },
    #[error(
        "the usable sectors {first} to {last} are no range, lie behind the disk's end, or leave no room for the table"
    )]
    UsableRange { first: u64, last: u64 },
    #[error(
        "the entries begin at sector {0}, which is on no disk, over a header or among the partitions"
    )]
    EntriesPosition(u64),
}

impl Header {
    /// Parses the whole sector `at`; its length is the sector size. `Ok(None)` means that no header
    /// is there.
    pub fn parse(sector: &[u8], at: Lba) -> Result<Option<Self>, HeaderError> {
        let Ok((raw, _)) = RawHeader::ref_from_prefix(sector) else {
            return Ok(None);
        };
        if raw.signature != SIGNATURE {
            return Ok(None);
        }
        let length = u64::try_from(sector.len()).ok().and_then(SectorSize::new);
        let sector_size = length.ok_or(HeaderError::SectorLength(sector.len()))?;
        check_crc(raw, sector)?;
        let header = Self {
            sector_size,
            my_lba: Lba::new(raw.my_lba.get()),
            alternate_lba: Lba::new(raw.alternate_lba.get()),
            first_usable: Lba::new(raw.first_usable.get()),
            last_usable: Lba::new(raw.last_usable.get()),
            disk_guid: guid::from_gpt(raw.disk_guid),
            entries_lba: Lba::new(raw.entries_lba.get()),
            entry_count: raw.entry_count.get(),
            entry_size: raw.entry_size.get(),
            entries_crc: raw.entries_crc.get(),
        };
        if header.my_lba != at {
            return Err(HeaderError::Position {
                at: at.get(),
                stored: header.my_lba.get(),
            });
        }
        header.check_entries()?;
        header.check_usable()?;
        header.check_apart()?;
        Ok(Some(header))
    }

    /// Whether this is the header at the disk's start.
    pub fn is_primary(&self) -> bool {
        self.my_lba == Lba::new(1)
    }

    /// The bytes of the disk that hold the entries: at most [`MAX_ENTRIES_SIZE`].
    pub fn entries_extent(&self) -> Extent {
        let start = self.entries_lba.start(self.sector_size);
        let size = u64::from(self.entry_count) * u64::from(self.entry_size);
        Extent::new(start.unwrap_or(Bytes::MAX), Bytes::new(size))
    }

    fn check_entries(&self) -> Result<(), HeaderError> {
        let (count, size) = (self.entry_count, self.entry_size);
        if size < ENTRY_SIZE || !size.is_multiple_of(8) {
            return Err(HeaderError::EntrySize(size));
        }
        let total = u64::from(count) * u64::from(size);
        if total == 0 || total > MAX_ENTRIES_SIZE {
            return Err(HeaderError::EntryCount { count, size });
        }
        let bad = HeaderError::EntriesPosition(self.entries_lba.get());
        if self.entries_lba < Lba::new(2) || self.entries_lba.start(self.sector_size).is_none() {
            return Err(bad);
        }
        self.entries_extent().end().map(|_| ()).ok_or(bad)
    }

    /// The first usable sector leaves room for the primary copy, wherever its entries really lie;
    /// libfdisk 2.42 asks for the same.
    fn check_usable(&self) -> Result<(), HeaderError> {
        let (first, last) = (self.first_usable, self.last_usable);
        let range = first..=last;
        let entries = self.entries_extent().size.get();
        let room = 2 + entries.div_ceil(self.sector_size.get());
        let on_disk = last.get() < u64::MAX && last.start(self.sector_size).is_some();
        match !range.is_empty() && on_disk && first.get() >= room {
            true => Ok(()),
            false => Err(self.bad_range()),
        }
    }

    /// No partition may lie over the entries. Those of the primary copy come before all partitions, or
    /// the backup would be written over them.
    fn check_apart(&self) -> Result<(), HeaderError> {
        let entries = self.entries_extent();
        let end = entries.end().map(|end| end.get());
        let end = end.map(|end| end.div_ceil(self.sector_size.get()));
        let before = end.is_some_and(|end| end <= self.first_usable.get());
        match before || !self.is_primary() && self.entries_lba > self.last_usable {
            true => Ok(()),
            false => Err(HeaderError::EntriesPosition(self.entries_lba.get())),
        }
    }

    /// Whether the usable sectors lie on a disk of `size`.
    pub fn check_disk(&self, size: Bytes) -> Result<(), HeaderError> {
        let sectors = size.get() / self.sector_size.get();
        match self.last_usable.get() < sectors {
            true => Ok(()),
            false => Err(self.bad_range()),
        }
    }

    fn bad_range(&self) -> HeaderError {
        HeaderError::UsableRange {
            first: self.first_usable.get(),
            last: self.last_usable.get(),
        }
    }
}

fn check_crc(raw: &RawHeader, sector: &[u8]) -> Result<(), HeaderError> {
    if raw.revision.get() >> 16 != REVISION >> 16 {
        return Err(HeaderError::Revision(raw.revision.get()));
    }
    let bad_size = HeaderError::HeaderSize(raw.header_size.get());
    let size = usize::try_from(raw.header_size.get()).unwrap_or(usize::MAX);
    let covered = sector.get(..size).ok_or(bad_size.clone())?;
    if raw.header_size < HEADER_SIZE {
        return Err(bad_size);
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&covered[..16]);
    crc.update(&[0; 4]);
    crc.update(&covered[20..]);
    let (stored, computed) = (raw.header_crc.get(), crc.finalize());
    if stored != computed {
        return Err(HeaderError::Crc { stored, computed });
    }
    Ok(())
}
