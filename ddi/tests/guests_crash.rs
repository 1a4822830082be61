//! Power cuts and broken disks below the whole stack, in a kernel: loop device, file systems, LUKS2.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use blockdev::BlockDevice;
use blockdev::memory::Event;
use blockdev::table::{self, Label};
use image_specs::gpt::Entry;
use image_specs::units::{Extent, SectorSize};
use testimages::crash::{Image, Recording, log_writes};

const SECTOR: SectorSize = SectorSize::S512;
/// What is on the disk before.
const OLD: [(&str, &str); 2] = [
    (
        "10-srv.conf",
        "Type=srv\nFormat=vfat\nCopyFiles=/data:/\nSizeMinBytes=8M\nSizeMaxBytes=8M\n",
    ),
    (
        "20-var.conf",
        "Type=var\nFormat=vfat\nCopyFiles=/data:/\nSizeMinBytes=8M\nSizeMaxBytes=8M\n",
    ),
];
/// What it is to have: a grown partition, and new ones with file systems, one of them encrypted.
const NEW: [(&str, &str); 4] = [
    (
        "10-srv.conf",
        "Type=srv\nSizeMinBytes=8M\nSizeMaxBytes=8M\n",
    ),
    (
        "20-var.conf",
        "Type=var\nSizeMinBytes=12M\nSizeMaxBytes=12M\n",
    ),
    (
        "30-home.conf",
        "Type=home\nFormat=ext4\nEncrypt=key-file\nEncryptKDF=minimal\nCopyFiles=/data:/\nSizeMinBytes=68M\nSizeMaxBytes=68M\n",
    ),
    (
        "40-swap.conf",
        "Type=swap\nSizeMinBytes=1M\nSizeMaxBytes=1M\n",
    ),
];

/// Folders, and a disk with partitions that has been made larger.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        fs::create_dir_all(place.path("source/data")).unwrap();
        fs::write(place.path("source/data/file"), vec![7; 300_000]).unwrap();
        fs::write(place.path("key"), "a key for tests").unwrap();
        place.define(&OLD);
        let made = place.repart(&["--empty=create", "--size=24M"], &place.path("disk"));
        assert!(made.status.success(), "{made:?}");
        let disk = fs::OpenOptions::new().write(true).open(place.path("disk"));
        disk.unwrap().set_len(128 << 20).unwrap();
        place.define(&NEW);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn define(&self, definitions: &[(&str, &str)]) {
        let folder = self.path("repart.d");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        for (name, keys) in definitions {
            fs::write(folder.join(name), format!("[Partition]\n{keys}")).unwrap();
        }
    }

    fn repart(&self, options: &[&str], disk: &Path) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ddi"))
            .args(["repart", "--dry-run=no", "--pretty=no"])
            .arg("--seed=0f2b2f6a-6d0a-4b1e-8d53-0a7d54fd5ca4")
            .arg(format!("--definitions={}", self.path("repart.d").display()))
            .arg(format!("--copy-source={}", self.path("source").display()))
            .arg(format!("--key-file={}", self.path("key").display()))
            .args(options)
            .arg(disk)
            .output()
            .unwrap()
    }
}

#[test]
fn power_cuts_below_the_whole_stack_leave_the_old_or_the_new_state() {
    testimages::in_guest!(Uml);
    let place = Place::new();
    let before = fs::read(place.path("disk")).unwrap();
    let log = place.path("log");
    fs::File::create(&log).unwrap().set_len(512 << 20).unwrap();

    let (disk_loop, log_loop) = (attach(&place.path("disk")), attach(&log));
    let sectors = before.len() / 512;
    let table = format!("0 {sectors} log-writes {disk_loop} {log_loop}");
    run("dmsetup", &["create", "logged", "--table", &table]);
    let whole = attach(Path::new("/dev/mapper/logged"));
    let done = place.repart(&[], Path::new(&whole));
    assert!(done.status.success(), "{done:?}");
    let again = place.repart(&[], Path::new(&whole));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        again.status.success() && said.contains("No changes."),
        "{said}"
    );
    run("losetup", &["--detach", &whole]);
    run("dmsetup", &["remove", "--retry", "logged"]);
    run("losetup", &["--detach", &disk_loop]);
    run("losetup", &["--detach", &log_loop]);

    let events = log_writes::events(&fs::read(&log).unwrap());
    let flushes = events
        .iter()
        .filter(|event| **event == Event::Flush)
        .count();
    let count = judge(&before, &events);
    println!(
        "{} effects, {flushes} flushes, {count} crash points",
        events.len()
    );
    assert!(count > 1_000);
    file_systems_are_whole(&place);
}

