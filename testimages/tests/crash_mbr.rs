//! Power cuts while a master boot record with its chain is written: a sound table is there, which
//! shows every partition with its old or its new bounds, for us and for sfdisk. What changes in one
//! sector only is there whole or not at all.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use blockdev::memory::{Event, Failure};
use blockdev::table::{self, Commit, Label};
use blockdev::{BlockDevice, MemoryDevice, mbr};
use image_specs::gpt::Table;
use image_specs::guid;
use image_specs::mbr::{Mbr, MbrEntry, MbrTable, MbrType};
use image_specs::units::{Bytes, Lba, SectorSize};
use testimages::crash::Recording;

const SIZE: u64 = 1 << 20;
/// Every so many states, sfdisk is asked too.
const SFDISK_EVERY: usize = 23;

/// What may be seen on the way.
#[derive(Clone, Copy, PartialEq)]
enum Promise {
    /// The old table or the new one.
    Whole,
    /// Each partition as it was or as it will be.
    Each,
}
use Promise::{Each, Whole};

/// A change of a disk that is cut everywhere.
struct Change {
    name: &'static str,
    before: Vec<u8>,
    table: MbrTable,
    over: Commit,
    promise: Promise,
}

/// Number, from 0, and type, first sector, sectors of each partition with data.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Nothing,
    Gpt,
    Mbr(BTreeMap<u32, (u8, u64, u32)>),
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

/// Two primary partitions and, in a third, three logical ones.
fn old() -> MbrTable {
    let mut table = MbrTable::new(0x1234_abcd, SectorSize::S512);
    table.insert(0, entry(8, 92, None));
    table.insert(1, entry(100, 100, None));
    table.set_extended(2, Lba::new(300), 700);
    table.insert(4, entry(308, 92, Some(300)));
    table.insert(5, entry(408, 92, Some(400)));
    table.insert(6, entry(508, 92, Some(500)));
    table
}

fn disk_with(table: &MbrTable, sector: SectorSize) -> Vec<u8> {
    let mut disk = MemoryDevice::new(Bytes::new(SIZE), sector).unwrap();
    mbr::commit(&mut disk, table, Commit::Create).unwrap();
    disk.into_bytes()
}

fn gpt_disk() -> Vec<u8> {
    let guid = guid::parse(&format!("{:032x}", 1)).unwrap();
    let table = Table::new(guid, SectorSize::S512, Bytes::new(SIZE)).unwrap();
    let mut disk = MemoryDevice::new(Bytes::new(SIZE), SectorSize::S512).unwrap();
    table::commit(&mut disk, &table, Commit::Create).unwrap();
    disk.into_bytes()
}

fn changes() -> Vec<Change> {
    let blank = vec![0; usize::try_from(SIZE).unwrap()];
    let bytes = disk_with(&old(), SectorSize::S512);
    let mut primary = MbrTable::new(1, SectorSize::S512);
    primary.insert(0, entry(8, 92, None));
    let change = |name, before: &[u8], promise, over, edit: &dyn Fn(&mut MbrTable)| {
        let mut table = old();
        edit(&mut table);
        Change {
            name,
            before: before.to_vec(),
            table,
            over,
            promise,
        }
    };
    let update = |name, promise, edit: &dyn Fn(&mut MbrTable)| {
        change(name, &bytes, promise, Commit::Update, edit)
    };
    let only_primary = disk_with(&primary, SectorSize::S512);
    vec![
        change("blank", &blank, Whole, Commit::Create, &|_| {}),
        change("gpt", &gpt_disk(), Whole, Commit::Create, &|_| {}),
        change(
            "primary replaced",
            &only_primary,
            Whole,
            Commit::Create,
            &|_| {},
        ),
        change(
            "chain begun",
            &only_primary,
            Whole,
            Commit::Update,
            &|table| {
                table.remove(1);
                table.disk_id = 1;
            },
        ),
        update("unchanged", Whole, &|_| {}),
        update("primary added", Whole, &|table| {
            table.insert(3, entry(1100, 50, None))
        }),
        update("primary grown", Whole, &|table| {
            table.entry_mut(1).unwrap().sectors = 200
        }),
        update("logical added", Whole, &|table| {
            table.insert(7, entry(608, 92, Some(600)))
        }),
        update("logical added beyond the end", Whole, &|table| {
            table.set_extended(2, Lba::new(300), 900);
            table.insert(7, entry(1008, 92, Some(1000)));
        }),
        update("several logical added", Whole, &|table| {
            table.set_extended(2, Lba::new(300), 1000);
            table.insert(7, entry(1208, 92, Some(1200)));
            table.insert(8, entry(1008, 92, Some(1000)));
            table.insert(9, entry(608, 300, Some(600)));
        }),
        update("last logical removed", Whole, &|table| {
            table.remove(6);
        }),
        update("last logical replaced", Whole, &|table| {
            table.insert(6, entry(516, 180, Some(508)));
        }),
        update("logical grown and added", Each, &|table| {
            table.entry_mut(6).unwrap().sectors = 192;
            table.set_extended(2, Lba::new(300), 900);
            table.insert(7, entry(1008, 92, Some(1000)));
        }),
        update("everything", Each, &|table| {
            table.entry_mut(1).unwrap().sectors = 200;
            table.insert(3, entry(1500, 50, None));
            table.set_extended(2, Lba::new(300), 1100);
            table.entry_mut(6).unwrap().sectors = 192;
            table.insert(7, entry(1008, 92, Some(1000)));
            table.insert(8, entry(1208, 92, Some(1200)));
        }),
    ]
}

