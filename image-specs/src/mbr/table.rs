//! A whole table as a value: primary partitions, the extended one, and the logical ones in it. Pure.

use std::collections::BTreeMap;

use zerocopy::FromBytes;

use super::chain::{Chain, ChainFault};
use super::kind::{MbrType, is_extended};
use super::record::{
    BOOT_CODE, Mbr, MbrPartition, RECORD, RawMbr, RawPartition, SIGNATURE, UNUSED,
};
use crate::units::{Bytes, Extent, Lba, SectorSize};

/// The first number, from 0, of a logical partition.
const LOGICAL: u32 = 4;
/// What new extended partitions are: addressed by sectors.
const EXTENDED_LBA: u8 = 0x0f;
/// What leads from one record of a chain to the next.
const LEAD: u8 = 0x05;

/// A partition table of the kind that the first sector of a disk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MbrTable {
    /// The disk's number, 0 where it was never set.
    pub disk_id: u32,
    sector_size: SectorSize,
    extended: Option<Extended>,
    slots: BTreeMap<u32, MbrEntry>,
    /// Whether the first record of the chain lists no partition.
    empty_head: bool,
}

/// The partition that holds the logical ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// Its place, from 0.
    pub slot: u32,
    /// Its type byte.
    pub kind: u8,
    /// Its status byte.
    pub status: u8,
    /// First sector.
    pub first: Lba,
    /// Number of sectors.
    pub sectors: u32,
}

/// A partition with data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MbrEntry {
    /// The status byte, 0x80 where it is marked to boot from.
    pub status: u8,
    /// Its type.
    pub kind: MbrType,
    /// First sector, counted from the start of the disk.
    pub first: Lba,
    /// Number of sectors, at least 1.
    pub sectors: u32,
    /// Where the record lies that lists it; `None` for a primary partition.
    pub record: Option<Lba>,
}

/// A table that makes no sense. Slots count from 0; the messages count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum MbrError {
    #[error("it has several extended partitions")]
    SeveralExtended,
    #[error(transparent)]
    Chain(#[from] ChainFault),
    #[error("partition {} has the status {status:#04x}, which is neither 0 nor 0x80", .slot + 1)]
    Status { slot: u32, status: u8 },
    #[error("partition {} has the type {kind:#04x}, which no partition there may have", .slot + 1)]
    Kind { slot: u32, kind: u8 },
    #[error("partition {} has no sectors", .slot + 1)]
    Empty { slot: u32 },
    #[error("partition {} ends behind the end of the disk", .slot + 1)]
    BeyondDisk { slot: u32 },
    #[error("partition {} or its boot record lies outside of the extended partition", .slot + 1)]
    OutsideExtended { slot: u32 },
    #[error("partitions or boot records overlap in sector {sector}")]
    Overlap { sector: u64 },
}

/// One sector of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sector {
    /// Where it lies.
    pub at: Lba,
    disk_id: Option<u32>,
    places: [Option<MbrPartition>; 4],
}

impl MbrTable {
    /// A table without partitions.
    pub fn new(disk_id: u32, sector_size: SectorSize) -> Self {
        Self {
            disk_id,
            sector_size,
            extended: None,
            slots: BTreeMap::new(),
            empty_head: false,
        }
    }

    /// Checks the first record and the chain of its extended partition (empty where there is none)
    /// on a disk of `size`.
    pub fn parse(
        record: &Mbr,
        chain: &Chain,
        (sector_size, size): (SectorSize, Bytes),
    ) -> Result<Self, MbrError> {
        let mut table = Self::new(record.disk_id, sector_size);
        let mut extended = record.extended();
        if let Some((slot, one)) = extended.next() {
            table.extended = Some(extended_entry(slot, one)?);
        }
        if extended.next().is_some() {
            return Err(MbrError::SeveralExtended);
        }
        if let Some(fault) = &chain.fault {
            return Err(fault.clone().into());
        }
        let place = |slot: &u32| table.extended.is_none_or(|one| one.slot != *slot);
        let primary = (0..).zip(record.partitions).filter(|(slot, _)| place(slot));
        let primary = primary.filter_map(|(slot, one)| Some((slot, one?, None)));
        let listed = chain
            .links
            .iter()
            .filter_map(|link| Some((link.at, link.data?)));
        let logical = (LOGICAL..)
            .zip(listed)
            .map(|(slot, (at, one))| (slot, one, Some(at)));
        let mut slots = BTreeMap::new();
        for (slot, one, record) in primary.chain(logical) {
            slots.insert(slot, entry(slot, one, record)?);
        }
        table.slots = slots;
        table.empty_head = chain.links.first().is_some_and(|link| link.data.is_none());
        table.check(size)?;
        Ok(table)
    }

