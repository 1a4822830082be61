//! Tables against their bytes, and chains that lie.

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::units::{Bytes, Lba, SectorSize};

const SIZE: Bytes = Bytes::mib(64);
const SECTOR: SectorSize = SectorSize::S512;

/// The sectors of a disk that are not zero.
#[derive(Clone, Default)]
struct Disk(BTreeMap<u64, Vec<u8>>);

impl Disk {
    fn of(table: &MbrTable) -> Self {
        let mut disk = Self::default();
        disk.write(table);
        disk
    }

    fn write(&mut self, table: &MbrTable) {
        for sector in table.sectors() {
            let place = self.0.entry(sector.at.get()).or_insert(vec![0; 512]);
            *place = sector.onto(place);
        }
    }

    fn record(&self, at: Lba) -> Option<Mbr> {
        Mbr::parse(self.0.get(&at.get())?)
    }

    fn read(&self) -> Result<MbrTable, MbrError> {
        let record = self.record(Lba::new(0)).unwrap();
        let chain = match record.extended().next() {
            Some((_, extended)) => {
                let read = &mut |at| Ok::<_, Infallible>(self.record(at));
                walk(extended.first, read).unwrap()
            }
            None => Chain::default(),
        };
        MbrTable::parse(&record, &chain, (SECTOR, SIZE))
    }

    /// Sets an entry of the record in a sector: place, type, first sector, sectors.
    fn set(&mut self, at: u64, place: usize, kind: u8, first: u32, sectors: u32) {
        let bytes = self.0.entry(at).or_insert(vec![0; 512]);
        let entry = &mut bytes[446 + 16 * place..][..16];
        entry[4] = kind;
        entry[8..12].copy_from_slice(&first.to_le_bytes());
        entry[12..].copy_from_slice(&sectors.to_le_bytes());
        bytes[510..].copy_from_slice(&[0x55, 0xaa]);
    }
}

fn entry(first: u64, sectors: u32, record: Option<u64>) -> MbrEntry {
    MbrEntry {
        status: 0,
        kind: MbrType::LINUX,
        first: Lba::new(first),
        sectors,
        record: record.map(Lba::new),
    }
}

/// Two primary partitions and three logical ones.
fn sample() -> MbrTable {
    let mut table = MbrTable::new(0x1234_abcd, SECTOR);
    table.insert(0, entry(2048, 100, None));
    table.insert(2, entry(100_000, 500, None));
    table.set_extended(1, Lba::new(4096), 60_000);
    table.insert(4, entry(4104, 96, Some(4096)));
    table.insert(5, entry(9000, 100, Some(8192)));
    table.insert(6, entry(8000, 100, Some(7000)));
    table
}

#[test]
fn types_are_bytes_or_names() {
    for (text, byte) in [
        ("linux", 0x83),
        ("83", 0x83),
        ("0x83", 0x83),
        ("C", 0x0c),
        ("ef", 0xef),
        ("esp", 0xef),
        ("fat32", 0x0c),
        ("swap", 0x82),
    ] {
        assert_eq!(MbrType::parse(text).unwrap().byte(), byte, "{text}");
    }
    for text in [
        "", "0", "00", "0x", "5", "0f", "85", "ee", "123", "+8", "Linux", "extended",
    ] {
        assert!(MbrType::parse(text).is_err(), "{text}");
    }
    assert_eq!(MbrType::parse("7").unwrap().to_string(), "0x07");
}

#[test]
fn the_nearest_type_leads_back() {
    for byte in [0x83, 0x82, 0xef, 0xea] {
        let kind = MbrType::new(byte).unwrap();
        let designator = kind.nearest().designator().unwrap();
        assert_eq!(MbrType::of(designator), Some(kind));
    }
}

#[test]
fn a_table_is_read_as_it_was_written() {
    let table = sample();
    let disk = Disk::of(&table);
    assert_eq!(disk.read().unwrap(), table);
    let places: Vec<u64> = table.sectors().iter().map(|one| one.at.get()).collect();
    assert_eq!(places, [0, 4096, 8192, 7000]);
}

#[test]
fn a_chain_without_its_first_partition_keeps_its_head() {
    let mut table = sample();
    let mut disk = Disk::of(&table);
    table.remove(4);
    let renumbered = [(4, table.remove(5).unwrap()), (5, table.remove(6).unwrap())];
    for (slot, entry) in renumbered {
        table.insert(slot, entry);
    }
    disk.write(&table);
    assert_eq!(disk.read().unwrap(), table);
    assert_eq!(table.sectors()[1].at, Lba::new(4096));
}

