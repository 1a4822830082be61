//! Disks, definitions and plans in few words.

use std::path::Path;

use image_specs::arch::Architecture;
use image_specs::guid;
use image_specs::identity::Seed;
use image_specs::partition::{FLAG_GROW_FILE_SYSTEM, PartitionType};
use image_specs::units::{Bytes, Extent, Lba, SectorSize};
use repart::definition::{DefinitionSet, Settings, Source, read};
use repart::plan::{self, Options, Plan};
use repart::survey::{FoundLabel, FoundPartition, FoundTable, Survey};
use uuid::Uuid;

/// The type of home partitions.
const HOME: &str = "933ac7e1-2eb4-4f13-b844-0e14e2aef915";

/// The seed of all plans here.
pub(crate) fn seed() -> Seed {
    Seed::new(guid::parse("11111111-2222-3333-4444-555555555555").unwrap())
}

/// The options of all plans here.
pub(crate) fn options() -> Options {
    Options::new(seed())
}

/// A type by its name.
pub(crate) fn kind(name: &str) -> PartitionType {
    PartitionType::parse(name, Architecture::X86_64).unwrap()
}

/// The UUID that the `earlier`th further definition of a home partition gives.
pub(crate) fn own(earlier: u64) -> Uuid {
    seed().partition(guid::parse(HOME).unwrap(), earlier)
}

/// Definitions `00.conf`, `10.conf` and so on, with `; ` between their keys.
pub(crate) fn set(files: &[&str]) -> DefinitionSet {
    let source = |(number, keys): (usize, &&str)| Source {
        path: Path::new("/d").join(format!("{number}0.conf")),
        text: format!("[Partition]\n{}", keys.replace("; ", "\n")).into(),
        drop_ins: Vec::new(),
    };
    let sources: Vec<_> = files.iter().enumerate().map(source).collect();
    read(Vec::new(), &sources, &Settings::new(Architecture::X86_64)).unwrap()
}

/// A partition as `TYPE START SIZE [UUID]`, in MiB.
pub(crate) fn partition(slot: u32, text: &str) -> FoundPartition {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |at: usize| Bytes::mib(words[at].parse().unwrap());
    let uuid = words.get(3).map(|uuid| guid::parse(uuid).unwrap());
    FoundPartition {
        slot,
        kind: kind(words[0]),
        uuid: uuid.unwrap_or_else(|| Uuid::from_u128(u128::from(slot) + 1)),
        label: format!("old-{slot}"),
        flags: kind(words[0]).known_flags() & FLAG_GROW_FILE_SYSTEM,
        extent: Extent::new(number(1), number(2)),
    }
}

/// A disk of 1 GiB with these partitions.
pub(crate) fn disk(partitions: &[&str]) -> Survey {
    let partitions = partitions.iter().zip(0..);
    Survey {
        disk_size: Bytes::mib(1024),
        sector: SectorSize::S512,
        label: FoundLabel::Gpt(FoundTable {
            disk_uuid: Uuid::from_u128(99),
            first_usable: Lba::new(2048),
            last_usable: Lba::new((1 << 21) - 34),
            slots: 128,
            backup: Lba::new((1 << 21) - 1),
            slot_size: 128,
            partitions: partitions
                .map(|(text, slot)| partition(slot, text))
                .collect(),
        }),
        contents: Vec::new(),
    }
}

/// The partitions of a plan by their place, as `TYPE SIZE-BEFORE SIZE-AFTER FILE`.
pub(crate) fn rows(plan: &Plan) -> Vec<String> {
    let mut listed: Vec<_> = plan.listed().collect();
    listed.sort_by_key(|partition| partition.offset);
    let row = |p: &plan::PlannedPartition| {
        let file = p.definition.map_or("-".to_owned(), |at| format!("{at}0"));
        let kind = p.kind.to_string().replace("-x86-64", "");
        format!("{kind} {} {} {file}", p.old_size, p.new_size)
    };
    listed.into_iter().map(row).collect()
}

/// The plan, which keeps what it must.
pub(crate) fn planned(survey: &Survey, files: &[&str]) -> Plan {
    let plan = plan::plan(survey, &set(files), &options(), &mut || [7; 16]);
    let plan = plan.unwrap_or_else(|error| panic!("{files:?}: {error}"));
    plan::check(&plan, survey).unwrap();
    plan
}

/// What a survey of the disk finds once the plan is applied.
pub(crate) fn applied(survey: &Survey, plan: &Plan) -> Survey {
    let FoundLabel::Gpt(old) = &survey.label else {
        panic!("a disk without a table")
    };
    let listed = plan.listed().filter_map(|new| {
        Some(FoundPartition {
            slot: new.slot?,
            kind: new.kind,
            uuid: new.uuid,
            label: new.label.clone(),
            flags: new.flags,
            extent: new.extent(),
        })
    });
    let mut partitions: Vec<_> = listed.collect();
    partitions.sort_by_key(|partition| partition.slot);
    Survey {
        label: FoundLabel::Gpt(FoundTable {
            disk_uuid: plan.table.disk_uuid,
            last_usable: plan.table.last_usable,
            partitions,
            ..old.clone()
        }),
        ..survey.clone()
    }
}
