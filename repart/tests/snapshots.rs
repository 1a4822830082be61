//! Some plans, as people and programs see them.

use std::path::Path;

use image_specs::arch::Architecture;
use image_specs::guid;
use image_specs::identity::Seed;
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, SectorSize};
use image_specs::units::{Extent, Lba};
use repart::definition::{DefinitionSet, Settings, Source, read};
use repart::plan::{self, Defer, EmptyMode, ExitClass, Options, PlanError, SizeMode};
use repart::report::Report;
use repart::survey::{FoundLabel, FoundPartition, FoundTable, Survey};

fn set(files: &[(&str, &str)]) -> DefinitionSet {
    let source = |(name, text): &(&str, &str)| Source {
        path: Path::new("/repart.d").join(name),
        text: format!("[Partition]\n{text}").into(),
        drop_ins: Vec::new(),
    };
    let sources: Vec<_> = files.iter().map(source).collect();
    read(Vec::new(), &sources, &Settings::new(Architecture::X86_64)).unwrap()
}

fn options(empty: EmptyMode, size: SizeMode) -> Options {
    Options {
        empty,
        size,
        ..Options::new(Seed::new(
            guid::parse("11111111-2222-3333-4444-555555555555").unwrap(),
        ))
    }
}

fn blank(size: Bytes) -> Survey {
    Survey {
        disk_size: size,
        sector: SectorSize::S512,
        label: FoundLabel::None,
        contents: Vec::new(),
    }
}

/// A disk of 1 GiB with a root partition and one of a foreign type, and a gap behind each.
fn used() -> Survey {
    let partition = |slot, kind: &str, start, size| FoundPartition {
        slot,
        kind: PartitionType::parse(kind, Architecture::X86_64).unwrap(),
        uuid: guid::v4([7; 16]),
        label: "old".to_owned(),
        flags: 0,
        extent: Extent::new(Bytes::mib(start), Bytes::mib(size)),
    };
    Survey {
        label: FoundLabel::Gpt(FoundTable {
            disk_uuid: guid::v4([1; 16]),
            first_usable: Lba::new(2048),
            last_usable: Lba::new((1 << 21) - 34),
            slots: 128,
            backup: Lba::new((1 << 21) - 1),
            slot_size: 128,
            partitions: vec![
                partition(0, "root", 1, 100),
                partition(2, "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", 300, 200),
            ],
        }),
        ..blank(Bytes::mib(1024))
    }
}

fn rows(survey: &Survey, set: &DefinitionSet, options: &Options) -> String {
    let plan = plan::plan(survey, set, options, &mut || {
        unreachable!("no UUID is taken")
    })
    .unwrap();
    plan::check(&plan, survey).unwrap();
    let report = Report::new(&plan, &set.definitions, Some(Path::new("/x/disk.raw")));
    let mut text = format!("disk {} -> {}\n", plan.old_disk_size, plan.new_disk_size);
    for row in &report.rows {
        text += &format!(
            "{:24} {:24} {} #{} at {} size {} -> {} gap {} -> {} {}\n",
            row.kind.to_string(),
            row.label,
            row.uuid,
            row.partno.unwrap(),
            row.offset.get(),
            row.old_size.get(),
            row.new_size.get(),
            row.old_padding.get(),
            row.new_padding.get(),
            row.activity.name(),
        );
    }
    text
}

#[test]
fn a_verity_image_of_automatic_size() {
    let set = set(&[
        ("10-esp.conf", "Type=esp\nFormat=vfat\n"),
        (
            "20-root.conf",
            "Type=root\nVerity=data\nVerityMatchKey=r\nSizeMaxBytes=64M\n",
        ),
        (
            "21-root-verity.conf",
            "Type=root-verity\nVerity=hash\nVerityMatchKey=r\n",
        ),
        (
            "22-root-sig.conf",
            "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=r\n",
        ),
    ]);
    let options = options(EmptyMode::Create, SizeMode::Auto);
    insta::assert_snapshot!(rows(&blank(Bytes::ZERO), &set, &options));
}

#[test]
fn a_disk_that_is_grown_and_added_to() {
    let set = set(&[
        ("10-root.conf", "Type=root\nWeight=2000\n"),
        ("20-root-b.conf", "Type=root\n"),
        ("30-home.conf", "Type=home\nPaddingWeight=1000\n"),
        (
            "40-swap.conf",
            "Type=swap\nSizeMinBytes=64M\nSizeMaxBytes=64M\n",
        ),
        ("50-var.conf", "Type=var\nSizeMinBytes=2G\nPriority=1\n"),
    ]);
    insta::assert_snapshot!(rows(
        &used(),
        &set,
        &options(EmptyMode::Refuse, SizeMode::Keep)
    ));
}

#[test]
fn the_json_of_a_plan() {
    let set = set(&[
        ("10-root.conf", "Type=root\nWeight=0\n"),
        ("20-home.conf", "Type=home\nLabel=\n"),
    ]);
    let options = options(EmptyMode::Refuse, SizeMode::Keep);
    let plan = plan::plan(&used(), &set, &options, &mut || [0; 16]).unwrap();
    let report = Report::new(&plan, &set.definitions, Some(Path::new("/x/disk5")));
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap());
}