    /// Proves that nothing overlaps and all lies where it may.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, size: Bytes) -> Result<(), MbrError> {
        let sectors = size.get() / self.sector_size.get();
        let mut outer = vec![(0, 1)];
        let mut inner = Vec::new();
        if let Some(extended) = self.extended {
            let range = range(extended.first, extended.sectors);
            if range.1 > sectors {
                return Err(MbrError::BeyondDisk {
                    slot: extended.slot,
                });
            }
            outer.push(range);
            if self.empty_head {
                inner.push((range.0, range.0 + 1));
            }
        }
        for (slot, entry) in &self.slots {
            let own = range(entry.first, entry.sectors);
            if own.1 > sectors {
                return Err(MbrError::BeyondDisk { slot: *slot });
            }
            let Some(record) = entry.record.map(Lba::get) else {
                outer.push(own);
                continue;
            };
            let within = self.extended.is_some_and(|extended| {
                let (first, end) = range(extended.first, extended.sectors);
                record >= first && record < end && own.0 >= first && own.1 <= end
            });
            if !within {
                return Err(MbrError::OutsideExtended { slot: *slot });
            }
            inner.extend([(record, record + 1), own]);
        }
        [outer, inner].into_iter().try_for_each(apart)
    }

    /// Bytes of a sector.
    pub fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    /// The extended partition.
    pub fn extended(&self) -> Option<Extended> {
        self.extended
    }

    /// Puts an extended partition there, or makes the one that is there larger.
    pub fn set_extended(&mut self, slot: u32, first: Lba, sectors: u32) {
        let old = self.extended;
        self.extended = Some(Extended {
            slot,
            kind: old.map_or(EXTENDED_LBA, |old| old.kind),
            status: old.map_or(0, |old| old.status),
            first,
            sectors,
        });
    }

    /// The partitions with data by number, counted from 0.
    pub fn slots(&self) -> &BTreeMap<u32, MbrEntry> {
        &self.slots
    }

    /// The partition of this number, counted from 0.
    pub fn entry_mut(&mut self, slot: u32) -> Option<&mut MbrEntry> {
        self.slots.get_mut(&slot)
    }

    /// Puts a partition into a place, counted from 0.
    pub fn insert(&mut self, slot: u32, entry: MbrEntry) {
        let first = self.extended.map(|extended| extended.first);
        if entry.record.is_some() && entry.record == first {
            self.empty_head = false;
        }
        self.slots.insert(slot, entry);
    }

    /// Empties a place, counted from 0, and returns what was there.
    pub fn remove(&mut self, slot: u32) -> Option<MbrEntry> {
        let gone = self.slots.remove(&slot);
        let first = self.extended.map(|extended| extended.first);
        let record = gone.and_then(|gone| gone.record);
        self.empty_head |= record.is_some() && record == first;
        gone
    }

    /// The sectors to write: that of the disk first, then the chain from its first record on.
    pub fn sectors(&self) -> Vec<Sector> {
        let mut places = [None; 4];
        for (place, slot) in places.iter_mut().zip(0..) {
            let extended = self.extended.filter(|one| one.slot == slot);
            let own = self.slots.get(&slot).map(|one| one.partition(Lba::new(0)));
            *place = own.or(extended.map(Extended::partition));
        }
        let first = Sector {
            at: Lba::new(0),
            disk_id: Some(self.disk_id),
            places,
        };
        [first].into_iter().chain(self.chain()).collect()
    }

    fn chain(&self) -> Vec<Sector> {
        let Some(start) = self.extended.map(|one| one.first) else {
            return Vec::new();
        };
        let head = self.empty_head.then_some((start, None));
        let logical = self.slots.range(LOGICAL..);
        let logical = logical.filter_map(|(_, one)| Some((one.record?, Some(one))));
        let records: Vec<(Lba, Option<&MbrEntry>)> = head.into_iter().chain(logical).collect();
        let further = records.iter().skip(1).map(Some).chain([None]);
        let sector = |((at, one), next): (&(Lba, Option<&MbrEntry>), Option<&(Lba, _)>)| Sector {
            at: *at,
            disk_id: None,
            places: [
                one.map(|one| one.partition(*at)),
                next.map(|(next, one)| lead(start, *next, *one)),
                None,
                None,
            ],
        };
        records.iter().zip(further).map(sector).collect()
    }
}

impl MbrEntry {
    /// The bytes that the partition covers; `None` past 2⁶⁴.
    pub fn extent(&self, sector: SectorSize) -> Option<Extent> {
        let size = u64::from(self.sectors).checked_mul(sector.get())?;
        Some(Extent::new(self.first.start(sector)?, Bytes::new(size)))
    }

