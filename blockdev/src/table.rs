//! Partition tables on a device: read with the backup to fall back on, written in crash order.
//!
//! Reading never repairs. Writing is arranged so that after every prefix of the writes (and every
//! order of those between two flushes) a reader finds the old table or the new one, whole:
//!
//! 1. A disk has a GPT only while its first sector holds a protective record. Where there was none,
//!    headers and entries change nothing for a reader, so the record is written last, after a flush,
//!    and is one sector: with it the new table appears at once, and a table of another kind ends.
//! 2. Where there was one, it stays valid all the while (only its size field may change, which nobody
//!    relies on), so it can come last, too.
//! 3. Of the two copies, the one that a reader does not rely on is written first. That is the backup,
//!    unless only the backup is whole: then it is the primary. While the first is being written, the
//!    reader has the other, old one; once it is flushed, the reader of the half-written other falls
//!    back to the new one.
//! 4. On a grown disk the backup moves to the new end, where nothing was. The old one is left where
//!    it lies: nobody looks for it there.

use image_specs::gpt::{Chunk, Encoded, Entry, Header, HeaderError, Table, TableError};
use image_specs::mbr::{ForeignLabel, Mbr, MbrKind, MbrType, hybrid};
use image_specs::units::{Bytes, Extent, Lba, SectorSize};

use crate::device::{BlockDevice, DeviceError};

/// What partition table a device has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// None.
    None,
    /// One that is not GPT.
    Foreign(ForeignLabel),
    /// A GPT.
    Gpt(FoundTable),
}

/// A GPT as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTable {
    /// The table.
    pub table: Table,
    /// The copy that it was read from.
    pub copy: TableCopy,
    /// What is wrong with the other copy, if anything is. Writing the table mends it.
    pub other: Option<CopyError>,
    /// Whether the first sector lists partitions besides the protective one.
    pub hybrid: bool,
}

/// One of the two copies of a GPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableCopy {
    /// At the start of the disk.
    Primary,
    /// At its end.
    Backup,
}

/// Why a copy of a table cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum CopyError {
    #[error("there is no header")]
    Missing,
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Entries(#[from] TableError),
    #[error("the entries lie behind the end of the disk")]
    EntriesBeyondDisk,
    #[error("it differs from the other copy")]
    Differs,
}

/// A table that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadTableError {
    /// Neither copy can be used.
    #[error(
        "both copies of the partition table on {device} are damaged; the first: {primary}; the second: {backup}; if the image was copied or downloaded, get it again"
    )]
    Damaged {
        /// The device's path.
        device: String,
        /// What is wrong with the primary copy.
        primary: CopyError,
        /// What is wrong with the backup.
        backup: CopyError,
    },
    /// Tables for several sector sizes.
    #[error(
        "{device} has partition tables for sectors of {first} and of {second} bytes; say which with --sector-size="
    )]
    SeveralSectorSizes {
        /// The device's path.
        device: String,
        /// The smaller size.
        first: u64,
        /// The larger size.
        second: u64,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A table that was not written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum CommitError {
    #[error(
        "the partition table was laid out for {table} sectors of {sector} bytes, which {device} does not have"
    )]
    OtherGeometry {
        device: String,
        table: u64,
        sector: u64,
    },
    #[error(
        "partition {number} lies where the second copy of the partition table of {device} belongs, so the table was not written"
    )]
    OverBackup { device: String, number: u64 },
    #[error("cannot write the partition table")]
    Device(#[from] DeviceError),
}

/// What a table is written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The GPT that is there; a hybrid record in the first sector stays untouched.
    Update,
    /// Whatever is there: it ends.
    Create,
}

/// The sector size for which a GPT header stands on the device; `None` without any.
pub fn probe_sector_size(device: &dyn BlockDevice) -> Result<Option<SectorSize>, ReadTableError> {
    let mut found: Option<SectorSize> = None;
    for sector in SectorSize::ALL {
        let bytes = read_sectors(device, Lba::new(1), sector)?;
        // A broken header counts as well: its table is what the reader must speak about.
        if !bytes.starts_with(b"EFI PART") {
            continue;
        }
        if let Some(first) = found {
            return Err(ReadTableError::SeveralSectorSizes {
                device: device.name(),
                first: first.get(),
                second: sector.get(),
            });
        }
        found = Some(sector);
    }
    Ok(found)
}

