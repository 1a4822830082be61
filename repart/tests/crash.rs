//! Power cuts and broken disks during whole runs, in memory: the old or the new table is there, what
//! the plan keeps is untouched, and what the new table names is whole.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

use blockdev::memory::Failure;
use blockdev::table::{self, Commit, Label};
use blockdev::tool::SearchPath;
use blockdev::{BlockDevice, DeviceError, MemoryDevice};
use image_specs::arch::Architecture;
use image_specs::gpt::{Entry, Label as Name, Table};
use image_specs::guid;
use image_specs::identity::Seed;
use image_specs::mbr::{MbrEntry, MbrTable, MbrType};
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, Extent, Grain, Lba, SectorSize};
use repart::build::encrypt::Keys;
use repart::build::job::{Environment, Job};
use repart::build::overwrite::look;
use repart::build::session::{Replay, Session, SessionError};
use repart::build::sign::{KeyHolder, Signing};
use repart::build::target::Target;
use repart::definition::{Settings, Source, read};
use repart::plan::{EmptyMode, Options, Plan, SizeMode};
use testimages::crash::{Image, Recording};
use veritysetup::signature::{Certificate, CertificateSource, KeySource, Openssl, Signer};

const ARCH: Architecture = Architecture::X86_64;
const SECTOR: SectorSize = SectorSize::S512;
const SIZE: u64 = 4 << 20;

/// A disk in memory that is still there after the run.
#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<MemoryDevice>>);

impl Disk {
    fn new(device: MemoryDevice) -> Self {
        Self(Arc::new(Mutex::new(device)))
    }

    fn lock(&self) -> MutexGuard<'_, MemoryDevice> {
        self.0.lock().unwrap()
    }
}

impl BlockDevice for Disk {
    fn name(&self) -> String {
        self.lock().name()
    }

    fn size(&self) -> Bytes {
        self.lock().size()
    }

    fn sector_size(&self) -> SectorSize {
        self.lock().sector_size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: Bytes) -> Result<(), DeviceError> {
        self.lock().read_exact_at(buffer, offset)
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: Bytes) -> Result<(), DeviceError> {
        self.lock().write_all_at(bytes, offset)
    }

    fn zero(&mut self, extent: Extent) -> Result<(), DeviceError> {
        self.lock().zero(extent)
    }

    fn discard(&mut self, extent: Extent) -> Result<(), DeviceError> {
        self.lock().discard(extent)
    }

    fn copy_from(
        &mut self,
        source: &File,
        from: u64,
        to: Bytes,
        size: Bytes,
    ) -> Result<(), DeviceError> {
        self.lock().copy_from(source, from, to, size)
    }

    fn set_size(&mut self, size: Bytes) -> Result<(), DeviceError> {
        self.lock().set_size(size)
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.lock().flush()
    }
}

/// A run that is cut everywhere.
struct Change {
    name: &'static str,
    before: Vec<u8>,
    definitions: &'static [(&'static str, &'static str)],
    empty: EmptyMode,
    size: SizeMode,
    factory_reset: bool,
}

impl Change {
    /// How the effect of this number shall fail: in every way, or in turn where runs take long.
    fn failures(&self, nth: usize) -> Vec<Failure> {
        let all = vec![Failure::Io, Failure::NoSpace, Failure::Short];
        match self.encrypts() {
            true => vec![all[nth % all.len()]],
            false => all,
        }
    }

    /// What two runs have in common: key slots have random salts, so root hashes over them differ,
    /// and with them the UUIDs that they decide.
    fn comparable(&self, seen: Seen) -> Seen {
        match seen {
            Seen::Gpt(disk, mut entries) if self.encrypts() => {
                for (_, entry) in &mut entries {
                    let verity = entry.label.to_string().contains("root");
                    entry.uuid = if verity { uuid(0) } else { entry.uuid };
                }
                Seen::Gpt(disk, entries)
            }
            other => other,
        }
    }

    fn encrypts(&self) -> bool {
        let mut keys = self.definitions.iter().map(|(_, keys)| keys);
        keys.any(|keys| keys.contains("Encrypt="))
    }
}

