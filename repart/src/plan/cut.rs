//! A disk that ends behind its last partition, for images that are copied to larger disks. Pure.

use image_specs::units::{Bytes, Extent, Lba};

use super::error::PlanError;
use super::{Plan, PlannedTable};
use crate::survey::{FoundPartition, FoundTable};

/// Sectors of the backup header.
const HEADER: u64 = 1;
/// Bytes of the entries of a new table.
const ENTRIES: u64 = 128 * 128;

impl Plan {
    /// First byte behind all partitions; at least where they may begin.
    pub fn end_of_partitions(&self) -> Bytes {
        let sector = self.table.sector;
        let first = self.table.first_usable.start(sector).unwrap_or(Bytes::ZERO);
        let ends = self
            .listed()
            .filter_map(|partition| partition.extent().end());
        let end = ends.max().unwrap_or(first).max(first);
        end.round_up(sector.grain()).unwrap_or(end)
    }

    /// Lets the disk of a new GPT end right behind the last partition and the backup of the table.
    pub(super) fn cut(&mut self) {
        let sector = self.table.sector;
        let end = self.end_of_partitions();
        let backup = (HEADER + ENTRIES.div_ceil(sector.get())) * sector.get();
        self.new_disk_size = end.saturating_add(Bytes::new(backup));
        self.table.last_usable = Lba::new(sector.lba(end).get().saturating_sub(1));
        self.wipe = vec![Extent::new(Bytes::ZERO, self.new_disk_size)];
        let listed = self
            .partitions
            .iter_mut()
            .filter(|partition| partition.is_listed());
        if let Some(last) = listed.max_by_key(|partition| partition.offset) {
            last.new_padding = Bytes::ZERO;
        }
    }
}

/// Refuses a disk of `size` on which the backup of `table` would lie over one of the partitions that
/// `found` allows there: the end of a cut image.
pub(super) fn check_room(
    found: &FoundTable,
    table: &PlannedTable,
    partitions: &[FoundPartition],
    size: Bytes,
) -> Result<(), PlanError> {
    let end = |last: Lba| {
        let behind = Lba::new(last.get().saturating_add(1)).start(table.sector);
        behind.unwrap_or(Bytes::MAX)
    };
    let (room, allowed) = (end(table.last_usable), end(found.last_usable));
    let ends = partitions.iter().filter_map(|one| {
        let behind = one.extent.end()?;
        (behind > room && behind <= allowed).then_some((behind, one.slot))
    });
    let Some((behind, slot)) = ends.max() else {
        return Ok(());
    };
    let backup = Bytes::new(found.backup_size(table.sector));
    Err(PlanError::NoRoomForBackup {
        number: u64::from(slot) + 1,
        missing: behind.saturating_add(backup).saturating_sub(size),
    })
}
