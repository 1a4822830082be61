//! Our tables against libfdisk's, byte by byte, and under the eyes of an independent reader.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use blockdev::table::{self, Commit, Label};
use blockdev::{Access, BlockDevice, FileDevice, MemoryDevice};
use image_specs::gpt::{Entry, Label as Name, Table};
use image_specs::guid;
use image_specs::mbr::protective;
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, Lba, SectorSize};

const DISK: &str = "11111111-2222-3333-4444-555555555555";
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";

/// A partition of a test.
struct Row {
    slot: u32,
    first: u64,
    sectors: u64,
    kind: &'static str,
    uuid: &'static str,
    label: &'static str,
    attributes: u64,
}

const ROWS: &[Row] = &[
    Row {
        slot: 0,
        first: 2048,
        sectors: 2048,
        kind: ESP,
        uuid: "6c08bd44-fed4-4c4e-915a-d1b245eb89de",
        label: "ESP",
        attributes: 0,
    },
    Row {
        slot: 4,
        first: 4096,
        sectors: 1,
        kind: LINUX,
        uuid: "7bfd409b-b67f-4466-9e33-95510bf538f1",
        label: "",
        attributes: 1 << 60 | 1 << 59 | 1,
    },
    Row {
        slot: 2,
        first: 5000,
        sectors: 3000,
        kind: LINUX,
        uuid: "c938db28-a4b6-4968-8190-0379d3949b75",
        label: "\u{fc} \u{4e2d} x",
        attributes: 1 << 63,
    },
    Row {
        slot: 127,
        first: 8000,
        sectors: 1,
        kind: LINUX,
        uuid: "16c99888-9efa-4ebd-9d37-94134e8aea4d",
        label: "last",
        attributes: 0,
    },
];

fn entry(row: &Row) -> Entry {
    Entry {
        kind: PartitionType::new(guid::parse(row.kind).unwrap()),
        uuid: guid::parse(row.uuid).unwrap(),
        first: Lba::new(row.first),
        last: Lba::new(row.first + row.sectors - 1),
        attributes: row.attributes,
        label: Name::new(row.label).unwrap(),
        tail: Vec::new(),
    }
}

fn ours(size: u64, sector: SectorSize, rows: &[Row]) -> Table {
    let disk = guid::parse(DISK).unwrap();
    let mut table = Table::new(disk, sector, Bytes::new(size)).unwrap();
    for row in rows {
        table.insert(row.slot, entry(row)).unwrap();
    }
    table
}

/// The same for sfdisk.
fn script(head: &str, rows: &[Row]) -> String {
    let mut text = format!("label: gpt\nlabel-id: {DISK}\n{head}\n");
    for row in rows {
        let bits = (0..64).filter(|bit| row.attributes >> bit & 1 == 1);
        let bits: Vec<String> = bits
            .map(|bit| match bit {
                0 => "RequiredPartition".to_owned(),
                bit => format!("GUID:{bit}"),
            })
            .collect();
        text += &format!(
            "x{} : start={}, size={}, type={}, uuid={}, name=\"{}\", attrs=\"{}\"\n",
            row.slot + 1,
            row.first,
            row.sectors,
            row.kind,
            row.uuid,
            row.label,
            bits.join(" ")
        );
    }
    text
}

fn sfdisk(arguments: &[&str], path: &Path, input: &str) -> String {
    let mut child = Command::new("sfdisk")
        .args(arguments)
        .arg(path)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "sfdisk {arguments:?}");
    String::from_utf8(done.stdout).unwrap()
}

fn blank(path: &Path, size: u64) {
    fs::File::create(path).unwrap().set_len(size).unwrap();
}

fn assert_same_bytes(ours: &[u8], theirs: &[u8], what: &str) {
    let differs = ours.iter().zip(theirs).position(|(a, b)| a != b);
    assert_eq!((ours.len(), differs), (theirs.len(), None), "{what}");
}

#[test]
fn fresh_tables_are_those_of_sfdisk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    for (size, rows) in [
        (16 << 20, ROWS),
        (16 << 20, &[]),
        ((4 << 20) + 512, &[]),
        (4 << 20, &[]),
        (1 << 20, &[]),
        ((8 << 20) - 512, &ROWS[..1]),
    ] {
        blank(&path, size);
        sfdisk(&["-q"], &path, &script("", rows));
        let table = ours(size, SectorSize::S512, rows);
        let mut disk = MemoryDevice::new(Bytes::new(size), SectorSize::S512).unwrap();
        table::commit(&mut disk, &table, Commit::Create).unwrap();
        assert_same_bytes(disk.bytes(), &fs::read(&path).unwrap(), &size.to_string());
        fs::write(&path, disk.bytes()).unwrap();
        let verdict = sfdisk(&["--verify"], &path, "");
        assert!(verdict.contains("No errors detected."), "{verdict}");
        assert_eq!(table.findings(Bytes::new(size)), []);
    }
}

