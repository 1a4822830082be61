//! One boot record: what it lists, what it is there for, and the records of GPT disks. Pure.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::kind::MbrType;
use crate::units::{Lba, SectorSize};

/// The partition type that guards a GPT.
const PROTECTIVE: u8 = 0xee;
/// Bytes of a boot record that are code; what stands there is kept.
pub const BOOT_CODE: usize = 440;
/// Bytes of a boot record.
pub const RECORD: usize = 512;

/// A boot record with the signature 55 AA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mbr {
    /// The disk's number, which some systems give it.
    pub disk_id: u32,
    /// The four places, `None` where unused.
    pub partitions: [Option<MbrPartition>; 4],
}

/// A primary partition of an MBR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MbrPartition {
    /// The status byte, 0x80 where it is marked to boot from.
    pub status: u8,
    /// The type byte, never 0.
    pub kind: u8,
    /// First sector.
    pub first: Lba,
    /// Number of sectors.
    pub sectors: u32,
}

/// What a boot record is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MbrKind {
    /// Its only partition guards a GPT.
    Protective,
    /// It guards a GPT and lists partitions besides.
    Hybrid,
    /// It is a partition table itself, or the boot sector of a file system.
    Dos,
}

/// A partition table that is no GPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name")]
#[non_exhaustive]
pub enum ForeignLabel {
    Dos,
    Bsd,
    Sgi,
    Sun,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawPartition {
    pub(super) status: u8,
    pub(super) first_chs: [u8; 3],
    pub(super) kind: u8,
    pub(super) last_chs: [u8; 3],
    pub(super) first: U32,
    pub(super) sectors: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawMbr {
    pub(super) boot_code: [u8; BOOT_CODE],
    pub(super) disk_id: U32,
    pub(super) reserved: [u8; 2],
    pub(super) partitions: [RawPartition; 4],
    pub(super) signature: [u8; 2],
}

const _: () = assert!(size_of::<RawMbr>() == RECORD);
pub(super) const SIGNATURE: [u8; 2] = [0x55, 0xaa];
pub(super) const UNUSED: RawPartition = RawPartition {
    status: 0,
    first_chs: [0; 3],
    kind: 0,
    last_chs: [0; 3],
    first: U32::ZERO,
    sectors: U32::ZERO,
};

impl RawPartition {
    /// What the place lists; `None` where it is unused.
    pub(super) fn parse(self) -> Option<MbrPartition> {
        (self.kind != 0).then(|| MbrPartition {
            status: self.status,
            kind: self.kind,
            first: Lba::new(self.first.get().into()),
            sectors: self.sectors.get(),
        })
    }

    /// The bytes of a place. Cylinders, heads and sectors are those of a disk with 255 heads and 63
    /// sectors a track, as everybody makes them up.
    pub(super) fn new(partition: MbrPartition) -> Self {
        let first = u32::try_from(partition.first.get()).unwrap_or(u32::MAX);
        let last = first.saturating_add(partition.sectors.saturating_sub(1));
        Self {
            status: partition.status,
            first_chs: chs(first),
            kind: partition.kind,
            last_chs: chs(last),
            first: first.into(),
            sectors: partition.sectors.into(),
        }
    }
}

/// Head, sector with the high bits of the cylinder, cylinder.
fn chs(lba: u32) -> [u8; 3] {
    const HEADS: u32 = 255;
    const SECTORS: u32 = 63;
    const BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];
    let (track, sector) = (lba / SECTORS, lba % SECTORS + 1);
    let (cylinder, head) = (track / HEADS, track % HEADS);
    if cylinder > 1023 {
        return BEYOND;
    }
    let byte = |value: u32| value.to_le_bytes()[0];
    [
        byte(head),
        byte(sector | cylinder >> 8 << 6),
        byte(cylinder),
    ]
}

impl Mbr {
    /// Parses the first 512 bytes of a disk; `None` where they lack the signature 55 AA.
    pub fn parse(start: &[u8]) -> Option<Self> {
        let (raw, _) = RawMbr::ref_from_prefix(start).ok()?;
        (raw.signature == SIGNATURE).then(|| Self {
            disk_id: raw.disk_id.get(),
            partitions: raw.partitions.map(RawPartition::parse),
        })
    }

