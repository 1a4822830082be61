//! Boot sector and FAT32's information sector. Pure.

use super::geometry::Geometry;
use super::parameters::{Parameters, Width};

/// Halts: `cli`, `hlt`, `jmp` back.
const CODE: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd];

/// The boot sector, 512 bytes whatever the sector size.
pub(super) fn sector(parameters: &Parameters, geometry: &Geometry) -> [u8; 512] {
    let mut boot = [0; 512];
    let fat32 = geometry.width == Width::Fat32;
    let code = if fat32 { 90 } else { 62 };
    let mut put = |at: usize, bytes: &[u8]| boot[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xeb, if fat32 { 0x58 } else { 0x3c }, 0x90]);
    put(3, b"mkfs.fat");
    put(11, &geometry.sector.to_le_bytes()[..2]);
    put(13, &geometry.cluster.to_le_bytes()[..1]);
    put(14, &geometry.reserved.to_le_bytes()[..2]);
    put(16, &[geometry.tables]);
    put(17, &geometry.root_entries.to_le_bytes()[..2]);
    match u16::try_from(geometry.sectors) {
        Ok(sectors) => put(19, &sectors.to_le_bytes()),
        Err(_) => put(32, &geometry.sectors.to_le_bytes()),
    }
    put(21, &[geometry.media]);
    put(24, &geometry.track.to_le_bytes());
    put(26, &geometry.heads.to_le_bytes());
    put(28, &parameters.hidden.to_le_bytes());
    let extension = if fat32 {
        put(36, &geometry.table.to_le_bytes());
        put(44, &2u32.to_le_bytes()); // the root directory's cluster
        put(48, &1u16.to_le_bytes()); // the information sector
        put(50, &geometry.backup.unwrap_or(0).to_le_bytes());
        64
    } else {
        put(22, &geometry.table.to_le_bytes()[..2]);
        36
    };
    put(extension, &[geometry.drive, 0, 0x29]);
    put(extension + 3, &parameters.volume_id.to_le_bytes());
    put(extension + 7, parameters.label.bytes());
    put(extension + 18, geometry.width.name());
    put(code, &CODE);
    put(510, &[0x55, 0xaa]);
    boot
}

/// FAT32's count of what is free, with `used` clusters taken from the first on.
pub(super) fn information(geometry: &Geometry, used: u32) -> [u8; 512] {
    let mut sector = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"RRaA");
    put(484, b"rrAa");
    put(488, &geometry.clusters.saturating_sub(used).to_le_bytes());
    // The cluster that was given out last: the search for a free one begins behind it.
    put(492, &used.saturating_add(1).to_le_bytes());
    put(508, &[0, 0, 0x55, 0xaa]);
    sector
}
