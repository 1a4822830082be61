//! UUID, label and block size of each format, from the first 68 KiB. Pure.

use uuid::Uuid;

use super::{Found, Kind, Probe, members};
use crate::units::Extent;
use crate::verity::Superblock;

/// The magic of a bcachefs superblock, 24 bytes into it.
pub(super) const BCACHEFS: [u8; 16] = [
    0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef,
];

/// The signature with what its format tells; `None` where it turns out to be none.
pub(super) fn describe<E>(
    probe: &mut Probe<'_, E>,
    kind: Kind,
    magic: Extent,
) -> Result<Option<Found>, E> {
    let found = Found {
        kind,
        magics: vec![magic],
        uuid: None,
        label: None,
        block_size: None,
    };
    if kind == Kind::Exfat {
        return super::fat::describe_exfat(probe, found).map(Some);
    }
    Ok(match kind {
        Kind::Ext4 => ext(probe, found),
        Kind::Iso9660 => iso9660(probe, found),
        Kind::Lvm2 => lvm2(probe, found),
        Kind::Swap => swap(probe, found),
        Kind::Bcache if members::is_bcache(probe) => Some(members::bcache(probe, found)),
        // The first versions of bcachefs had its magic.
        Kind::Bcache => Some(simple(
            probe,
            Found {
                kind: Kind::Bcachefs,
                ..found
            },
        )),
        Kind::HfsPlus => members::is_hfs_plus(probe).then_some(found),
        Kind::VerityHash => Some(verity(probe, found)),
        _ => Some(simple(probe, found)),
    })
}

/// Formats with plain fields at fixed places: UUID, label (with its length), block size.
fn simple<E>(probe: &Probe<'_, E>, found: Found) -> Found {
    let (uuid, label, block_size) = match found.kind {
        Kind::Btrfs => (65568, (65835, 256), probe.le32(65680)),
        Kind::Xfs => (
            32,
            (108, 12),
            probe.array(102).map(u16::from_be_bytes).map(u32::from),
        ),
        Kind::Erofs => (
            1072,
            (1088, 16),
            probe.bytes(1036, 1).and_then(|bits| power(bits[0].into())),
        ),
        Kind::F2fs => (1132, (0, 0), probe.le32(1040).and_then(power)),
        Kind::Jfs => (32904, (32920, 16), probe.le32(32792)),
        Kind::Bcachefs => (
            4152,
            (4168, 32),
            probe.le16(4216).map(|sectors| u32::from(sectors) * 512),
        ),
        Kind::Squashfs => {
            return Found {
                block_size: probe.le32(12),
                ..found
            };
        }
        Kind::Cramfs => {
            return Found {
                label: label(probe, 48, 16),
                ..found
            };
        }
        Kind::Luks1 => {
            return Found {
                uuid: text(probe, 168, 40),
                ..found
            };
        }
        Kind::Luks2 => {
            return Found {
                uuid: text(probe, 168, 40),
                label: label(probe, 24, 48),
                ..found
            };
        }
        Kind::Ntfs => return ntfs(probe, found),
        Kind::Mdraid => {
            let at = found.start().get();
            return Found {
                uuid: uuid(probe, at + 16),
                label: label(probe, at + 32, 32),
                ..found
            };
        }
        _ => return found,
    };
    Found {
        uuid: self::uuid(probe, uuid),
        label: match found.kind {
            Kind::F2fs => utf16(probe.bytes(1148, 1024).unwrap_or_default()),
            _ => self::label(probe, label.0, label.1),
        },
        block_size,
        ..found
    }
}

/// ext2, ext3 and ext4 are told apart by their features, as libblkid does.
fn ext<E>(probe: &Probe<'_, E>, found: Found) -> Option<Found> {
    const HAS_JOURNAL: u32 = 0x4;
    const RECOVER: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    const EXT2_INCOMPATIBLE: u32 = 0x2 | 0x10; // file types, meta block groups
    const EXT3_READ_ONLY: u32 = 0x1 | 0x2 | 0x4; // sparse superblocks, large files, B-tree dirs
    let (compatible, incompatible) = (probe.le32(1116)?, probe.le32(1120)?);
    let read_only = probe.le32(1124)?;
    let journal = compatible & HAS_JOURNAL != 0;
    let old = |allowed: u32| incompatible & !allowed == 0 && read_only & !EXT3_READ_ONLY == 0;
    let kind = if incompatible & JOURNAL_DEVICE != 0 {
        Kind::Jbd
    } else if !journal && old(EXT2_INCOMPATIBLE) {
        Kind::Ext2
    } else if journal && old(EXT2_INCOMPATIBLE | RECOVER) {
        Kind::Ext3
    } else {
        Kind::Ext4
    };
    Some(Found {
        kind,
        uuid: uuid(probe, 1128),
        label: label(probe, 1144, 16),
        block_size: probe.le32(1048).and_then(|log| power(log.checked_add(10)?)),
        ..found
    })
}