#[test]
fn refusals_say_what_to_do() {
    let big = set(&[("10-home.conf", "Type=home\nSizeMinBytes=3G\n")]);
    let refusal = |survey: &Survey, options: &Options| {
        let plan = plan::plan(survey, &big, options, &mut || [0; 16]);
        let error: PlanError = plan.unwrap_err();
        (error.exit(), error.to_string())
    };
    let keep = |empty| options(empty, SizeMode::Keep);
    let (exit, text) = refusal(&blank(Bytes::mib(64)), &keep(EmptyMode::Refuse));
    assert_eq!(exit, ExitClass::NotForUs, "{text}");
    let (exit, text) = refusal(&used(), &keep(EmptyMode::Require));
    assert_eq!(exit.code(), 77, "{text}");
    let other = Survey {
        label: FoundLabel::Other,
        ..blank(Bytes::mib(64))
    };
    assert_eq!(refusal(&other, &keep(EmptyMode::Allow)).0.code(), 77);
    let reset = Options {
        factory_reset: true.into(),
        ..keep(EmptyMode::Force)
    };
    assert_eq!(refusal(&used(), &reset).0.code(), 1);
    let (exit, text) = refusal(&used(), &keep(EmptyMode::Refuse));
    assert_eq!(exit.code(), 1);
    insta::assert_snapshot!(text);
    let grown = set(&[("10-root.conf", "Type=root\nSizeMinBytes=400M\n")]);
    let plan = plan::plan(&used(), &grown, &keep(EmptyMode::Refuse), &mut || [0; 16]);
    let text = plan.unwrap_err().to_string();
    assert!(text.contains("number 1, has 299M at most"), "{text}");
    assert!(text.contains("needs 400M"), "{text}");
}

#[test]
fn a_factory_reset_deletes_only_what_is_marked() {
    let set = set(&[("10-root.conf", "Type=root\nFactoryReset=yes\n")]);
    let options = Options {
        factory_reset: true.into(),
        ..options(EmptyMode::Refuse, SizeMode::Keep)
    };
    let plan = plan::plan(&used(), &set, &options, &mut || [0; 16]).unwrap();
    assert_eq!(plan.reset.len(), 1);
    assert_eq!(plan.reset[0].slot, 0);
    assert_eq!(plan::check(&plan, &used()), Ok(()));
    assert_eq!(plan.listed().filter(|p| p.found.is_some()).count(), 1);
}

#[test]
fn deferred_partitions_have_space_but_are_not_written() {
    let set = set(&[
        ("10-home.conf", "Type=home\n"),
        ("20-srv.conf", "Type=srv\nLabel=_empty\n"),
    ]);
    let options = Options {
        defer: Defer {
            empty: true,
            ..Defer::default()
        },
        ..options(EmptyMode::Force, SizeMode::Keep)
    };
    let plan = plan::plan(&blank(Bytes::mib(100)), &set, &options, &mut || [0; 16]).unwrap();
    let written: Vec<_> = plan
        .listed()
        .map(|p| (p.deferred, p.is_to_write()))
        .collect();
    assert_eq!(written, [(false, true), (true, false)]);
}

#[test]
fn a_taken_uuid_is_replaced_by_a_random_one() {
    let derived = "16c99888-9efa-4ebd-9d37-94134e8aea4d";
    let uuid = format!("Type=srv\nUUID={derived}\n");
    let set = set(&[("10-home.conf", "Type=home\n"), ("20-srv.conf", &uuid)]);
    let options = options(EmptyMode::Force, SizeMode::Keep);
    let plan = plan::plan(&blank(Bytes::mib(100)), &set, &options, &mut || [0x55; 16]).unwrap();
    let uuids: Vec<_> = plan.listed().map(|p| p.uuid.to_string()).collect();
    assert_eq!(uuids, ["55555555-5555-4555-9555-555555555555", derived]);
}

#[test]
fn the_minimal_size_is_enough_and_one_grain_less_is_not() {
    let set = set(&[
        ("10-home.conf", "Type=home\n"),
        ("20-srv.conf", "Type=srv\n"),
    ]);
    let options = options(EmptyMode::Force, SizeMode::Keep);
    let minimal = plan::minimal_size(&blank(Bytes::ZERO), &set, &options).unwrap();
    let fits = |size| plan::plan(&blank(size), &set, &options, &mut || [0; 16]).is_ok();
    assert!(fits(minimal));
    assert!(!fits(minimal.saturating_sub(Bytes::kib(20))));
}

#[test]
fn a_partition_that_ends_off_the_grain_stays() {
    let mut survey = used();
    if let FoundLabel::Gpt(found) = &mut survey.label {
        found.partitions[0].extent.size = Bytes::new((299 << 20) - 512);
        found.partitions[1].extent.start = Bytes::new((300 << 20) - 512);
    }
    let set = set(&[("10-root.conf", "Type=root\n")]);
    let options = options(EmptyMode::Refuse, SizeMode::Keep);
    let plan = plan::plan(&survey, &set, &options, &mut || [0; 16]).unwrap();
    assert!(!plan.changed);
}
