//! What is wrong with the partitions of a table. Pure.

use std::collections::BTreeMap;

use super::table::Table;
use crate::units::{Bytes, Lba};

/// A fault of a table that could be parsed. Slots count from 0; the messages count from 1, as
/// partition numbers do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum Finding {
    #[error("partition {} ends at sector {last}, before it starts at sector {first}", number(*.slot))]
    Backwards { slot: u32, first: u64, last: u64 },
    #[error("partition {} ends at sector {last}, but the disk has only {sectors} sectors", number(*.slot))]
    BeyondDisk { slot: u32, last: u64, sectors: u64 },
    #[error("partition {} lies outside the sectors that the table lets partitions use", number(*.slot))]
    OutsideUsable { slot: u32 },
    #[error("partition {} lies over partition {}", number(*.slot), number(*.other))]
    Overlap { slot: u32, other: u32 },
    #[error("partition {} has the same UUID as partition {}", number(*.slot), number(*.other))]
    DuplicateUuid { slot: u32, other: u32 },
    #[error("the backup table lies at sector {backup}, not at the disk's last sector {last}")]
    BackupNotAtEnd { backup: u64, last: u64 },
    #[error("the last usable sector {usable} lies behind the disk's last sector {last}")]
    UsableBeyondDisk { usable: u64, last: u64 },
}

fn number(slot: u32) -> u64 {
    u64::from(slot) + 1
}

impl Table {
    /// Everything that is wrong with the table on a disk of `size`, slot by slot.
    pub fn findings(&self, size: Bytes) -> Vec<Finding> {
        let sectors = size.get() / self.sector_size().get();
        let mut found = self.geometry_findings(sectors);
        for slot in self.slots().keys() {
            found.extend(self.range_finding(*slot, sectors));
        }
        found.extend(self.overlaps());
        found.extend(self.duplicates());
        found
    }

    fn geometry_findings(&self, sectors: u64) -> Vec<Finding> {
        let last = sectors.saturating_sub(1);
        let (backup, usable) = (self.backup_lba.get(), self.last_usable.get());
        let mut found = Vec::new();
        if backup != last {
            found.push(Finding::BackupNotAtEnd { backup, last });
        }
        if usable > last {
            found.push(Finding::UsableBeyondDisk { usable, last });
        }
        found
    }

    fn range_finding(&self, slot: u32, sectors: u64) -> Option<Finding> {
        let entry = &self.slots()[&slot];
        let (first, last) = (entry.first.get(), entry.last.get());
        if last < first {
            return Some(Finding::Backwards { slot, first, last });
        }
        if last >= sectors {
            return Some(Finding::BeyondDisk {
                slot,
                last,
                sectors,
            });
        }
        (entry.first < self.first_usable || entry.last > self.last_usable)
            .then_some(Finding::OutsideUsable { slot })
    }

    /// Each partition that begins before an earlier one (by position) has ended.
    fn overlaps(&self) -> Vec<Finding> {
        let mut ranges: Vec<(Lba, Lba, u32)> = self
            .slots()
            .iter()
            .filter(|(_, entry)| entry.first <= entry.last)
            .map(|(slot, entry)| (entry.first, entry.last, *slot))
            .collect();
        ranges.sort_unstable();
        let mut found = Vec::new();
        let mut furthest: Option<(Lba, u32)> = None;
        for (first, last, slot) in ranges {
            if let Some((_, other)) = furthest.filter(|(end, _)| *end >= first) {
                found.push(Finding::Overlap { slot, other });
            }
            if furthest.is_none_or(|(end, _)| end < last) {
                furthest = Some((last, slot));
            }
        }
        found
    }

    fn duplicates(&self) -> Vec<Finding> {
        let mut seen = BTreeMap::new();
        let mut found = Vec::new();
        for (slot, entry) in self.slots() {
            if let Some(other) = seen.insert(entry.uuid, *slot) {
                found.push(Finding::DuplicateUuid { slot: *slot, other });
            }
        }
        found
    }
}
