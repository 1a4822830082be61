//! What a master boot record allows: four primary partitions, one of which may hold logical ones.
//!
//! The extended partition is no partition of the plan, it follows from it. Where there is one, free
//! space within and right behind it goes to logical partitions, and it grows with them; all other
//! free space goes to primary ones as long as there are places. Where there is none and the places
//! do not suffice, the first new partitions in list order become primary and the rest logical, in a
//! new extended partition in the largest free area. Numbers rise in list order among partitions of one
//! type, as a partition that was found goes to the first definition of its type. In front of each new logical partition a grain
//! is taken for its boot record. Pure.

use std::collections::BTreeMap;

use image_specs::mbr::MbrType;
use image_specs::units::{Bytes, Extent, Lba};

use super::error::PlanError;
use super::layout::{Area, Entry, Layout};
use super::{Options, PlannedLabel, PlannedTable};
use crate::definition::DefinitionSet;
use crate::survey::{ExtendedPartition, FoundMbr, FoundPartition, MbrRecord, Survey};

/// Places for primary partitions.
const PRIMARY: u32 = 4;
/// How many numbers partitions can have; more than that nobody reads.
const NUMBERS: u32 = 60;
/// Where partitions begin, behind the space that boot loaders use.
const FIRST: u64 = 1024 * 1024;
/// Sectors that a master boot record can count.
const SECTORS: u64 = 1 << 32;

/// What was found, as far as it limits what is new.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    records: BTreeMap<u32, MbrRecord>,
    extended: Option<ExtendedPartition>,
}

/// What is left for new partitions while they are given their areas.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    used: [bool; 4],
    next_logical: u32,
    /// The area that gets the extended partition, where it is new.
    new_extended: Option<usize>,
    /// Whether a logical partition has been put there.
    begun: bool,
}

impl Places {
    /// The lowest free place of a primary partition above `least`, as long as one is left for an
    /// extended partition that is to be made.
    fn primary(&self, least: u32) -> Option<u32> {
        let free = (0..).zip(self.used).filter(|(_, used)| !used);
        let spare = free.clone().count() > usize::from(self.new_extended.is_some());
        let mut above = free.map(|(slot, _)| slot).filter(|slot| *slot >= least);
        above.next().filter(|_| spare)
    }

    fn logical(&self) -> Option<u32> {
        Some(self.next_logical).filter(|slot| *slot < NUMBERS)
    }

    /// The place or number is taken.
    fn take(&mut self, slot: u32) {
        for (place, used) in (0..).zip(&mut self.used) {
            *used |= place == slot;
        }
        if slot >= PRIMARY {
            self.next_logical = slot.saturating_add(1);
            self.begun = true;
        }
    }
}

impl Rules {
    pub(super) fn new(found: Option<&FoundMbr>) -> Self {
        found.map_or_else(Self::default, |found| Self {
            records: found.records.clone(),
            extended: found.extended,
        })
    }

    /// What the table says of a partition that was found.
    pub(super) fn record(&self, slot: u32) -> Option<MbrRecord> {
        self.records.get(&slot).copied()
    }
}

/// Refuses definitions that the kind of table cannot hold.
pub(super) fn check_definitions(
    set: &DefinitionSet,
    table: &PlannedTable,
) -> Result<(), PlanError> {
    let is_mbr = table.label != PlannedLabel::Gpt;
    for definition in &set.definitions {
        let what = || {
            let path = definition.origin.path.as_deref();
            path.map_or_else(String::new, |path| path.display().to_string())
        };
        if is_mbr && definition.mbr_type().is_none() {
            return Err(PlanError::NoMbrType { what: what() });
        }
        if is_mbr && definition.existing.knows_its_own() {
            return Err(PlanError::NoIdentity { what: what() });
        }
        if !is_mbr && definition.mbr.alone {
            return Err(PlanError::OnlyMbr { what: what() });
        }
    }
    let hybrid = set
        .definitions
        .iter()
        .filter(|one| one.mbr.hybrid.is_some());
    match hybrid.count() {
        // The guard takes the fourth place.
        0..=3 => Ok(()),
        _ => Err(PlanError::Hybrid),
    }
}

/// Refuses a factory reset that would give other logical partitions new numbers.
pub(super) fn check_reset(
    reset: &[FoundPartition],
    kept: &[FoundPartition],
) -> Result<(), PlanError> {
    let first = reset
        .iter()
        .map(|gone| gone.slot)
        .filter(|slot| *slot >= PRIMARY)
        .min();
    let behind = |first: u32| kept.iter().find(|found| found.slot > first);
    match first.and_then(behind) {
        Some(found) => Err(PlanError::Renumbers {
            number: u64::from(found.slot) + 1,
        }),
        None => Ok(()),
    }
}

