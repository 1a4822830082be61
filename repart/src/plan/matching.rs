//! Which partition that was found belongs to which definition, and where space is free.
//!
//! A found partition goes to the first definition of its type that has none yet; never by label, UUID
//! or size, but for definitions that know their own (`IfExists=`, see [`super::existing`]). Pure.

use image_specs::identity::Seed;

use super::error::PlanError;
use super::layout::{Area, Entry, Layout, Wanted, effective_grain};
use super::size::hash_size;
use super::{Options, PlannedTable, VeritySiblings};
use crate::definition::{Definition, DefinitionSet, VerityMode};
use crate::survey::{FoundPartition, MbrRecord, Survey};
use image_specs::units::Bytes;

impl<'a> Layout<'a> {
    /// The definitions in their order, without anything found.
    pub(super) fn new(survey: &Survey, set: &'a DefinitionSet, options: &Options) -> Self {
        let mut entries: Vec<_> = (set.definitions.iter().enumerate())
            .map(|(index, definition)| {
                Entry::new(Some(wanted(survey, options, index, definition)), None)
            })
            .collect();
        link_verity(&mut entries, set);
        link_supplements(&mut entries, set);
        Self {
            grain: effective_grain(options.grain, survey.sector.get()),
            start: 0,
            end: 0,
            entries,
            areas: Vec::new(),
            mbr: None,
            lenient: false,
            frozen: false,
        }
    }

    /// Gives each found partition to a definition, or enters it as foreign behind them.
    pub(super) fn match_found(&mut self, found: Vec<FoundPartition>, seed: Seed) {
        for partition in self.claim_own(found, seed) {
            let record = self.mbr.as_ref().and_then(|mbr| mbr.record(partition.slot));
            let free = |entry: &Entry<'_>| {
                !entry.exists() && entry.takes_strangers() && entry.wants(&partition, record)
            };
            let at = match self.entries.iter().position(free) {
                Some(at) => at,
                None => {
                    self.entries.push(Entry::new(None, None));
                    self.entries.len() - 1
                }
            };
            let entry = &mut self.entries[at];
            entry.found = Some(partition);
            entry.record = record.and_then(|record| record.at).map(Bytes::get);
            entry.logical = entry.record.is_some();
        }
        for index in 0..self.entries.len() {
            let target = self.entries[index].supplement_for;
            if let Some(target) = target.filter(|_| self.entries[index].exists()) {
                self.entries[target].merged = None;
            }
        }
        self.size_hash_partitions();
    }

    /// What a factory reset deletes.
    pub(super) fn marked_for_reset(&self) -> Vec<FoundPartition> {
        let marked = |entry: &&Entry<'_>| {
            let wanted = entry.wanted.as_ref();
            wanted.is_some_and(|wanted| wanted.definition.factory_reset)
        };
        let found = self.entries.iter().filter(marked);
        found.filter_map(|entry| entry.found.clone()).collect()
    }

    /// Takes the usable area from `table` and records the free space in it.
    pub(super) fn measure(&mut self, table: &PlannedTable) -> Result<(), PlanError> {
        let sector = table.sector.get();
        let first = table.first_usable.get().saturating_mul(sector);
        let end = (table.last_usable.get().saturating_add(1)).saturating_mul(sector);
        (self.start, self.end) = (self.up(first), self.down(end));
        self.areas.clear();
        let by_slot = self.found_by_slot();
        check_positions(&self.entries, &by_slot, (first, end))?;
        for index in &by_slot {
            let gap = self.gap_behind(*index, end);
            self.entries[*index].found_padding = gap;
            self.add_area(gap, self.start, Some(*index));
        }
        let left = by_slot.iter().map(|i| self.entries[*i].found_start());
        let left = left.chain(self.boundaries()).min();
        let left_end = left.map_or(self.end, |left| self.down(left));
        self.add_area(left_end.saturating_sub(self.start), self.start, None);
        self.add_empty_extended(end);
        Ok(())
    }

    pub(super) fn add_area(&mut self, size: u64, start: u64, after: Option<usize>) {
        if size > 0 {
            self.areas.push(Area {
                size,
                start,
                logical: after.is_some_and(|after| self.entries[after].logical),
                after,
                allocated: 0,
            });
        }
    }

    fn found_by_slot(&self) -> Vec<usize> {
        let slot = |index: &usize| self.entries[*index].found.as_ref().map(|found| found.slot);
        let mut indexes: Vec<usize> = (0..self.entries.len())
            .filter(|index| self.entries[*index].exists())
            .collect();
        indexes.sort_by_key(slot);
        indexes
    }

    /// The free grains between partition `index` and the next one or the end.
    fn gap_behind(&self, index: usize, end: u64) -> u64 {
        let entry = &self.entries[index];
        let behind = entry.found_start().saturating_add(entry.found_size());
        let starts = self
            .entries
            .iter()
            .filter(|e| e.exists())
            .map(Entry::found_start);
        let starts = starts.chain(self.boundaries());
        let next = starts.filter(|start| *start >= behind).min().unwrap_or(end);
        self.down(next).saturating_sub(self.up(behind))
    }

    /// A new hash partition must hold the tree of the largest data partition that may be.
    fn size_hash_partitions(&mut self) {
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            let Some(hash) = entry.wanted.as_ref().filter(|w| {
                !entry.exists()
                    && w.definition.verity.mode == VerityMode::Hash
                    && w.size_min.is_none()
            }) else {
                continue;
            };
            let data = entry
                .verity
                .data
                .and_then(|data| self.entries[data].wanted.as_ref());
            let Some(most) = data.and_then(|data| data.definition.size_max) else {
                continue;
            };
            let needed = hash_size(most.get(), &hash.definition.verity, hash.fs_sector);
            if let Some(hash) = &mut self.entries[index].wanted {
                hash.size_min = Some(needed);
            }
        }
    }
}