/// Reads the partition table, counted in the device's sectors.
pub fn read(device: &dyn BlockDevice) -> Result<Label, ReadTableError> {
    let start = read_start(device)?;
    let kind = Mbr::parse(&start).map(|mbr| mbr.kind());
    let hybrid = match kind {
        Some(MbrKind::Protective) => false,
        Some(MbrKind::Hybrid) => true,
        Some(MbrKind::Dos) | None => return Ok(foreign(&start)),
    };
    let primary = read_copy(device, TableCopy::Primary)?;
    let backup = read_copy(device, TableCopy::Backup)?;
    let (table, copy, other) = match (primary, backup) {
        (Ok(primary), backup) => {
            let other = backup.map(|backup| !same(&primary, &backup));
            let other = other.map(|differs| differs.then_some(CopyError::Differs));
            (primary, TableCopy::Primary, other.unwrap_or_else(Some))
        }
        (Err(primary), Ok(backup)) => (backup, TableCopy::Backup, Some(primary)),
        // The guard of a table that was wiped guards nothing.
        (Err(CopyError::Missing), Err(CopyError::Missing)) => return Ok(foreign(&start)),
        (Err(primary), Err(backup)) => {
            return Err(ReadTableError::Damaged {
                device: device.name(),
                primary,
                backup,
            });
        }
    };
    Ok(Label::Gpt(FoundTable {
        table,
        copy,
        other,
        hybrid,
    }))
}

