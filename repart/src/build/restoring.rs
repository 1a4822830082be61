//! What putting a kept table back would end on a disk that has no GPT: contents and tables that were not
//! there when the table was kept. Only reads.
//!
//! A disk of the same size may be another one, so its own contents are asked: what nobody has given up
//! stands in the way, as it does for a plan ([`super::overwrite`]).

use std::collections::BTreeSet;

use blockdev::saved;
use blockdev::table::{self, Label, ReadTableError};
use blockdev::{BlockDevice, DeviceError, signatures};
use image_specs::magic::Found;
use image_specs::mbr::ForeignLabel;
use image_specs::table_backup::TableBackup;
use image_specs::units::{Bytes, Extent};

use super::overwrite::{Lost, Place, Weight};

/// What would end, and is not in the backup; `kept` are the partitions that come back. The backup must
/// fit the disk ([`saved::check`]).
pub fn lost(
    device: &dyn BlockDevice,
    backup: &TableBackup,
    kept: &[Extent],
) -> Result<Vec<Lost>, DeviceError> {
    let mut lost = Vec::new();
    match table::read(device) {
        // Its UUID has told that it is the one.
        Ok(Label::Gpt(_)) => return Ok(lost),
        Ok(label) if !saved::begins_as_kept(device, backup)? => lost.extend(other_table(&label)),
        Err(ReadTableError::Device(error)) => return Err(error),
        _ => {}
    }
    let whole = Extent::new(Bytes::ZERO, device.size());
    let mut inside = BTreeSet::new();
    for within in kept.iter().filter(|one| one.end() <= whole.end()) {
        let found = signatures::probe(device, *within)?;
        inside.extend(
            found
                .iter()
                .map(|one| (within.start.saturating_add(one.start()), one.kind.name())),
        );
    }
    for found in signatures::probe(device, whole)? {
        // What ends the last partition may seem to end the disk.
        let of_partition = inside.contains(&(found.start(), found.kind.name()));
        if !found.kind.is_table() && !of_partition && !was_there(device, backup, &found)? {
            lost.push(volume(found));
        }
    }
    Ok(lost)
}

