//! Master boot records on a device: tables with logical partitions, read whole or not at all, and
//! written in crash order.
//!
//! Reading never repairs. Writing changes single sectors, and is arranged so that after every prefix
//! of the writes (and every order of those between two flushes) a reader finds a sound table:
//!
//! 1. Records of new logical partitions that nothing leads to yet change nothing for a reader; they
//!    come first, and are flushed.
//! 2. Then the disk's first sector: primary partitions and the extended one change in this moment.
//!    Where the extended partition is new, so do all logical ones. It never becomes smaller, so what
//!    the old chain leads to stays inside.
//! 3. Then the records that the old chain leads to, the last first, each flushed. A record that leads
//!    on to new ones, or whose partition grows, is one sector: it is the old one or the new one.
//!
//! So a change that touches only the first sector, or one record of the chain, is there whole or not
//! at all. One that touches several shows each partition with its old or its new bounds, in the
//! order above; the next run completes it.
//!
//! A GPT that is replaced ends with the first sector, as it has lost its guard; its headers are
//! cleared after that.

use std::collections::BTreeSet;

use image_specs::magic::Kind;
use image_specs::mbr::{self, Chain, Mbr, MbrError, MbrKind, MbrTable};
use image_specs::units::{Bytes, Extent, Lba, SectorSize};

use crate::device::{BlockDevice, DeviceError};
use crate::signatures;
use crate::table::{Commit, CommitError};

/// A table that cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum ReadMbrError {
    #[error(
        "the master boot record of {device} is damaged: {source}; check it with \"sfdisk --verify\""
    )]
    Damaged { device: String, source: MbrError },
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Reads the table, counted in the device's sectors; `None` where the first sector holds none: the
/// guard of a GPT, or the boot sector of a file system, included.
pub fn read(device: &dyn BlockDevice) -> Result<Option<MbrTable>, ReadMbrError> {
    let Some(first) = record(device, Lba::new(0))? else {
        return Ok(None);
    };
    if first.kind() != MbrKind::Dos || !is_table(device)? {
        return Ok(None);
    }
    let chain = match first.extended().next() {
        Some((_, extended)) => mbr::walk(extended.first, &mut |at| record(device, at))?,
        None => Chain::default(),
    };
    let geometry = (device.sector_size(), device.size());
    match MbrTable::parse(&first, &chain, geometry) {
        Ok(table) => Ok(Some(table)),
        Err(source) => Err(ReadMbrError::Damaged {
            device: device.name(),
            source,
        }),
    }
}

/// Writes the table, in the order that the module's header argues for.
pub fn commit(
    device: &mut dyn BlockDevice,
    table: &MbrTable,
    over: Commit,
) -> Result<(), CommitError> {
    if table.sector_size() != device.sector_size() || table.check(device.size()).is_err() {
        return Err(CommitError::OtherGeometry {
            device: device.name(),
            table: end(table),
            sector: table.sector_size().get(),
        });
    }
    let old = match over {
        Commit::Update => referenced(device)?,
        Commit::Create => BTreeSet::new(),
    };
    let sectors = table.sectors();
    let (known, new): (Vec<_>, Vec<_>) =
        (sectors.iter().skip(1)).partition(|one| old.contains(&one.at));
    let blank = vec![0; length(device.sector_size())];
    for sector in &new {
        write(device, sector.at, &sector.onto(&blank))?;
    }
    if !new.is_empty() {
        device.flush()?;
    }
    for sector in sectors.first().into_iter().chain(known.into_iter().rev()) {
        let mut stored = read_sector(device, sector.at)?.unwrap_or_else(|| blank.clone());
        if over == Commit::Create && sector.at == Lba::new(0) {
            // Only boot code outlives a new table.
            stored[mbr::BOOT_CODE..].fill(0);
        }
        let bytes = sector.onto(&stored);
        if read_sector(device, sector.at)?.as_ref() != Some(&bytes) {
            write(device, sector.at, &bytes)?;
            device.flush()?;
        }
    }
    match over {
        Commit::Update => Ok(()),
        Commit::Create => Ok(clear_gpt(device)?),
    }
}

/// The records that a reader of the present table looks at, beside the first sector.
fn referenced(device: &dyn BlockDevice) -> Result<BTreeSet<Lba>, DeviceError> {
    let Some(first) = record(device, Lba::new(0))? else {
        return Ok(BTreeSet::new());
    };
    let mut found = BTreeSet::new();
    for (_, extended) in first.extended() {
        // There need not be a record yet, but whoever reads the disk looks for one here.
        found.insert(extended.first);
        let chain = mbr::walk(extended.first, &mut |at| record(device, at))?;
        found.extend(chain.links.iter().map(|link| link.at));
    }
    Ok(found)
}

/// Clears the headers of a GPT that has lost its guard, so that nobody takes them for one.
fn clear_gpt(device: &mut dyn BlockDevice) -> Result<(), DeviceError> {
    let last = Lba::new((device.size().get() / device.sector_size().get()).saturating_sub(1));
    let mut places: Vec<Bytes> = SectorSize::ALL.into_iter().map(SectorSize::bytes).collect();
    places.extend(last.start(device.sector_size()));
    let mut changed = false;
    for start in places {
        let mut magic = [0; 8];
        let end = start.saturating_add(Bytes::new(8));
        if end > device.size() {
            continue;
        }
        device.read_exact_at(&mut magic, start)?;
        if magic == *b"EFI PART" {
            device.write_all_at(&[0; mbr::RECORD], start)?;
            changed = true;
        }
    }
    if changed {
        device.flush()?;
    }
    Ok(())
}

/// A file system's boot sector ends like a table, too.
fn is_table(device: &dyn BlockDevice) -> Result<bool, DeviceError> {
    let whole = Extent::new(Bytes::ZERO, device.size());
    let found = signatures::probe(device, whole)?;
    Ok(found.iter().any(|one| one.kind == Kind::Dos))
}

fn record(device: &dyn BlockDevice, at: Lba) -> Result<Option<Mbr>, DeviceError> {
    Ok(read_sector(device, at)?.and_then(|bytes| Mbr::parse(&bytes)))
}

/// A sector's bytes; `None` where the disk ends before.
fn read_sector(device: &dyn BlockDevice, at: Lba) -> Result<Option<Vec<u8>>, DeviceError> {
    let sector = device.sector_size();
    let start = at.start(sector);
    let end = start.and_then(|start| start.checked_add(sector.bytes()));
    let (Some(start), true) = (start, end.is_some_and(|end| end <= device.size())) else {
        return Ok(None);
    };
    let mut bytes = vec![0; length(sector)];
    device.read_exact_at(&mut bytes, start)?;
    Ok(Some(bytes))
}

fn write(device: &mut dyn BlockDevice, at: Lba, bytes: &[u8]) -> Result<(), DeviceError> {
    let start = at.start(device.sector_size());
    device.write_all_at(bytes, start.unwrap_or(Bytes::MAX))
}

fn length(sector: SectorSize) -> usize {
    usize::try_from(sector.get()).unwrap_or(mbr::RECORD)
}

/// The sectors that the table needs a disk to have.
fn end(table: &MbrTable) -> u64 {
    let extended = table.extended().map(|one| (one.first, one.sectors));
    let entries = table.slots().values().map(|one| (one.first, one.sectors));
    let ends = entries.chain(extended);
    let ends = ends.map(|(first, sectors)| first.get().saturating_add(sectors.into()));
    ends.max().unwrap_or(0)
}
