//! Where boot sectors, tables, root directory and clusters lie: what mkfs.vfat 4.2 chooses for a size
//! (checked against it field by field). Pure.

use filetree::WriteError;

use super::parameters::{Parameters, Width};

/// The layout of a FAT file system's areas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) width: Width,
    /// Bytes of a sector.
    pub(super) sector: u32,
    /// Sectors of a cluster.
    pub(super) cluster: u32,
    /// Sectors before the first table.
    pub(super) reserved: u32,
    /// Copies of the table.
    pub(super) tables: u8,
    /// Sectors of a table.
    pub(super) table: u32,
    /// Entries of the root directory, 0 for FAT32.
    pub(super) root_entries: u32,
    /// All sectors.
    pub(super) sectors: u32,
    /// Clusters there are, the first of which has number 2.
    pub(super) clusters: u32,
    pub(super) track: u16,
    pub(super) heads: u16,
    pub(super) media: u8,
    pub(super) drive: u8,
    /// The sector that has the boot sector once more.
    pub(super) backup: Option<u16>,
}

/// A kind of medium with values of its own.
struct Medium {
    /// Sectors of 512 bytes up to which it is this (exactly, for a floppy disk).
    sectors: u64,
    track: u16,
    heads: u16,
    /// Media byte, cluster size and root entries of a floppy disk.
    floppy: Option<(u8, u32, u32)>,
}

const FLOPPIES: [Medium; 5] = [
    floppy(720, 9, (0xfd, 2, 112)),
    floppy(1440, 9, (0xf9, 2, 112)),
    floppy(2400, 15, (0xf9, 1, 224)),
    floppy(2880, 18, (0xf0, 1, 224)),
    floppy(5760, 36, (0xf0, 2, 224)),
];

/// Heads and tracks by the count of sectors, as memory cards are said to have.
const CARDS: [Medium; 10] = [
    card(4096, 16, 2),
    card(32_768, 32, 2),
    card(65_536, 32, 4),
    card(262_144, 32, 8),
    card(524_288, 32, 16),
    card(1_032_192, 63, 16),
    card(2_064_384, 63, 32),
    card(4_128_768, 63, 64),
    card(8_257_536, 63, 128),
    card(u64::MAX, 63, 255),
];

const fn floppy(sectors: u64, track: u16, values: (u8, u32, u32)) -> Medium {
    Medium {
        sectors,
        track,
        heads: 2,
        floppy: Some(values),
    }
}

const fn card(sectors: u64, track: u16, heads: u16) -> Medium {
    Medium {
        sectors,
        track,
        heads,
        floppy: None,
    }
}

/// Clusters that each width can have; between them a reader would take the other width.
const FAT12_CLUSTERS: std::ops::RangeInclusive<u64> = 1..=4084;
const FAT16_CLUSTERS: std::ops::RangeInclusive<u64> = 4087..=65_524;
const FAT32_CLUSTERS: std::ops::RangeInclusive<u64> = 1..=0x0fff_fff4;

/// Up to this many sectors nothing is aligned.
const SMALL: u64 = 8192;

impl Geometry {
    /// Chooses for a target of `size` bytes.
    pub(super) fn new(parameters: &Parameters, size: u64) -> Result<Self, WriteError> {
        let sector = u64::from(parameters.sector_size.bytes());
        let medium = Medium::of(size, sector);
        let (heads, track) = parameters.geometry.unwrap_or((medium.heads, medium.track));
        // Whole tracks only, as mkfs.vfat does.
        let sectors = size / sector / u64::from(track) * u64::from(track);
        if sectors > u64::from(u32::MAX) {
            return Err(WriteError::Parameters(format!(
                "FAT cannot have {sectors} sectors of {sector} bytes; make the partition smaller or its sectors bigger"
            )));
        }
        let align = parameters.align.unwrap_or(sectors > SMALL);
        let first = first_cluster_size(parameters, &medium, sectors);
        let mut cluster = u64::from(first);
        while cluster <= 128 {
            let choice = Areas::new(parameters, &medium, (sectors, cluster, align));
            if let Some(areas) = choice.filter(|areas| areas.fits(parameters.width)) {
                return Self::of(parameters, (medium, heads, track), &areas);
            }
            if parameters.cluster.is_some() {
                break;
            }
            cluster *= 2;
        }
        Err(WriteError::Parameters(format!(
            "a FAT file system of this width cannot have {size} bytes with sectors of {sector} bytes; change the size, or the option -F"
        )))
    }