fn see(bytes: &[u8], sector: SectorSize) -> Seen {
    let disk = MemoryDevice::from_bytes(bytes.to_vec(), sector);
    if let Ok(Label::Gpt(_)) = table::read(&disk) {
        return Seen::Gpt;
    }
    let Some(table) = mbr::read(&disk).expect("a table that can be read") else {
        return Seen::Nothing;
    };
    let row =
        |(slot, one): (&u32, &MbrEntry)| (*slot, (one.kind.byte(), one.first.get(), one.sectors));
    Seen::Mbr(table.slots().iter().map(row).collect())
}

/// What sfdisk prints of partitions with data: number, first sector, sectors, type.
fn sfdisk(bytes: &[u8]) -> Vec<(u32, u64, u64, String)> {
    // A name that does not end in a digit, behind which sfdisk would put a p.
    let mut file = tempfile::Builder::new().suffix(".img").tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let done = Command::new("sfdisk")
        .arg("--dump")
        .arg(file.path())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let name = file.path().to_str().unwrap();
    let row = |line: &str| {
        let (node, rest) = line.split_once(" : ")?;
        let field = |name: &str| {
            let found = rest
                .split(',')
                .find_map(|one| one.trim().strip_prefix(name));
            Some(found?.trim().to_owned())
        };
        let number = node.strip_prefix(name)?.trim().parse().ok()?;
        let (first, size) = (field("start=")?, field("size=")?);
        Some((
            number,
            first.parse().ok()?,
            size.parse().ok()?,
            field("type=")?,
        ))
    };
    let rows = text.lines().filter_map(row);
    rows.filter(|row| row.3 != "f" && row.3 != "5").collect()
}

