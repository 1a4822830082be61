//! The partitions of a master boot record: four primary ones, and the chain of logical ones within an
//! extended partition, which are numbered from 5.

use blockdev::{BlockDevice, DeviceError};
use image_specs::mbr::{Mbr, MbrPartition, walk};
use image_specs::partition::Designator;
use image_specs::units::{Bytes, Extent};

use super::{Found, Kind};

/// Sectors of such a table.
const SECTOR: u64 = 512;

/// Reads every partition; none where there is no boot record.
pub(super) fn read(device: &dyn BlockDevice) -> Result<Vec<Found>, DeviceError> {
    let mut found = Vec::new();
    let Some(primary) = record(device, 0)? else {
        return Ok(found);
    };
    for (number, partition) in (1..).zip(primary.partitions) {
        found.extend(partition.and_then(|one| partition_at(device, number, 0, one)));
    }
    let mut numbers = 5..;
    for (_, extended) in primary.extended() {
        // A chain that is broken counts as far as it goes.
        let chain = walk(extended.first, &mut |at| record(device, at.get()))?;
        for (link, number) in chain.links.iter().zip(&mut numbers) {
            let data = link.data;
            found.extend(data.and_then(|one| partition_at(device, number, link.at.get(), one)));
        }
    }
    Ok(found)
}

/// The boot record in a sector; `None` where there is none, or the disk ends before.
fn record(device: &dyn BlockDevice, sector: u64) -> Result<Option<Mbr>, DeviceError> {
    let mut bytes = [0; 512];
    let at = sector.checked_mul(SECTOR).map(Bytes::new);
    let inside = |at: &Bytes| {
        let end = at.get().checked_add(SECTOR);
        end.is_some_and(|end| end <= device.size().get())
    };
    let Some(at) = at.filter(inside) else {
        return Ok(None);
    };
    device.read_exact_at(&mut bytes, at)?;
    Ok(Mbr::parse(&bytes))
}

/// A partition that begins as many sectors behind `base` as its entry says; `None` where it does not
/// lie within the disk.
fn partition_at(
    device: &dyn BlockDevice,
    number: u32,
    base: u64,
    entry: MbrPartition,
) -> Option<Found> {
    let designator = match (entry.kind, entry.status) {
        (0x83, 0x80) => Some(Designator::LinuxGeneric),
        (0xea, _) => Some(Designator::Xbootldr),
        _ => None,
    };
    let first = base.checked_add(entry.first.get())?.checked_mul(SECTOR)?;
    let size = u64::from(entry.sectors) * SECTOR;
    let extent = Extent::new(Bytes::new(first), Bytes::new(size));
    let inside = extent.end().is_some_and(|end| end <= device.size());
    (inside && !extent.size.is_zero()).then_some(Found {
        number,
        kind: Kind {
            designator,
            architecture: None,
        },
        uuid: None,
        label: None,
        attributes: 0,
        extent,
        signs: None,
    })
}

#[cfg(test)]
mod tests {
    use blockdev::MemoryDevice;
    use image_specs::units::SectorSize;

    use super::*;

    /// A record at a sector with entries of status, type, first sector, sectors.
    fn write(device: &mut MemoryDevice, sector: u64, entries: &[(u8, u8, u32, u32)]) {
        let mut bytes = [0; 512];
        for (index, (status, kind, first, sectors)) in entries.iter().enumerate() {
            let entry = &mut bytes[446 + index * 16..];
            (entry[0], entry[4]) = (*status, *kind);
            entry[8..12].copy_from_slice(&first.to_le_bytes());
            entry[12..16].copy_from_slice(&sectors.to_le_bytes());
        }
        bytes[510..].copy_from_slice(&[0x55, 0xaa]);
        let at = Bytes::new(sector * SECTOR);
        device.write_all_at(&bytes, at).unwrap();
    }

    fn numbers(device: &MemoryDevice) -> Vec<(u32, u64)> {
        let found = read(device).unwrap();
        let place = |one: &Found| (one.number, one.extent.start.get() / SECTOR);
        found.iter().map(place).collect()
    }

    #[test]
    fn logical_partitions_are_numbered_from_5() {
        let mut device = MemoryDevice::new(Bytes::mib(4), SectorSize::S512).unwrap();
        write(&mut device, 0, &[(0x80, 0x83, 64, 64), (0, 5, 1000, 3000)]);
        write(&mut device, 1000, &[(0, 0x83, 10, 100), (0, 5, 500, 200)]);
        write(&mut device, 1500, &[(0x80, 0x83, 10, 100)]);
        assert_eq!(numbers(&device), [(1, 64), (2, 1000), (5, 1010), (6, 1510)]);
    }

    #[test]
    fn chains_that_loop_or_lead_out_end() {
        let mut device = MemoryDevice::new(Bytes::mib(4), SectorSize::S512).unwrap();
        write(&mut device, 0, &[(0, 0x0f, 1000, 3000)]);
        write(&mut device, 1000, &[(0, 0x83, 10, 100), (0, 5, 0, 200)]);
        assert_eq!(numbers(&device), [(1, 1000), (5, 1010)]);
        write(&mut device, 1000, &[(0, 5, u32::MAX, u32::MAX)]);
        assert_eq!(numbers(&device), [(1, 1000)]);
        write(
            &mut device,
            0,
            &[(0x80, 0x83, 0, 0), (0x80, 0x83, u32::MAX, 1)],
        );
        assert_eq!(numbers(&device), []);
    }
}
