//! Nothing outside of the plan is written: random disks full of data, every byte compared before and
//! after; then the table is put back, with the power cut everywhere.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use blockdev::saved::{self, Moment};
use blockdev::table::{self, Commit, Label};
use blockdev::tool::SearchPath;
use blockdev::{BlockDevice, DeviceError, MemoryDevice};
use image_specs::arch::Architecture;
use image_specs::gpt::{Entry, Label as Name, Table};
use image_specs::identity::Seed;
use image_specs::partition::PartitionType;
use image_specs::table_backup::TableBackup;
use image_specs::units::{Bytes, Extent, Grain, Lba, SectorSize};
use repart::build::encrypt::Keys;
use repart::build::job::{Environment, Job};
use repart::build::session::{Replay, Session};
use repart::build::sign::Signing;
use repart::build::target::Target;
use repart::definition::{Settings, Source, read};
use repart::plan::{EmptyMode, Options, Plan};
use testimages::crash::Recording;
use uuid::Uuid;

const ARCH: Architecture = Architecture::X86_64;
const KINDS: [&str; 6] = ["root", "home", "srv", "var", "swap", "linux-generic"];
const CASES: u32 = 600;

/// A disk in memory that is still there after the run.
#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<MemoryDevice>>);

impl Disk {
    fn new(bytes: Vec<u8>, sector: SectorSize) -> Self {
        Self(Arc::new(Mutex::new(MemoryDevice::from_bytes(
            bytes, sector,
        ))))
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

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = (self.0)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let limit = u64::try_from(all.len()).unwrap();
        &all[usize::try_from(self.below(limit)).unwrap()]
    }
}

/// A disk and what is wanted of it.
struct Case {
    before: Vec<u8>,
    sector: SectorSize,
    definitions: Vec<String>,
    empty: EmptyMode,
    factory_reset: bool,
}

fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

/// Bytes that are never zero, so that a byte that was cleared shows.
fn noise(dice: &mut Dice, size: u64) -> Vec<u8> {
    let mut state = dice.below(1 << 30) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state >> 56).unwrap() | 1
    };
    (0..size).map(|_| next()).collect()
}

/// A full disk of half a MiB to 1.5 MiB with up to six partitions, with gaps between and in any order of slots.
fn case(number: u32) -> Case {
    let mut dice = Dice(u64::from(number) + 1);
    let sector = *dice.one_of(&[SectorSize::S512, SectorSize::S512, SectorSize::S4096]);
    let size = (128 + dice.below(256)) * 4096;
    let mut table = Table::new(
        Uuid::from_u128(u128::from(number) + 1),
        sector,
        Bytes::new(size),
    )
    .unwrap();
    let mut at = table.first_usable().get() + dice.below(40);
    let mut slots: Vec<u32> = (0..8).collect();
    for serial in 0..dice.below(7) {
        let length = 1 + dice.below(size / sector.get() / 8);
        if at + length > table.last_usable().get() {
            break;
        }
        let entry = Entry {
            kind: PartitionType::parse(dice.one_of::<&str>(&KINDS), ARCH).unwrap(),
            uuid: Uuid::from_u128(u128::from(serial) + 1000),
            first: Lba::new(at),
            last: Lba::new(at + length - 1),
            attributes: 0,
            label: Name::new("old").unwrap(),
            tail: Vec::new(),
        };
        let slot = usize_of(dice.below(u64::try_from(slots.len()).unwrap()));
        table.insert(slots.remove(slot), entry).unwrap();
        at += length + *dice.one_of(&[0, 0, 1, 7, 64, 200]);
    }
    let mut disk = MemoryDevice::from_bytes(noise(&mut dice, size), sector);
    table::commit(&mut disk, &table, Commit::Create).unwrap();
    let empty = *dice.one_of(&[
        EmptyMode::Refuse,
        EmptyMode::Allow,
        EmptyMode::Refuse,
        EmptyMode::Force,
    ]);
    let definitions = (0..1 + dice.below(4)).map(|_| definition(&mut dice));
    Case {
        before: disk.into_bytes(),
        sector,
        definitions: definitions.collect(),
        empty,
        factory_reset: empty != EmptyMode::Force && dice.below(4) == 0,
    }
}