/// Past what an MBR can count, and too large for memory: the pieces are where they belong.
#[test]
fn tables_of_large_disks_are_those_of_sfdisk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let size = 3 << 40;
    blank(&path, size);
    sfdisk(&["-q"], &path, &script("", ROWS));
    let new = ours(size, SectorSize::S512, ROWS).encode();
    let file = FileDevice::open(&path, Access::ReadOnly, None).unwrap();
    for chunk in [
        &new.primary_entries,
        &new.primary_header,
        &new.backup_entries,
        &new.backup_header,
    ] {
        let mut bytes = vec![0; chunk.bytes.len()];
        let offset = chunk.lba.start(SectorSize::S512).unwrap();
        file.read_exact_at(&mut bytes, offset).unwrap();
        assert_same_bytes(&chunk.bytes, &bytes, &format!("sector {}", chunk.lba.get()));
    }
    let mut record = vec![0; 512];
    file.read_exact_at(&mut record, Bytes::ZERO).unwrap();
    let guard = protective(&[], SectorSize::S512, Lba::new(new.protective_sectors));
    assert_same_bytes(&guard, &record, "protective MBR");
}

#[test]
fn what_sfdisk_wrote_is_read_and_written_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let size = 16 << 20;
    blank(&path, size);
    let head = "table-length: 256\nfirst-lba: 100\n";
    sfdisk(&["-q"], &path, &script(head, ROWS));
    let theirs = fs::read(&path).unwrap();
    let mut disk = MemoryDevice::from_bytes(theirs.clone(), SectorSize::S512);
    let Label::Gpt(found) = table::read(&disk).unwrap() else {
        panic!("no table");
    };
    assert_eq!(found.other, None);
    assert_eq!(found.table.entry_count(), 256);
    assert_eq!(found.table.first_usable(), Lba::new(100));
    assert_eq!(
        found.table.slots(),
        ours(size, SectorSize::S512, ROWS).slots()
    );
    table::commit(&mut disk, &found.table, Commit::Update).unwrap();
    assert_same_bytes(disk.bytes(), &theirs, "written back");
}

#[test]
fn a_grown_disk_becomes_what_sfdisk_makes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let (small, large) = (16 << 20, 24 << 20);
    blank(&path, small);
    sfdisk(&["-q"], &path, &script("", ROWS));
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(large).unwrap();
    let before = fs::read(&path).unwrap();
    sfdisk(&["-q", "-N", "1"], &path, "name=\"new\"\n");
    let mut disk = MemoryDevice::from_bytes(before, SectorSize::S512);
    let Label::Gpt(mut found) = table::read(&disk).unwrap() else {
        panic!("no table");
    };
    found.table.resize(Bytes::new(large)).unwrap();
    found.table.entry_mut(0).unwrap().label = Name::new("new").unwrap();
    table::commit(&mut disk, &found.table, Commit::Update).unwrap();
    assert_same_bytes(disk.bytes(), &fs::read(&path).unwrap(), "grown");
}

#[test]
fn the_gpt_crate_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let size = 64 << 20;
    for (sector, theirs) in [
        (SectorSize::S512, gpt::disk::LogicalBlockSize::Lb512),
        (SectorSize::S4096, gpt::disk::LogicalBlockSize::Lb4096),
    ] {
        let table = ours(size, sector, ROWS);
        let mut disk = MemoryDevice::new(Bytes::new(size), sector).unwrap();
        table::commit(&mut disk, &table, Commit::Create).unwrap();
        fs::write(&path, disk.bytes()).unwrap();
        let config = gpt::GptConfig::new().writable(false);
        let read = config.logical_block_size(theirs).open(&path).unwrap();
        assert_eq!(read.guid().to_string(), DISK);
        let header = read.primary_header().unwrap();
        assert_eq!(header.first_usable, table.first_usable().get());
        assert_eq!(header.last_usable, table.last_usable().get());
        let backup = read.backup_header().unwrap();
        assert_eq!(backup.current_lba, table.backup_lba().get());
        let used = read.partitions().iter().filter(|(_, one)| one.is_used());
        let theirs: Vec<_> = used
            .map(|(id, one)| {
                (
                    id - 1,
                    one.first_lba,
                    one.last_lba,
                    one.flags,
                    one.name.clone(),
                )
            })
            .collect();
        let slots = table.slots().iter();
        let ours: Vec<_> = slots
            .map(|(slot, one)| {
                (
                    *slot,
                    one.first.get(),
                    one.last.get(),
                    one.attributes,
                    one.label.to_string(),
                )
            })
            .collect();
        assert_eq!(ours, theirs);
    }
}

#[test]
fn disks_too_small_for_a_table_are_refused() {
    let guid = guid::parse(DISK).unwrap();
    for (sector, least) in [(SectorSize::S512, 68 * 512), (SectorSize::S4096, 12 * 4096)] {
        let small = Bytes::new(least - sector.get());
        let error = Table::new(guid, sector, small).unwrap_err();
        assert_eq!(error.needed, least);
        let table = Table::new(guid, sector, Bytes::new(least)).unwrap();
        assert_eq!(table.findings(Bytes::new(least)), []);
        assert!(Table::new(guid, sector, Bytes::ZERO).is_err());
    }
}
