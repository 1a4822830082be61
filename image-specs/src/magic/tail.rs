//! Signatures that lie behind the prefix or at the end: second LUKS headers, RAID members, partition
//! table headers. Pure.

use super::{Found, Kind, Probe, header_places};
use crate::gpt::Header;
use crate::units::SectorSize;
use uuid::Uuid;

/// The magic of a Linux RAID superblock, little-endian.
pub(super) const MDRAID: [u8; 4] = [0xfc, 0x4e, 0x2b, 0xa9];

/// Where LUKS2 keeps its second header, depending on the size of the first.
const LUKS2_SECOND: [u64; 9] = [
    0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x10_0000, 0x20_0000, 0x40_0000,
];

pub(super) fn find<E>(probe: &mut Probe<'_, E>) -> Result<Vec<Found>, E> {
    let mut found = luks(probe)?;
    found.extend(raid(probe)?);
    found.extend(tables(probe)?);
    Ok(found)
}

fn luks<E>(probe: &mut Probe<'_, E>) -> Result<Vec<Found>, E> {
    let mut found = Vec::new();
    for offset in LUKS2_SECOND {
        let Some(bytes) = probe.fetch(offset, 4096)? else {
            break;
        };
        let own_place = bytes[256..264] == offset.to_be_bytes();
        if bytes.starts_with(b"SKUL\xba\xbe\0\x02") && own_place {
            let text = |range: std::ops::Range<usize>| super::details::readable(&bytes[range]);
            found.push(Found {
                uuid: text(168..208),
                label: text(24..72),
                ..Found::bare(Kind::Luks2, offset, 8)
            });
        }
    }
    Ok(found)
}

/// Members of version 0.90 and 1.0 have their superblock near the end.
fn raid<E>(probe: &mut Probe<'_, E>) -> Result<Vec<Found>, E> {
    let size = probe.size;
    let old = (size & !0xffff).checked_sub(0x1_0000);
    let new = (size / 512)
        .checked_sub(16)
        .map(|sector| (sector & !7) * 512);
    let mut found = Vec::new();
    for (offset, major) in [(old, 0), (new, 1)] {
        let Some(offset) = offset.filter(|offset| *offset > 4096) else {
            continue;
        };
        let Some(bytes) = probe.fetch(offset, 256)? else {
            continue;
        };
        if !bytes.starts_with(&MDRAID) || bytes[4..8] != u32::to_le_bytes(major) {
            continue;
        }
        let uuid = match major {
            0 => [&bytes[20..24], &bytes[52..64]].concat(),
            _ => bytes[16..32].to_vec(),
        };
        let name = super::details::readable(&bytes[32..64]);
        found.push(Found {
            uuid: Uuid::from_slice(&uuid).ok().map(|uuid| uuid.to_string()),
            label: name.filter(|_| major == 1),
            ..Found::bare(Kind::Mdraid, offset, 4)
        });
    }
    Ok(found)
}

/// Every header of a GPT, whole or broken, whatever sector size it was made for. A whole one tells
/// the disk's UUID.
fn tables<E>(probe: &mut Probe<'_, E>) -> Result<Vec<Found>, E> {
    let mut found: Vec<Found> = Vec::new();
    for offset in header_places(probe.size) {
        let Some(start) = probe.fetch(offset, 8)? else {
            continue;
        };
        let known = found.iter().any(|one| one.start().get() == offset);
        if start != b"EFI PART" || known {
            continue;
        }
        let uuid = disk_uuid(probe, offset)?;
        found.push(Found {
            uuid,
            ..Found::bare(Kind::Gpt, offset, 8)
        });
    }
    Ok(found)
}

fn disk_uuid<E>(probe: &mut Probe<'_, E>, offset: u64) -> Result<Option<String>, E> {
    for sector in SectorSize::ALL {
        let length = usize::try_from(sector.get()).unwrap_or(0);
        let Some(bytes) = probe.fetch(offset, length)? else {
            continue;
        };
        let at = sector.lba(crate::units::Bytes::new(offset));
        if let Ok(Some(header)) = Header::parse(&bytes, at) {
            return Ok(Some(header.disk_guid.to_string()));
        }
    }
    Ok(None)
}
