//! Gives every new partition its position and its slot in the table. Pure.

use image_specs::partition::PartitionType;

use super::error::PlanError;
use super::layout::Layout;

impl Layout<'_> {
    /// Lays new partitions one behind the other in their area, and numbers them.
    pub(super) fn place(&mut self, slots: u32) -> Result<(), PlanError> {
        for entry in &mut self.entries {
            entry.offset = entry.found_start();
            // Those of a master boot record have their numbers already.
            entry.slot = entry.found.as_ref().map(|found| found.slot).or(entry.slot);
        }
        for area in 0..self.areas.len() {
            let after = self.areas[area].after.map(|after| &self.entries[after]);
            let mut start = after.map_or(self.areas[area].start, |after| {
                after
                    .offset
                    .saturating_add(after.size)
                    .saturating_add(after.padding)
            });
            for index in 0..self.entries.len() {
                let entry = &self.entries[index];
                if entry.area != Some(area) || entry.exists() || !self.is_kept(index) {
                    continue;
                }
                start = self.up(start);
                let slot = match self.mbr {
                    Some(_) => entry.slot,
                    None => self.free_slot(entry.kind(), slots),
                };
                let slot = slot.ok_or_else(|| {
                    let what = entry.what();
                    PlanError::NoSlot { what, slots }
                })?;
                if entry.logical {
                    start = self.place_record(index, start);
                }
                let entry = &mut self.entries[index];
                entry.offset = start;
                entry.slot = Some(slot);
                start = start
                    .saturating_add(entry.size)
                    .saturating_add(entry.padding);
            }
        }
        Ok(())
    }

    /// The lowest free slot behind those of the same type, else the lowest free one.
    fn free_slot(&self, kind: PartitionType, slots: u32) -> Option<u32> {
        let used: Vec<u32> = self.entries.iter().filter_map(|entry| entry.slot).collect();
        let same = |entry: &&super::layout::Entry<'_>| entry.kind() == kind;
        let behind = self
            .entries
            .iter()
            .filter(same)
            .filter_map(|e| e.slot)
            .max();
        let free = |slot: &u32| !used.contains(slot);
        let first = behind.map_or(0, |slot| slot.saturating_add(1));
        (first..slots).find(free).or_else(|| (0..slots).find(free))
    }
}