    fn partition(&self, base: Lba) -> MbrPartition {
        MbrPartition {
            status: self.status,
            kind: self.kind.byte(),
            first: Lba::new(self.first.get().saturating_sub(base.get())),
            sectors: self.sectors,
        }
    }
}

impl Extended {
    /// The bytes that it covers; `None` past 2⁶⁴.
    pub fn extent(&self, sector: SectorSize) -> Option<Extent> {
        let size = u64::from(self.sectors).checked_mul(sector.get())?;
        Some(Extent::new(self.first.start(sector)?, Bytes::new(size)))
    }

    fn partition(self) -> MbrPartition {
        MbrPartition {
            status: self.status,
            kind: self.kind,
            first: self.first,
            sectors: self.sectors,
        }
    }
}

impl Sector {
    /// The sector's bytes, made of those that stand there now: only what the table says is changed,
    /// and places that say the same stay as they are stored. Boot code always stays; where there was
    /// no record, only it does.
    pub fn onto(&self, old: &[u8]) -> Vec<u8> {
        let mut bytes = old.to_vec();
        bytes.resize(old.len().max(RECORD), 0);
        let was = Mbr::parse(old);
        if was.is_none() {
            let kept = match self.disk_id {
                Some(_) => BOOT_CODE,
                None => 0,
            };
            bytes[kept..].fill(0);
        }
        let Ok((raw, _)) = RawMbr::mut_from_prefix(&mut bytes) else {
            return bytes;
        };
        if let Some(disk_id) = self.disk_id {
            raw.disk_id = disk_id.into();
        }
        // Records of a chain have two places.
        let places = if self.disk_id.is_some() { 4 } else { 2 };
        for (place, wanted) in raw.partitions.iter_mut().zip(self.places).take(places) {
            if !says(place.parse(), wanted) {
                *place = wanted.map_or(UNUSED, RawPartition::new);
            }
        }
        raw.signature = SIGNATURE;
        bytes
    }
}

/// Whether a place says already what it is to say. How much a lead covers is everybody's own matter,
/// as long as it covers what it leads to.
fn says(stored: Option<MbrPartition>, wanted: Option<MbrPartition>) -> bool {
    let leads = |one: &MbrPartition| is_extended(one.kind);
    match (stored, wanted) {
        (Some(stored), Some(wanted)) if wanted.kind == LEAD && leads(&stored) => {
            stored.first == wanted.first && stored.sectors >= wanted.sectors
        }
        _ => stored == wanted,
    }
}

/// What leads to the record at `next`: it covers the record and the partition behind it.
fn lead(start: Lba, next: Lba, one: Option<&MbrEntry>) -> MbrPartition {
    let end = one.map_or(next.get() + 1, |one| range(one.first, one.sectors).1);
    MbrPartition {
        status: 0,
        kind: LEAD,
        first: Lba::new(next.get().saturating_sub(start.get())),
        sectors: u32::try_from(end.saturating_sub(next.get())).unwrap_or(u32::MAX),
    }
}

fn extended_entry(slot: u32, one: MbrPartition) -> Result<Extended, MbrError> {
    check_entry(slot, one)?;
    Ok(Extended {
        slot,
        kind: one.kind,
        status: one.status,
        first: one.first,
        sectors: one.sectors,
    })
}

fn entry(slot: u32, one: MbrPartition, record: Option<Lba>) -> Result<MbrEntry, MbrError> {
    check_entry(slot, one)?;
    let kind = one.kind;
    let base = record.map_or(0, Lba::get);
    Ok(MbrEntry {
        status: one.status,
        kind: MbrType::new(kind).ok_or(MbrError::Kind { slot, kind })?,
        first: Lba::new(base.saturating_add(one.first.get())),
        sectors: one.sectors,
        record,
    })
}

fn check_entry(slot: u32, one: MbrPartition) -> Result<(), MbrError> {
    let status = one.status;
    match (status, one.sectors) {
        (0 | 0x80, 1..) => Ok(()),
        (0 | 0x80, 0) => Err(MbrError::Empty { slot }),
        _ => Err(MbrError::Status { slot, status }),
    }
}

/// First sector and the one behind the last.
fn range(first: Lba, sectors: u32) -> (u64, u64) {
    (first.get(), first.get().saturating_add(sectors.into()))
}

fn apart(mut ranges: Vec<(u64, u64)>) -> Result<(), MbrError> {
    ranges.sort_unstable();
    match ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        Some(pair) => Err(MbrError::Overlap { sector: pair[1].0 }),
        None => Ok(()),
    }
}