fn definition(dice: &mut Dice) -> String {
    let mut text = format!("[Partition]\nType={}\n", dice.one_of(&KINDS));
    let least = 4096 * (10 + dice.below(16));
    text += &format!("SizeMinBytes={least}\n");
    if dice.below(2) == 0 {
        text += &format!("SizeMaxBytes={}\n", least + 4096 * dice.below(64));
    }
    text += *dice.one_of(&[
        "",
        "",
        "FactoryReset=yes\n",
        "PaddingMinBytes=8192\n",
        "Priority=5\n",
    ]);
    text
}

fn job(case: &Case, scratch: &Path) -> Option<Job> {
    let source = |(number, text): (usize, &String)| Source {
        path: PathBuf::from(format!("/repart.d/{number}.conf")),
        text: text.clone().into_bytes(),
        drop_ins: Vec::new(),
    };
    let sources: Vec<Source> = case.definitions.iter().enumerate().map(source).collect();
    Some(Job {
        wanted: read(Vec::new(), &sources, &Settings::new(ARCH)).ok()?,
        options: Options {
            grain: Grain::new(4096),
            empty: case.empty,
            factory_reset: case.factory_reset.into(),
            ..Options::new(Seed::new(Uuid::from_u128(99)))
        },
        sector: case.sector,
        architecture: ARCH,
        environment: Environment {
            epoch: Some(1_750_000_000),
            now: 1_750_000_000,
            search: SearchPath::new(None),
            scratch: scratch.to_owned(),
            mkfs_options: BTreeMap::new(),
        },
        root: None,
        copy_source: None,
        discard: true,
        fstab: None,
        crypttab: None,
        keys: Keys::default(),
        el_torito: None,
        signing: Signing {
            signers: Vec::new(),
            joined: Vec::new(),
        },
    })
}

/// The plan that was applied, the bytes after it, and what was kept; `None` where it is refused.
fn applied(case: &Case, scratch: &Path) -> Option<(Plan, Vec<u8>, TableBackup)> {
    let job = job(case, scratch)?;
    let disk = Disk::new(case.before.clone(), case.sector);
    let target = Target::on(Box::new(disk.clone()), Path::new("/disk"), case.empty).unwrap();
    let mut session = Session::new(&job, Some(target)).unwrap();
    let mut source = || [7; 16];
    let plan = session
        .plan(&mut Replay::new(&mut source), &mut |_| {})
        .ok()?;
    let (old, new) = tables(case, &plan);
    let moment = Moment {
        time: 1,
        device: "/disk".to_owned(),
    };
    let kept = saved::keep(&disk, Some(&old), &new, moment).unwrap();
    let done = session.apply(plan, false, &mut |_| {}).unwrap();
    let after = disk.lock().bytes().to_vec();
    Some((done.plan, after, kept))
}

/// The tables before and after.
fn tables(case: &Case, plan: &Plan) -> (Table, Table) {
    let disk = MemoryDevice::from_bytes(case.before.clone(), case.sector);
    let Label::Gpt(found) = table::read(&disk).unwrap() else {
        panic!("the disk has a table");
    };
    let new = repart::build::table::planned(plan, Some(&found.table)).unwrap();
    (found.table, new)
}