/// A table for a disk of `size` that has this one now, or none.
pub(super) fn table(
    survey: &Survey,
    options: &Options,
    found: Option<&FoundMbr>,
    size: Bytes,
) -> Result<PlannedTable, PlanError> {
    let sector = survey.sector.get();
    let sectors = (size.get() / sector).min(SECTORS - 1);
    let places = found.iter().flat_map(|found| &found.partitions);
    let places = places.map(|partition| partition.extent.start);
    let extended = found.and_then(|found| found.extended);
    let lowest = places.chain(extended.map(|one| one.extent.start)).min();
    // Another tool may have begun where we would not.
    let first = lowest.map_or(FIRST, |lowest| lowest.get().clamp(sector, FIRST));
    let first = first.div_ceil(sector);
    let last = sectors.checked_sub(1).filter(|last| *last >= first);
    let last = last.ok_or(PlanError::NoRoomForMbr { size })?;
    let id = options.seed.disk().as_u128() >> 96;
    let seeded = u32::try_from(id).unwrap_or(u32::MAX).max(1);
    let known = found.map(|found| found.disk_id).filter(|id| *id != 0);
    Ok(PlannedTable {
        label: PlannedLabel::Mbr {
            disk_id: known.unwrap_or(seeded),
            extended,
        },
        from_scratch: found.is_none(),
        disk_uuid: options.seed.disk(),
        first_usable: Lba::new(first),
        last_usable: Lba::new(last),
        slots: NUMBERS,
        sector: survey.sector,
    })
}

