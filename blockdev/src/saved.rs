//! The old partition table: kept before another is written, and put back.
//!
//! Putting back has the crash order of [`table::commit`] where a GPT comes back. Where there was none,
//! the first sector is put back first: with it the present GPT ends and what was there before begins,
//! in one sector; what the GPT had taken besides follows.

mod view;

use image_specs::gpt::{Chunk, Encoded, Table};
use image_specs::mbr::protective;
use image_specs::table_backup::{SavedRange, TableBackup};
use image_specs::units::{Bytes, Extent, Lba};

use crate::device::{BlockDevice, DeviceError};
use crate::table::{self, Commit, CommitError, FoundTable, Label, ReadTableError};

pub use self::view::View;

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
    #[error(
        "putting the table back on {device} would overwrite the end of partition {partition}, which reaches to byte {end}: the second copy of the table begins at byte {limit}, as the disk ends at byte {size}"
    )]
    NoRoom {
        device: String,
        partition: u32,
        end: u64,
        size: u64,
        limit: u64,
    },
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

/// The table that is in the backup, made to fit the disk: where that had grown before the table was
/// kept, the second copy belongs to the new end.
pub fn label(backup: &TableBackup) -> Result<Label, RestoreError> {
    fitting(backup).map(|(label, _)| label)
}

/// The same, and whether it had to be made to fit.
fn fitting(backup: &TableBackup) -> Result<(Label, bool), RestoreError> {
    let mut label = table::read(&View::alone(backup)).map_err(RestoreError::Kept)?;
    let mut moved = false;
    if let Label::Gpt(found) = &mut label {
        moved = !found.table.fits(backup.disk_size);
        fit(found, backup)?;
    }
    Ok((label, moved))
}

/// Moves the second copy to the end of the disk, and makes sure that it lies on no partition.
fn fit(found: &mut FoundTable, backup: &TableBackup) -> Result<(), RestoreError> {
    let table = &mut found.table;
    if !table.fits(backup.disk_size) {
        // Without room for anything it stays as it is, and does not fit.
        let _ = table.resize(backup.disk_size);
    }
    let limit = table.encode().backup_entries.lba;
    let last = table.slots().iter().max_by_key(|(_, entry)| entry.last);
    let Some((slot, entry)) = last.filter(|(_, entry)| entry.last >= limit) else {
        return Ok(());
    };
    let byte = |lba: Lba| lba.start(backup.sector).map_or(u64::MAX, Bytes::get);
    Err(RestoreError::NoRoom {
        device: backup.device.clone(),
        partition: slot.saturating_add(1),
        end: byte(Lba::new(entry.last.get().saturating_add(1))),
        size: backup.disk_size.get(),
        limit: byte(limit),
    })
}

/// Checks that the backup is of this disk: its size, its sectors, and that its GPT is the one that was
/// kept or the one that was written then. A disk that has lost its table may be the one: then what else
/// is on it must be asked, and whether it [begins as then](begins_as_kept).
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
    let Some(found) = gpt(device, backup)? else {
        return Ok(());
    };
    let uuid = found.table.disk_guid;
    match backup.before == Some(uuid) || backup.after == uuid {
        true => Ok(()),
        false => Err(RestoreError::OtherTable {
            device: device.name(),
            found: uuid.to_string(),
        }),
    }
}

/// The GPT that the disk has, or would have if only its guard were there.
fn gpt(device: &dyn BlockDevice, backup: &TableBackup) -> Result<Option<FoundTable>, DeviceError> {
    match table::read(device) {
        Ok(Label::Gpt(found)) => return Ok(Some(found)),
        Err(ReadTableError::Device(error)) => return Err(error),
        // What is damaged is what a backup is for.
        Err(_) => return Ok(None),
        Ok(_) if begins_as_kept(device, backup)? => return Ok(None),
        Ok(_) => {}
    }
    let last = Lba::new((device.size().get() / backup.sector.get()).saturating_sub(1));
    let guard = SavedRange {
        offset: Bytes::ZERO,
        bytes: protective(&[], backup.sector, last),
    };
    let guarded = TableBackup {
        ranges: vec![guard],
        ..backup.clone()
    };
    match table::read(&View::over(&guarded, device)) {
        Ok(Label::Gpt(found)) => Ok(Some(found)),
        Err(ReadTableError::Device(error)) => Err(error),
        _ => Ok(None),
    }
}

/// Whether the first sector is the one that was kept: then whatever it says is what comes back.
pub fn begins_as_kept(device: &dyn BlockDevice, backup: &TableBackup) -> Result<bool, DeviceError> {
    is_kept(
        device,
        backup,
        Extent::new(Bytes::ZERO, backup.sector.bytes()),
    )
}

