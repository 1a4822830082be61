//! Random disks: a size, and perhaps a partition table written by hand.

use super::TYPES;
use super::random::Random;
use image_specs::guid;

const SLOTS: u64 = 128;
const SLOT_SIZE: u64 = 128;

/// A disk as it is before the run.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Bytes; not always whole sectors.
    pub size: u64,
    /// Bytes of a sector.
    pub sector: u64,
    /// Its partition table.
    pub table: Option<Table>,
}

/// A partition table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Sectors that it was made for; the disk may have been made larger since.
    pub sectors: u64,
    /// First usable sector.
    pub first: u64,
    /// Last usable sector.
    pub last: u64,
    /// The disk's UUID.
    pub uuid: String,
    /// The used slots.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields of an entry")]
pub struct Partition {
    pub slot: u64,
    pub kind: String,
    pub uuid: String,
    pub label: String,
    pub flags: u64,
    pub start: u64,
    pub sectors: u64,
}

impl Disk {
    /// A random disk.
    pub fn random(random: &mut Random) -> Self {
        let sector = random.pick(&[512, 512, 512, 512, 4096, 1024, 2048]);
        let mut size = match random.below(20) {
            0 => random.range(100_000, 4 << 20),
            1 => random.range(1 << 20, 16 << 20),
            2 => random.range(1 << 30, 1 << 40),
            3..=6 => random.range(512, 4096) << 20,
            _ => random.range(16, 700) << 20,
        };
        if random.chance(20) {
            size += random.below(10_000);
        }
        if sector == 4096 {
            size = size.max(1 << 20);
        }
        let mut disk = Self {
            size,
            sector,
            table: None,
        };
        if random.chance(60) && size > 2 << 20 {
            disk.table = Some(Table::random(random, size / sector, sector));
            if random.chance(10) {
                disk.size += random.range(1, 200) << 20;
            }
        }
        disk
    }

    /// The bytes that are not zero, with their offsets.
    pub fn bytes(&self) -> Vec<(u64, Vec<u8>)> {
        self.table
            .as_ref()
            .map_or_else(Vec::new, |table| table.bytes(self.sector))
    }
}

impl Table {
    fn random(random: &mut Random, sectors: u64, sector: u64) -> Self {
        let behind = SLOTS * SLOT_SIZE / sector + 2;
        let roomy = (1 << 20) / sector;
        let first = match sectors > roomy * 4 && random.chance(80) {
            true => roomy,
            false => behind,
        };
        let last = sectors - behind;
        let mut table = Self {
            sectors,
            first,
            last,
            uuid: uuid(random),
            partitions: Vec::new(),
        };
        table.fill(random, sector);
        table
    }

    fn fill(&mut self, random: &mut Random, sector: u64) {
        let align = match random.below(4) {
            0 => 1,
            1 => (4096 / sector).max(1),
            _ => (1 << 20) / sector,
        };
        let count = random.pick(&[0, 1, 1, 2, 2, 3, 4, 5, 8]);
        let share = (self.last - self.first) / (count + 1).max(2);
        let mut at = self.first;
        let mut slot = if random.chance(4) { SLOTS - 9 } else { 0 };
        for _ in 0..count {
            if random.chance(40) {
                at += random.below(share);
            }
            at = at.next_multiple_of(align);
            let mut sectors = random.range(1, share.max(2));
            if random.chance(60) {
                sectors = sectors.next_multiple_of(align);
            }
            if at + sectors > self.last + 1 || slot >= SLOTS {
                break;
            }
            slot += if random.chance(20) {
                random.below(5)
            } else {
                0
            };
            slot = slot.min(SLOTS - 1);
            self.partitions.push(partition(random, slot, at, sectors));
            at += sectors;
            slot += 1;
        }
        if random.chance(20) && self.partitions.len() > 1 {
            let last = self.partitions.len() - 1;
            let (first, other) = (self.partitions[0].slot, self.partitions[last].slot);
            self.partitions[0].slot = other;
            self.partitions[last].slot = first;
            self.partitions.sort_by_key(|partition| partition.slot);
        }
    }