/// A whole copy of a GPT, whether or not the first sector guards it: what [`read`] takes for no table,
/// but whoever lost the guard may want back.
pub fn read_unguarded(device: &dyn BlockDevice) -> Result<Option<Table>, DeviceError> {
    for copy in [TableCopy::Primary, TableCopy::Backup] {
        if let Ok(table) = read_copy(device, copy)? {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

/// Writes the table, in the order that the module's header argues for. It must have been made for the
/// device's present size ([`Table::resize`]).
pub fn commit(
    device: &mut dyn BlockDevice,
    table: &Table,
    over: Commit,
) -> Result<(), CommitError> {
    commit_hybrid(device, table, over, &[])
}

/// The same, with some partitions listed in the first sector, too: type, first sector, sectors; at most
/// three. Without any, a hybrid record that is there stays as it is.
pub fn commit_hybrid(
    device: &mut dyn BlockDevice,
    table: &Table,
    over: Commit,
    listed: &[(MbrType, Lba, u32)],
) -> Result<(), CommitError> {
    if table.sector_size() != device.sector_size() || !table.fits(device.size()) {
        return Err(CommitError::OtherGeometry {
            device: device.name(),
            table: table.backup_lba().get().saturating_add(1),
            sector: table.sector_size().get(),
        });
    }
    refuse_over_backup(device, table)?;
    let new = table.encode();
    // What cannot be read is relied on by nobody.
    let primary_first = read_copy(device, TableCopy::Primary)?.is_err()
        && read_copy(device, TableCopy::Backup)?.is_ok();
    let Encoded {
        primary_entries,
        primary_header,
        backup_entries,
        backup_header,
        ..
    } = &new;
    let primary = [primary_entries, primary_header];
    let backup = [backup_entries, backup_header];
    let order = match primary_first {
        true => [primary, backup],
        false => [backup, primary],
    };
    for chunk in order
        .into_iter()
        .flat_map(|[entries, header]| [Some(entries), Some(header), None])
    {
        match chunk {
            Some(chunk) => write(device, chunk)?,
            None => device.flush()?,
        }
    }
    guard(device, &new, over, listed)
}

/// The last line of defence for what lies at the end of the disk.
fn refuse_over_backup(device: &dyn BlockDevice, table: &Table) -> Result<(), CommitError> {
    let mut slots = table.slots().iter();
    let over = |entry: &Entry| entry.first <= entry.last && entry.last > table.last_usable();
    match slots.find(|(_, entry)| over(entry)) {
        Some((slot, _)) => Err(CommitError::OverBackup {
            device: device.name(),
            number: u64::from(*slot) + 1,
        }),
        None => Ok(()),
    }
}

/// Writes the protective record, where that changes anything.
fn guard(
    device: &mut dyn BlockDevice,
    new: &Encoded,
    over: Commit,
    listed: &[(MbrType, Lba, u32)],
) -> Result<(), CommitError> {
    let sector = device.sector_size();
    let old = read_sectors(device, Lba::new(0), sector)?;
    let is_hybrid = Mbr::parse(&old).is_some_and(|mbr| mbr.kind() == MbrKind::Hybrid);
    if is_hybrid && over == Commit::Update && listed.is_empty() {
        return Ok(());
    }
    let bytes = hybrid(&old, sector, Lba::new(new.protective_sectors), listed);
    if bytes == old {
        return Ok(());
    }
    device.write_all_at(&bytes, Bytes::ZERO)?;
    Ok(device.flush()?)
}

fn write(device: &mut dyn BlockDevice, chunk: &Chunk) -> Result<(), DeviceError> {
    let offset = chunk.lba.start(device.sector_size());
    device.write_all_at(&chunk.bytes, offset.unwrap_or(Bytes::MAX))
}

fn foreign(start: &[u8]) -> Label {
    ForeignLabel::detect(start).map_or(Label::None, Label::Foreign)
}

/// Whether two copies of a table say the same; where the other one lies is each one's own matter.
fn same(primary: &Table, backup: &Table) -> bool {
    primary.disk_guid == backup.disk_guid
        && primary.slots() == backup.slots()
        && primary.entry_count() == backup.entry_count()
        && primary.entry_size() == backup.entry_size()
        && primary.first_usable() == backup.first_usable()
        && primary.last_usable() == backup.last_usable()
}

/// One copy of the table; the outer error is the device's.
fn read_copy(
    device: &dyn BlockDevice,
    copy: TableCopy,
) -> Result<Result<Table, CopyError>, DeviceError> {
    let sector = device.sector_size();
    let sectors = device.size().get() / sector.get();
    let at = match copy {
        TableCopy::Primary => Lba::new(1),
        TableCopy::Backup => Lba::new(sectors.saturating_sub(1)),
    };
    let bytes = read_sectors(device, at, sector)?;
    let header = match Header::parse(&bytes, at) {
        Ok(Some(header)) => header,
        Ok(None) => return Ok(Err(CopyError::Missing)),
        Err(error) => return Ok(Err(error.into())),
    };
    if let Err(error) = header.check_disk(device.size()) {
        return Ok(Err(error.into()));
    }
    let Some(entries) = read_extent(device, header.entries_extent())? else {
        return Ok(Err(CopyError::EntriesBeyondDisk));
    };
    Ok(Table::parse(&header, &entries).map_err(CopyError::from))
}

/// The first 1024 bytes (or one sector, if that is more); less where the device is smaller.
fn read_start(device: &dyn BlockDevice) -> Result<Vec<u8>, DeviceError> {
    let wanted = device
        .sector_size()
        .get()
        .max(1024)
        .min(device.size().get());
    let extent = Extent::new(Bytes::ZERO, Bytes::new(wanted));
    Ok(read_extent(device, extent)?.unwrap_or_default())
}

/// One sector; empty where the device has no such sector.
fn read_sectors(
    device: &dyn BlockDevice,
    lba: Lba,
    sector: SectorSize,
) -> Result<Vec<u8>, DeviceError> {
    let Some(start) = lba.start(sector) else {
        return Ok(Vec::new());
    };
    let found = read_extent(device, Extent::new(start, sector.bytes()))?;
    Ok(found.unwrap_or_default())
}

/// The bytes of the extent (which the caller has bounded); `None` where it passes the device's end.
fn read_extent(device: &dyn BlockDevice, extent: Extent) -> Result<Option<Vec<u8>>, DeviceError> {
    let within = extent.end().is_some_and(|end| end <= device.size());
    let Some(length) = usize::try_from(extent.size.get()).ok().filter(|_| within) else {
        return Ok(None);
    };
    let mut bytes = vec![0; length];
    device.read_exact_at(&mut bytes, extent.start)?;
    Ok(Some(bytes))
}
