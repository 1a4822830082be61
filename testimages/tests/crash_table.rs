//! Power cuts while a partition table is written: the old or the new one is there, whole, for us and
//! for sfdisk.

use std::io::Write;
use std::process::{Command, Stdio};

use blockdev::table::{self, Commit, Label};
use blockdev::{BlockDevice, MemoryDevice};
use image_specs::gpt::{Entry, Label as Name, Table};
use image_specs::guid;
use image_specs::mbr::protective;
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, Lba, SectorSize};
use testimages::crash::Recording;

const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
const SIZE: u64 = 1 << 20;
/// Every so many states, sfdisk is asked too.
const SFDISK_EVERY: usize = 23;

/// A change of a disk that is cut everywhere.
struct Change {
    name: &'static str,
    before: Vec<u8>,
    sector: SectorSize,
    /// The size from which the change starts by growing.
    grow_to: u64,
    table: Table,
    over: Commit,
}

/// What a reader makes of a disk: the kind of label and, for a GPT, what it says.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Other(Label),
    Gpt(String, Vec<(u32, Entry)>),
}

fn entry(number: u128, first: u64, last: u64) -> Entry {
    Entry {
        kind: PartitionType::new(guid::parse(LINUX).unwrap()),
        uuid: guid::parse(&format!("{number:032x}")).unwrap(),
        first: Lba::new(first),
        last: Lba::new(last),
        attributes: 1 << 60 | 1 << 11,
        label: Name::new(&format!("partition {number}")).unwrap(),
        tail: Vec::new(),
    }
}

fn fresh(disk: u128, sector: SectorSize, size: u64, entries: &[(u32, Entry)]) -> Table {
    let guid = guid::parse(&format!("{disk:032x}")).unwrap();
    let mut table = Table::new(guid, sector, Bytes::new(size)).unwrap();
    for (slot, entry) in entries {
        table.insert(*slot, entry.clone()).unwrap();
    }
    table
}

fn disk_with(table: &Table, size: u64) -> Vec<u8> {
    let mut disk = MemoryDevice::new(Bytes::new(size), table.sector_size()).unwrap();
    table::commit(&mut disk, table, Commit::Create).unwrap();
    disk.into_bytes()
}

fn dos_disk() -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    bytes[446 + 4] = 0x83;
    bytes[446 + 8..446 + 12].copy_from_slice(&2_u32.to_le_bytes());
    bytes[446 + 12..446 + 16].copy_from_slice(&100_u32.to_le_bytes());
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

fn changes() -> Vec<Change> {
    let small = SectorSize::S512;
    let large = SectorSize::S4096;
    let old = fresh(
        1,
        small,
        SIZE,
        &[(0, entry(1, 40, 99)), (5, entry(2, 200, 300))],
    );
    let mut new = old.clone();
    new.insert(1, entry(3, 100, 199)).unwrap();
    new.insert(127, entry(4, 400, 500)).unwrap();
    let other = fresh(9, small, SIZE, &[(2, entry(7, 64, 127))]);
    let mut grown = new.clone();
    grown.resize(Bytes::new(2 * SIZE)).unwrap();
    let old_bytes = disk_with(&old, SIZE);
    let damaged = |at: usize| {
        let mut bytes = old_bytes.clone();
        bytes[at] ^= 0xff;
        bytes
    };
    let mut hybrid = old_bytes.clone();
    hybrid.copy_within(446..462, 462);
    hybrid[450] = 0x83;
    let size = usize::try_from(SIZE).unwrap();
    let old_4k = fresh(1, large, SIZE, &[(0, entry(1, 10, 99))]);
    let new_4k = fresh(
        2,
        large,
        SIZE,
        &[(0, entry(1, 10, 99)), (1, entry(2, 100, 120))],
    );
    let change = |name, before: &[u8], table: &Table, over| Change {
        name,
        before: before.to_vec(),
        sector: table.sector_size(),
        grow_to: SIZE,
        table: table.clone(),
        over,
    };
    let mut grow = change("grown", &old_bytes, &grown, Commit::Update);
    grow.grow_to = 2 * SIZE;
    vec![
        change("blank", &vec![0; size], &new, Commit::Create),
        change("added", &old_bytes, &new, Commit::Update),
        change("replaced", &old_bytes, &other, Commit::Create),
        change("unchanged", &old_bytes, &old, Commit::Update),
        change("dos", &dos_disk(), &new, Commit::Create),
        change("no primary header", &damaged(512), &new, Commit::Update),
        change("no primary entries", &damaged(1024), &new, Commit::Update),
        change("no backup", &damaged(size - 512), &new, Commit::Update),
        change("hybrid", &hybrid, &new, Commit::Update),
        change("hybrid replaced", &hybrid, &new, Commit::Create),
        change("4096", &disk_with(&old_4k, SIZE), &new_4k, Commit::Update),
        change("4096 blank", &vec![0; size], &new_4k, Commit::Create),
        grow,
    ]
}

fn see(bytes: &[u8], sector: SectorSize) -> Seen {
    let disk = MemoryDevice::from_bytes(bytes.to_vec(), sector);
    match table::read(&disk).expect("a table that can be read") {
        Label::Gpt(found) => Seen::Gpt(
            found.table.disk_guid.to_string(),
            found.table.slots().clone().into_iter().collect(),
        ),
        other => Seen::Other(other),
    }
}

/// The label and the partitions that sfdisk prints; empty where it sees nothing.
fn sfdisk(bytes: &[u8]) -> Vec<String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let done = Command::new("sfdisk")
        .arg("--dump")
        .arg(file.path())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let lines = text
        .lines()
        .filter(|line| line.contains("start=") || line.starts_with("label"));
    lines
        .map(|line| {
            line.split_once(" : ")
                .map_or(line, |(_, rest)| rest)
                .to_owned()
        })
        .collect()
}