/// Whether the backup has all that tells of it.
fn was_there(
    device: &dyn BlockDevice,
    backup: &TableBackup,
    found: &Found,
) -> Result<bool, DeviceError> {
    for magic in &found.magics {
        if !saved::is_kept(device, backup, *magic)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn volume(found: Found) -> Lost {
    Lost {
        name: found.kind.name(),
        at: found.start(),
        place: Place::Disk,
        weight: match found.kind.is_member() {
            true => Weight::Member,
            false => Weight::Contents,
        },
        label: found.label,
    }
}

fn other_table(label: &Label) -> Option<Lost> {
    let name = match label {
        Label::Foreign(ForeignLabel::Dos) => "dos",
        Label::Foreign(ForeignLabel::Bsd) => "bsd",
        Label::Foreign(ForeignLabel::Sgi) => "sgi",
        Label::Foreign(ForeignLabel::Sun) => "sun",
        _ => return None,
    };
    Some(Lost {
        name,
        label: None,
        at: Bytes::ZERO,
        place: Place::Disk,
        weight: Weight::Contents,
    })
}

#[cfg(test)]
mod tests {
    use blockdev::MemoryDevice;
    use blockdev::saved::{Moment, RestoreError};
    use blockdev::table::Commit;
    use image_specs::gpt::Table;
    use image_specs::units::SectorSize;
    use uuid::Uuid;

    use super::*;

    fn disk() -> MemoryDevice {
        MemoryDevice::new(Bytes::mib(8), SectorSize::S512).unwrap()
    }

    fn table(uuid: u8) -> Table {
        Table::new(
            Uuid::from_bytes([uuid; 16]),
            SectorSize::S512,
            Bytes::mib(8),
        )
        .unwrap()
    }

    /// A disk with the GPT of this UUID.
    fn with_gpt(uuid: u8) -> MemoryDevice {
        let mut disk = disk();
        table::commit(&mut disk, &table(uuid), Commit::Create).unwrap();
        disk
    }

    /// What was kept of `old` when the GPT of this UUID was written over it.
    fn backup(old: &MemoryDevice, before: Option<u8>, after: u8) -> TableBackup {
        let moment = Moment {
            time: 7,
            device: "/dev/sda".to_owned(),
        };
        let before = before.map(table);
        saved::keep(old, before.as_ref(), &table(after), moment).unwrap()
    }

    fn put(disk: &mut MemoryDevice, at: u64, bytes: &[u8]) {
        disk.write_all_at(bytes, Bytes::new(at)).unwrap();
    }

    fn dos() -> MemoryDevice {
        let mut disk = disk();
        let mut entry = [0; 16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&2048_u32.to_le_bytes());
        entry[12..].copy_from_slice(&2048_u32.to_le_bytes());
        put(&mut disk, 446, &entry);
        put(&mut disk, 510, &[0x55, 0xaa]);
        disk
    }

    fn names(disk: &MemoryDevice, backup: &TableBackup) -> Vec<String> {
        saved::check(disk, backup).unwrap();
        let lost = lost(disk, backup, &[]).unwrap();
        lost.iter().map(ToString::to_string).collect()
    }

    /// A disk of the same size that was never partitioned by ddi is not taken for one that has lost
    /// its table.
    #[test]
    fn another_disk_of_the_same_size_is_told_by_what_is_on_it() {
        let kept = backup(&with_gpt(1), Some(1), 2);
        let luks = b"LUKS\xba\xbe\0\x02";
        let lvm =
            b"LABELONE\x01\0\0\0\0\0\0\0\0\0\0\0\x20\0\0\0LVM2 001abcdefabcdabcdabcdabcdabcdabcdef";
        for (at, magic, expected) in [
            (0, &luks[..], "crypto_LUKS at byte 0 of the disk itself"),
            (0, b"XFSB", "xfs at byte 0 of the disk itself"),
            (1080, &[0x53, 0xef], "ext2 at byte 1080 of the disk itself"),
            (512, lvm, "LVM2_member at byte 536 of the disk itself"),
        ] {
            let mut other = disk();
            put(&mut other, at, magic);
            assert_eq!(names(&other, &kept), [expected]);
        }
        assert_eq!(names(&dos(), &kept), ["dos at byte 0 of the disk itself"]);
        // Its guard is lost, but it is another one's.
        let mut other = with_gpt(3);
        put(&mut other, 0, &[0; 512]);
        let refused = saved::check(&other, &kept);
        assert!(matches!(refused, Err(RestoreError::OtherTable { .. })));
    }

    #[test]
    fn a_disk_that_has_lost_its_table_gets_it_back() {
        let kept = backup(&with_gpt(1), Some(1), 2);
        let none: [&str; 0] = [];
        assert_eq!(names(&disk(), &kept), none);
        for uuid in [1, 2] {
            let mut damaged = with_gpt(uuid);
            put(&mut damaged, 600, b"x");
            put(&mut damaged, (8 << 20) - 500, b"x");
            assert_eq!(names(&damaged, &kept), none);
            let mut unguarded = with_gpt(uuid);
            put(&mut unguarded, 0, &[0; 512]);
            assert_eq!(names(&unguarded, &kept), none);
        }
        // A table of another kind that was replaced, or was to be.
        let kept = backup(&dos(), None, 2);
        for replaced in [dos(), with_gpt(2)] {
            assert_eq!(names(&replaced, &kept), none);
        }
        // A file system in the first sectors, too, is there again once it was put back.
        let mut old = disk();
        put(&mut old, 1080, &[0x53, 0xef]);
        let kept = backup(&old, None, 2);
        let mut replaced = with_gpt(2);
        saved::restore(&mut replaced, &kept).unwrap();
        assert_eq!(names(&replaced, &kept), none);
    }
}
