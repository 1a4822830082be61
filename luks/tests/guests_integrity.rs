//! Integrity devices that were formatted without the kernel, in a kernel that has them.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use blockdev::dm::{DeviceMapper, DmName};
use blockdev::loopdev::{LoopDevice, LoopOptions};
use blockdev::sysfs::Number;
use image_specs::integrity::{Layout, Superblock};
use image_specs::units::{Bytes, SectorSize};
use luks::Secret;
use luks::integrity::activate::{self, ActivateError};
use luks::integrity::offline::Before;
use luks::integrity::table::{IntegrityTable, Keyed};
use luks::integrity::{Algorithm, Format};
use testimages::guest::{Guest, SCRATCH};

const KEY: &[u8; 32] = b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

/// How a device is formatted, as we and as integritysetup have it.
#[derive(Clone, Copy)]
struct Case {
    mib: u64,
    algorithm: &'static str,
    sector: u64,
    interleave: Option<u32>,
    journal: Option<u64>,
    tag_size: Option<u16>,
    legacy_hmac: bool,
}

const PLAIN: Case = Case {
    mib: 8,
    algorithm: "crc32c",
    sector: 512,
    interleave: None,
    journal: None,
    tag_size: None,
    legacy_hmac: false,
};

const CASES: [Case; 12] = [
    PLAIN,
    Case {
        algorithm: "hmac-sha256",
        sector: 4096,
        ..PLAIN
    },
    Case {
        algorithm: "hmac-sha256",
        interleave: Some(256),
        mib: 5,
        ..PLAIN
    },
    Case {
        algorithm: "hmac-sha512",
        sector: 2048,
        journal: Some(300_000),
        ..PLAIN
    },
    Case {
        algorithm: "sha1",
        sector: 1024,
        interleave: Some(4096),
        ..PLAIN
    },
    Case {
        algorithm: "sha256",
        tag_size: Some(7),
        ..PLAIN
    },
    Case {
        algorithm: "sha512",
        mib: 12,
        ..PLAIN
    },
    Case {
        algorithm: "xxhash64",
        sector: 4096,
        mib: 10,
        ..PLAIN
    },
    Case {
        legacy_hmac: true,
        ..PLAIN
    },
    Case {
        tag_size: Some(16),
        interleave: Some(8),
        ..PLAIN
    },
    Case {
        algorithm: "crc32",
        mib: 3,
        ..PLAIN
    },
    Case {
        algorithm: "hmac-sha256",
        mib: 24,
        journal: Some(1 << 20),
        ..PLAIN
    },
];

impl Case {
    fn algorithm(&self) -> Algorithm {
        self.algorithm.parse().unwrap()
    }

    fn key(&self) -> Option<Secret> {
        self.algorithm()
            .is_keyed()
            .then(|| Secret::new(KEY.to_vec()))
    }

    fn format(&self) -> Format {
        Format {
            tag_size: self.tag_size,
            sector: SectorSize::new(self.sector).unwrap(),
            journal_size: self.journal,
            interleave: self.interleave,
            legacy_hmac: self.legacy_hmac,
            ..Format::new(self.algorithm(), self.key())
        }
    }

    /// The options of integritysetup, without those that `open` does not take.
    fn open_options(&self) -> Vec<String> {
        let mut options = vec![format!("--integrity={}", self.algorithm)];
        if self.key().is_some() {
            options.push(format!("--integrity-key-file={}", path("key").display()));
            options.push("--integrity-key-size=32".to_owned());
        }
        options
    }

    fn format_options(&self) -> Vec<String> {
        let mut options = self.open_options();
        options.push(format!("--sector-size={}", self.sector));
        options.extend(
            self.interleave
                .map(|number| format!("--interleave-sectors={number}")),
        );
        options.extend(
            self.journal
                .map(|number| format!("--journal-size={number}")),
        );
        options.extend(self.tag_size.map(|number| format!("--tag-size={number}")));
        options.extend(
            self.legacy_hmac
                .then(|| "--integrity-legacy-hmac".to_owned()),
        );
        options
    }

