//! Disks with master boot records: planned, written and read again, by us and by sfdisk.
#![allow(missing_docs)]

use std::io::Write;
use std::path::Path;
use std::process::Command;

use blockdev::table::Commit;
use blockdev::{MemoryDevice, mbr as disk_mbr};
use image_specs::arch::Architecture;
use image_specs::guid;
use image_specs::identity::Seed;
use image_specs::mbr::{MbrEntry, MbrTable, MbrType};
use image_specs::units::{Bytes, Lba, SectorSize};
use proptest::prelude::*;
use repart::build::mbr::{found, planned};
use repart::definition::{DefinitionSet, LabelKind, Settings, Source, read};
use repart::plan::{
    self, Defer, EmptyMode, ExitClass, Options, Plan, PlanError, ResetMode, SizeMode,
};
use repart::report::Report;
use repart::survey::{FoundLabel, Survey};

const SECTOR: SectorSize = SectorSize::S512;

/// Definitions by the lines of their files, in that order.
fn set(files: &[&str], label: LabelKind) -> DefinitionSet {
    let source = |(number, lines): (usize, &&str)| Source {
        path: Path::new("/repart.d").join(format!("{number:02}.conf")),
        text: format!("[Partition]\n{}\n", lines.replace("; ", "\n")).into(),
        drop_ins: Vec::new(),
    };
    let sources: Vec<_> = files.iter().enumerate().map(source).collect();
    let set = read(Vec::new(), &sources, &Settings::new(Architecture::X86_64)).unwrap();
    DefinitionSet { label, ..set }
}

fn options(empty: EmptyMode) -> Options {
    Options {
        seed: Seed::new(guid::parse("11111111-2222-3333-4444-555555555555").unwrap()),
        grain: None,
        empty,
        size: SizeMode::Keep,
        factory_reset: ResetMode::Never,
        memory: None,
        defer: Defer::default(),
        fs_sector: 4096,
        seed_lasts: true,
    }
}

fn survey(device: &MemoryDevice) -> Survey {
    Survey {
        disk_size: Bytes::new(u64::try_from(device.bytes().len()).unwrap()),
        sector: SECTOR,
        label: match disk_mbr::read(device).unwrap() {
            Some(table) => FoundLabel::Mbr(found(&table)),
            None => FoundLabel::None,
        },
        contents: Vec::new(),
    }
}

fn plan(device: &MemoryDevice, set: &DefinitionSet, options: &Options) -> Result<Plan, PlanError> {
    let survey = survey(device);
    let mut number = 0;
    let plan = plan::plan(&survey, set, options, &mut || {
        number += 1;
        [number; 16]
    })?;
    plan::check(&plan, &survey).unwrap();
    Ok(plan)
}

/// Plans and writes the table.
fn run(device: &mut MemoryDevice, set: &DefinitionSet, options: &Options) -> Plan {
    let plan = plan(device, set, options).unwrap();
    let old = disk_mbr::read(&*device).unwrap();
    let table = planned(&plan, old.as_ref()).unwrap();
    let over = match plan.table.from_scratch {
        true => Commit::Create,
        false => Commit::Update,
    };
    disk_mbr::commit(device, &table, over).unwrap();
    assert_eq!(disk_mbr::read(&*device).unwrap(), Some(table));
    plan
}

fn disk(mib: u64) -> MemoryDevice {
    let size = usize::try_from(mib << 20).unwrap();
    MemoryDevice::from_bytes(vec![0; size], SECTOR)
}

