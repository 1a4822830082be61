//! Sets of definition files, parted by lines of dashes: reading them ends, every message has a
//! text, and what can be planned on a new, an empty or a used disk passes the check of plans.
#![no_main]

use image_specs::arch::Architecture;
use image_specs::gpt::{Entry, Label, Table};
use image_specs::guid;
use image_specs::identity::Seed;
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, Grain, Lba, SectorSize};
use libfuzzer_sys::fuzz_target;
use repart::build::table::found;
use repart::definition::{DefinitionSet, Settings, Source, read_into, unsupported};
use repart::plan::{self, EmptyMode, Options, SizeMode};
use repart::survey::{FoundContent, FoundLabel, Survey};
use uuid::Uuid;

const ARCH: Architecture = Architecture::X86_64;
const SIZE: Bytes = Bytes::new(64 << 20);

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let sources: Vec<Source> = text
        .split("\n---\n")
        .take(40)
        .enumerate()
        .map(|(number, text)| Source {
            path: format!("/repart.d/{number:02}.conf").into(),
            text: text.as_bytes().to_vec(),
            drop_ins: Vec::new(),
        })
        .collect();
    let mut ignored = Vec::new();
    match read_into(Vec::new(), &sources, &Settings::new(ARCH), &mut ignored) {
        Ok(set) => {
            let _ = unsupported(&set).map(|error| error.to_string());
            for (empty, label) in [
                (EmptyMode::Create, FoundLabel::None),
                (EmptyMode::Require, FoundLabel::None),
                (EmptyMode::Refuse, used()),
            ] {
                try_plan(&set, empty, label);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    for warning in ignored {
        assert!(!warning.to_string().is_empty());
    }
});

/// A table with a root partition and one that nobody knows.
fn used() -> FoundLabel {
    let Ok(mut table) = Table::new(Uuid::from_u128(1), SectorSize::S512, SIZE) else {
        return FoundLabel::None;
    };
    let kinds = [
        PartitionType::parse("root", ARCH).ok(),
        guid::parse(UNKNOWN).ok().map(PartitionType::new),
    ];
    for (slot, kind) in (0u32..).zip(kinds.into_iter().flatten()) {
        let first = 4096 * (1 + u64::from(slot));
        let entry = Entry {
            kind,
            uuid: Uuid::from_u128(u128::from(slot) + 2),
            first: Lba::new(first),
            last: Lba::new(first + 2047),
            attributes: 0,
            label: Label::new("x").unwrap_or_default(),
            tail: Vec::new(),
        };
        let _ = table.insert(slot, entry);
    }
    FoundLabel::Gpt(found(&table))
}

const UNKNOWN: &str = "bbbbbbbb-8483-4772-8e79-3d69d8477de4";

fn try_plan(set: &DefinitionSet, empty: EmptyMode, label: FoundLabel) {
    let survey = Survey {
        disk_size: if empty == EmptyMode::Create {
            Bytes::ZERO
        } else {
            SIZE
        },
        sector: SectorSize::S512,
        label,
        contents: vec![FoundContent::default(); set.definitions.len()],
    };
    let options = Options {
        grain: Grain::new(4096),
        empty,
        size: if empty == EmptyMode::Create {
            SizeMode::Auto
        } else {
            SizeMode::Keep
        },
        ..Options::new(Seed::new(Uuid::from_u128(9)))
    };
    let _ = plan::minimal_size(&survey, set, &options);
    match plan::plan(&survey, set, &options, &mut || [7; 16]) {
        Ok(plan) => plan::check(&plan, &survey).expect("a plan that keeps what it must"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
