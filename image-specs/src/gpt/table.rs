//! A whole table as a value, and how a fresh one is laid out. Pure.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::entry::Entry;
use super::header::Header;
use super::layout::ENTRY_SIZE;
use crate::units::{Bytes, Lba, SectorSize};

const FRESH_ENTRIES: u32 = 128;
const FRESH_FIRST_USABLE: u64 = 1024 * 1024;

/// A partition table: where it lies, what it may use, and the used slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The disk's UUID.
    pub disk_guid: Uuid,
    pub(super) sector_size: SectorSize,
    pub(super) entry_count: u32,
    pub(super) entry_size: u32,
    pub(super) first_usable: Lba,
    pub(super) last_usable: Lba,
    pub(super) entries_lba: Lba,
    pub(super) backup_lba: Lba,
    slots: BTreeMap<u32, Entry>,
}

/// Entries that do not belong to their header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum TableError {
    #[error("the table needs {needed} bytes of entries, but only {found} are there")]
    EntriesLength { needed: u64, found: usize },
    #[error("the checksum of the entries is {computed:#010x}, but the header says {stored:#010x}")]
    EntriesCrc { stored: u32, computed: u32 },
}

/// The disk cannot hold the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a disk of {size} bytes has no room for a partition table with {entries} entries; it needs at least {needed} bytes"
)]
pub struct LayoutError {
    /// The disk's size in bytes.
    pub size: u64,
    /// The table's slots.
    pub entries: u32,
    /// The least that works, in bytes.
    pub needed: u64,
}

/// A slot number that the table does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the partition table has {count} slots, so there is no slot {slot}", slot = u64::from(*.slot) + 1)]
pub struct SlotError {
    /// What was asked for, counted from 0.
    pub slot: u32,
    /// How many there are.
    pub count: u32,
}

impl Table {
    /// An empty table for a disk of `size`, with the geometry that libfdisk gives it: 128 entries,
    /// and the first usable byte at 1 MiB unless the disk has no more than 4 MiB.
    pub fn new(disk_guid: Uuid, sector_size: SectorSize, size: Bytes) -> Result<Self, LayoutError> {
        let mut table = Self {
            disk_guid,
            sector_size,
            entry_count: FRESH_ENTRIES,
            entry_size: ENTRY_SIZE,
            first_usable: Lba::new(0),
            last_usable: Lba::new(0),
            entries_lba: Lba::new(2),
            backup_lba: Lba::new(0),
            slots: BTreeMap::new(),
        };
        let smallest = 2 + table.entries_sectors();
        table.first_usable = Lba::new(smallest);
        table.resize(size)?;
        let roomy = FRESH_FIRST_USABLE / sector_size.get();
        let sectors = size.get() / sector_size.get();
        if sectors > roomy * 4 && roomy > smallest && roomy < table.last_usable.get() {
            table.first_usable = Lba::new(roomy);
        }
        Ok(table)
    }

    /// Parses the entries that `header` points at; `entries` are the bytes of
    /// [`Header::entries_extent`]. Bytes of unused slots are not kept.
    pub fn parse(header: &Header, entries: &[u8]) -> Result<Self, TableError> {
        let needed = header.entries_extent().size.get();
        let array = usize::try_from(needed)
            .ok()
            .and_then(|needed| entries.get(..needed))
            .ok_or(TableError::EntriesLength {
                needed,
                found: entries.len(),
            })?;
        let (stored, computed) = (header.entries_crc, crc32fast::hash(array));
        if stored != computed {
            return Err(TableError::EntriesCrc { stored, computed });
        }
        let size = usize::try_from(header.entry_size).unwrap_or(usize::MAX);
        let slots = (0..).zip(array.chunks_exact(size));
        Ok(Self {
            disk_guid: header.disk_guid,
            sector_size: header.sector_size,
            entry_count: header.entry_count,
            entry_size: header.entry_size,
            first_usable: header.first_usable,
            last_usable: header.last_usable,
            entries_lba: match header.is_primary() {
                true => header.entries_lba,
                false => Lba::new(2),
            },
            backup_lba: match header.is_primary() {
                true => header.alternate_lba,
                false => header.my_lba,
            },
            slots: slots
                .filter_map(|(slot, bytes)| Some((slot, Entry::parse(bytes)?)))
                .collect(),
        })
    }

    /// Moves the backup to the end of a disk of `size` and lets partitions use what became free.
    /// The first usable sector stays.
    ///
    /// Says nothing about partitions that lie behind the end now: see [`Table::findings`].
    pub fn resize(&mut self, size: Bytes) -> Result<(), LayoutError> {
        let sectors = size.get() / self.sector_size.get();
        let behind = 2 + self.entries_sectors();
        let last = sectors.checked_sub(behind);
        let Some(last) = last.filter(|last| *last >= self.first_usable.get()) else {
            let needed = self.first_usable.get().saturating_add(behind);
            return Err(LayoutError {
                size: size.get(),
                entries: self.entry_count,
                needed: needed.saturating_mul(self.sector_size.get()),
            });
        };
        self.last_usable = Lba::new(last);
        self.backup_lba = Lba::new(sectors - 1);
        Ok(())
    }

    /// Whether the backup lies in the last sector of a disk of `size`, as it should.
    pub fn fits(&self, size: Bytes) -> bool {
        self.backup_lba.get().checked_add(1) == Some(size.get() / self.sector_size.get())
    }

    /// Bytes of a sector.
    pub fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    /// Number of slots, used or not.
    pub fn entry_count(&self) -> u32 {
        self.entry_count
    }

    /// Bytes of a slot.
    pub fn entry_size(&self) -> u32 {
        self.entry_size
    }

    /// First sector that partitions may use.
    pub fn first_usable(&self) -> Lba {
        self.first_usable
    }

    /// Last sector that partitions may use.
    pub fn last_usable(&self) -> Lba {
        self.last_usable
    }

    /// Where the backup header lies: the last sector of the disk that the table was made for. In a
    /// parsed table it may be any number.
    pub fn backup_lba(&self) -> Lba {
        self.backup_lba
    }

    /// Where the primary copy's entries begin; 2 in nearly every table.
    pub fn entries_lba(&self) -> Lba {
        self.entries_lba
    }

    /// The used slots by number, counted from 0.
    pub fn slots(&self) -> &BTreeMap<u32, Entry> {
        &self.slots
    }

    /// The entry in this slot, counted from 0.
    pub fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.slots.get_mut(&slot)
    }

    /// Puts an entry into a slot, counted from 0, and returns what was there.
    pub fn insert(&mut self, slot: u32, entry: Entry) -> Result<Option<Entry>, SlotError> {
        if slot >= self.entry_count {
            return Err(SlotError {
                slot,
                count: self.entry_count,
            });
        }
        Ok(self.slots.insert(slot, entry))
    }

    /// Empties a slot, counted from 0, and returns what was there.
    pub fn remove(&mut self, slot: u32) -> Option<Entry> {
        self.slots.remove(&slot)
    }

    /// Sectors that one copy of the entries takes.
    pub(super) fn entries_sectors(&self) -> u64 {
        (u64::from(self.entry_count) * u64::from(self.entry_size)).div_ceil(self.sector_size.get())
    }
}
