//! What a disk or partition holds, told by its signatures: file systems, encryption, verity, RAID,
//! partition tables; with UUID, label and block size, and the bytes to clear so that nobody finds the
//! signature again.
//!
//! Names, UUID forms and labels are libblkid's. A signature is a fixed text at a fixed place; where
//! that alone is weak (FAT, a boot record, swap) more is checked. Reads at most the first 68 KiB, the
//! places of the formats' second copies, and one directory of a FAT or exFAT volume. Pure: the caller
//! reads.

mod details;
mod fat;
mod members;
mod tail;

use std::fmt;

use crate::mbr::{Mbr, MbrKind};
use crate::units::{Bytes, Extent, SectorSize};

/// What a signature stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is its own name")]
#[non_exhaustive]
pub enum Kind {
    Ext2,
    Ext3,
    Ext4,
    Jbd,
    Btrfs,
    Xfs,
    Vfat,
    Exfat,
    Ntfs,
    Squashfs,
    Erofs,
    F2fs,
    Cramfs,
    Jfs,
    Bcachefs,
    Iso9660,
    Swap,
    Luks1,
    Luks2,
    Bitlocker,
    VerityHash,
    Integrity,
    Apfs,
    HfsPlus,
    Lvm2,
    Mdraid,
    IswRaid,
    DdfRaid,
    Zfs,
    Bcache,
    Drbd,
    Gpt,
    Dos,
}

/// One signature that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it stands for.
    pub kind: Kind,
    /// Where the magic bytes lie, the chief ones first: clear all and the signature is gone.
    pub magics: Vec<Extent>,
    /// The UUID in libblkid's form (`XXXX-XXXX` for FAT), unless it has none.
    pub uuid: Option<String>,
    /// The label, ill-formed text replaced, unless it is empty.
    pub label: Option<String>,
    /// The block size in bytes that libblkid calls `BLOCK_SIZE`, where it is known.
    pub block_size: Option<u32>,
}

/// Several things claim the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it holds signatures of both {first} and {second}; wipe the one that is wrong")]
pub struct Ambiguous {
    /// One of them.
    pub first: Kind,
    /// Another.
    pub second: Kind,
}

/// The bytes that signatures are looked for in.
pub(crate) struct Probe<'a, E> {
    size: u64,
    prefix: Vec<u8>,
    #[expect(clippy::type_complexity, reason = "a name would hide what is called")]
    read: &'a mut dyn FnMut(u64, &mut [u8]) -> Result<(), E>,
}

const PREFIX: u64 = 68 * 1024;

