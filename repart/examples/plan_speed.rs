//! Times a plan for 100 definitions on a table of 100 partitions: prints the median of 101 runs.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use image_specs::arch::Architecture;
use image_specs::guid;
use image_specs::identity::Seed;
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, Extent, Lba, SectorSize};
use repart::definition::{Settings, Source, read};
use repart::plan::{self, EmptyMode, Options, SizeMode};
use repart::survey::{FoundLabel, FoundPartition, FoundTable, Survey};
use uuid::Uuid;

/// Every second definition finds a partition of its type; the other half is new.
const COUNT: u32 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let kind = |number: u32| PartitionType::new(Uuid::from_u128(u128::from(number) + (7 << 64)));
    let source = |number: u32| Source {
        path: PathBuf::from(format!("/repart.d/{number:03}.conf")),
        text: format!(
            "[Partition]\nType={}\nWeight={}\nSizeMinBytes=2M\nPaddingWeight=10\n",
            kind(number * 2).guid(),
            number + 1
        )
        .into(),
        drop_ins: Vec::new(),
    };
    let sources: Vec<_> = (0..COUNT).map(source).collect();
    let set = read(Vec::new(), &sources, &Settings::new(Architecture::X86_64))?;
    let found = |slot: u32| FoundPartition {
        slot,
        kind: kind(slot),
        uuid: Uuid::from_u128(u128::from(slot) + 1),
        label: format!("p{slot}"),
        flags: 0,
        extent: Extent::new(Bytes::mib(u64::from(slot) * 100 + 1), Bytes::mib(50)),
    };
    let survey = Survey {
        disk_size: Bytes::mib(10_100),
        sector: SectorSize::S512,
        label: FoundLabel::Gpt(FoundTable {
            disk_uuid: Uuid::from_u128(1),
            first_usable: Lba::new(2048),
            last_usable: Lba::new(10_100 * 2048 - 34),
            slots: 256,
            backup: Lba::new(10_100 * 2048 - 1),
            slot_size: 128,
            partitions: (0..COUNT).map(found).collect(),
        }),
        contents: Vec::new(),
    };
    let options = Options {
        empty: EmptyMode::Refuse,
        size: SizeMode::Keep,
        ..Options::new(Seed::new(guid::parse(
            "11111111-2222-3333-4444-555555555555",
        )?))
    };
    let mut times = Vec::new();
    for _ in 0..101 {
        let start = Instant::now();
        let plan = plan::plan(&survey, &set, &options, &mut || [0; 16])?;
        plan::check(&plan, &survey)?;
        times.push(start.elapsed());
    }
    times.sort();
    println!(
        "{} definitions on {COUNT} partitions: {:?}",
        set.definitions.len(),
        times[50]
    );
    Ok(())
}