impl Entry<'_> {
    /// Whether a partition that was found, with what a master boot record says of it, is of the type
    /// that is wanted.
    fn wants(&self, found: &FoundPartition, record: Option<MbrRecord>) -> bool {
        let Some(record) = record else {
            return self.kind() == found.kind;
        };
        let wanted = self.wanted.as_ref();
        wanted.and_then(|wanted| wanted.definition.mbr_type()) == Some(record.kind)
    }
}

fn wanted<'a>(
    survey: &Survey,
    options: &Options,
    index: usize,
    definition: &'a Definition,
) -> Wanted<'a> {
    Wanted {
        index,
        definition,
        content: survey.contents.get(index).cloned().unwrap_or_default(),
        fs_sector: (definition.fs_sector_size.unwrap_or(options.fs_sector))
            .max(survey.sector.get()),
        size_min: definition.size_min.map(|size| size.get()),
    }
}

fn link_verity(entries: &mut [Entry<'_>], set: &DefinitionSet) {
    for verity in &set.verity_sets {
        let siblings = VeritySiblings {
            data: Some(verity.data),
            hash: Some(verity.hash),
            signature: verity.signature,
        };
        for member in [siblings.data, siblings.hash, siblings.signature] {
            if let Some(entry) = member.and_then(|member| entries.get_mut(member)) {
                entry.verity = siblings;
            }
        }
    }
}

fn link_supplements(entries: &mut [Entry<'_>], set: &DefinitionSet) {
    let count = entries.len();
    let links = set.supplements.iter();
    for link in links.filter(|link| link.supplement < count && link.target < count) {
        entries[link.supplement].supplement_for = Some(link.target);
        entries[link.target].merged = Some(link.supplement);
    }
}

/// Refuses tables in which partitions overlap or lie where none may be.
fn check_positions(
    entries: &[Entry<'_>],
    found: &[usize],
    (first, end): (u64, u64),
) -> Result<(), PlanError> {
    let partitions = found
        .iter()
        .filter_map(|index| entries[*index].found.as_ref());
    let mut sorted: Vec<&FoundPartition> = partitions.collect();
    sorted.sort_by_key(|partition| partition.extent.start);
    let number = |partition: &FoundPartition| u64::from(partition.slot) + 1;
    for partition in &sorted {
        let (start, behind) = (partition.extent.start.get(), partition.extent.end());
        if start < first || behind.is_none_or(|behind| behind.get() > end) {
            let number = number(partition);
            return Err(PlanError::OutOfRange { number });
        }
    }
    for pair in sorted.windows(2) {
        if pair[0].extent.overlaps(pair[1].extent) {
            return Err(PlanError::Overlap {
                first: number(pair[0]),
                second: number(pair[1]),
            });
        }
    }
    Ok(())
}