    fn table(&self, device: &LoopDevice, superblock: &Superblock) -> IntegrityTable {
        let number = fs::metadata(device.node()).unwrap().rdev();
        let hash = Keyed {
            algorithm: self.algorithm(),
            key: self.key(),
        };
        IntegrityTable::of(superblock, Number::from_dev(number), hash)
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(SCRATCH).join(name)
}

fn attach(file: &File) -> LoopDevice {
    let mut options = LoopOptions::new(SectorSize::S512);
    options.scan_partitions = false;
    let device = LoopDevice::attach(file, &options).unwrap();
    device.unlock().unwrap();
    device
}

fn file(name: &str, mib: u64) -> File {
    let _ = fs::remove_file(path(name));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path(name))
        .unwrap();
    file.set_len(mib << 20).unwrap();
    file
}

fn integritysetup(arguments: &[String]) -> bool {
    let done = Command::new("integritysetup")
        .args(arguments)
        .output()
        .unwrap();
    println!("{arguments:?}: {done:?}");
    done.status.success()
}

fn name(text: &str) -> DmName {
    DmName::new(text).unwrap()
}

/// Bytes that do not repeat within a sector, with some of zero.
fn data(size: u64) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes: Vec<u8> = Vec::new();
    while u64::try_from(bytes.len()).unwrap() < size {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend(state.to_be_bytes());
    }
    bytes.truncate(usize::try_from(size).unwrap());
    let end = bytes.len() / 2;
    bytes[end / 2..end].fill(0);
    bytes
}

#[test]
fn the_kernel_reads_what_was_written_without_it() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(300)));
    load_crc32();
    fs::write(path("key"), KEY).unwrap();
    let mapper = DeviceMapper::open().unwrap();
    for (number, case) in CASES.iter().enumerate() {
        println!("case {number}");
        written_here(&mapper, case);
        same_as_the_kernels(case);
    }
    crossed(&mapper);
}

/// The guest loads what devices usually need, which crc32 is not.
fn load_crc32() {
    let mut kernels = fs::read_dir("/usr/lib/uml/modules").unwrap();
    let kernel = kernels.next().unwrap().unwrap().path();
    let module = kernel.join("kernel/crypto/crc32_generic.ko");
    let loaded = Command::new("insmod").arg(module).status().unwrap();
    assert!(loaded.success());
}

fn written_here(mapper: &DeviceMapper, case: &Case) {
    let mut target = file("image", case.mib);
    let formatted = case.format().fit(Bytes::mib(case.mib), [9; 16]).unwrap();
    let size = formatted.data_size();
    let bytes = data(size.get() - 700);
    let length = Bytes::new(size.get() - 700);
    let whole = formatted.write((&bytes, length), &mut target, Before::Zeros, &mut |_| true);
    assert!(whole.unwrap());
    target.sync_all().unwrap();
    let device = attach(&target);
    let mut expected = bytes;
    expected.resize(expected.len() + 700, 0);

    // By us, and every sector.
    let table = case.table(&device, &formatted.superblock);
    let info = activate::open(mapper, &name("ours"), &table).unwrap();
    assert!(
        fs::read(info.node()).unwrap() == expected,
        "the data differ"
    );
    assert_eq!(activate::mismatches(mapper, &name("ours")).unwrap(), 0);
    let again = activate::open(mapper, &name("ours"), &table).unwrap_err();
    assert!(matches!(again, ActivateError::Exists(_)), "{again:?}");
    let (_, shown, sectors) = activate::find(mapper, &name("ours")).unwrap().unwrap();
    assert_eq!(shown.hash.as_deref(), Some(case.algorithm().kernel_name()));
    assert_eq!(sectors * 512, size.get());
    mapper.remove(&name("ours")).unwrap();

    // By integritysetup, and written to.
    let node = device.node().display().to_string();
    let mut open = vec!["open".to_owned(), node, "theirs".to_owned()];
    open.extend(case.open_options());
    assert!(integritysetup(&open));
    let theirs = File::options()
        .read(true)
        .write(true)
        .open("/dev/mapper/theirs")
        .unwrap();
    let mut read = Vec::new();
    (&theirs).read_to_end(&mut read).unwrap();
    assert!(read == expected, "the data differ");
    theirs.write_all_at(&[0x5a; 8192], 4096).unwrap();
    theirs.sync_all().unwrap();
    drop(theirs);
    assert!(integritysetup(&["close".to_owned(), "theirs".to_owned()]));
    expected[4096..12288].fill(0x5a);
    let info = activate::open(mapper, &name("ours"), &table).unwrap();
    assert!(
        fs::read(info.node()).unwrap() == expected,
        "the data differ"
    );
    mapper.remove(&name("ours")).unwrap();
    drop(device);

    a_flipped_byte(mapper, case, &target);
}