/// What sfdisk says of the disk, without the file's name; it must have nothing to complain of.
fn sfdisk(device: &MemoryDevice) -> Vec<String> {
    let mut file = tempfile::Builder::new().suffix(".img").tempfile().unwrap();
    file.write_all(device.bytes()).unwrap();
    let ask = |option: &str| {
        let done = Command::new("sfdisk")
            .arg(option)
            .arg(file.path())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&done.stdout), text(&done.stderr));
        assert!(
            done.status.success() && err.is_empty(),
            "{option}: {out}{err}"
        );
        out
    };
    let verified = ask("--verify");
    assert!(verified.contains("No errors detected"), "{verified}");
    let name = file.path().to_str().unwrap().to_owned();
    let lines = ask("--dump");
    let lines = lines
        .lines()
        .filter(|line| line.contains("start=") || line.contains("label"));
    lines
        .map(|line| line.replace(&name, "#").split_whitespace().collect())
        .collect()
}

#[test]
fn four_partitions_are_primary() {
    let mut device = disk(64);
    let set = set(
        &[
            "Type=gpt:esp mbr:fat32; SizeMinBytes=8M; SizeMaxBytes=8M",
            "Type=swap; SizeMinBytes=8M; SizeMaxBytes=8M",
            "Type=root; SizeMinBytes=10M; SizeMaxBytes=10M",
            "Type=home",
        ],
        LabelKind::Mbr,
    );
    run(&mut device, &set, &options(EmptyMode::Require));
    assert_eq!(
        sfdisk(&device),
        [
            "label:dos",
            "label-id:0x029f4951",
            "#1:start=2048,size=16384,type=c",
            "#2:start=18432,size=16384,type=82",
            "#3:start=34816,size=20480,type=83",
            "#4:start=55296,size=75776,type=83",
        ]
    );
    let again = plan(&device, &set, &options(EmptyMode::Allow)).unwrap();
    assert!(!again.changed);
}

#[test]
fn a_fifth_makes_the_last_ones_logical() {
    let mut device = disk(100);
    let small = "Type=mbr:83; SizeMinBytes=10M; SizeMaxBytes=10M; PaddingMaxBytes=0";
    let set = set(
        &[small, small, small, small, small, "Type=home"],
        LabelKind::Mbr,
    );
    let plan = run(&mut device, &set, &options(EmptyMode::Require));
    assert_eq!(
        sfdisk(&device)[2..],
        [
            "#1:start=2048,size=20480,type=83",
            "#2:start=22528,size=20480,type=83",
            "#3:start=43008,size=20480,type=83",
            "#4:start=63488,size=141312,type=f",
            "#5:start=63496,size=20480,type=83",
            "#6:start=83984,size=20480,type=83",
            "#7:start=104472,size=100328,type=83",
        ]
    );
    let report = Report::new(&plan, &set.definitions, None);
    let rows = report
        .rows
        .iter()
        .map(|row| format!("{} {}", row.type_text(), row.uuid));
    let rows: Vec<String> = rows.collect();
    assert_eq!(rows[0], "linux-generic mbr:0x83 029f4951-01");
    assert_eq!(rows[5], "home mbr:0x83 029f4951-07");
}

/// Two primary partitions and two logical ones, made by sfdisk, on a disk that has grown since.
fn foreign() -> MemoryDevice {
    let script = "label: dos\nlabel-id: 0x1234abcd\n\
                  start=2048, size=8192, type=c, bootable\n\
                  start=10240, size=8192, type=7\n\
                  start=18432, size=40960, type=5\n\
                  start=20480, size=8192, type=83\n\
                  start=30720, size=8192, type=83\n";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![0; 32 << 20]).unwrap();
    let path = file.path().to_owned();
    let mut child = Command::new("sfdisk")
        .arg("--quiet")
        .arg(&path)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.resize(96 << 20, 0);
    bytes[..440].fill(0x90);
    MemoryDevice::from_bytes(bytes, SECTOR)
}

