//! Which clusters of a new file system hold nothing: what its own first table says.

use std::io;
use std::ops::Range;

use super::parameters::Width;

/// The largest table that is read; others belong to disks beyond all use.
const LARGEST_TABLE: u64 = 16 << 20;

/// Reads bytes of the file system.
type Read<'a> = dyn Fn(&mut [u8], u64) -> io::Result<()> + 'a;

/// Where the first table and the clusters lie.
struct Areas {
    width: Width,
    table: u64,
    clusters: u64,
    first: u64,
    cluster: u64,
}

/// The byte ranges that no file and no table has, in order; `None` where it is no FAT file system.
pub fn free(read: &Read<'_>) -> io::Result<Option<Vec<Range<u64>>>> {
    let mut boot = [0; 512];
    read(&mut boot, 0)?;
    let Some(areas) = Areas::parse(&boot) else {
        return Ok(None);
    };
    let mut table = vec![0; usize::try_from(areas.table_size()).unwrap_or(0)];
    read(&mut table, areas.table)?;
    let mut free: Vec<Range<u64>> = Vec::new();
    for cluster in 0..areas.clusters {
        if !areas.is_free(&table, cluster + 2) {
            continue;
        }
        let start = areas.first + cluster * areas.cluster;
        match free.last_mut() {
            Some(last) if last.end == start => last.end += areas.cluster,
            _ => free.push(start..start + areas.cluster),
        }
    }
    Ok(Some(free))
}

impl Areas {
    fn parse(boot: &[u8; 512]) -> Option<Self> {
        let byte = |at: usize| u64::from(boot[at]);
        let word = |at: usize| byte(at) | byte(at + 1) << 8;
        let double = |at: usize| word(at) | word(at + 2) << 16;
        let either = |short: u64, long: u64| if short == 0 { long } else { short };
        let (sector, per_cluster) = (word(11), byte(13));
        if boot[510..] != [0x55, 0xaa] || !(512..=4096).contains(&sector) || per_cluster == 0 {
            return None;
        }
        let table = either(word(22), double(36));
        let sectors = either(word(19), double(32));
        let root = (word(17) * 32).div_ceil(sector);
        let first = word(14) + byte(16) * table + root;
        let clusters = sectors.checked_sub(first)? / per_cluster;
        let areas = Self {
            width: match clusters {
                _ if word(22) == 0 => Width::Fat32,
                0..4085 => Width::Fat12,
                _ => Width::Fat16,
            },
            table: word(14) * sector,
            clusters,
            first: first * sector,
            cluster: per_cluster * sector,
        };
        let fits = areas.table_size() <= (table * sector).min(LARGEST_TABLE);
        fits.then_some(areas)
    }

    /// Bytes of the table that say something.
    fn table_size(&self) -> u64 {
        let entries = self.clusters + 2;
        match self.width {
            Width::Fat12 => (entries * 3).div_ceil(2),
            Width::Fat16 => entries * 2,
            Width::Fat32 => entries * 4,
        }
    }

    fn is_free(&self, table: &[u8], cluster: u64) -> bool {
        let bytes = |at: u64, size: usize| {
            let at = usize::try_from(at).ok()?;
            table.get(at..at.checked_add(size)?)
        };
        match self.width {
            Width::Fat12 => match (bytes(cluster + cluster / 2, 2), cluster % 2) {
                (Some([low, high]), 0) => *low == 0 && high & 0xf == 0,
                (Some([low, high]), _) => low & 0xf0 == 0 && *high == 0,
                _ => false,
            },
            Width::Fat16 => bytes(cluster * 2, 2).is_some_and(|entry| entry == [0; 2]),
            Width::Fat32 => match bytes(cluster * 4, 4) {
                Some([a, b, c, d]) => [*a, *b, *c, d & 0xf] == [0; 4],
                _ => false,
            },
        }
    }
}
