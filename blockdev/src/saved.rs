//! The old partition table: kept before another is written, and put back.
//!
//! Putting back has the crash order of [`table::commit`] where a GPT comes back. Where there was none,
//! the first sector is put back first: with it the present GPT ends and what was there before begins,
//! in one sector; what the GPT had taken besides follows.

use std::fs::File;
use std::io;

use image_specs::gpt::{Chunk, Encoded, Table};
use image_specs::table_backup::{SavedRange, TableBackup};
use image_specs::units::{Bytes, Extent, Lba, SectorSize};

use crate::device::{BlockDevice, DeviceError};
use crate::table::{self, Commit, CommitError, Label, ReadTableError};

/// A table that was not put back.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum RestoreError {
    #[error("{device} has {found} bytes, but the table was kept of a disk of {kept} bytes")]
    OtherSize {
        device: String,
        found: u64,
        kept: u64,
    },
    #[error(
        "{device} has sectors of {found} bytes, but the table that was kept counts in sectors of {kept}"
    )]
    OtherSectors {
        device: String,
        found: u64,
        kept: u64,
    },
    #[error(
        "{device} has a partition table with the UUID {found}, which is neither the one that was kept nor the one that was written over it: it is another disk, or was partitioned anew since"
    )]
    OtherTable { device: String, found: String },
    #[error("the table that was kept cannot be read")]
    Kept(#[source] ReadTableError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What a table is kept with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970.
    pub time: i64,
    /// The disk's name.
    pub device: String,
}

/// Reads all sectors that writing `new` over `old` overwrites.
pub fn keep(
    device: &dyn BlockDevice,
    old: Option<&Table>,
    new: &Table,
    moment: Moment,
) -> Result<TableBackup, DeviceError> {
    let sector = device.sector_size();
    let mut places = vec![Extent::new(Bytes::ZERO, sector.bytes())];
    for encoded in old.into_iter().chain([new]).map(Table::encode) {
        places.extend(chunks(&encoded).into_iter().filter_map(|chunk| {
            let size = u64::try_from(chunk.bytes.len()).ok()?;
            Some(Extent::new(chunk.lba.start(sector)?, Bytes::new(size)))
        }));
    }
    let mut ranges = Vec::new();
    for extent in joined(places, device.size()) {
        let length = usize::try_from(extent.size.get()).unwrap_or(0);
        let mut bytes = vec![0; length];
        device.read_exact_at(&mut bytes, extent.start)?;
        ranges.push(SavedRange {
            offset: extent.start,
            bytes,
        });
    }
    Ok(TableBackup {
        disk_size: device.size(),
        sector,
        before: old.map(|old| old.disk_guid),
        after: new.disk_guid,
        time: moment.time,
        device: moment.device,
        ranges,
    })
}

/// The table that is in the backup.
pub fn label(backup: &TableBackup) -> Result<Label, RestoreError> {
    table::read(&Saved(backup)).map_err(RestoreError::Kept)
}

/// Checks that the backup is of this disk: its size, its sectors, and that its GPT is the one that was
/// kept or the one that was written then. A disk that has lost its table may be the one.
pub fn check(device: &dyn BlockDevice, backup: &TableBackup) -> Result<(), RestoreError> {
    let (found, kept) = (device.size().get(), backup.disk_size.get());
    if found != kept {
        let device = device.name();
        return Err(RestoreError::OtherSize {
            device,
            found,
            kept,
        });
    }
    let (found, kept) = (device.sector_size().get(), backup.sector.get());
    if found != kept {
        let device = device.name();
        return Err(RestoreError::OtherSectors {
            device,
            found,
            kept,
        });
    }
    match table::read(device) {
        Ok(Label::Gpt(found)) => {
            let uuid = found.table.disk_guid;
            match backup.before == Some(uuid) || backup.after == uuid {
                true => Ok(()),
                false => Err(RestoreError::OtherTable {
                    device: device.name(),
                    found: uuid.to_string(),
                }),
            }
        }
        // What is damaged or gone is what a backup is for.
        _ => Ok(()),
    }
}

/// Puts the table back. [`check`] must have succeeded.
pub fn restore(device: &mut dyn BlockDevice, backup: &TableBackup) -> Result<(), RestoreError> {
    check(device, backup)?;
    match label(backup)? {
        Label::Gpt(found) => {
            table::commit(device, &found.table, Commit::Create)?;
            if found.other.is_some() {
                // The other copy was broken then, and is not to be again.
                return first_sector(device, backup);
            }
        }
        _ => first_sector(device, backup)?,
    }
    // Of a GPT only what is no part of it still differs: boot code, and what a longer table had taken.
    for range in &backup.ranges {
        write(device, range.offset, &range.bytes)?;
    }
    Ok(device.flush()?)
}

