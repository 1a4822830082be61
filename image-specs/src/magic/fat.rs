//! FAT and exFAT volumes: the boot sector that must make sense, and the label in the root directory.
//! Pure.

use super::details::{readable, utf16};
use super::{Found, Kind, Probe};
use crate::units::{Bytes, Extent};

/// How much of a root directory is searched for the label.
const MAX_DIRECTORY: u64 = 64 * 1024;
const ENTRY: usize = 32;

/// The numbers of a FAT boot sector, checked against each other.
struct BootSector {
    sector: u64,
    cluster: u64,
    reserved: u64,
    tables: u64,
    table_sectors: u64,
    root_entries: u64,
    clusters: u64,
    fat32: bool,
}

/// Whether 512 bytes are the boot sector of a FAT volume.
pub(super) fn is_boot_sector(bytes: &[u8]) -> bool {
    BootSector::parse(bytes).is_some()
}

/// A FAT12, FAT16 or FAT32 volume.
pub(super) fn find<E>(probe: &mut Probe<'_, E>) -> Result<Option<Found>, E> {
    let Some(boot) = BootSector::parse(&probe.prefix) else {
        return Ok(None);
    };
    let (serial_at, label_at, name_at) = match boot.fat32 {
        true => (67, 71, 82),
        false => (39, 43, 54),
    };
    let serial = probe.le32(serial_at).filter(|serial| *serial != 0);
    let named = probe.bytes(name_at, 3) == Some(b"FAT");
    let in_boot = probe.bytes(label_at, 11).and_then(label).filter(|_| named);
    let in_root = boot.root(probe)?.as_deref().and_then(volume_label);
    let magic = |offset, size| Extent::new(Bytes::new(offset), Bytes::new(size));
    let mut magics = vec![magic(510, 2)];
    magics.extend(named.then(|| magic(name_at, 5)));
    Ok(Some(Found {
        kind: Kind::Vfat,
        magics,
        uuid: serial.map(|serial| format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)),
        label: in_root.or(in_boot),
        block_size: u32::try_from(boot.sector).ok(),
    }))
}

impl BootSector {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..512)?;
        let le16 = |at: usize| u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let le32 = |at: usize| le16(at) | le16(at + 2) << 16;
        let or = |short: u64, long: u64| if short == 0 { long } else { short };
        let boot = Self {
            sector: le16(11),
            cluster: u64::from(bytes[13]),
            reserved: le16(14),
            tables: u64::from(bytes[16]),
            root_entries: le16(17),
            table_sectors: or(le16(22), le32(36)),
            clusters: 0,
            fat32: le16(22) == 0,
        };
        let signed = bytes[510..] == [0x55, 0xaa] && matches!(bytes[0], 0xeb | 0xe9);
        let media = bytes[21] == 0xf0 || bytes[21] >= 0xf8;
        let sizes = (512..=4096).contains(&boot.sector) && boot.sector.is_power_of_two();
        let counts = boot.cluster.is_power_of_two() && boot.reserved > 0;
        let tables = (1..=2).contains(&boot.tables) && boot.table_sectors > 0;
        let root = boot.fat32 == (boot.root_entries == 0);
        if !(signed && media && sizes && counts && tables && root) {
            return None;
        }
        let sectors = or(le16(19), le32(32));
        let data = sectors.checked_sub(boot.before_data())?;
        let clusters = data / boot.cluster;
        (clusters > 0).then_some(Self { clusters, ..boot })
    }

    /// Sectors before the first cluster.
    fn before_data(&self) -> u64 {
        let root = (self.root_entries * ENTRY as u64).div_ceil(self.sector);
        self.root_start() + root
    }

    /// The sector behind the allocation tables.
    fn root_start(&self) -> u64 {
        self.reserved + self.tables * self.table_sectors
    }

    /// The root directory: all of it, or its first cluster on FAT32.
    fn root<E>(&self, probe: &mut Probe<'_, E>) -> Result<Option<Vec<u8>>, E> {
        let (start, size) = match self.fat32 {
            true => {
                let cluster = u64::from(probe.le32(44).unwrap_or(0));
                let Some(index) = cluster
                    .checked_sub(2)
                    .filter(|index| *index < self.clusters)
                else {
                    return Ok(None);
                };
                let start = self.before_data() + index * self.cluster;
                (start, self.cluster * self.sector)
            }
            false => (self.root_start(), self.root_entries * ENTRY as u64),
        };
        let length = usize::try_from(size.min(MAX_DIRECTORY)).unwrap_or(0);
        probe.fetch(start * self.sector, length)
    }
}

/// The label in a FAT directory: the first entry with the volume bit that is no long name.
fn volume_label(directory: &[u8]) -> Option<String> {
    const VOLUME: u8 = 0x08;
    const DIRECTORY: u8 = 0x10;
    let (entries, _) = directory.as_chunks::<ENTRY>();
    let used = entries.iter().take_while(|entry| entry[0] != 0);
    let mut volumes = used.filter(|entry| {
        entry[0] != 0xe5 && entry[11] & 0x3f != 0x0f && entry[11] & (VOLUME | DIRECTORY) == VOLUME
    });
    let mut name: [u8; 11] = volumes.next()?.first_chunk().copied()?;
    if name[0] == 0x05 {
        name[0] = 0xe5; // so that it does not look deleted
    }
    label(&name)
}

fn label(field: &[u8]) -> Option<String> {
    readable(field).filter(|label| label != "NO NAME")
}

/// The serial number and, from the first cluster of the root directory, the label.
pub(super) fn describe_exfat<E>(probe: &mut Probe<'_, E>, found: Found) -> Result<Found, E> {
    let serial = probe.le32(100).filter(|serial| *serial != 0);
    let shifts = probe.array::<2>(108).unwrap_or([0, 0]);
    let described = Found {
        uuid: serial.map(|serial| format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)),
        block_size: 1_u32.checked_shl(shifts[0].into()),
        ..found
    };
    let (Some(heap), Some(root)) = (probe.le32(88), probe.le32(96)) else {
        return Ok(described);
    };
    let sane = (9..=12).contains(&shifts[0]) && shifts[1] <= 25 - shifts[0].min(25);
    let Some(index) = root.checked_sub(2).filter(|_| sane) else {
        return Ok(described);
    };
    let sector = u64::from(heap) + (u64::from(index) << shifts[1]);
    let size = (1_u64 << (shifts[0] + shifts[1])).min(MAX_DIRECTORY);
    let directory = probe.fetch(sector << shifts[0], usize::try_from(size).unwrap_or(0))?;
    Ok(Found {
        label: directory.as_deref().and_then(exfat_label),
        ..described
    })
}

fn exfat_label(directory: &[u8]) -> Option<String> {
    const LABEL: u8 = 0x83;
    let (entries, _) = directory.as_chunks::<ENTRY>();
    let mut used = entries.iter().take_while(|entry| entry[0] != 0);
    let entry = used.find(|entry| entry[0] == LABEL)?;
    utf16(entry.get(2..2 + 2 * usize::from(entry[1].min(11)))?)
}