/// Whether these bytes of the disk, at most some sectors, are those that were kept.
pub fn is_kept(
    device: &dyn BlockDevice,
    backup: &TableBackup,
    extent: Extent,
) -> Result<bool, DeviceError> {
    let within =
        |range: &SavedRange| range.offset <= extent.start && range.extent().end() >= extent.end();
    let inside = extent.end().is_some_and(|end| end <= device.size());
    if !inside || !backup.ranges.iter().any(within) {
        return Ok(false);
    }
    let length = usize::try_from(extent.size.get()).unwrap_or(0);
    let (mut there, mut kept) = (vec![0; length], vec![0; length]);
    device.read_exact_at(&mut there, extent.start)?;
    View::alone(backup).read_exact_at(&mut kept, extent.start)?;
    Ok(there == kept)
}

/// Puts the table back. [`check`] must have succeeded.
pub fn restore(device: &mut dyn BlockDevice, backup: &TableBackup) -> Result<(), RestoreError> {
    check(device, backup)?;
    match fitting(backup)? {
        (Label::Gpt(found), moved) => {
            table::commit(device, &found.table, Commit::Create)?;
            if found.other.is_some() || moved {
                // The other copy was broken then, or somewhere else, and is not to be again.
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

#[cfg(test)]
mod tests {
    use image_specs::arch::Architecture;
    use image_specs::gpt::{Entry, Label as Name};
    use image_specs::guid;
    use image_specs::partition::PartitionType;
    use image_specs::units::SectorSize;

    use super::*;
    use crate::memory::MemoryDevice;

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
    fn moment() -> Moment {
        Moment {
            time: 1,
            device: "/dev/sda".to_owned(),
        }
    }

    fn entry(first: u64, last: u64) -> Entry {
        Entry {
            kind: PartitionType::parse("linux-generic", Architecture::X86_64).unwrap(),
            uuid: guid::parse("00000000-0000-0000-0000-000000000009").unwrap(),
            first: Lba::new(first),
            last: Lba::new(last),
            attributes: 0,
            label: Name::default(),
            tail: Vec::new(),
        }
    }

    /// A disk of 4 MiB with one partition that was made larger by `more` bytes, then the table that
    /// was kept when another run grew it.
    fn grown(last: u64, more: u64) -> (MemoryDevice, TableBackup, Table) {
        let size = Bytes::mib(4);
        let uuid = guid::parse("00000000-0000-0000-0000-000000000001").unwrap();
        let mut old = Table::new(uuid, SectorSize::S512, size).unwrap();
        old.insert(0, entry(64, last)).unwrap();
        let mut disk = MemoryDevice::new(size, SectorSize::S512).unwrap();
        // Without the second copy, which may have no room.
        let encoded = old.encode();
        for chunk in [&encoded.primary_entries, &encoded.primary_header] {
            let start = chunk.lba.start(SectorSize::S512).unwrap();
            disk.write_all_at(&chunk.bytes, start).unwrap();
        }
        let guard = protective(&[], SectorSize::S512, old.backup_lba());
        disk.write_all_at(&guard, Bytes::ZERO).unwrap();
        let size = size.saturating_add(Bytes::new(more));
        disk.set_size(size).unwrap();
        let mut new = old.clone();
        new.resize(size).unwrap();
        let last = new.last_usable();
        new.entry_mut(0).unwrap().last = last;
        let kept = keep(&disk, Some(&old), &new, moment()).unwrap();
        table::commit(&mut disk, &new, Commit::Update).unwrap();
        (disk, kept, old)
    }

    #[test]
    fn growing_a_disk_is_undone() {
        let (mut disk, kept, mut old) = grown(2048, 4 << 20);
        let Label::Gpt(then) = label(&kept).unwrap() else {
            panic!("a GPT was kept");
        };
        restore(&mut disk, &kept).unwrap();
        old.resize(disk.size()).unwrap();
        let Label::Gpt(found) = table::read(&disk).unwrap() else {
            panic!("the GPT is back");
        };
        assert_eq!((&found.table, &found.other), (&old, &None));
        assert_eq!(then.table, old);
    }

    /// A table whose partition reaches to where the second copy would lie: one that was written
    /// without it.
    #[test]
    fn the_second_copy_never_comes_onto_a_partition() {
        let (mut disk, kept, _) = grown(8191, 512);
        let before = disk.bytes().to_vec();
        let told = label(&kept).unwrap_err().to_string();
        assert!(
            told.contains("would overwrite the end of partition 1"),
            "{told}"
        );
        assert!(restore(&mut disk, &kept).is_err());
        assert!(disk.bytes() == before);
    }
}