impl Layout<'_> {
    /// Positions behind which a free area cannot reach: the extended partition and boot records.
    pub(super) fn boundaries(&self) -> Vec<u64> {
        let extended = self.mbr.as_ref().and_then(|mbr| mbr.extended);
        let start = extended.map(|one| one.extent.start.get());
        let records = self.entries.iter().filter(|entry| entry.exists());
        let records = records.filter_map(|entry| entry.record);
        records.chain(start).collect()
    }

    /// An extended partition without logical ones is a free area, too.
    pub(super) fn add_empty_extended(&mut self, end: u64) {
        let Some(extended) = self.mbr.as_ref().and_then(|mbr| mbr.extended) else {
            return;
        };
        if self
            .entries
            .iter()
            .any(|entry| entry.logical && entry.exists())
        {
            return;
        }
        let start = extended.extent.start.get();
        let found = self.entries.iter().filter(|entry| entry.exists());
        let next = found
            .map(Entry::found_start)
            .filter(|next| *next > start)
            .min();
        let size = self
            .down(next.unwrap_or(end))
            .saturating_sub(self.up(start));
        if size > 0 {
            self.areas.push(Area {
                size,
                start: self.up(start),
                logical: true,
                after: None,
                allocated: 0,
            });
        }
    }

    /// What there is for the new partitions that are kept, once the areas are sorted.
    pub(super) fn places(&self) -> Option<Places> {
        let mbr = self.mbr.as_ref()?;
        let mut places = Places {
            used: [false; 4],
            next_logical: PRIMARY,
            new_extended: None,
            begun: false,
        };
        let found = self
            .entries
            .iter()
            .filter_map(|entry| Some(entry.found.as_ref()?.slot));
        let mut found: Vec<u32> = found.chain(mbr.extended.map(|one| one.slot)).collect();
        found.sort_unstable();
        found.into_iter().for_each(|slot| places.take(slot));
        places.begun = false;
        let suffices = mbr.extended.is_some() || self.all_primary(places);
        let free = places.used.contains(&false);
        // The largest comes last.
        let largest = self.areas.len().checked_sub(1);
        places.new_extended = largest.filter(|_| !suffices && free);
        Some(places)
    }

    /// Whether every new partition that is kept can be a primary one.
    fn all_primary(&self, mut places: Places) -> bool {
        let mut numbered = self.clone();
        numbered.new_partitions().into_iter().all(|index| {
            let slot = places.primary(numbered.least_slot(index));
            numbered.entries[index].slot = slot;
            slot.into_iter().for_each(|slot| places.take(slot));
            slot.is_some()
        })
    }

    fn new_partitions(&self) -> Vec<usize> {
        let new = |index: &usize| !self.entries[*index].exists() && self.is_kept(*index);
        (0..self.entries.len()).filter(new).collect()
    }

    /// The lowest number for a new partition: above all of its type, so that the next run gives each
    /// to the same definition.
    fn least_slot(&self, index: usize) -> u32 {
        let kind = self.mbr_type(index);
        let same = (0..self.entries.len()).filter(|other| self.mbr_type(*other) == kind);
        let slots = same.filter_map(|other| {
            let entry = &self.entries[other];
            entry
                .found
                .as_ref()
                .map_or(entry.slot, |found| Some(found.slot))
        });
        slots.max().map_or(0, |slot| slot.saturating_add(1))
    }

    fn mbr_type(&self, index: usize) -> Option<MbrType> {
        let entry = &self.entries[index];
        match (&entry.found, &entry.wanted) {
            (Some(found), _) => Some(self.mbr.as_ref()?.record(found.slot)?.kind),
            (None, wanted) => wanted.as_ref()?.definition.mbr_type(),
        }
    }

    /// The smallest area in which new partition `index` fits, and what it takes of it.
    pub(super) fn area_for(
        &mut self,
        index: usize,
        needed: u64,
        places: &mut Option<Places>,
    ) -> Option<(usize, u64)> {
        let Some(places) = places else {
            let area = (0..self.areas.len()).find(|area| self.available(*area) >= needed)?;
            return Some((area, needed));
        };
        let (area, slot) = (0..self.areas.len()).find_map(|area| {
            let slot = self.slot_in(index, area, places)?;
            let head = if slot < PRIMARY { 0 } else { self.grain };
            let fits = self.available(area) >= needed.saturating_add(head);
            fits.then_some((area, slot))
        })?;
        places.take(slot);
        let head = if slot < PRIMARY { 0 } else { self.grain };
        let entry = &mut self.entries[index];
        (entry.slot, entry.logical) = (Some(slot), slot >= PRIMARY);
        Some((area, needed.saturating_add(head)))
    }

    /// The number that new partition `index` gets in an area; `None` where it cannot be there.
    fn slot_in(&self, index: usize, area: usize, places: &Places) -> Option<u32> {
        if self.areas[area].logical {
            return places.logical();
        }
        let chain = places.new_extended == Some(area);
        let primary = places.primary(self.least_slot(index));
        // Nothing primary comes behind the first logical partition, where the next one goes.
        match primary.filter(|_| !(chain && places.begun)) {
            None if chain => places.logical(),
            None => None,
            primary => primary,
        }
    }

    /// Whether no area could take partition `index`, however small it is.
    pub(super) fn has_no_place(&self, index: usize, places: Option<Places>) -> bool {
        places.is_some_and(|places| {
            let mut areas = 0..self.areas.len();
            !self.areas.is_empty() && areas.all(|area| self.slot_in(index, area, &places).is_none())
        })
    }

    /// Why partition `index` gets no number.
    pub(super) fn no_number(&self, index: usize) -> PlanError {
        let what = self.entries[index].what();
        let extended = self.mbr.as_ref().and_then(|mbr| mbr.extended);
        match extended {
            None => PlanError::NoPrimary { what },
            Some(_) => PlanError::NoSlot {
                what,
                slots: NUMBERS,
            },
        }
    }

    /// The most that boot records of new logical partitions take of a disk.
    pub(super) fn records_size(&self) -> u64 {
        let Some(mbr) = &self.mbr else {
            return 0;
        };
        let new = self.new_partitions().len();
        let found = self.entries.iter().filter(|entry| entry.exists()).count();
        let logical = match mbr.extended.is_some() || new + found > 4 {
            true => u64::try_from(new).unwrap_or(u64::MAX),
            false => 0,
        };
        logical.saturating_mul(self.grain)
    }

    /// Places a new logical partition's record at `start` and says where the partition begins.
    pub(super) fn place_record(&mut self, index: usize, start: u64) -> u64 {
        let earlier = self.entries.iter().enumerate();
        let mut earlier = earlier.filter(|(at, _)| *at != index);
        let begins = !earlier.any(|(_, entry)| entry.logical && entry.record.is_some());
        let extended = self.mbr.as_ref().and_then(|mbr| mbr.extended);
        // The chain begins with the first sector of the extended partition.
        let head = extended
            .filter(|_| begins)
            .map(|one| one.extent.start.get());
        self.entries[index].record = Some(head.unwrap_or(start));
        start.saturating_add(self.grain)
    }

    /// The extended partition that holds all logical ones: the one that was there, larger where that
    /// is needed, or a new one.
    pub(super) fn extended(&self) -> Option<ExtendedPartition> {
        let mbr = self.mbr.as_ref()?;
        let logical = (0..self.entries.len())
            .filter(|index| self.is_kept(*index))
            .map(|index| &self.entries[index])
            .filter(|entry| entry.logical);
        let ends = logical.clone().map(|entry| match mbr.extended {
            Some(_) => entry.offset.saturating_add(entry.size),
            // A new one covers what lies behind its last partition, too.
            None => (entry.offset.saturating_add(entry.size)).saturating_add(entry.padding),
        });
        let old_end = mbr.extended.and_then(|one| one.extent.end());
        let end = ends.chain(old_end.map(Bytes::get)).max()?;
        let start = match mbr.extended {
            Some(extended) => extended.extent.start.get(),
            None => logical.filter_map(|entry| entry.record).min()?,
        };
        let slot = match mbr.extended {
            Some(extended) => extended.slot,
            None => {
                let used: Vec<_> = self.entries.iter().filter_map(|entry| entry.slot).collect();
                (0..PRIMARY).find(|slot| !used.contains(slot))?
            }
        };
        let size = Bytes::new(end.saturating_sub(start));
        Some(ExtendedPartition {
            slot,
            extent: Extent::new(Bytes::new(start), size),
        })
    }
}