/// One sector cannot be read; all others can.
fn a_flipped_byte(mapper: &DeviceMapper, case: &Case, target: &File) {
    let mut start = [0; 512];
    target.read_exact_at(&mut start, 0).unwrap();
    let superblock = Superblock::parse(&start).unwrap().unwrap();
    let layout = Layout::of(&superblock, Bytes::mib(case.mib)).unwrap();
    let sector = superblock.provided_sectors / 2;
    let (at, _) = layout.find(sector);
    let mut byte = [0];
    target.read_exact_at(&mut byte, at * 512 + 3).unwrap();
    target.write_all_at(&[byte[0] ^ 1], at * 512 + 3).unwrap();
    target.sync_all().unwrap();
    let device = attach(target);
    let info = activate::open(mapper, &name("bad"), &case.table(&device, &superblock)).unwrap();
    let bad = File::open(info.node()).unwrap();
    let mut block = vec![0; 4096];
    let place = sector * 512 / 4096 * 4096;
    assert!(bad.read_exact_at(&mut block, place).is_err());
    assert!(bad.read_exact_at(&mut block, place + (64 << 10)).is_ok());
    assert!(activate::mismatches(mapper, &name("bad")).unwrap() > 0);
    drop(bad);
    mapper.remove(&name("bad")).unwrap();
}

/// Superblock and journal are to the byte what the kernel writes, given the same salt.
fn same_as_the_kernels(case: &Case) {
    let theirs = file("theirs", case.mib);
    let device = attach(&theirs);
    let node = device.node().display().to_string();
    let mut format = vec![
        "format".to_owned(),
        "-q".to_owned(),
        "--no-wipe".to_owned(),
        node,
    ];
    format.extend(case.format_options());
    assert!(integritysetup(&format));
    File::open(device.node()).unwrap().sync_all().unwrap();
    drop(device);
    let theirs = fs::read(path("theirs")).unwrap();
    let superblock = Superblock::parse(&theirs).unwrap().unwrap();
    let ours = case
        .format()
        .fit(Bytes::mib(case.mib), superblock.salt)
        .unwrap();
    assert_eq!(ours.superblock, superblock);
    let mut written = vec![0; theirs.len()];
    ours.write_empty(&mut written).unwrap();
    let first = theirs.iter().zip(&written).position(|(a, b)| a != b);
    assert_eq!(first, None, "the first byte that differs");
}

/// What integritysetup has formatted, we open; a wrong key reads nothing.
fn crossed(mapper: &DeviceMapper) {
    let case = CASES[1];
    let theirs = file("theirs", 8);
    let device = attach(&theirs);
    let node = device.node().display().to_string();
    let mut format = vec!["format".to_owned(), "-q".to_owned(), node];
    format.extend(case.format_options());
    assert!(integritysetup(&format));
    let mut start = [0; 512];
    File::open(device.node())
        .unwrap()
        .read_exact_at(&mut start, 0)
        .unwrap();
    let superblock = Superblock::parse(&start).unwrap().unwrap();
    let mut table = case.table(&device, &superblock);
    let info = activate::open(mapper, &name("crossed"), &table).unwrap();
    assert!(fs::read(info.node()).unwrap().iter().all(|byte| *byte == 0));
    mapper.remove(&name("crossed")).unwrap();
    table.hash.key = Some(Secret::new(vec![1; 32]));
    let info = activate::open(mapper, &name("crossed"), &table).unwrap();
    assert!(fs::read(info.node()).is_err());
    mapper.remove(&name("crossed")).unwrap();
    table.hash.algorithm = "sha3-nonsense".parse().unwrap();
    let refused = activate::open(mapper, &name("crossed"), &table).unwrap_err();
    assert!(
        matches!(refused, ActivateError::Refused { .. }),
        "{refused:?}"
    );
    assert!(mapper.info(&name("crossed")).unwrap().is_none());
}