#[test]
fn what_stands_there_stays() {
    let mut disk = Disk::of(&sample());
    for (sector, bytes) in &mut disk.0 {
        bytes[..440].fill(7);
        bytes[444] = u8::try_from(*sector & 1).unwrap();
        // Cylinders as another tool makes them up, and a lead that covers more.
        bytes[447] = 99;
    }
    let lead = &mut disk.0.get_mut(&4096).unwrap()[446 + 16 + 12..][..4];
    lead.copy_from_slice(&50_000_u32.to_le_bytes());
    let before = disk.0.clone();
    disk.write(&sample());
    assert_eq!(disk.0, before);
    let mut grown = sample();
    grown.entry_mut(6).unwrap().sectors += 8;
    disk.write(&grown);
    let differ = before.iter().filter(|(at, bytes)| disk.0[at] != **bytes);
    let differ: Vec<u64> = differ.map(|(at, _)| *at).collect();
    assert_eq!(differ, [7000, 8192]);
}

#[test]
fn broken_tables_are_errors() {
    type Break = fn(&mut Disk);
    let cases: [(Break, &str); 12] = [
        (|disk| disk.set(7000, 1, 5, 0, 9), "back to sector 4096"),
        (|disk| disk.set(8192, 1, 5, 4096, 9), "back to sector 8192"),
        (
            |disk| disk.set(7000, 1, 5, 77, 9),
            "where there is no boot record",
        ),
        (|disk| disk.set(0, 3, 0x0f, 90_000, 9), "several extended"),
        (
            |disk| disk.set(0, 3, 0x83, 5000, 9),
            "overlap in sector 5000",
        ),
        (|disk| disk.set(0, 3, 0x83, 0, 9), "overlap in sector 0"),
        (
            |disk| disk.set(0, 3, 0x83, 90_000, 0),
            "partition 4 has no sectors",
        ),
        (
            |disk| disk.set(0, 3, 0x83, 131_000, 99),
            "partition 4 ends behind the end",
        ),
        (
            |disk| disk.set(0, 1, 0x0f, 4096, 200_000),
            "partition 2 ends behind the end",
        ),
        (
            |disk| disk.set(8192, 0, 0x83, 1, 99_000),
            "partition 6 or its boot record lies outside",
        ),
        (
            |disk| disk.set(4096, 0, 0x83, 1, 5000),
            "overlap in sector 7000",
        ),
        (
            |disk| disk.0.get_mut(&0).unwrap()[446] = 1,
            "partition 1 has the status 0x01",
        ),
    ];
    for (change, words) in cases {
        let mut disk = Disk::of(&sample());
        change(&mut disk);
        let error = disk.read().unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_chain_has_an_end() {
    let mut disk = Disk::default();
    disk.set(0, 0, 5, 1, 60_000);
    for at in 1..=200 {
        disk.set(at, 1, 5, u32::try_from(at).unwrap(), 1);
    }
    assert_eq!(disk.read().unwrap_err(), ChainFault::TooLong.into());
}

#[test]
fn an_extended_partition_may_be_empty() {
    let mut disk = Disk::default();
    disk.set(0, 0, 5, 1, 60_000);
    let table = disk.read().unwrap();
    assert_eq!((table.slots().len(), table.sectors().len()), (0, 1));
    disk.set(1, 0, 0, 0, 0);
    assert_eq!(disk.read().unwrap().sectors().len(), 2);
}

proptest! {
    #[test]
    fn any_table_comes_back(
        primary in prop::collection::btree_map(0..4_u32, 1..1000_u32, 0..4),
        logical in prop::collection::vec((1..50_u64, 1..1000_u32), 0..50),
        id in any::<u32>(),
    ) {
        let mut table = MbrTable::new(id, SECTOR);
        let mut at = 1;
        for (slot, sectors) in &primary {
            table.insert(*slot, entry(at, *sectors, None));
            at += u64::from(*sectors);
        }
        let free = (0..4).find(|slot| !primary.contains_key(slot)).unwrap();
        let start = at;
        for (slot, (gap, sectors)) in (4..).zip(&logical) {
            table.insert(slot, entry(at + gap, *sectors, Some(at)));
            at += gap + u64::from(*sectors);
        }
        if at > start {
            table.set_extended(free, Lba::new(start), u32::try_from(at - start).unwrap());
        }
        prop_assert_eq!(Disk::of(&table).read().unwrap(), table);
    }

    #[test]
    fn changed_bytes_do_not_panic(
        changes in prop::collection::vec((0..4_usize, 440..512_usize, any::<u8>()), 1..12),
    ) {
        let mut disk = Disk::of(&sample());
        for (which, at, byte) in changes {
            let sector = [0, 4096, 8192, 7000][which];
            disk.0.get_mut(&sector).unwrap()[at] = byte;
        }
        if let Some(Ok(table)) = disk.record(Lba::new(0)).map(|_| disk.read()) {
            let written = Disk::of(&table);
            prop_assert_eq!(written.read().unwrap(), table);
        }
    }
}
