//! A table as the bytes to write, equal to libfdisk's. Pure.

use zerocopy::IntoBytes;

use super::layout::{HEADER_SIZE, REVISION, RawHeader, SIGNATURE};
use super::table::Table;
use crate::guid;
use crate::units::Lba;

/// Bytes with the sector where they go; always whole sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// First sector.
    pub lba: Lba,
    /// Whole sectors of bytes.
    pub bytes: Vec<u8>,
}

/// The five pieces of a table. `blockdev::table` knows the order in which to write them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Sectors from [`Table::entries_lba`] on.
    pub primary_entries: Chunk,
    /// Sector 1.
    pub primary_header: Chunk,
    /// The sectors before the backup header.
    pub backup_entries: Chunk,
    /// Sector [`Table::backup_lba`].
    pub backup_header: Chunk,
    /// The size field of the protective MBR: sectors of the disk less one.
    pub protective_sectors: u64,
}

impl Table {
    /// The bytes of both copies.
    pub fn encode(&self) -> Encoded {
        let entries = self.encode_entries();
        let crc = crc32fast::hash(&entries[..self.entries_bytes()]);
        let first = Lba::new(1);
        // A backup nearer to the start than its entries are long is refused by `Table::resize` and
        // by the reader's checks; saturating only keeps this total.
        let backup_entries = Lba::new(self.backup_lba.get().saturating_sub(self.entries_sectors()));
        Encoded {
            primary_header: self.encode_header(first, self.backup_lba, self.entries_lba, crc),
            backup_header: self.encode_header(self.backup_lba, first, backup_entries, crc),
            primary_entries: Chunk {
                lba: self.entries_lba,
                bytes: entries.clone(),
            },
            backup_entries: Chunk {
                lba: backup_entries,
                bytes: entries,
            },
            protective_sectors: self.backup_lba.get(),
        }
    }

    /// Bytes of the entry array, without the filling up to a whole sector.
    fn entries_bytes(&self) -> usize {
        let bytes = u64::from(self.entry_count) * u64::from(self.entry_size);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn encode_entries(&self) -> Vec<u8> {
        let size = usize::try_from(self.entry_size).unwrap_or(usize::MAX);
        let sector = usize::try_from(self.sector_size.get()).unwrap_or(usize::MAX);
        let mut bytes = vec![0; self.entries_bytes().next_multiple_of(sector)];
        for (slot, place) in (0..self.entry_count).zip(bytes.chunks_exact_mut(size)) {
            if let Some(entry) = self.slots().get(&slot) {
                entry.encode(place);
            }
        }
        bytes
    }

    fn encode_header(&self, my: Lba, alternate: Lba, entries: Lba, entries_crc: u32) -> Chunk {
        let mut raw = RawHeader {
            signature: SIGNATURE,
            revision: REVISION.into(),
            header_size: HEADER_SIZE.into(),
            header_crc: 0.into(),
            reserved: 0.into(),
            my_lba: my.get().into(),
            alternate_lba: alternate.get().into(),
            first_usable: self.first_usable.get().into(),
            last_usable: self.last_usable.get().into(),
            disk_guid: guid::to_gpt(self.disk_guid),
            entries_lba: entries.get().into(),
            entry_count: self.entry_count.into(),
            entry_size: self.entry_size.into(),
            entries_crc: entries_crc.into(),
        };
        raw.header_crc = crc32fast::hash(raw.as_bytes()).into();
        let mut bytes = raw.as_bytes().to_vec();
        bytes.resize(usize::try_from(self.sector_size.get()).unwrap_or(512), 0);
        Chunk { lba: my, bytes }
    }
}