const BOOT: (&str, &str) = (
    "10-boot.conf",
    "Type=linux-generic\nFormat=vfat\nCopyFiles=/efi:/\nSizeMinBytes=512K\nSizeMaxBytes=512K\n",
);
const ROOT: (&str, &str) = (
    "20-root.conf",
    "Type=root\nFormat=squashfs\nCopyFiles=/usr\nVerity=data\nVerityMatchKey=r\nMinimize=best\n",
);
const HASH: (&str, &str) = (
    "21-hash.conf",
    "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nMinimize=best\n",
);
const ROOMY_HASH: (&str, &str) = (
    "21-hash.conf",
    "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nSizeMinBytes=512K\nSizeMaxBytes=512K\n",
);
const SIGNATURE: (&str, &str) = (
    "22-sig.conf",
    "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=r\n",
);
const SWAP: (&str, &str) = (
    "30-swap.conf",
    "Type=swap\nFormat=swap\nSizeMinBytes=64K\nSizeMaxBytes=64K\n",
);
const VAR: (&str, &str) = (
    "40-var.conf",
    "Type=var\nFactoryReset=yes\nSizeMinBytes=64K\n",
);
/// 16 MiB of header, as much behind it that stays free, and a file system between them.
const SECRET: (&str, &str) = (
    "60-secret.conf",
    "Type=home\nEncrypt=key-file\nEncryptKDF=minimal\nFormat=vfat\nCopyFiles=/efi:/\nSizeMinBytes=33M\nSizeMaxBytes=33M\n",
);
const SECRET_ROOT: (&str, &str) = (
    "20-root.conf",
    "Type=root\nFormat=squashfs\nCopyFiles=/usr\nEncrypt=key-file\nEncryptKDF=minimal\nDiscard=no\nVerity=data\nVerityMatchKey=r\nSizeMinBytes=33M\nSizeMaxBytes=33M\n",
);
const SRV: (&str, &str) = ("50-srv.conf", "Type=srv\nSizeMinBytes=64K\n");

fn changes() -> Vec<Change> {
    let size = usize::try_from(SIZE).unwrap();
    let blank = vec![0; size];
    let noise = noise(size);
    let old = old_disk();
    let mut dos = noise.clone();
    dos[446 + 4] = 0x83;
    dos[446 + 8..446 + 16].copy_from_slice(&[2, 0, 0, 0, 100, 0, 0, 0]);
    dos[446 + 16..510].fill(0);
    dos[446] = 0;
    dos[510..512].copy_from_slice(&[0x55, 0xaa]);
    let mut backup_only = old.clone();
    backup_only[512..1024].fill(0xff);
    let signed = &[BOOT, ROOT, HASH, SIGNATURE, SWAP];
    let kept = &[VAR, SRV];
    let change = |name, before: &[u8], definitions, empty| Change {
        name,
        before: before.to_vec(),
        definitions,
        empty,
        size: SizeMode::Keep,
        factory_reset: false,
    };
    use EmptyMode::{Allow, Force, Refuse, Require};
    vec![
        change("blank", &blank, signed, Require),
        change("noise", &noise, signed, Allow),
        change("added", &old, signed, Refuse),
        change("only the backup is sound", &backup_only, signed, Refuse),
        change("replaced", &old, signed, Force),
        change("dos replaced", &dos, signed, Force),
        Change {
            size: SizeMode::AtLeast(Bytes::new(SIZE + (1 << 20))),
            ..change("grown", &old, kept, Refuse)
        },
        Change {
            size: SizeMode::AtLeast(Bytes::new(SIZE + (1 << 20))),
            ..change("grown and added", &old, signed, Refuse)
        },
        Change {
            size: SizeMode::AtLeast(Bytes::new(SIZE + (1 << 20))),
            ..change(
                "only the backup is sound, grown",
                &backup_only,
                kept,
                Refuse,
            )
        },
        Change {
            factory_reset: true,
            ..change("reset", &old, kept, Refuse)
        },
        Change {
            size: SizeMode::AtLeast(Bytes::new(SIZE + (36 << 20))),
            ..change("grown, encrypted added", &old, &[SECRET], Refuse)
        },
        change(
            "encrypted and signed over noise",
            &noise[..].repeat(9),
            &[SECRET_ROOT, ROOMY_HASH, SIGNATURE],
            Force,
        ),
    ]
}

/// Bytes that look like data, never zero.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u8::try_from(state >> 24).unwrap() | 1
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// A GPT with var, srv (the last one, with room behind it) and a partition that nobody knows, all
/// full of data.
fn old_disk() -> Vec<u8> {
    let mut table = Table::new(uuid(1), SECTOR, Bytes::new(SIZE)).unwrap();
    let kinds = ["var", "srv", "bbbbbbbb-8483-4772-8e79-3d69d8477de4"];
    let places = [(256, 511), (1024, 1279), (640, 700)];
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    for (slot, (kind, (first, last))) in (0u32..).zip(kinds.into_iter().zip(places)) {
        let entry = Entry {
            kind: PartitionType::parse(kind, ARCH).unwrap(),
            uuid: uuid(2 + u128::from(slot)),
            first: image_specs::units::Lba::new(first),
            last: image_specs::units::Lba::new(last),
            attributes: 0,
            label: Name::new(kind).unwrap(),
            tail: Vec::new(),
        };
        let range = slice(entry.extent(SECTOR).unwrap());
        let length = range.len();
        bytes[range].copy_from_slice(&noise(length));
        table.insert(2 * slot, entry).unwrap();
    }
    let mut disk = MemoryDevice::from_bytes(bytes, SECTOR);
    table::commit(&mut disk, &table, Commit::Create).unwrap();
    disk.into_bytes()
}