/// The UUID is the volume's time of change, or of creation.
fn iso9660<E>(probe: &Probe<'_, E>, found: Found) -> Option<Found> {
    const DESCRIPTOR: u64 = 32768;
    if !matches!(probe.bytes(DESCRIPTOR, 1)?, [1 | 2]) {
        return None;
    }
    let date = |offset| {
        let digits = text(probe, DESCRIPTOR + offset, 16)?;
        let used = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let parts = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14, 14..16];
        let parts = parts.map(|range| digits.get(range).unwrap_or_default());
        (used && digits.bytes().any(|byte| byte != b'0')).then(|| parts.join("-"))
    };
    Some(Found {
        uuid: date(830).or_else(|| date(813)),
        label: label(probe, DESCRIPTOR + 40, 32),
        block_size: probe.le16(DESCRIPTOR + 128).map(u32::from),
        ..found
    })
}

/// The label that names the sector it is in, and the volume's UUID as LVM writes it.
fn lvm2<E>(probe: &Probe<'_, E>, found: Found) -> Option<Found> {
    let start = found.start().get() - 24;
    if probe.bytes(start, 8)? != b"LABELONE" {
        return None;
    }
    let digits = text(probe, start + 32, 32)?;
    let cuts = [0..6, 6..10, 10..14, 14..18, 18..22, 22..26, 26..32];
    let parts = cuts.map(|range| digits.get(range).unwrap_or_default());
    Some(Found {
        uuid: Some(parts.join("-")),
        ..found
    })
}

fn swap<E>(probe: &Probe<'_, E>, found: Found) -> Option<Found> {
    (probe.le32(1024)? == 1).then(|| Found {
        uuid: uuid(probe, 1036),
        label: label(probe, 1052, 16),
        ..found
    })
}

fn verity<E>(probe: &Probe<'_, E>, found: Found) -> Found {
    let superblock = Superblock::parse(&probe.prefix).ok().flatten();
    Found {
        uuid: superblock.map(|superblock| superblock.uuid.to_string()),
        ..found
    }
}

fn ntfs<E>(probe: &Probe<'_, E>, found: Found) -> Found {
    let serial = probe.array(72).map(u64::from_le_bytes);
    Found {
        uuid: serial.map(|serial| format!("{serial:016X}")),
        block_size: probe.le16(11).map(u32::from),
        ..found
    }
}

/// The UUID at `offset`; `None` where it is all zeros.
pub(super) fn uuid<E>(probe: &Probe<'_, E>, offset: u64) -> Option<String> {
    let uuid = Uuid::from_bytes(probe.array(offset)?);
    (!uuid.is_nil()).then(|| uuid.to_string())
}

/// The text up to the first NUL; `None` where that is nothing.
fn text<E>(probe: &Probe<'_, E>, offset: u64, length: usize) -> Option<String> {
    readable(probe.bytes(offset, length)?)
}

/// A label: text without the blanks behind it.
pub(super) fn label<E>(probe: &Probe<'_, E>, offset: u64, length: usize) -> Option<String> {
    readable(probe.bytes(offset, length)?.trim_ascii_end())
}

pub(super) fn readable(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let used = bytes[..end.unwrap_or(bytes.len())].trim_ascii_end();
    (!used.is_empty()).then(|| String::from_utf8_lossy(used).into_owned())
}

/// UTF-16 text, little-endian, up to the first NUL; `None` where that is nothing.
pub(super) fn utf16(bytes: &[u8]) -> Option<String> {
    let (pairs, _) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
    let used: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    (!used.is_empty()).then(|| String::from_utf16_lossy(&used))
}

fn power(exponent: u32) -> Option<u32> {
    1_u32.checked_shl(exponent)
}