#[test]
fn a_table_of_sfdisk_is_extended() {
    let mut device = foreign();
    let before = device.bytes().to_vec();
    let set = set(
        &[
            "Type=mbr:83; SizeMinBytes=4M; SizeMaxBytes=4M",
            "Type=gpt:home mbr:83; SizeMaxBytes=20M",
            "Type=swap; SizeMinBytes=8M; SizeMaxBytes=8M",
            "Type=srv",
        ],
        LabelKind::Gpt,
    );
    run(&mut device, &set, &options(EmptyMode::Refuse));
    assert_eq!(
        sfdisk(&device),
        [
            "label:dos",
            "label-id:0x1234abcd",
            "#1:start=2048,size=8192,type=c,bootable",
            "#2:start=10240,size=8192,type=7",
            "#3:start=18432,size=178176,type=5",
            "#5:start=20480,size=8192,type=83",
            "#6:start=30720,size=40960,type=83",
            "#7:start=71688,size=16384,type=82",
            "#8:start=88080,size=108528,type=83",
        ]
    );
    let again = plan(&device, &set, &options(EmptyMode::Refuse)).unwrap();
    assert!(!again.changed);
    assert_eq!(device.bytes()[..440], before[..440]);
    // Partitions that were there, and what belongs to nobody, are as they were.
    for (from, to) in [(2048, 18432), (18433, 28672), (30721, 38912)] {
        let range = from * 512..to * 512;
        assert_eq!(device.bytes()[range.clone()], before[range]);
    }
}

#[test]
fn tables_are_left_alone_unless_definitions_speak_of_them() {
    let device = foreign();
    let gpt = set(&["Type=home"], LabelKind::Gpt);
    let error = plan(&device, &gpt, &options(EmptyMode::Refuse)).unwrap_err();
    assert_eq!(
        (&error, error.exit()),
        (&PlanError::NotGpt, ExitClass::NotForUs)
    );
    let own = set(&["Type=home mbr:83"], LabelKind::Gpt);
    let error = plan(&device, &own, &options(EmptyMode::Require)).unwrap_err();
    assert_eq!(error, PlanError::NotEmpty);
}

