//! `ddi verity` with kernels that have device-mapper: each opens what the other made.
#![allow(missing_docs)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use blockdev::dm::{DeviceMapper, DmName};
use blockdev::loopdev::{self, LoopDevice, LoopOptions};
use common::{ddi, run};
use image_specs::units::SectorSize;
use testimages::guest::{Guest, SCRATCH};

const BLOCKS: usize = 300;
const UUID: &str = "--uuid=11111111-2222-3333-4444-555555555555";

fn path(name: &str) -> PathBuf {
    Path::new(SCRATCH).join(name)
}

fn in_scratch(mut command: Command, line: &str) -> Command {
    command.args(line.split_whitespace()).current_dir(SCRATCH);
    command
}

fn ours(line: &str) -> Command {
    let mut command = ddi();
    command.arg("verity");
    in_scratch(command, line)
}

fn theirs(line: &str) -> Command {
    in_scratch(Command::new("/usr/sbin/veritysetup"), line)
}

fn code(mut command: Command) -> (i32, String) {
    let Output {
        status,
        stderr,
        stdout,
    } = command.output().unwrap();
    let text = [stdout, stderr].concat();
    (status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn write_data(name: &str) -> Vec<u8> {
    let block = |index: usize| vec![u8::try_from(index % 251).unwrap() + 1; 4096];
    let data: Vec<u8> = (0..BLOCKS).flat_map(block).collect();
    fs::write(path(name), &data).unwrap();
    data
}

fn read(name: &str) -> std::io::Result<Vec<u8>> {
    fs::read(Path::new("/dev/mapper").join(name))
}

fn is_free(name: &str) -> bool {
    let file = File::open(path(name)).unwrap();
    (0..200).any(|_| {
        let free = loopdev::devices_of(&file).unwrap().is_empty();
        std::thread::sleep(std::time::Duration::from_millis(if free { 0 } else { 5 }));
        free
    })
}

#[test]
fn devices_are_opened_shown_and_closed() {
    testimages::in_guest!(Uml);
    let data = write_data("data");
    for (maker, opener, closer) in [
        (
            ours as fn(&str) -> Command,
            ours as fn(&str) -> Command,
            theirs as fn(&str) -> Command,
        ),
        (ours, theirs, ours),
        (theirs, ours, ours),
    ] {
        drop(fs::remove_file(path("hash")));
        run(&mut maker(&format!(
            "format data hash --salt=0a {UUID} --root-hash-file=root"
        )));
        run(&mut opener("open data crossed hash --root-hash-file=root"));
        assert_eq!(read("crossed").unwrap(), data);
        let told = run(&mut ours("status crossed"));
        assert!(
            told.starts_with("/dev/mapper/crossed is active.\n  type:        VERITY\n"),
            "{told}"
        );
        assert!(run(&mut theirs("status crossed")).contains("is active"));
        assert_eq!(
            code(opener("open data crossed hash --root-hash-file=root")).0,
            5
        );
        run(&mut closer("close crossed"));
        assert!(is_free("data") && is_free("hash"), "no loop device stays");
    }
    the_lines_of_status();
    ways_to_close();
    old_forms();
    wrong_hashes_and_corruption();
    devices_in_use();
}

fn the_lines_of_status() {
    run(&mut ours(
        "open data shown hash --root-hash-file=root --ignore-corruption --ignore-zero-blocks --check-at-most-once",
    ));
    let root = fs::read_to_string(path("root")).unwrap();
    let told = run(&mut ours("status shown"));
    let node = |label: &str| {
        let line = told
            .lines()
            .find(|line| line.trim_start().starts_with(label))
            .unwrap();
        line.split_once("/dev/").unwrap().1.to_owned()
    };
    let (data, hash) = (node("data device:"), node("hash device:"));
    let expected = format!(
        "/dev/mapper/shown is active.
  type:        VERITY
  status:      verified
  hash type:   1
  data block:  4096 [bytes]
  hash block:  4096 [bytes]
  hash name:   sha256
  salt:        0a
  data device: /dev/{data}
  data loop:   {SCRATCH}/data
  size:        2400 [512-byte units] (1228800 [bytes])
  mode:        readonly
  hash device: /dev/{hash}
  hash loop:   {SCRATCH}/hash
  hash offset: 8 [512-byte units] (4096 [bytes])
  root hash:   {root}
  flags:       ignore_corruption ignore_zero_blocks check_at_most_once
"
    );
    assert_eq!(told, expected);
    let name = DmName::new("shown").unwrap();
    let info = DeviceMapper::open().unwrap().info(&name).unwrap().unwrap();
    assert_eq!(
        info.uuid,
        "CRYPT-VERITY-11111111222233334444555555555555-shown"
    );
    run(&mut ours("close shown"));
}

fn ways_to_close() {
    run(&mut ours("open data used hash --root-hash-file=root"));
    let user = File::open("/dev/mapper/used").unwrap();
    assert!(run(&mut ours("status used")).contains("is active and is in use."));
    let (exit, text) = code(ours("close used"));
    assert!(exit == 5 && text.contains("--deferred"), "{text}");
    run(&mut ours("close used --deferred"));
    run(&mut ours("close used --cancel-deferred"));
    drop(user);
    assert!(run(&mut ours("status used")).contains("is active."));
    let user = File::open("/dev/mapper/used").unwrap();
    run(&mut ours("close used --deferred"));
    drop(user);
    assert!(is_free("data"));
    assert_eq!(code(ours("close used")).0, 4);
    assert_eq!(
        code(ours("status used")),
        (4, "/dev/mapper/used is inactive.\n".to_owned())
    );
}

fn old_forms() {
    run(&mut ours("create old data hash --root-hash-file=root"));
    assert!(read("old").is_ok());
    run(&mut ours("remove old"));
    run(&mut ours(
        "format data bare --no-superblock --salt=- --hash=sha1 --root-hash-file=bare-root",
    ));
    let options = "--no-superblock --salt=- --hash=sha1 --root-hash-file=bare-root";
    run(&mut ours(&format!("open data bare bare {options}")));
    assert!(read("bare").is_ok());
    let told = run(&mut ours("status bare"));
    assert!(
        told.contains("salt:        -\n") && told.contains("hash offset: 0 ["),
        "{told}"
    );
    run(&mut theirs("close bare"));
}

fn wrong_hashes_and_corruption() {
    let wrong = "5a".repeat(32);
    let (exit, text) = code(ours(&format!("open data wrong hash {wrong}")));
    assert!(
        exit == 1 && text.contains("does not fit root hash"),
        "{text}"
    );
    assert!(is_free("data") && is_free("hash"));
    fs::copy(path("data"), path("bad")).unwrap();
    let bad = File::options().write(true).open(path("bad")).unwrap();
    bad.write_all_at(b"other", 200 * 4096).unwrap();
    bad.sync_all().unwrap();
    run(&mut ours("open bad bad hash --root-hash-file=root"));
    assert!(read("bad").is_err());
    assert!(run(&mut ours("status bad")).contains("status:      corrupted\n"));
    run(&mut ours("close bad"));
    run(&mut ours(
        "open bad bad hash --root-hash-file=root --ignore-corruption",
    ));
    assert_eq!(read("bad").unwrap(), fs::read(path("bad")).unwrap());
    run(&mut ours("close bad"));
}

/// A block device that others use is only shared where that is asked for.
fn devices_in_use() {
    let mut options = LoopOptions::new(SectorSize::S512);
    options.scan_partitions = false;
    options.read_only = true;
    let device = LoopDevice::attach(&File::open(path("data")).unwrap(), &options).unwrap();
    device.unlock().unwrap();
    let node = device.node().display();
    run(&mut ours(&format!(
        "open {node} first hash --root-hash-file=root"
    )));
    let second = format!("open {node} second hash --root-hash-file=root");
    let (exit, text) = code(ours(&second));
    assert!(exit == 5 && text.contains("--shared"), "{text}");
    run(&mut ours(&format!("{second} --shared")));
    assert_eq!(read("first").unwrap(), read("second").unwrap());
    run(&mut ours("close first"));
    run(&mut ours("close second"));
}

/// What the kernel repairs by our parity, and what we repair for it.
#[test]
fn parity_is_understood_by_the_kernel() {
    let programs = [
        Path::new(env!("CARGO_BIN_EXE_ddi")),
        Path::new("/usr/sbin/veritysetup"),
    ];
    testimages::in_guest!(Guest::Qemu.with(&programs));
    let whole = write_data("data");
    let parity = "--root-hash-file=root --fec-device=parity";
    for (roots, offset) in [(2, 0), (24, 8192)] {
        for name in ["hash", "parity"] {
            drop(fs::remove_file(path(name)));
        }
        fs::write(path("data"), &whole).unwrap();
        let parity = format!("{parity} --fec-roots={roots} --fec-offset={offset}");
        run(&mut ours(&format!("format data hash --salt=0a {parity}")));
        let spoiled = usize::try_from(roots).unwrap();
        let mut data = whole.clone();
        data[7 * 4096..(7 + spoiled) * 4096].fill(0xff);
        fs::write(path("data"), &data).unwrap();
        File::open(path("data")).unwrap().sync_all().unwrap();
        run(&mut ours("open data plain hash --root-hash-file=root"));
        assert!(read("plain").is_err());
        run(&mut ours("close plain"));
        run(&mut ours(&format!("open data fixed hash {parity}")));
        assert!(read("fixed").unwrap() == whole, "{roots} roots");
        let told = run(&mut ours("status fixed"));
        for line in [
            format!(
                "  FEC offset:  {} [512-byte units] ({offset} [bytes])\n",
                offset / 512
            ),
            format!("  FEC roots:   {roots}\n"),
            format!("  FEC loop:    {SCRATCH}/parity\n"),
        ] {
            assert!(told.contains(&line), "{told}");
        }
        run(&mut theirs("close fixed"));
        run(&mut theirs(&format!("open data fixed hash {parity}")));
        assert!(read("fixed").unwrap() == whole, "{roots} roots");
        run(&mut ours("close fixed"));
        run(&mut ours(&format!("repair data hash {parity}")));
        assert!(fs::read(path("data")).unwrap() == whole);
        run(&mut ours("open data plain hash --root-hash-file=root"));
        assert!(read("plain").unwrap() == whole);
        run(&mut ours("close plain"));
    }
    restart_and_panic_are_set();
}

/// Newer options, which this kernel has.
fn restart_and_panic_are_set() {
    for (options, flags) in [
        ("--restart-on-corruption", "restart_on_corruption"),
        (
            "--panic-on-corruption --use-tasklets",
            "panic_on_corruption try_verify_in_tasklet",
        ),
    ] {
        run(&mut ours(&format!(
            "open data strict hash --root-hash-file=root {options}"
        )));
        let told = run(&mut ours("status strict"));
        assert!(
            told.ends_with(&format!("  flags:       {flags}\n")),
            "{told}"
        );
        run(&mut ours("close strict"));
    }
}