#[test]
fn every_power_cut_leaves_the_old_or_the_new_table() {
    let mut total = 0;
    for change in changes() {
        let mut disk = MemoryDevice::from_bytes(change.before.clone(), change.sector);
        if change.grow_to > SIZE {
            disk.set_size(Bytes::new(change.grow_to)).unwrap();
        }
        table::commit(&mut disk, &change.table, change.over).unwrap();
        let log = disk.log().to_vec();
        let after = disk.into_bytes();
        let (old, new) = (
            see(&change.before, change.sector),
            see(&after, change.sector),
        );
        assert!(matches!(&new, Seen::Gpt(..)), "{}", change.name);
        let oracle = change.sector == SectorSize::S512;
        let (old_dump, new_dump) = (sfdisk(&change.before), sfdisk(&after));
        let mut number = 0;
        let recording = Recording::new(change.before.clone(), &log, change.sector);
        let points = recording.crash_everywhere(&mut |word, bytes| {
            let seen = see(bytes, change.sector);
            assert!(
                seen == old || seen == new,
                "{}, {word}: {seen:?}",
                change.name
            );
            if oracle && number % SFDISK_EVERY == 0 {
                let dump = sfdisk(bytes);
                let whole = dump == old_dump || dump == new_dump;
                assert!(whole, "{}, {word}: {dump:?}", change.name);
            }
            number += 1;
        });
        total += points;
        println!("{}: {points} crash points", change.name);
    }
    println!("{total} crash points in all");
}

/// A table for other sectors than the old one's: the old is read in its own sectors, the new in its.
#[test]
fn a_change_of_the_sector_size_is_safe_too() {
    for (old_sector, new_sector) in [
        (SectorSize::S512, SectorSize::S4096),
        (SectorSize::S4096, SectorSize::S512),
    ] {
        let old = fresh(1, old_sector, SIZE, &[(0, entry(1, 64, 99))]);
        let new = fresh(2, new_sector, SIZE, &[(3, entry(2, 64, 90))]);
        let before = disk_with(&old, SIZE);
        let mut disk = MemoryDevice::from_bytes(before.clone(), new_sector);
        table::commit(&mut disk, &new, Commit::Create).unwrap();
        let log = disk.log().to_vec();
        let after = disk.into_bytes();
        let (was, is) = (see(&before, old_sector), see(&after, new_sector));
        let found = MemoryDevice::from_bytes(after, SectorSize::S512);
        assert_eq!(table::probe_sector_size(&found).unwrap(), Some(new_sector));
        let sees = |bytes: &[u8], sector, wanted: &Seen| {
            let disk = MemoryDevice::from_bytes(bytes.to_vec(), sector);
            match table::read(&disk) {
                Ok(Label::Gpt(_)) => see(bytes, sector) == *wanted,
                _ => false,
            }
        };
        Recording::new(before, &log, SectorSize::S512).crash_everywhere(&mut |word, bytes| {
            let whole = sees(bytes, old_sector, &was) || sees(bytes, new_sector, &is);
            assert!(
                whole,
                "{} to {}: {word}",
                old_sector.get(),
                new_sector.get()
            );
        });
    }
}

/// A write that fails leaves the old table or the new one as well.
#[test]
fn every_failing_write_leaves_the_old_or_the_new_table() {
    use blockdev::memory::Failure;
    for change in changes() {
        let size = usize::try_from(change.grow_to).unwrap();
        let mut bytes = change.before.clone();
        bytes.resize(size, 0);
        let start = MemoryDevice::from_bytes(bytes, change.sector);
        let mut whole = start.clone();
        table::commit(&mut whole, &change.table, change.over).unwrap();
        let (old, new) = (
            see(&change.before, change.sector),
            see(whole.bytes(), change.sector),
        );
        for nth in 0..whole.log().len() {
            for failure in [Failure::Io, Failure::NoSpace, Failure::Short] {
                let mut disk = start.clone().failing(nth, failure);
                assert!(table::commit(&mut disk, &change.table, change.over).is_err());
                let seen = see(disk.bytes(), change.sector);
                assert!(
                    seen == old || seen == new,
                    "{} at {nth}: {seen:?}",
                    change.name
                );
            }
        }
    }
}

#[test]
fn a_table_of_another_geometry_is_not_written() {
    let table = fresh(1, SectorSize::S512, SIZE, &[]);
    for (size, sector) in [(SIZE + 512, SectorSize::S512), (SIZE, SectorSize::S4096)] {
        let mut disk = MemoryDevice::new(Bytes::new(size), sector).unwrap();
        assert!(table::commit(&mut disk, &table, Commit::Create).is_err());
        assert!(disk.log().is_empty());
    }
}

#[test]
fn a_table_is_not_written_over_its_own_last_partition() {
    let mut table = fresh(1, SectorSize::S512, SIZE, &[(0, entry(1, 40, 2015))]);
    table.resize(Bytes::new(SIZE - 512)).unwrap();
    let mut disk = MemoryDevice::new(Bytes::new(SIZE - 512), SectorSize::S512).unwrap();
    let error = table::commit(&mut disk, &table, Commit::Create).unwrap_err();
    assert!(error.to_string().starts_with("partition 1 lies where"));
    assert!(disk.log().is_empty());
}

#[test]
fn a_guard_without_a_table_guards_nothing() {
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    bytes[..512].copy_from_slice(&protective(&[], SectorSize::S512, Lba::new(2047)));
    let seen = see(&bytes, SectorSize::S512);
    assert!(matches!(seen, Seen::Other(Label::Foreign(_))), "{seen:?}");
}