#[test]
fn what_no_such_table_can_hold_is_refused() {
    let blank = disk(64);
    let cases = [
        (set(&["Type=mbr:83"], LabelKind::Gpt), "pass --label=mbr"),
        (
            set(&["Type=root-verity"], LabelKind::Mbr),
            "no type of its own",
        ),
        (
            set(&["Type=home; SizeMinBytes=1G"], LabelKind::Mbr),
            "do not fit",
        ),
        (
            set(&["Type=home hybrid:83"; 4], LabelKind::Gpt),
            "room for three",
        ),
    ];
    for (set, words) in cases {
        let error = plan(&blank, &set, &options(EmptyMode::Require)).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    let mut full = MbrTable::new(1, SECTOR);
    for slot in 0..4 {
        let first = Lba::new(2048 * u64::from(slot + 1));
        let entry = MbrEntry {
            status: 0,
            kind: MbrType::LINUX,
            first,
            sectors: 2048,
            record: None,
        };
        full.insert(slot, entry);
    }
    let mut device = disk(64);
    disk_mbr::commit(&mut device, &full, Commit::Create).unwrap();
    let set = set(&["Type=mbr:swap"], LabelKind::Gpt);
    let error = plan(&device, &set, &options(EmptyMode::Refuse)).unwrap_err();
    assert!(error.to_string().contains("four places"), "{error}");
}

#[test]
fn a_factory_reset_renumbers_nobody() {
    let device = foreign();
    let reset = Options {
        factory_reset: ResetMode::Recreate,
        ..options(EmptyMode::Refuse)
    };
    let first = set(&["Type=mbr:83; FactoryReset=yes"], LabelKind::Gpt);
    let error = plan(&device, &first, &reset).unwrap_err();
    assert_eq!(error, PlanError::Renumbers { number: 6 });
    let both = set(
        &[
            "Type=mbr:83; FactoryReset=yes",
            "Type=home mbr:83; FactoryReset=yes",
        ],
        LabelKind::Gpt,
    );
    let mut device = device;
    run(&mut device, &both, &reset);
    let lines = sfdisk(&device);
    assert_eq!(lines.len(), 2 + 5, "{lines:?}");
    assert!(lines[5].starts_with("#5:start=18440,"), "{lines:?}");
}

/// A table with primary partitions and a chain in the place of one of them.
fn random_table() -> impl Strategy<Value = MbrTable> {
    let size = || 1..10_u32;
    let primary = prop::collection::vec((0..9_u64, size(), 0..3_usize), 0..4);
    let logical = prop::collection::vec((1..9_u64, size(), 0..3_usize), 0..5);
    let parts = (
        primary,
        prop::option::of((0..4_usize, logical)),
        any::<u32>(),
    );
    parts.prop_map(|(primary, chain, id)| {
        let mut table = MbrTable::new(id, SECTOR);
        let kinds = ["linux", "swap", "0x07"].map(|name| MbrType::parse(name).unwrap());
        let grains = |count: u64| count * 2048 / 4;
        let mut at = 2048;
        let chain = chain.map(|(place, logical)| (place.min(primary.len()), logical));
        for place in 0..=primary.len() {
            if let Some((_, logical)) = chain.as_ref().filter(|(one, _)| *one == place) {
                let start = at;
                for (slot, (gap, size, kind)) in (4..).zip(logical) {
                    let record = at;
                    let first = at + gap * 8;
                    at = first + grains((*size).into());
                    let entry = MbrEntry {
                        status: 0,
                        kind: kinds[*kind],
                        first: Lba::new(first),
                        sectors: u32::try_from(at - first).unwrap(),
                        record: Some(Lba::new(record)),
                    };
                    table.insert(slot, entry);
                }
                at += 2048;
                let sectors = u32::try_from(at - start).unwrap();
                table.set_extended(u32::try_from(place).unwrap(), Lba::new(start), sectors);
            }
            let Some((gap, size, kind)) = primary.get(place) else {
                continue;
            };
            let first = at + grains(*gap);
            at = first + grains((*size).into());
            let slot = place + usize::from(chain.as_ref().is_some_and(|(one, _)| *one <= place));
            let entry = MbrEntry {
                status: 0,
                kind: kinds[*kind],
                first: Lba::new(first),
                sectors: u32::try_from(at - first).unwrap(),
                record: None,
            };
            table.insert(u32::try_from(slot).unwrap(), entry);
        }
        table
    })
}

fn random_set() -> impl Strategy<Value = Vec<String>> {
    let one = (0..4_usize, 1..9_u64, prop::option::of(0..9_u64)).prop_map(|(kind, size, more)| {
        let kind = ["mbr:83", "gpt:home mbr:83", "mbr:swap", "mbr:7"][kind];
        let most = more.map(|more| format!("; SizeMaxBytes={}M", size + more));
        let most = most.unwrap_or_default();
        format!("Type={kind}; SizeMinBytes={size}M{most}")
    });
    prop::collection::vec(one, 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// What is planned can be written and is read the same; what existed keeps its number and place
    /// and its type; a second plan changes nothing.
    #[test]
    fn plans_come_true(table in random_table(), files in random_set(), grown in 0..40_u64) {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let set = set(&files, LabelKind::Mbr);
        let mut device = disk(24 + grown);
        disk_mbr::commit(&mut device, &table, Commit::Create).unwrap();
        let empty = options(EmptyMode::Refuse);
        let found = disk_mbr::read(&device).unwrap().unwrap();
        prop_assert_eq!(&found, &table);
        if plan(&device, &set, &empty).is_ok() {
            run(&mut device, &set, &empty);
            let new = disk_mbr::read(&device).unwrap().unwrap();
            for (slot, old) in table.slots() {
                let now = new.slots()[slot];
                prop_assert_eq!((now.first, now.kind, now.record), (old.first, old.kind, old.record));
                prop_assert!(now.sectors >= old.sectors);
            }
            let again = plan(&device, &set, &empty).unwrap();
            prop_assert!(!again.changed, "{:?}", again);
        }
    }
}
