//! Finds a free area for each new partition; leaves out what may be left out until all fits.
//!
//! Invariant: a partition that exists is never given up, at most treated as one without a
//! definition. Pure.

use image_specs::units::Bytes;

use super::VeritySiblings;
use super::error::PlanError;
use super::layout::{Entry, Layout};

impl Layout<'_> {
    /// Assigns every new partition to a free area: all of them if they fit, else with supplements
    /// apart, else without those of the highest `Priority=`.
    ///
    /// Where even that fails, it is tried again with existing partitions allowed to stay as they are:
    /// systemd-repart refuses a disk on which one that is large enough ends off the grain right before
    /// the next, which its own signature partitions do in large grains.
    pub(super) fn fit(&mut self, disk: DiskNeed) -> Result<(), PlanError> {
        let mut lenient = self.clone();
        self.fit_strictly(disk).or_else(|error| {
            lenient.lenient = true;
            lenient.fit_strictly(disk).map_err(|_| error)?;
            *self = lenient;
            Ok(())
        })
    }

    fn fit_strictly(&mut self, disk: DiskNeed) -> Result<(), PlanError> {
        loop {
            let Err(stuck) = self.allocate() else {
                return Ok(());
            };
            if self.unmerge_and_allocate() {
                return Ok(());
            }
            if !self.drop_one_priority() {
                return Err(self.no_space(&stuck, disk));
            }
        }
    }

    /// Gives each new partition, in list order, the smallest area in which it fits.
    fn allocate(&mut self) -> Result<(), Stuck> {
        self.reset_allocation();
        let mut places = self.places();
        for index in 0..self.entries.len() {
            if self.entries[index].exists() {
                self.check_existing(index)?;
            }
        }
        for index in 0..self.entries.len() {
            if self.entries[index].exists() || !self.is_kept(index) {
                continue;
            }
            let needed = self.min_with_padding(index);
            let Some((area, taking)) = self.area_for(index, needed, &mut places) else {
                let no_place = self.has_no_place(index, places);
                return Err(Stuck {
                    index,
                    needed,
                    no_place,
                });
            };
            self.entries[index].area = Some(area);
            let taken = &mut self.areas[area].allocated;
            *taken = taken.saturating_add(taking);
        }
        Ok(())
    }

    /// Forgets assignments and sorts the areas, smallest first.
    fn reset_allocation(&mut self) {
        for entry in &mut self.entries {
            (entry.area, entry.slot) = (None, None);
            entry.logical &= entry.exists();
        }
        for area in &mut self.areas {
            area.allocated = 0;
        }
        let mut areas: Vec<_> = (0..self.areas.len())
            .map(|index| (self.available(index), self.areas[index].clone()))
            .collect();
        areas.sort_by_key(|(available, _)| *available);
        self.areas = areas.into_iter().map(|(_, area)| area).collect();
        for (index, area) in self.areas.iter().enumerate() {
            if let Some(after) = area.after {
                self.entries[after].area = Some(index);
            }
        }
    }

    /// Whether existing partition `index` can reach its least size where it lies.
    fn check_existing(&self, index: usize) -> Result<(), Stuck> {
        let entry = &self.entries[index];
        let needed = self.min_with_padding(index);
        let room = entry.found_size().saturating_add(entry.found_padding);
        let stays = match entry.area {
            Some(area) => self.current_end(area) >= self.min_end(area),
            None => true,
        };
        let suffices = self.lenient
            && entry.found_size() >= self.min_size(index)
            && entry.found_padding >= self.min_padding(index);
        match suffices || stays && (entry.wanted.is_none() || room >= needed) {
            true => Ok(()),
            false => Err(Stuck {
                index,
                needed,
                no_place: false,
            }),
        }
    }

    /// What new partitions can have of `area`.
    pub(super) fn available(&self, area: usize) -> u64 {
        self.current_end(area).saturating_sub(self.min_end(area))
    }

    fn current_end(&self, area: usize) -> u64 {
        let area = &self.areas[area];
        let free = area.size.saturating_sub(area.allocated);
        area.after
            .map_or(free, |after| self.found_end(after).saturating_add(free))
    }

    fn min_end(&self, area: usize) -> u64 {
        self.areas[area].after.map_or(0, |after| {
            let start = self.entries[after].found_start();
            self.up(start.saturating_add(self.min_with_padding(after)))
        })
    }

    /// Takes supplements apart from their targets, as few as possible, until all fits.
    fn unmerge_and_allocate(&mut self) -> bool {
        self.unmerge_each(|layout| layout.allocate().is_ok())
            || self.unmerge_each(Self::unmerge_and_allocate)
    }

    fn unmerge_each(&mut self, works: impl Fn(&mut Self) -> bool) -> bool {
        for index in 0..self.entries.len() {
            let Some(merged) = self.entries[index].merged.take() else {
                continue;
            };
            if works(self) {
                return true;
            }
            self.entries[index].merged = Some(merged);
        }
        false
    }

    /// Gives up what has the highest `Priority=` above 0; false where nothing is left to give up.
    fn drop_one_priority(&mut self) -> bool {
        let open = |entry: &&Entry<'_>| !entry.dropped;
        let priorities = self.entries.iter().filter(open).map(Entry::priority);
        let Some(highest) = priorities.max().filter(|highest| *highest > 0) else {
            return false;
        };
        for index in 0..self.entries.len() {
            if self.entries[index].priority() >= highest {
                let VeritySiblings {
                    data,
                    hash,
                    signature,
                } = self.entries[index].verity;
                self.give_up(index);
                for sibling in [data, hash, signature].into_iter().flatten() {
                    self.give_up(sibling);
                }
            }
        }
        true
    }

    fn give_up(&mut self, index: usize) {
        if let Some(target) = self.entries[index].supplement_for {
            // Its target does without it then.
            self.entries[target]
                .merged
                .take_if(|merged| *merged == index);
        }
        let entry = &mut self.entries[index];
        if !entry.exists() {
            entry.dropped = true;
        } else if entry.wanted.take().is_some() {
            entry.given_up = true;
            entry.merged = None;
            entry.verity = VeritySiblings::default();
        }
    }

    fn no_space(&mut self, stuck: &Stuck, disk: DiskNeed) -> PlanError {
        let entry = &self.entries[stuck.index];
        if let Some(found) = &entry.found {
            return PlanError::CannotGrow {
                what: entry.what(),
                number: u64::from(found.slot) + 1,
                needed: Bytes::new(stuck.needed),
                room: Bytes::new(entry.found_size().saturating_add(entry.found_padding)),
            };
        }
        self.reset_allocation();
        let largest = (0..self.areas.len()).map(|area| self.available(area)).max();
        if stuck.no_place {
            return self.no_number(stuck.index);
        }
        let minimal = self.minimal_disk(disk.sector);
        let needed = stuck.needed;
        let largest = largest.unwrap_or(0);
        let missing = minimal.saturating_sub(disk.size);
        let need = |foreign: bool| {
            (0..self.entries.len())
                .filter(|index| self.is_kept(*index))
                .filter(|index| self.entries[*index].wanted.is_none() == foreign)
                .map(|index| self.min_with_padding(index))
                .fold(0, u64::saturating_add)
        };
        PlanError::NoSpace {
            what: self.entries[stuck.index].what(),
            needed: Bytes::new(needed),
            largest: Bytes::new(largest),
            missing: Bytes::new(match missing {
                0 => needed.saturating_sub(largest),
                _ => missing,
            }),
            minimal: Bytes::new(minimal),
            emptied: Bytes::new(minimal.saturating_sub(need(true))),
            wanted: Bytes::new(need(false)),
            current: Bytes::new(disk.size),
        }
    }
}

/// The disk that everything is to fit on, for the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskNeed {
    pub(super) size: u64,
    pub(super) sector: u64,
}

/// The partition for which there is no place.
#[derive(Debug)]
struct Stuck {
    index: usize,
    needed: u64,
    /// Whether no area can take it, however small it is.
    no_place: bool,
}