    fn bytes(&self, sector: u64) -> Vec<(u64, Vec<u8>)> {
        let mut slots = vec![0; to_usize(SLOTS * SLOT_SIZE)];
        for partition in &self.partitions {
            let at = to_usize(partition.slot * SLOT_SIZE);
            slots[at..at + to_usize(SLOT_SIZE)].copy_from_slice(&partition.bytes());
        }
        let backup = self.sectors - 1;
        let slots_at = backup - SLOTS * SLOT_SIZE / sector;
        vec![
            (0, self.protective()),
            (sector, self.header(&slots, (1, backup, 2))),
            (2 * sector, slots.clone()),
            (slots_at * sector, slots.clone()),
            (backup * sector, self.header(&slots, (backup, 1, slots_at))),
        ]
    }

    fn protective(&self) -> Vec<u8> {
        let mut mbr = vec![0; 512];
        mbr[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
        mbr[454..458].copy_from_slice(&1_u32.to_le_bytes());
        let covered = u32::try_from(self.sectors - 1).unwrap_or(u32::MAX);
        mbr[458..462].copy_from_slice(&covered.to_le_bytes());
        mbr[510..].copy_from_slice(&[0x55, 0xaa]);
        mbr
    }

    fn header(&self, slots: &[u8], (mine, other, slots_at): (u64, u64, u64)) -> Vec<u8> {
        let mut header = b"EFI PART\0\0\x01\0".to_vec();
        header.extend(92_u32.to_le_bytes());
        header.extend([0; 8]);
        for position in [mine, other, self.first, self.last] {
            header.extend(position.to_le_bytes());
        }
        header.extend(guid_bytes(&self.uuid));
        header.extend(slots_at.to_le_bytes());
        header.extend(128_u32.to_le_bytes());
        header.extend(128_u32.to_le_bytes());
        header.extend(crc32fast::hash(slots).to_le_bytes());
        let crc = crc32fast::hash(&header);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

impl Partition {
    fn bytes(&self) -> Vec<u8> {
        let mut slot = Vec::new();
        slot.extend(guid_bytes(&self.kind));
        slot.extend(guid_bytes(&self.uuid));
        slot.extend(self.start.to_le_bytes());
        slot.extend((self.start + self.sectors - 1).to_le_bytes());
        slot.extend(self.flags.to_le_bytes());
        slot.extend(self.label.encode_utf16().flat_map(u16::to_le_bytes));
        slot.resize(to_usize(SLOT_SIZE), 0);
        slot
    }
}

fn partition(random: &mut Random, slot: u64, start: u64, sectors: u64) -> Partition {
    let label = match random.below(10) {
        0 | 1 => String::new(),
        2 => "_empty".to_owned(),
        3 => "home".to_owned(),
        4 => "root-x86-64".to_owned(),
        5 => "Größe ✓".to_owned(),
        number => format!("old {number}"),
    };
    Partition {
        slot,
        kind: random.pick(&TYPES).1.to_owned(),
        uuid: match random.below(10) {
            0 => "00000000-0000-0000-0000-000000000000".to_owned(),
            // The one that the usual seed gives to the first root partition.
            1 => "6c08bd44-fed4-4c4e-915a-d1b245eb89de".to_owned(),
            _ => uuid(random),
        },
        label,
        flags: random.pick(&[0, 0, 1, 1 << 60, 1 << 63, 1 << 59]),
        start,
        sectors,
    }
}

pub(super) fn uuid(random: &mut Random) -> String {
    let bits = (u128::from(random.number()) << 64) | u128::from(random.number());
    let hex = format!("{bits:032x}");
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

fn guid_bytes(text: &str) -> [u8; 16] {
    guid::parse(text).map_or([0; 16], guid::to_gpt)
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