/// Signatures at fixed places from the start: kind, offset, bytes.
const MAGICS: &[(Kind, u64, &[u8])] = &[
    (Kind::Ext4, 1080, &[0x53, 0xef]),
    (Kind::Btrfs, 65600, b"_BHRfS_M"),
    (Kind::Xfs, 0, b"XFSB"),
    (Kind::Exfat, 3, b"EXFAT   "),
    (Kind::Ntfs, 3, b"NTFS    "),
    (Kind::Bitlocker, 3, b"-FVE-FS-"),
    (Kind::Squashfs, 0, b"hsqs"),
    (Kind::Erofs, 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    (Kind::F2fs, 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    (Kind::Cramfs, 0, &[0x45, 0x3d, 0xcd, 0x28]),
    (Kind::Jfs, 32768, b"JFS1"),
    (Kind::Bcachefs, 4120, &details::BCACHEFS),
    (Kind::Bcache, 4120, &members::BCACHE),
    (Kind::Apfs, 32, b"NXSB"),
    (Kind::HfsPlus, 1024, b"H+"),
    (Kind::HfsPlus, 1024, b"HX"),
    (Kind::Iso9660, 32769, b"CD001"),
    (Kind::Swap, 4086, b"SWAPSPACE2"),
    (Kind::Swap, 8182, b"SWAPSPACE2"),
    (Kind::Swap, 16374, b"SWAPSPACE2"),
    (Kind::Swap, 65526, b"SWAPSPACE2"),
    (Kind::Luks1, 0, b"LUKS\xba\xbe\0\x01"),
    (Kind::Luks2, 0, b"LUKS\xba\xbe\0\x02"),
    (Kind::VerityHash, 0, b"verity\0\0"),
    (Kind::Integrity, 0, b"integrt\0"),
    (Kind::Lvm2, 24, b"LVM2 001"),
    (Kind::Lvm2, 536, b"LVM2 001"),
    (Kind::Lvm2, 1048, b"LVM2 001"),
    (Kind::Lvm2, 1560, b"LVM2 001"),
    (Kind::Mdraid, 0, &tail::MDRAID),
    (Kind::Mdraid, 4096, &tail::MDRAID),
];

/// Kinds that have no magic at a fixed place from the start.
const MEMBERS_AT_THE_END: [Kind; 4] = [Kind::IswRaid, Kind::DdfRaid, Kind::Zfs, Kind::Drbd];

impl Kind {
    /// The name, libblkid's where it has one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Jbd => "jbd",
            Self::Btrfs => "btrfs",
            Self::Xfs => "xfs",
            Self::Vfat => "vfat",
            Self::Exfat => "exfat",
            Self::Ntfs => "ntfs",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::F2fs => "f2fs",
            Self::Cramfs => "cramfs",
            Self::Jfs => "jfs",
            Self::Bcachefs => "bcachefs",
            Self::Iso9660 => "iso9660",
            Self::Swap => "swap",
            Self::Luks1 | Self::Luks2 => "crypto_LUKS",
            Self::Bitlocker => "BitLocker",
            Self::VerityHash => "DM_verity_hash",
            Self::Integrity => "DM_integrity",
            Self::Lvm2 => "LVM2_member",
            Self::Mdraid => "linux_raid_member",
            Self::IswRaid => "isw_raid_member",
            Self::DdfRaid => "ddf_raid_member",
            Self::Zfs => "zfs_member",
            Self::Bcache => "bcache",
            Self::Drbd => "drbd",
            Self::Apfs => "apfs",
            Self::HfsPlus => "hfsplus",
            Self::Gpt => "gpt",
            Self::Dos => "dos",
        }
    }

    /// The kind of a volume by its name (`crypto_LUKS` stands for both versions); `None` for tables and
    /// names that are unknown.
    pub fn of_volume(name: &str) -> Option<Self> {
        let kinds = MAGICS.iter().map(|(kind, ..)| *kind);
        let others = [Self::Ext2, Self::Ext3, Self::Jbd, Self::Vfat];
        let others = others.into_iter().chain(MEMBERS_AT_THE_END);
        kinds.chain(others).find(|kind| kind.name() == name)
    }

    /// Whether the disk or partition is a part of something larger, which is lost with it: a RAID set, a
    /// volume group, a pool, a cache, a mirror on another machine.
    pub const fn is_member(self) -> bool {
        matches!(
            self,
            Self::Lvm2
                | Self::Mdraid
                | Self::IswRaid
                | Self::DdfRaid
                | Self::Zfs
                | Self::Bcache
                | Self::Drbd
        )
    }

    /// Whether this is a partition table, not the contents of a volume.
    pub const fn is_table(self) -> bool {
        matches!(self, Self::Gpt | Self::Dos)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Every signature on a volume of `size` bytes, second copies too, by position. `read` fills its
/// buffer from an offset; it is never asked for anything behind `size`.
#[expect(clippy::type_complexity, reason = "a name would hide what to pass")]
pub fn probe<E>(
    size: Bytes,
    read: &mut dyn FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<Vec<Found>, E> {
    let mut prefix = vec![0; usize::try_from(size.get().min(PREFIX)).unwrap_or(0)];
    read(0, &mut prefix)?;
    let mut probe = Probe {
        size: size.get(),
        prefix,
        read,
    };
    let mut found = Vec::new();
    for (kind, offset, magic) in MAGICS {
        if probe.bytes(*offset, magic.len()) == Some(*magic) {
            let at = Extent::new(Bytes::new(*offset), length(magic.len()));
            found.extend(details::describe(&mut probe, *kind, at)?);
        }
    }
    found.extend(fat::find(&mut probe)?);
    found.extend(tail::find(&mut probe)?);
    found.extend(members::find(&mut probe)?);
    let volume = found.iter().any(|one| !one.kind.is_table());
    found.extend(boot_record(&probe, volume));
    found.sort_by_key(|one| (one.start(), one.kind));
    Ok(found)
}

/// The one thing that the volume holds; `None` where no signature was found.
///
/// A partition table over an ISO 9660 volume is one thing: the volume. Several copies of a signature
/// are one as well, and so are a table and its guard.
pub fn identify(found: &[Found]) -> Result<Option<&Found>, Ambiguous> {
    let mut volumes = found.iter().filter(|one| !one.kind.is_table());
    let table = found
        .iter()
        .filter(|one| one.kind.is_table())
        .min_by_key(|one| one.kind);
    let Some(first) = volumes.next() else {
        return Ok(table);
    };
    let ambiguous = |second: &Found| Ambiguous {
        first: first.kind,
        second: second.kind,
    };
    if let Some(second) = volumes.find(|one| one.kind != first.kind) {
        return Err(ambiguous(second));
    }
    match table.filter(|_| first.kind != Kind::Iso9660) {
        Some(table) => Err(ambiguous(table)),
        None => Ok(Some(first)),
    }
}

/// The signature of a boot record. Volumes have one of their own (FAT) or none of importance.
fn boot_record<E>(probe: &Probe<'_, E>, volume: bool) -> Option<Found> {
    let mbr = Mbr::parse(&probe.prefix)?;
    let valid = mbr
        .partitions
        .iter()
        .flatten()
        .all(|partition| matches!(partition.status, 0 | 0x80));
    let used = mbr.partitions.iter().flatten().next().is_some();
    let counts = match mbr.kind() {
        MbrKind::Protective | MbrKind::Hybrid => true,
        MbrKind::Dos => valid && (used || !volume) && !looks_like_volume(probe),
    };
    counts.then(|| Found::bare(Kind::Dos, 510, 2))
}

/// Boot sectors of volumes end with 55 AA as well.
fn looks_like_volume<E>(probe: &Probe<'_, E>) -> bool {
    [b"EXFAT   ", b"NTFS    ", b"-FVE-FS-"]
        .iter()
        .any(|name| probe.bytes(3, 8) == Some(name.as_slice()))
        || fat::is_boot_sector(&probe.prefix)
}

impl Found {
    /// Where the chief magic lies.
    pub fn start(&self) -> Bytes {
        self.magics.first().map_or(Bytes::ZERO, |magic| magic.start)
    }

    fn bare(kind: Kind, offset: u64, size: u64) -> Self {
        Self {
            kind,
            magics: vec![Extent::new(Bytes::new(offset), Bytes::new(size))],
            uuid: None,
            label: None,
            block_size: None,
        }
    }
}

impl<E> Probe<'_, E> {
    /// Bytes of the prefix; `None` where they do not lie within.
    fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.prefix.get(start..start.checked_add(length)?)
    }

    fn array<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        self.bytes(offset, N)?.try_into().ok()
    }

    fn le16(&self, offset: u64) -> Option<u16> {
        self.array(offset).map(u16::from_le_bytes)
    }

    fn le32(&self, offset: u64) -> Option<u32> {
        self.array(offset).map(u32::from_le_bytes)
    }

    /// Reads bytes anywhere; `None` where they pass the end.
    fn fetch(&mut self, offset: u64, length: usize) -> Result<Option<Vec<u8>>, E> {
        let within = u64::try_from(length)
            .ok()
            .and_then(|length| offset.checked_add(length))
            .is_some_and(|end| end <= self.size);
        if !within {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        (self.read)(offset, &mut bytes)?;
        Ok(Some(bytes))
    }
}

/// The offsets where a GPT header may stand: behind the first sector, and in the last.
fn header_places(size: u64) -> impl Iterator<Item = u64> {
    SectorSize::ALL.into_iter().flat_map(move |sector| {
        let last = (size / sector.get()).checked_sub(1);
        let last = last.map(|last| last * sector.get());
        [Some(sector.get()), last.filter(|last| *last > sector.get())]
            .into_iter()
            .flatten()
    })
}

fn length(bytes: usize) -> Bytes {
    Bytes::new(u64::try_from(bytes).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
