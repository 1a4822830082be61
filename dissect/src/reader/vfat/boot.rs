//! The boot sector, checked: where tables, root directory and clusters are (Microsoft, "FAT32 File
//! System Specification", version 1.03; the limits are Linux's). Pure.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// How long the boot sector is at least, in bytes.
pub(super) const SIZE: usize = 512;
/// Bytes of an entry in a directory.
const ENTRY: u64 = 32;

/// As stored. Nothing here has been checked.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    jump: [u8; 3],
    _system: [u8; 8],
    sector: U16,        // bytes
    cluster: u8,        // sectors
    reserved: U16,      // sectors
    tables: u8,         // count
    root_entries: U16,  // count
    sectors_short: U16, // count
    media: u8,
    table_short: U16, // sectors
    _geometry: [u8; 4],
    _hidden: U32,
    sectors: U32, // count
    table: U32,   // sectors, FAT32 only, and so is what follows
    _flags: U16,
    _version: U16,
    root_cluster: U32,
    _more: [u8; 464],
}
const _: () = assert!(size_of::<Raw>() == SIZE);

/// How many bits an entry of the allocation table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Fat12,
    Fat16,
    Fat32,
}

/// Where the root directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// In front of the clusters: first byte and bytes.
    Fixed { start: u64, length: u64 },
    /// In a chain that begins with this cluster.
    Cluster(u32),
}

/// What the boot sector says, proven to be possible.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boot {
    pub(super) width: Width,
    /// The first byte of the allocation table in use.
    pub(super) table: u64,
    pub(super) root: Root,
    /// Bytes of a cluster.
    pub(super) cluster: u64,
    /// The first byte of cluster 2, which is the first.
    pub(super) data: u64,
    /// How many clusters there are.
    pub(super) clusters: u32,
}

impl Boot {
    /// Parses the boot sector of a volume of `size` bytes; `None` if it is none of FAT.
    pub(super) fn parse(bytes: &[u8; SIZE], size: u64) -> Result<Option<Self>, &'static str> {
        let raw: &Raw = zerocopy::transmute_ref!(bytes);
        let signed = bytes[510..] == [0x55, 0xaa] && matches!(raw.jump[0], 0xeb | 0xe9);
        let media = raw.media >= 0xf8 || raw.media == 0xf0;
        let sector = raw.sector.get();
        let sizes = (512..=4096).contains(&sector) && sector.is_power_of_two();
        if !(signed && media && sizes && raw.cluster.is_power_of_two()) {
            return Ok(None);
        }
        Self::layout(raw, size).map(Some)
    }

    fn layout(raw: &Raw, size: u64) -> Result<Self, &'static str> {
        let sector = u64::from(raw.sector.get());
        let fat32 = raw.table_short == 0;
        let table_length = match raw.table_short.get() {
            0 => u64::from(raw.table.get()),
            short => short.into(),
        } * sector;
        let sectors = match raw.sectors_short.get() {
            0 => u64::from(raw.sectors.get()),
            short => short.into(),
        };
        if raw.reserved == 0 || raw.tables == 0 || table_length == 0 {
            return Err("the boot sector has no room for tables");
        }
        let table = u64::from(raw.reserved.get()) * sector;
        let root = table + u64::from(raw.tables) * table_length;
        let root_length = u64::from(raw.root_entries.get()) * ENTRY;
        if !root_length.is_multiple_of(sector) {
            return Err("the root directory does not fill its sectors");
        }
        if fat32 && raw.root_cluster.get() < 2 {
            return Err("the root directory has no cluster");
        }
        let data = root + root_length;
        let cluster = u64::from(raw.cluster) * sector;
        let end = (sectors * sector).min(size);
        let room = end
            .checked_sub(data)
            .ok_or("its tables are longer than it is")?;
        let (width, clusters) = count(fat32, room / cluster, table_length)?;
        Ok(Self {
            width,
            table,
            root: match fat32 {
                true => Root::Cluster(raw.root_cluster.get()),
                false => Root::Fixed {
                    start: root,
                    length: root_length,
                },
            },
            cluster,
            data,
            clusters,
        })
    }

    /// The first byte of a cluster; `None` if there is no such cluster.
    pub(super) fn offset(&self, cluster: u32) -> Option<u64> {
        let index = cluster.checked_sub(2)?;
        (index < self.clusters).then(|| self.data + u64::from(index) * self.cluster)
    }
}

/// The width of the table's entries follows from how many clusters there are.
fn count(fat32: bool, clusters: u64, table: u64) -> Result<(Width, u32), &'static str> {
    const MOST: [u64; 3] = [0xff4, 0xfff4, 0x0fff_fff6];
    let (width, bits, most) = if fat32 {
        (Width::Fat32, 32, MOST[2])
    } else if clusters > MOST[0] {
        (Width::Fat16, 16, MOST[1])
    } else {
        (Width::Fat12, 12, MOST[0])
    };
    let told = (table * 8 / bits).saturating_sub(2);
    let clusters = clusters.min(told);
    match u32::try_from(clusters) {
        Ok(count) if clusters <= most => Ok((width, count)),
        _ => Err("it has too many clusters"),
    }
}