    /// What the record is there for. Like libfdisk, any partition of type EE makes it a guard,
    /// wherever it begins.
    pub fn kind(&self) -> MbrKind {
        let kinds = self.partitions.iter().flatten().map(|one| one.kind);
        let guards = kinds.clone().filter(|kind| *kind == PROTECTIVE).count();
        match (guards, kinds.count() - guards) {
            (0, _) => MbrKind::Dos,
            (_, 0) => MbrKind::Protective,
            _ => MbrKind::Hybrid,
        }
    }
}

impl ForeignLabel {
    /// The label, other than GPT, that the first 1024 bytes of a disk show, asked in libfdisk's order.
    pub fn detect(start: &[u8]) -> Option<Self> {
        let at =
            |offset: usize, bytes: &[u8]| start.get(offset..offset + bytes.len()) == Some(bytes);
        if at(510, &SIGNATURE) {
            return Some(Self::Dos);
        }
        if at(512, &0x8256_4557_u32.to_le_bytes()) || at(64, &0x8256_4557_u32.to_le_bytes()) {
            return Some(Self::Bsd);
        }
        if at(0, &0x0be5_a941_u32.to_be_bytes()) {
            return Some(Self::Sgi);
        }
        at(508, &0xdabe_u16.to_be_bytes()).then_some(Self::Sun)
    }
}

/// The first sector of a GPT disk, whose last sector has the number `last`.
///
/// `old` is what stands there now (empty where nothing is to be kept). A guard's sector is kept but
/// for its partitions; of anything else only the boot code stays. A GPT header that another sector
/// size has left within the sector is cleared, as it would be found again.
pub fn protective(old: &[u8], sector: SectorSize, last: Lba) -> Vec<u8> {
    hybrid(old, sector, last, &[])
}

/// The same for a disk some of whose partitions, three at most, are listed for those who know no GPT:
/// by type, first sector and sectors. The guard then covers what lies before the first
/// of them, so that nothing overlaps.
pub fn hybrid(
    old: &[u8],
    sector: SectorSize,
    last: Lba,
    listed: &[(MbrType, Lba, u32)],
) -> Vec<u8> {
    let length = usize::try_from(sector.get()).unwrap_or(RECORD);
    let mut bytes = vec![0; length];
    let guard = Mbr::parse(old).is_some_and(|mbr| mbr.kind() != MbrKind::Dos);
    let kept = if guard { length } else { BOOT_CODE }.min(old.len());
    bytes[..kept].copy_from_slice(&old[..kept]);
    for stale in bytes[RECORD..].chunks_exact_mut(RECORD) {
        if stale.starts_with(b"EFI PART") {
            stale.fill(0);
        }
    }
    let first_listed = listed.iter().map(|(_, first, _)| first.get()).min();
    let covered = first_listed.map_or(last.get(), |first| first.saturating_sub(1));
    let guard = RawPartition {
        first_chs: [0, 2, 0],
        kind: PROTECTIVE,
        last_chs: [0xff; 3],
        first: 1.into(),
        sectors: u32::try_from(covered).unwrap_or(u32::MAX).into(),
        ..UNUSED
    };
    let listed = listed.iter().map(|(kind, first, sectors)| {
        RawPartition::new(MbrPartition {
            status: 0,
            kind: kind.byte(),
            first: *first,
            sectors: *sectors,
        })
    });
    if let Ok((raw, _)) = RawMbr::mut_from_prefix(&mut bytes) {
        raw.partitions = [UNUSED; 4];
        for (place, entry) in raw
            .partitions
            .iter_mut()
            .zip([guard].into_iter().chain(listed))
        {
            *place = entry;
        }
        raw.signature = SIGNATURE;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partitions: &[(u8, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        for ((kind, first), place) in partitions.iter().zip([446, 462, 478, 494]) {
            bytes[place + 4] = *kind;
            bytes[place + 8..place + 12].copy_from_slice(&first.to_le_bytes());
        }
        bytes[510..].copy_from_slice(&SIGNATURE);
        bytes
    }

    #[test]
    fn kinds_are_told_apart() {
        for (partitions, kind) in [
            (&[][..], MbrKind::Dos),
            (&[(0x83, 2048)], MbrKind::Dos),
            (&[(0xee, 1)], MbrKind::Protective),
            (&[(0xee, 0)], MbrKind::Protective),
            (&[(0x83, 2048), (0xee, 1)], MbrKind::Hybrid),
        ] {
            assert_eq!(Mbr::parse(&record(partitions)).unwrap().kind(), kind);
        }
        assert_eq!(Mbr::parse(&[0; 512]), None);
        assert_eq!(Mbr::parse(&record(&[])[..511]), None);
    }

    #[test]
    fn foreign_labels_are_known_by_their_magic() {
        let with = |offset: usize, magic: &[u8]| {
            let mut bytes = vec![0; 1024];
            bytes[offset..offset + magic.len()].copy_from_slice(magic);
            bytes
        };
        for (bytes, label) in [
            (record(&[]), Some(ForeignLabel::Dos)),
            (
                with(512, &[0x57, 0x45, 0x56, 0x82]),
                Some(ForeignLabel::Bsd),
            ),
            (with(0, &[0x0b, 0xe5, 0xa9, 0x41]), Some(ForeignLabel::Sgi)),
            (with(508, &[0xda, 0xbe]), Some(ForeignLabel::Sun)),
            (vec![0; 1024], None),
            (Vec::new(), None),
        ] {
            assert_eq!(ForeignLabel::detect(&bytes), label);
        }
    }

    #[test]
    fn the_guard_keeps_what_is_not_its_own() {
        let mut old = record(&[(0x83, 2048), (0xee, 1)]);
        old[..3].copy_from_slice(b"GRB");
        old[440..444].copy_from_slice(&[1, 2, 3, 4]);
        let new = protective(&old, SectorSize::S512, Lba::new(99));
        let mbr = Mbr::parse(&new).unwrap();
        assert_eq!(
            (mbr.kind(), mbr.disk_id),
            (MbrKind::Protective, 0x0403_0201)
        );
        assert_eq!(mbr.partitions[0].map(|one| one.sectors), Some(99));
        assert_eq!(&new[..3], b"GRB");
        old[446 + 16 + 4] = 7; // now a DOS table
        let new = protective(&old, SectorSize::S512, Lba::new(1 << 33));
        let mbr = Mbr::parse(&new).unwrap();
        assert_eq!((&new[..3], mbr.disk_id), (&b"GRB"[..], 0));
        assert_eq!(mbr.partitions[0].map(|one| one.sectors), Some(u32::MAX));
    }

    #[test]
    fn a_header_of_another_sector_size_goes() {
        let mut old = record(&[(0xee, 1)]);
        old.resize(4096, 7);
        old[512..520].copy_from_slice(b"EFI PART");
        let new = protective(&old, SectorSize::S4096, Lba::new(99));
        assert!(new[512..1024].iter().all(|byte| *byte == 0));
        assert!(new[1024..].iter().all(|byte| *byte == 7));
    }
}
