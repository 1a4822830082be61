//! Signatures on a device: what a range holds, and clearing it so that nobody finds it again.

use image_specs::magic::{self, Found};
use image_specs::units::{Bytes, Extent};

use crate::device::{BlockDevice, DeviceError};

/// Every signature within the range, with places counted from its start.
pub fn probe(device: &dyn BlockDevice, within: Extent) -> Result<Vec<Found>, DeviceError> {
    magic::probe(within.size, &mut |offset, buffer| {
        let at = within.start.saturating_add(Bytes::new(offset));
        device.read_exact_at(buffer, at)
    })
}

/// Clears the signatures within the range that `chosen` picks, and returns them.
///
/// A partition table that is about to be replaced is best left alone: `table::commit` ends it at the
/// moment when the new one begins.
pub fn wipe(
    device: &mut dyn BlockDevice,
    within: Extent,
    chosen: &dyn Fn(&Found) -> bool,
) -> Result<Vec<Found>, DeviceError> {
    let mut found = probe(device, within)?;
    found.retain(|one| chosen(one));
    for magic in found.iter().flat_map(|one| &one.magics) {
        let start = within.start.saturating_add(magic.start);
        let zeros = vec![0; usize::try_from(magic.size.get()).unwrap_or(0)];
        device.write_all_at(&zeros, start)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use image_specs::magic::Kind;
    use image_specs::units::SectorSize;

    use super::*;
    use crate::memory::MemoryDevice;

    #[test]
    fn only_what_was_chosen_within_the_range_goes() {
        let mut disk = MemoryDevice::new(Bytes::mib(2), SectorSize::S512).unwrap();
        let within = Extent::new(Bytes::mib(1), Bytes::mib(1));
        let put = |disk: &mut MemoryDevice, at: u64, magic: &[u8]| {
            disk.write_all_at(magic, Bytes::new(at)).unwrap();
        };
        put(&mut disk, 0, b"XFSB");
        put(&mut disk, 1 << 20, b"hsqs");
        put(&mut disk, (1 << 20) + 512, b"EFI PART");
        let kinds = |found: Vec<Found>| found.iter().map(|one| one.kind).collect::<Vec<_>>();
        let all = probe(&disk, within).unwrap();
        assert_eq!(kinds(all), [Kind::Squashfs, Kind::Gpt]);
        let gone = wipe(&mut disk, within, &|one| !one.kind.is_table()).unwrap();
        assert_eq!(kinds(gone), [Kind::Squashfs]);
        assert_eq!(kinds(probe(&disk, within).unwrap()), [Kind::Gpt]);
        assert_eq!(&disk.bytes()[..4], b"XFSB");
    }
}