/// Which bytes the plan gives up: new partitions, what it says it clears (within what partitions may
/// use), and the sectors of its table.
fn given_up(case: &Case, plan: &Plan) -> Vec<bool> {
    let mut given_up = vec![false; case.before.len()];
    let mut give_up = |extent: Extent| {
        let start = usize_of(extent.start.get());
        given_up[start..start + usize_of(extent.size.get())].fill(true);
    };
    let sector = case.sector;
    let first = plan.table.first_usable.start(sector).unwrap();
    let end = Lba::new(plan.table.last_usable.get() + 1)
        .start(sector)
        .unwrap();
    for extent in &plan.wipe {
        let start = extent.start.max(first);
        let end = extent.end().unwrap().min(end);
        give_up(Extent::new(start, end.saturating_sub(start)));
    }
    for new in plan.listed().filter(|one| one.found.is_none()) {
        give_up(new.extent());
    }
    let encoded = tables(case, plan).1.encode();
    for chunk in [
        &encoded.primary_header,
        &encoded.primary_entries,
        &encoded.backup_entries,
        &encoded.backup_header,
    ] {
        let size = u64::try_from(chunk.bytes.len()).unwrap();
        give_up(Extent::new(
            chunk.lba.start(sector).unwrap(),
            Bytes::new(size),
        ));
    }
    give_up(Extent::new(Bytes::ZERO, Bytes::new(512)));
    given_up
}

#[test]
fn no_byte_outside_of_the_plan_changes() {
    let scratch = tempfile::tempdir().unwrap();
    let (mut compared, mut changed, mut kept_bytes, mut restored) = (0, 0, 0, 0);
    for number in 0..CASES {
        let case = case(number);
        let Some((plan, after, kept)) = applied(&case, scratch.path()) else {
            continue;
        };
        compared += 1;
        let given_up = given_up(&case, &plan);
        let bytes = case.before.iter().zip(&after).zip(&given_up);
        let differs = bytes
            .clone()
            .position(|((old, new), given)| old != new && !given);
        assert_eq!(differs, None, "case {number}: {plan:#?}");
        kept_bytes += given_up.iter().filter(|given| !**given).count();
        if !plan.changed {
            assert!(case.before == after, "case {number}");
            continue;
        }
        changed += 1;
        for found in plan.partitions.iter().filter_map(|one| one.found.as_ref()) {
            let start = usize_of(found.extent.start.get());
            let range = start..start + usize_of(found.extent.size.get());
            assert!(case.before[range.clone()] == after[range], "case {number}");
        }
        restored += restored_everywhere(&case, after, &kept, number);
    }
    println!(
        "{compared} disks, {changed} of them changed; {kept_bytes} bytes outside of the plans are the same"
    );
    println!("{restored} crash points while tables were put back");
    assert!(compared > 400 && changed > 300, "{compared} {changed}");
    assert!(restored > 2_000, "{restored}");
}

/// What the disk's table says: its UUID and entries; `None` where it has none.
fn see(disk: &dyn BlockDevice) -> Option<(Uuid, Vec<(u32, Entry)>)> {
    match table::read(disk) {
        Ok(Label::Gpt(found)) => {
            let slots = found.table.slots().clone();
            Some((found.table.disk_guid, slots.into_iter().collect()))
        }
        _ => None,
    }
}

/// Puts the table back, with the power cut everywhere: the new table or the old one is there.
fn restored_everywhere(case: &Case, after: Vec<u8>, kept: &TableBackup, number: u32) -> usize {
    let kept = TableBackup::parse(&kept.encode()).unwrap();
    let mut disk = MemoryDevice::from_bytes(after.clone(), case.sector);
    let new = see(&disk);
    saved::restore(&mut disk, &kept).unwrap();
    let old = see(&disk);
    let before = MemoryDevice::from_bytes(case.before.clone(), case.sector);
    assert_eq!(old, see(&before), "case {number}");
    for range in &kept.ranges {
        let start = usize_of(range.offset.get());
        let place = start..start + range.bytes.len();
        assert!(
            disk.bytes()[place.clone()] == case.before[place],
            "case {number}"
        );
    }
    // Every case would take long, and tells the same.
    if !number.is_multiple_of(40) {
        return 0;
    }
    let log = disk.log().to_vec();
    let recording = Recording::new(after, &log, case.sector);
    recording.images(&mut |word, disk| {
        let seen = see(disk);
        assert!(
            seen == old || seen == new,
            "case {number}, {word}: {seen:?}"
        );
    })
}