fn uuid(number: u128) -> uuid::Uuid {
    guid::parse(&format!("{number:032x}")).unwrap()
}

fn slice(extent: Extent) -> std::ops::Range<usize> {
    let start = usize::try_from(extent.start.get()).unwrap();
    start..start + usize::try_from(extent.size.get()).unwrap()
}

/// Contents and keys for all runs.
struct Material(tempfile::TempDir);

impl Material {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, size) in [
            ("efi/EFI/a.efi", 9000),
            ("usr/bin/b", 70_000),
            ("usr/c", 10),
        ] {
            std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            std::fs::write(path(name), noise(size)).unwrap();
        }
        let made = Command::new("openssl")
            .args("req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout key -out crt".split(' '))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(made.status.success());
        Self(folder)
    }

    fn name(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn signing(&self) -> Signing {
        let openssl = Openssl::new(SearchPath::new(None), []);
        let load = || Certificate::load(&self.name("crt"), &CertificateSource::File, &openssl);
        let fingerprint = load().unwrap().fingerprint().unwrap();
        let key = self.name("key");
        Signing {
            signers: vec![KeyHolder {
                signer: Signer::load(&key, &KeySource::File, load().unwrap(), None, &openssl)
                    .unwrap(),
                fingerprint: fingerprint.try_into().ok(),
            }],
            joined: Vec::new(),
        }
    }

    fn job(&self, change: &Change) -> Job {
        let source = |(name, keys): &(&str, &str)| Source {
            path: PathBuf::from("/repart.d").join(name),
            text: format!("[Partition]\n{keys}").into_bytes(),
            drop_ins: Vec::new(),
        };
        let sources: Vec<Source> = change.definitions.iter().map(source).collect();
        Job {
            wanted: read(Vec::new(), &sources, &Settings::new(ARCH)).unwrap(),
            options: Options {
                grain: Grain::new(4096),
                empty: change.empty,
                size: change.size,
                factory_reset: change.factory_reset.into(),
                ..Options::new(Seed::new(uuid(99)))
            },
            sector: SECTOR,
            architecture: ARCH,
            environment: Environment {
                epoch: Some(1_750_000_000),
                now: 1_750_000_000,
                search: SearchPath::new(None),
                scratch: self.0.path().to_owned(),
                mkfs_options: BTreeMap::new(),
            },
            root: None,
            copy_source: Some(self.0.path().to_owned()),
            discard: true,
            fstab: None,
            crypttab: None,
            keys: Keys::default(),
            el_torito: None,
            signing: self.signing(),
        }
    }
}

fn run(change: &Change, material: &Material, device: MemoryDevice) -> (Disk, Outcome) {
    let disk = Disk::new(device);
    let job = material.job(change);
    let outcome = || {
        let target = Target::on(Box::new(disk.clone()), Path::new("/disk"), change.empty)?;
        let mut session = Session::new(&job, Some(target))?;
        let mut counter = 0;
        let mut source = || {
            counter += 1;
            [counter; 16]
        };
        let plan = session.plan(&mut Replay::new(&mut source), &mut |_| {})?;
        let wipe = plan.wipe.clone();
        let applied = session.apply(plan, false, &mut |_| {})?;
        Ok((applied.plan, wipe))
    };
    let outcome = outcome();
    (disk, outcome)
}

type Outcome = Result<(Plan, Vec<Extent>), SessionError>;

/// What a reader makes of a disk.
#[derive(Debug, PartialEq)]
enum Seen {
    None,
    Foreign,
    Gpt(String, Vec<(u32, Entry)>),
    Unreadable(String),
}

fn see(disk: &dyn BlockDevice) -> Seen {
    match table::read(disk) {
        Ok(Label::None) => Seen::None,
        Ok(Label::Foreign(_)) => Seen::Foreign,
        Ok(Label::Gpt(found)) => Seen::Gpt(
            found.table.disk_guid.to_string(),
            found.table.slots().clone().into_iter().collect(),
        ),
        Err(error) => Seen::Unreadable(error.to_string()),
    }
}