/// Partitions by number, as a set of what may stand there.
fn each<K: Ord + Copy, V: PartialEq + Clone>(
    seen: &BTreeMap<K, V>,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> bool {
    let known = |key: &K| {
        let found = seen.get(key);
        found == old.get(key) || found == new.get(key)
    };
    let mut keys = seen.keys().chain(old.keys()).chain(new.keys());
    keys.all(known)
}

fn kept(seen: &Seen, old: &Seen, new: &Seen, promise: Promise) -> bool {
    match (seen, old, new, promise) {
        (Seen::Mbr(seen), Seen::Mbr(old), Seen::Mbr(new), Each) => each(seen, old, new),
        _ => seen == old || seen == new,
    }
}

#[test]
fn every_power_cut_leaves_a_sound_table() {
    let mut total = 0;
    for change in changes() {
        let mut disk = MemoryDevice::from_bytes(change.before.clone(), SectorSize::S512);
        mbr::commit(&mut disk, &change.table, change.over).unwrap();
        let log = disk.log().to_vec();
        let after = disk.into_bytes();
        let (old, new) = (
            see(&change.before, SectorSize::S512),
            see(&after, SectorSize::S512),
        );
        assert!(matches!(&new, Seen::Mbr(_)), "{}", change.name);
        let writes = log
            .iter()
            .filter(|event| matches!(event, Event::Write { .. }));
        assert_eq!(writes.count() == 0, change.name == "unchanged");
        let dump = |bytes: &[u8]| {
            let rows = sfdisk(bytes).into_iter();
            rows.map(|row| (row.0, row)).collect::<BTreeMap<_, _>>()
        };
        let (old_dump, new_dump) = (dump(&change.before), dump(&after));
        let Seen::Mbr(listed) = &new else { continue };
        assert_eq!(new_dump.len(), listed.len(), "{}", change.name);
        let mut number = 0;
        let recording = Recording::new(change.before.clone(), &log, SectorSize::S512);
        let points = recording.crash_everywhere(&mut |word, bytes| {
            let seen = see(bytes, SectorSize::S512);
            let good = kept(&seen, &old, &new, change.promise);
            assert!(good, "{}, {word}: {seen:?}", change.name);
            if number % SFDISK_EVERY == 0 {
                let seen = dump(bytes);
                let good = match change.promise {
                    Whole => seen == old_dump || seen == new_dump,
                    Each => each(&seen, &old_dump, &new_dump),
                };
                assert!(good, "{}, {word}: {seen:?}", change.name);
            }
            number += 1;
        });
        total += points;
        println!("{}: {points} crash points", change.name);
    }
    println!("{total} crash points in all");
}

/// Whatever a cut left, writing the table again ends with the new one.
#[test]
fn another_run_completes_what_was_cut() {
    for change in changes() {
        let mut disk = MemoryDevice::from_bytes(change.before.clone(), SectorSize::S512);
        mbr::commit(&mut disk, &change.table, change.over).unwrap();
        let log = disk.log().to_vec();
        let new = see(disk.bytes(), SectorSize::S512);
        let recording = Recording::new(change.before.clone(), &log, SectorSize::S512);
        recording.crash_everywhere(&mut |word, bytes| {
            let mut disk = MemoryDevice::from_bytes(bytes.to_vec(), SectorSize::S512);
            mbr::commit(&mut disk, &change.table, change.over).unwrap();
            let seen = see(disk.bytes(), SectorSize::S512);
            assert_eq!(seen, new, "{}, {word}", change.name);
        });
    }
}

/// A write that fails leaves a sound table as well.
#[test]
fn every_failing_write_leaves_a_sound_table() {
    for change in changes() {
        let start = MemoryDevice::from_bytes(change.before.clone(), SectorSize::S512);
        let mut whole = start.clone();
        mbr::commit(&mut whole, &change.table, change.over).unwrap();
        let (old, new) = (
            see(&change.before, SectorSize::S512),
            see(whole.bytes(), SectorSize::S512),
        );
        for nth in 0..whole.log().len() {
            for failure in [Failure::Io, Failure::NoSpace] {
                let mut disk = start.clone().failing(nth, failure);
                assert!(mbr::commit(&mut disk, &change.table, change.over).is_err());
                let seen = see(disk.bytes(), SectorSize::S512);
                let good = kept(&seen, &old, &new, change.promise);
                assert!(good, "{} at {nth}: {seen:?}", change.name);
            }
        }
    }
}

/// The record of a GPT disk that lists partitions, too, comes when the table is there.
#[test]
fn a_hybrid_record_is_written_last() {
    let before = gpt_disk();
    let disk = MemoryDevice::from_bytes(before.clone(), SectorSize::S512);
    let Ok(Label::Gpt(mut found)) = table::read(&disk) else {
        panic!("no table");
    };
    found.table.disk_guid = guid::parse(&format!("{:032x}", 2)).unwrap();
    let listed = [(MbrType::parse("fat32").unwrap(), Lba::new(100), 50)];
    let mut disk = disk;
    table::commit_hybrid(&mut disk, &found.table, Commit::Update, &listed).unwrap();
    let log = disk.log().to_vec();
    let record = Mbr::parse(disk.bytes()).unwrap();
    let rows = record.partitions.iter().flatten();
    let rows: Vec<_> = rows
        .map(|one| (one.kind, one.first.get(), one.sectors))
        .collect();
    assert_eq!(rows, [(0xee, 1, 99), (0x0c, 100, 50)]);
    let recording = Recording::new(before, &log, SectorSize::S512);
    let points = recording.crash_everywhere(&mut |word, bytes| {
        let disk = MemoryDevice::from_bytes(bytes.to_vec(), SectorSize::S512);
        let Ok(Label::Gpt(seen)) = table::read(&disk) else {
            panic!("{word}: no table");
        };
        let new = seen.table.disk_guid == found.table.disk_guid;
        assert!(new || !seen.hybrid, "{word}");
    });
    println!("hybrid: {points} crash points");
    // Who knows nothing of it leaves it alone.
    table::commit(&mut disk, &found.table, Commit::Update).unwrap();
    assert_eq!(Mbr::parse(disk.bytes()).unwrap(), record);
}

#[test]
fn the_boot_code_stays_and_a_gpt_goes() {
    let mut before = gpt_disk();
    before[..440].fill(0xab);
    let mut disk = MemoryDevice::from_bytes(before, SectorSize::S512);
    mbr::commit(&mut disk, &old(), Commit::Create).unwrap();
    let bytes = disk.into_bytes();
    assert!(bytes[..440].iter().all(|byte| *byte == 0xab));
    assert!(bytes[512..1024].iter().all(|byte| *byte == 0));
    assert!(!bytes.windows(8).any(|window| window == b"EFI PART"));
}

#[test]
fn a_table_for_other_sectors_or_a_smaller_disk_is_not_written() {
    for (size, sector) in [(SIZE / 2, SectorSize::S512), (SIZE, SectorSize::S4096)] {
        let mut disk = MemoryDevice::new(Bytes::new(size / 2), sector).unwrap();
        assert!(mbr::commit(&mut disk, &old(), Commit::Create).is_err());
        assert!(disk.log().is_empty());
    }
}

#[test]
fn a_table_in_sectors_of_4096_bytes_comes_back() {
    let mut table = MbrTable::new(7, SectorSize::S4096);
    table.insert(0, entry(8, 92, None));
    table.set_extended(1, Lba::new(100), 100);
    table.insert(4, entry(108, 30, Some(100)));
    table.insert(5, entry(148, 30, Some(140)));
    let bytes = disk_with(&table, SectorSize::S4096);
    let disk = MemoryDevice::from_bytes(bytes, SectorSize::S4096);
    assert_eq!(mbr::read(&disk).unwrap(), Some(table));
    assert_eq!(disk.size(), Bytes::new(SIZE));
}
