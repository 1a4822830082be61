//! The same partitions in sectors of another size. Pure.

use super::entry::Entry;
use super::table::{LayoutError, Table};
use crate::units::{Bytes, Lba, SectorSize};

/// Partitions that cannot be counted in other sectors. Slots count from 0; the messages count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum SectorsError {
    #[error("partition {} ({label:?}) does not begin and end at multiples of {sector} bytes", .slot + 1)]
    Unaligned {
        slot: u32,
        label: String,
        sector: u64,
    },
    #[error(
        "partition {} ({label:?}) lies where the partition table for sectors of {sector} bytes goes", .slot + 1
    )]
    InTheWay {
        slot: u32,
        label: String,
        sector: u64,
    },
    #[error("the disk's size is no multiple of {sector} bytes")]
    Size { sector: u64 },
    #[error("its table has {count} entries of {size} bytes, but only 128 of 128 can be converted")]
    Entries { count: u32, size: u32 },
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Table {
    /// The table of the same partitions, in the same bytes, for a disk of `size` with sectors of
    /// another size.
    ///
    /// # Errors
    /// Where a partition does not lie at whole sectors, or where the new table goes.
    pub fn in_sectors(&self, to: SectorSize, size: Bytes) -> Result<Self, SectorsError> {
        let sector = to.get();
        let mut table = Self::new(self.disk_guid, to, size)?;
        let (count, entry_size) = (self.entry_count, self.entry_size);
        if (count, entry_size) != (table.entry_count, table.entry_size) {
            let size = entry_size;
            return Err(SectorsError::Entries { count, size });
        }
        if !size.is_multiple_of(sector) {
            return Err(SectorsError::Size { sector });
        }
        let first = self.first_usable.start(self.sector_size);
        let first = first.map_or(u64::MAX, |first| first.get().div_ceil(sector));
        table.first_usable = Lba::new(first.max(2 + table.entries_sectors()));
        for (slot, entry) in self.slots() {
            let (slot, label) = (*slot, entry.label.to_string());
            let moved = self.moved(entry, to);
            let entry = moved.ok_or_else(|| SectorsError::Unaligned {
                slot,
                label: label.clone(),
                sector,
            })?;
            let free = entry.first >= table.first_usable && entry.last <= table.last_usable;
            if !free || table.insert(slot, entry).is_err() {
                return Err(SectorsError::InTheWay {
                    slot,
                    label,
                    sector,
                });
            }
        }
        Ok(table)
    }

    fn moved(&self, entry: &Entry, to: SectorSize) -> Option<Entry> {
        let extent = entry.extent(self.sector_size)?;
        let end = extent.end()?;
        let whole = [extent.start, end]
            .iter()
            .all(|at| at.is_multiple_of(to.get()));
        whole.then(|| Entry {
            first: to.lba(extent.start),
            last: Lba::new(to.lba(end).get().saturating_sub(1)),
            ..entry.clone()
        })
    }
}