/// What the old table names and the new one still does: it must never change.
fn kept(plan: &Plan) -> Vec<Extent> {
    let old = plan.partitions.iter().filter_map(|partition| {
        let found = partition.found.as_ref()?;
        Some(found.extent)
    });
    old.collect()
}

fn fresh(plan: &Plan) -> Vec<Extent> {
    let new = plan.listed().filter(|partition| partition.found.is_none());
    new.map(|partition| partition.extent()).collect()
}

fn cut_everywhere(change: &Change, material: &Material) -> usize {
    let device = MemoryDevice::from_bytes(change.before.clone(), SECTOR);
    let (disk, outcome) = run(change, material, device);
    let (plan, wipe) = outcome.unwrap_or_else(|error| panic!("{}: {error:?}", change.name));
    let device = disk.lock();
    let (log, after) = (device.log().to_vec(), device.bytes());
    let before = Image::new(&change.before, SECTOR);
    let (old, new) = (see(&before), see(&*device));
    let done = Image::new(after, SECTOR);
    assert!(matches!(new, Seen::Gpt(..)), "{}: {new:?}", change.name);
    assert_ne!(old, new, "{}", change.name);
    nothing_else_changed(change, &plan, &wipe, after);
    let (kept, fresh) = (kept(&plan), fresh(&plan));
    let mut seen_both = [false; 2];
    let recording = Recording::new(change.before.clone(), &log, SECTOR);
    let count = recording.images(&mut |word, disk| {
        let seen = see(disk);
        let word = format!("{}: {word}", change.name);
        assert!(seen == old || seen == new, "{word}: {seen:?}");
        seen_both[usize::from(seen == new)] = true;
        for extent in &kept {
            assert!(
                disk.is_same(&before, slice(*extent)),
                "{word}: {extent:?} was changed, though the plan keeps it"
            );
        }
        for extent in fresh.iter().filter(|_| seen == new) {
            assert!(
                disk.is_same(&done, slice(*extent)),
                "{word}: the table names {extent:?}, which is not complete"
            );
        }
    });
    assert_eq!(seen_both, [true; 2], "{}", change.name);
    println!("{:>7} crash points: {}", count, change.name);
    count
}

/// What differs lies in new partitions, in gaps that were to be wiped, or where tables lie.
fn nothing_else_changed(change: &Change, plan: &Plan, wipe: &[Extent], after: &[u8]) {
    let mut allowed = vec![false; after.len()];
    for extent in fresh(plan).iter().chain(wipe) {
        allowed[slice(*extent)].fill(true);
    }
    let usable = |lba: image_specs::units::Lba| usize::try_from(lba.get() * 512).unwrap();
    allowed[..usable(plan.table.first_usable)].fill(true);
    allowed[usable(plan.table.last_usable) + 512..].fill(true);
    // The old backup.
    let old_end = change.before.len();
    allowed[old_end - 33 * 512..old_end].fill(true);
    let differs = change
        .before
        .iter()
        .chain(std::iter::repeat(&0))
        .zip(after)
        .zip(&allowed)
        .position(|((old, new), allowed)| old != new && !allowed);
    assert_eq!(differs, None, "{}: {plan:#?}", change.name);
}

