//! Tables converted between sectors of 512 and 4096 bytes: cut everywhere, and read by fdisk.

use std::fs;
use std::process::Command;

use blockdev::sectors::{self, Conversion};
use blockdev::table::{self, Commit, Label};
use blockdev::{Access, FileDevice, MemoryDevice};
use image_specs::gpt::{Entry, Label as Name, SectorsError, Table};
use image_specs::guid;
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, Lba, SectorSize};
use testimages::crash::Recording;

const SIZE: u64 = 8 << 20;

/// A table with a partition for each range of bytes, `start` to `end`.
fn table(sector: SectorSize, ranges: &[(u64, u64)]) -> Table {
    let number = |number: usize| guid::parse(&format!("{number:032x}")).unwrap();
    let mut table = Table::new(number(99), sector, Bytes::new(SIZE)).unwrap();
    for (slot, (start, end)) in (0..).zip(ranges) {
        let entry = Entry {
            kind: PartitionType::new(guid::parse("0fc63daf-8483-4772-8e79-3d69d8477de4").unwrap()),
            uuid: number(1 + usize::try_from(slot).unwrap()),
            first: sector.lba(Bytes::new(*start)),
            last: Lba::new(sector.lba(Bytes::new(*end)).get() - 1),
            attributes: 1 << 60,
            label: Name::new(&format!("part {slot}")).unwrap(),
            tail: Vec::new(),
        };
        table.insert(3 * slot, entry).unwrap();
    }
    table
}

const RANGES: [(u64, u64); 2] = [(1 << 20, 2 << 20), (4 << 20, (4 << 20) + 4096)];

fn read(bytes: &[u8], sector: SectorSize) -> Option<Table> {
    match table::read(&MemoryDevice::from_bytes(bytes.to_vec(), sector)) {
        Ok(Label::Gpt(found)) => Some(found.table),
        _ => None,
    }
}

#[test]
fn every_power_cut_leaves_a_table_that_converting_again_completes() {
    for (from, to) in [
        (SectorSize::S512, SectorSize::S4096),
        (SectorSize::S4096, SectorSize::S512),
    ] {
        let old = table(from, &RANGES);
        let new = old.in_sectors(to, Bytes::new(SIZE)).unwrap();
        assert_eq!(new, table(to, &RANGES));
        let mut disk = MemoryDevice::new(Bytes::new(SIZE), from).unwrap();
        table::commit(&mut disk, &old, Commit::Create).unwrap();
        let before = disk.into_bytes();
        let mut disk = MemoryDevice::from_bytes(before.clone(), to);
        sectors::apply(&mut disk, &new).unwrap();
        let log = disk.log().to_vec();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let mut number = 0;
        let recording = Recording::new(before.clone(), &log, SectorSize::S512);
        let points = recording.crash_everywhere(&mut |word, bytes| {
            let is_old = read(bytes, from).is_some_and(|found| found.slots() == old.slots());
            let is_new = read(bytes, to).is_some_and(|found| found.slots() == new.slots());
            assert!(is_old || is_new, "{word}");
            number += 1;
            if number % 23 == 0 {
                fs::write(&path, bytes).unwrap();
                let mut device = FileDevice::open(&path, Access::ReadWrite, Some(to)).unwrap();
                if let Conversion::Write(table) = sectors::plan(&mut device, to).unwrap() {
                    sectors::apply(&mut device, &table).unwrap();
                }
                assert_eq!(sectors::plan(&mut device, to).unwrap(), Conversion::Done);
                let done = fs::read(&path).unwrap();
                assert_eq!(read(&done, to), Some(new.clone()), "{word}");
            }
        });
        println!("{} to {}: {points} crash points", from.get(), to.get());
        fs::write(&path, disk_bytes(&before, to, &new)).unwrap();
        fdisk(&path, to);
    }
}

fn disk_bytes(before: &[u8], to: SectorSize, new: &Table) -> Vec<u8> {
    let mut disk = MemoryDevice::from_bytes(before.to_vec(), to);
    sectors::apply(&mut disk, new).unwrap();
    disk.into_bytes()
}

/// What fdisk lists with such sectors: the same bytes, and nothing to complain of.
fn fdisk(path: &std::path::Path, sector: SectorSize) {
    let done = Command::new("fdisk")
        .args([
            "--sector-size",
            &sector.get().to_string(),
            "--list",
            "--output",
            "Start,End",
        ])
        .arg(path)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(
        done.status.success() && done.stderr.is_empty(),
        "{text} {:?}",
        done.stderr
    );
    let numbers = |line: &str| {
        let mut words = line.split_whitespace().map(|word| word.parse::<u64>());
        Some((words.next()?.ok()?, words.next()?.ok()?))
    };
    let found: Vec<_> = text.lines().filter_map(numbers).collect();
    let count = sector.get();
    let wanted = RANGES.map(|(start, end)| (start / count, end / count - 1));
    assert_eq!(found, wanted, "{text}");
    assert!(text.contains("Disklabel type: gpt"), "{text}");
}

#[test]
fn partitions_that_no_such_table_can_hold_are_named() {
    let cases = [
        ((1 << 20, (2 << 20) + 512), "does not begin and end"),
        (((1 << 20) + 512, 2 << 20), "does not begin and end"),
        ((1 << 20, SIZE - (20 << 10)), "fits"),
        ((1 << 20, SIZE - (17 << 10) - 512), "does not begin and end"),
    ];
    for (range, words) in cases {
        let old = table(SectorSize::S512, &[range]);
        let converted = old.in_sectors(SectorSize::S4096, Bytes::new(SIZE));
        match converted {
            Ok(_) => assert_eq!(words, "fits"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(words), "{text}");
                assert!(text.starts_with("partition 1 (\"part 0\")"), "{text}");
            }
        }
    }
    let mut low = table(SectorSize::S512, &[]);
    low.resize(Bytes::new(SIZE)).unwrap();
    let odd = low.in_sectors(SectorSize::S4096, Bytes::new(SIZE + 512));
    assert_eq!(odd, Err(SectorsError::Size { sector: 4096 }));
    let small = Table::new(
        guid::parse(&format!("{:032x}", 1)).unwrap(),
        SectorSize::S512,
        Bytes::mib(4),
    );
    let mut small = small.unwrap();
    let mut entry = table(SectorSize::S512, &RANGES).slots()[&0].clone();
    (entry.first, entry.last) = (Lba::new(40), Lba::new(79));
    small.insert(0, entry).unwrap();
    let error = small
        .in_sectors(SectorSize::S4096, Bytes::mib(4))
        .unwrap_err();
    assert!(
        error.to_string().contains("lies where the partition table"),
        "{error}"
    );
}