/// Looks at every state that a power cut can have left.
fn judge(before: &[u8], events: &[Event]) -> usize {
    let mut last = Image::new(before, SECTOR);
    let recording = Recording::new(before.to_vec(), events, SECTOR).whole_writes();
    for event in events {
        match event {
            Event::Write { offset, bytes } => last
                .write_all_at(bytes, image_specs::units::Bytes::new(*offset))
                .unwrap(),
            Event::Discard(extent) => last.discard(*extent).unwrap(),
            _ => {}
        }
    }
    let first = Image::new(before, SECTOR);
    let (old, new) = (see(&first), see(&last));
    assert_eq!((old.len(), new.len()), (2, 4));
    let mut seen = [0, 0];
    let count = recording.images(&mut |word, disk| {
        let now = see(disk);
        assert!(now == old || now == new, "{word}: {now:?}");
        seen[usize::from(now == new)] += 1;
        for (_, entry) in &old {
            assert!(disk.is_same(&first, range(entry)), "{word}: {entry:?}");
        }
        for (_, entry) in new.iter().filter(|_| now == new).skip(2) {
            assert!(disk.is_same(&last, range(entry)), "{word}: {entry:?}");
        }
    });
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    count
}

fn see(disk: &Image) -> Vec<(u32, Entry)> {
    match table::read(disk) {
        Ok(Label::Gpt(found)) => found.table.slots().clone().into_iter().collect(),
        other => panic!("{other:?}"),
    }
}

fn range(entry: &Entry) -> std::ops::Range<usize> {
    let Extent { start, size } = entry.extent(SECTOR).unwrap();
    let start = usize::try_from(start.get()).unwrap();
    start..start + usize::try_from(size.get()).unwrap()
}

fn file_systems_are_whole(place: &Place) {
    let whole = attach(&place.path("disk"));
    for number in [1, 2] {
        run("fsck.vfat", &["-n", &format!("{whole}p{number}")]);
    }
    let (volume, key) = (format!("{whole}p3"), place.path("key"));
    let key = key.to_str().unwrap();
    run(
        "cryptsetup",
        &["open", "--type=luks2", "--key-file", key, &volume, "home"],
    );
    run("e2fsck", &["-fn", "/dev/mapper/home"]);
    run("cryptsetup", &["close", "home"]);
    run("losetup", &["--detach", &whole]);
}

#[test]
fn sectors_that_cannot_be_written_leave_the_old_state_and_are_named() {
    testimages::in_guest!(Uml);
    let place = Place::new();
    let before = fs::read(place.path("disk")).unwrap();
    let sectors = before.len() / 512;
    let old = see(&Image::new(&before, SECTOR));
    // The file system in the new encrypted partition (at 21 MiB, behind 16 MiB of header), the new
    // backup of the table, and its primary copy.
    for bad in [(21 + 16) << 11, sectors - 20, 8] {
        fs::write(place.path("disk"), &before).unwrap();
        let below = attach(&place.path("disk"));
        let rest = sectors - bad - 8;
        let after = bad + 8;
        let table = format!(
            "0 {bad} linear {below} 0\n{bad} 8 flakey {below} {bad} 0 3600 1 error_writes\n\
             {after} {rest} linear {below} {after}"
        );
        run("dmsetup", &["create", "broken", "--table", &table]);
        let whole = attach(Path::new("/dev/mapper/broken"));
        let done = place.repart(&[], Path::new(&whole));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{bad}: {said}");
        assert!(said.contains(&whole) && said.contains("error"), "{said}");
        run("losetup", &["--detach", &whole]);
        run("dmsetup", &["remove", "--retry", "broken"]);
        run("losetup", &["--detach", &below]);
        let after = fs::read(place.path("disk")).unwrap();
        assert_eq!(see(&Image::new(&after, SECTOR)), old, "{bad}");
        for (_, entry) in &old {
            assert!(after[range(entry)] == before[range(entry)], "{bad}");
        }
        // The same disk, mended: one run completes it.
        let done = place.repart(&[], &place.path("disk"));
        assert!(done.status.success(), "{done:?}");
        file_systems_are_whole(&place);
    }
}

/// Binds a loop device with partitions and returns its node.
fn attach(file: &Path) -> String {
    let file = file.to_str().unwrap();
    run("losetup", &["--find", "--show", "--partscan", file])
        .trim()
        .to_owned()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("DM_DISABLE_UDEV", "1") // nodes are to be made by the program
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}