fn first_sector(device: &mut dyn BlockDevice, backup: &TableBackup) -> Result<(), RestoreError> {
    let size = usize::try_from(backup.sector.get()).unwrap_or(0);
    for range in backup.ranges.iter().filter(|range| range.offset.is_zero()) {
        let sector = range.bytes.get(..size).unwrap_or_default();
        write(device, range.offset, sector)?;
    }
    Ok(device.flush()?)
}

fn write(device: &mut dyn BlockDevice, offset: Bytes, bytes: &[u8]) -> Result<(), DeviceError> {
    let mut there = vec![0; bytes.len()];
    device.read_exact_at(&mut there, offset)?;
    match there == bytes {
        true => Ok(()),
        false => device.write_all_at(bytes, offset),
    }
}

fn chunks(encoded: &Encoded) -> [&Chunk; 4] {
    [
        &encoded.primary_header,
        &encoded.primary_entries,
        &encoded.backup_entries,
        &encoded.backup_header,
    ]
}

/// The extents in order, those that touch as one, and nothing behind the end.
fn joined(mut places: Vec<Extent>, size: Bytes) -> Vec<Extent> {
    places.retain(|place| place.end().is_some_and(|end| end <= size));
    places.sort();
    let mut joined: Vec<Extent> = Vec::new();
    for place in places {
        let end = place.end().unwrap_or(Bytes::MAX);
        match joined.last_mut() {
            Some(last) if last.end() >= Some(place.start) => {
                let end = last.end().unwrap_or(end).max(end);
                last.size = end.saturating_sub(last.start);
            }
            _ => joined.push(place),
        }
    }
    joined
}

/// A disk of which only what was kept is known; the rest reads as zeros. Nothing can be written.
#[derive(Debug)]
struct Saved<'a>(&'a TableBackup);

impl Saved<'_> {
    fn refuse(&self, action: &'static str, offset: Bytes) -> DeviceError {
        DeviceError {
            action,
            device: self.name(),
            offset: offset.get(),
            source: io::Error::from(io::ErrorKind::ReadOnlyFilesystem),
        }
    }
}

impl BlockDevice for Saved<'_> {
    fn name(&self) -> String {
        format!("the table that was kept of {}", self.0.device)
    }

    fn size(&self) -> Bytes {
        self.0.disk_size
    }

    fn sector_size(&self) -> SectorSize {
        self.0.sector
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: Bytes) -> Result<(), DeviceError> {
        buffer.fill(0);
        let sector = self.0.sector;
        let size = usize::try_from(sector.get()).unwrap_or(1);
        for (index, part) in (0..).zip(buffer.chunks_mut(size)) {
            let step = Lba::new(index).start(sector).unwrap_or(Bytes::MAX);
            let at = offset.saturating_add(step);
            for range in &self.0.ranges {
                let inside = at.checked_sub(range.offset).map(Bytes::get);
                let start = inside.and_then(|at| usize::try_from(at).ok());
                let bytes = start.and_then(|start| range.bytes.get(start..));
                for (to, from) in part.iter_mut().zip(bytes.unwrap_or_default()) {
                    *to = *from;
                }
            }
        }
        Ok(())
    }

    fn write_all_at(&mut self, _: &[u8], offset: Bytes) -> Result<(), DeviceError> {
        Err(self.refuse("write", offset))
    }

    fn zero(&mut self, extent: Extent) -> Result<(), DeviceError> {
        Err(self.refuse("zero", extent.start))
    }

    fn discard(&mut self, extent: Extent) -> Result<(), DeviceError> {
        Err(self.refuse("discard", extent.start))
    }

    fn copy_from(&mut self, _: &File, _: u64, to: Bytes, _: Bytes) -> Result<(), DeviceError> {
        Err(self.refuse("write", to))
    }

    fn set_size(&mut self, size: Bytes) -> Result<(), DeviceError> {
        Err(self.refuse("resize", size))
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_that_touch_are_one() {
        let extent = |start, size| Extent::new(Bytes::new(start), Bytes::new(size));
        let places = vec![
            extent(512, 512),
            extent(0, 512),
            extent(700, 100),
            extent(4096, 512),
        ];
        let expected = [extent(0, 1024), extent(4096, 512)];
        assert_eq!(joined(places, Bytes::new(8192)), expected);
        assert_eq!(joined(vec![extent(8000, 512)], Bytes::new(8192)), []);
    }
}