#[test]
fn every_power_cut_leaves_the_old_or_the_new_state() {
    let material = Material::new();
    let changes = changes();
    let total: usize = std::thread::scope(|scope| {
        let runs: Vec<_> = changes
            .iter()
            .map(|change| scope.spawn(|| cut_everywhere(change, &material)))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    println!("{total} crash points");
    assert!(total > 5_000, "{total}");
}

#[test]
fn a_table_that_nobody_finds_any_more_is_missed_all_the_same() {
    let material = Material::new();
    let end = usize::try_from(SIZE).unwrap();
    let forced = |before: Vec<u8>, edit: &dyn Fn(&mut [u8])| {
        let mut bytes = before;
        edit(&mut bytes);
        let change = Change {
            name: "forced",
            before: bytes.clone(),
            definitions: &[SWAP],
            empty: EmptyMode::Force,
            size: SizeMode::Keep,
            factory_reset: false,
        };
        let (disk, outcome) = run(&change, &material, MemoryDevice::from_bytes(bytes, SECTOR));
        let before = MemoryDevice::from_bytes(change.before, SECTOR);
        let lost = look(&before, &outcome.unwrap().0).unwrap();
        let names: Vec<_> = lost.iter().map(|one| (one.name, one.at.get())).collect();
        (names, disk.lock().bytes().to_vec())
    };
    let unguarded = |bytes: &mut [u8]| bytes[510] = 0;
    let damaged = |bytes: &mut [u8]| {
        bytes[528] ^= 1;
        bytes[end - 512 + 16] ^= 1;
    };
    let (whole, new) = forced(old_disk(), &|_| {});
    assert!(whole.is_empty(), "{whole:?}");
    assert_eq!(forced(old_disk(), &unguarded).0, [("gpt", 512)]);
    assert_eq!(forced(old_disk(), &damaged).0, [("gpt", 512)]);
    // A run that was cut short before it wrote the guard is completed by the next one.
    let (own, _) = forced(new, &unguarded);
    assert!(!own.iter().any(|one| one.0 == "gpt"), "{own:?}");
}

const RESET: &[(&str, &str)] = &[
    (
        "10-boot.conf",
        "Type=mbr:83\nFactoryReset=yes\nFormat=vfat\nCopyFiles=/efi:/\nSizeMinBytes=1M\nSizeMaxBytes=1M\n",
    ),
    (
        "20-home.conf",
        "Type=home mbr:83\nFactoryReset=yes\nSizeMinBytes=64K\n",
    ),
];
const FORCED: &[(&str, &str)] = &[BOOT];

/// Two logical partitions, the second of which has its record where the first new one will lie.
fn logical_disk() -> Vec<u8> {
    let mut table = MbrTable::new(7, SECTOR);
    table.set_extended(0, Lba::new(2048), 6000);
    for (slot, record, first, sectors) in [(4, 2048, 2056, 1000), (5, 3064, 3072, 900)] {
        let entry = MbrEntry {
            status: 0,
            kind: MbrType::LINUX,
            first: Lba::new(first),
            sectors,
            record: Some(Lba::new(record)),
        };
        table.insert(slot, entry);
    }
    let bytes = noise(usize::try_from(SIZE).unwrap());
    let mut disk = MemoryDevice::from_bytes(bytes, SECTOR);
    blockdev::mbr::commit(&mut disk, &table, Commit::Create).unwrap();
    disk.into_bytes()
}

#[test]
fn no_power_cut_breaks_the_chain_of_logical_partitions() {
    let material = Material::new();
    for (definitions, empty) in [(RESET, EmptyMode::Refuse), (FORCED, EmptyMode::Force)] {
        let change = Change {
            name: "logical",
            before: logical_disk(),
            definitions,
            empty,
            size: SizeMode::Keep,
            factory_reset: empty == EmptyMode::Refuse,
        };
        let device = MemoryDevice::from_bytes(change.before.clone(), SECTOR);
        let (disk, outcome) = run(&change, &material, device);
        outcome.unwrap();
        let log = disk.lock().log().to_vec();
        let recording = Recording::new(change.before.clone(), &log, SECTOR);
        let count = recording.images(&mut |word, disk| {
            let found = blockdev::mbr::read(disk);
            assert!(found.is_ok(), "{empty:?}, {word}: {found:?}");
        });
        assert!(count > 10, "{count}");
    }
}

#[test]
fn a_disk_that_fails_leaves_the_old_or_the_new_state_and_the_error_says_where() {
    let material = Material::new();
    let mut total = 0;
    for change in changes() {
        let fresh_device = || MemoryDevice::from_bytes(change.before.clone(), SECTOR);
        let (disk, outcome) = run(&change, &material, fresh_device());
        let (plan, _) = outcome.unwrap();
        let effects = disk.lock().log().len();
        let old = see(&Image::new(&change.before, SECTOR));
        let new = change.comparable(see(&*disk.lock()));
        let kept = kept(&plan);
        for nth in 0..effects {
            for failure in change.failures(nth) {
                let word = format!("{}: effect {nth} of {effects}, {failure:?}", change.name);
                let device = fresh_device().failing(nth, failure);
                let (disk, outcome) = run(&change, &material, device);
                let error = chain(&outcome.expect_err(&word));
                let cause = match failure {
                    Failure::NoSpace => "No space left on device",
                    _ => "Input/output error",
                };
                assert!(error.contains(cause), "{word}: {error}");
                assert!(error.contains("memory"), "{word}: {error}");
                let device = disk.lock();
                let seen = see(&*device);
                let seen = change.comparable(seen);
                assert!(seen == old || seen == new, "{word}: {seen:?}");
                for extent in &kept {
                    let range = slice(*extent);
                    let same = device.bytes()[range.clone()] == change.before[range];
                    assert!(same, "{word}: {extent:?}");
                }
                total += 1;
            }
        }
    }
    println!("{total} failures");
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