    fn of(
        parameters: &Parameters,
        (medium, heads, track): (Medium, u16, u16),
        areas: &Areas,
    ) -> Result<Self, WriteError> {
        let number = |value: u64| {
            u32::try_from(value).map_err(|_| {
                WriteError::Parameters("the file system is too big for FAT".to_owned())
            })
        };
        let media = medium.floppy.map_or(0xf8, |(media, ..)| media);
        let media = parameters.media.unwrap_or(media);
        // Boot sector, information sector and a copy of each must fit before the table.
        let backup = parameters
            .backup
            .unwrap_or(if areas.reserved > 7 { 6 } else { 0 });
        if parameters.width == Width::Fat32 && u64::from(backup) + 1 >= areas.reserved {
            return Err(WriteError::Parameters(format!(
                "the backup boot sector {backup} (option -b) does not fit into {} reserved sectors (option -R)",
                areas.reserved
            )));
        }
        Ok(Self {
            width: parameters.width,
            sector: u32::from(parameters.sector_size.bytes()),
            cluster: number(areas.cluster)?,
            reserved: number(areas.reserved)?,
            tables: parameters.tables,
            table: number(areas.table)?,
            root_entries: number(areas.root_entries)?,
            sectors: number(areas.sectors)?,
            clusters: number(areas.clusters)?,
            track,
            heads,
            media,
            drive: parameters
                .drive
                .unwrap_or(if media == 0xf8 { 0x80 } else { 0 }),
            backup: (parameters.width == Width::Fat32 && backup >= 2).then_some(backup),
        })
    }

    /// Bytes of a cluster.
    pub(super) fn cluster_bytes(&self) -> u64 {
        u64::from(self.cluster) * u64::from(self.sector)
    }

    /// Where a copy of the table begins, in bytes.
    pub(super) fn table_offset(&self, copy: u64) -> u64 {
        (u64::from(self.reserved) + copy * u64::from(self.table)) * u64::from(self.sector)
    }

    /// Where the root directory of FAT12 and FAT16 begins, in bytes.
    pub(super) fn root_offset(&self) -> u64 {
        self.table_offset(u64::from(self.tables))
    }

    /// Where a cluster begins, in bytes.
    pub(super) fn cluster_offset(&self, cluster: u32) -> u64 {
        let root = u64::from(self.root_entries) * 32;
        let root = root.next_multiple_of(u64::from(self.sector));
        self.root_offset() + root + u64::from(cluster.saturating_sub(2)) * self.cluster_bytes()
    }
}

/// The cluster size to try first: by the size for FAT32 (Microsoft's table), small for the others.
fn first_cluster_size(parameters: &Parameters, medium: &Medium, sectors: u64) -> u32 {
    if let Some(cluster) = parameters.cluster {
        return u32::from(cluster);
    }
    if let Some((_, cluster, _)) = medium.floppy {
        return cluster;
    }
    match (parameters.width, sectors) {
        (Width::Fat12 | Width::Fat16, _) => 4,
        (_, ..=532_480) => 1,
        (_, ..=16_777_216) => 8,
        (_, ..=33_554_432) => 16,
        (_, ..=67_108_864) => 32,
        _ => 64,
    }
}

impl Medium {
    fn of(size: u64, sector: u64) -> Self {
        let kibibytes = size / 1024;
        let known = FLOPPIES
            .into_iter()
            .find(|disk| disk.sectors / 2 == kibibytes);
        let fits = |medium: &Self| size / sector <= medium.sectors;
        let large = || card(u64::MAX, 63, 255);
        known
            .or_else(|| CARDS.into_iter().find(fits))
            .unwrap_or_else(large)
    }
}

/// The areas with one cluster size, in sectors.
struct Areas {
    sectors: u64,
    cluster: u64,
    reserved: u64,
    table: u64,
    root_entries: u64,
    clusters: u64,
}

impl Areas {
    fn new(
        parameters: &Parameters,
        medium: &Medium,
        (sectors, cluster, align): (u64, u64, bool),
    ) -> Option<Self> {
        let unit = if align { cluster } else { 1 };
        let sector = u64::from(parameters.sector_size.bytes());
        let fat32 = parameters.width == Width::Fat32;
        let reserved = parameters
            .reserved
            .map_or(if fat32 { 32 } else { 1 }, u64::from);
        let reserved = reserved.next_multiple_of(unit);
        let per_sector = sector / 32;
        let entries = medium.floppy.map_or(512, |(_, _, entries)| entries);
        let entries = parameters
            .root_entries
            .map_or(u64::from(entries), u64::from);
        let entries = if fat32 { 0 } else { entries };
        let root = entries.div_ceil(per_sector).next_multiple_of(unit);
        let tables = u64::from(parameters.tables);
        let room = sectors.checked_sub(reserved)?.checked_sub(root)?;
        // Each cluster takes its own bytes and an entry in every table; two entries have no cluster.
        // In half bytes, as an entry of FAT12 has three of them.
        let halves = parameters.width.bytes(2);
        let all =
            (room * sector * 2 + tables * halves * 2) / (cluster * sector * 2 + tables * halves);
        let table = parameters
            .width
            .bytes(all + 2)
            .div_ceil(sector)
            .next_multiple_of(unit);
        Some(Self {
            sectors,
            cluster,
            reserved,
            table,
            // What alignment leaves over is used.
            root_entries: if align { root * per_sector } else { entries },
            clusters: room.checked_sub(tables * table)? / cluster,
        })
    }

    fn fits(&self, width: Width) -> bool {
        let allowed = match width {
            Width::Fat12 => FAT12_CLUSTERS,
            Width::Fat16 => FAT16_CLUSTERS,
            Width::Fat32 => FAT32_CLUSTERS,
        };
        allowed.contains(&self.clusters)
    }
}
