//! Random cases as our planner takes them; shared by the property tests and `examples/peer`.

use image_specs::arch::Architecture;
use image_specs::gpt::{Header, Table};
use image_specs::guid;
use image_specs::identity::Seed;
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, Grain, Lba, SectorSize};
use repart::definition::{CopyBlocks, DefinitionSet, Diagnostic, Filter, Settings, Source, read};
use repart::plan::{Defer, EmptyMode, Options, SizeMode};
use repart::survey::{FoundContent, FoundLabel, Survey};
use testimages::peer::{self, Case, Choices, Disk, Empty, Size};

/// The architecture of the machine that the peer runs on.
const NATIVE: Architecture = Architecture::X86_64;

/// Parses and checks the definitions of a case, as if they lay in `folder`.
pub(crate) fn load(case: &Case, folder: &str) -> Result<DefinitionSet, Box<Diagnostic>> {
    let choices = &case.choices;
    let types = |names: &[String]| names.iter().filter_map(|name| kind(name)).collect();
    let settings = Settings {
        architecture: choices
            .architecture
            .as_ref()
            .and_then(|name| name.parse().ok()),
        filter: match (choices.include.is_empty(), choices.exclude.is_empty()) {
            (false, _) => Filter::Include(types(&choices.include)),
            (true, false) => Filter::Exclude(types(&choices.exclude)),
            (true, true) => Filter::All,
        },
        can_mount: true,
        ..Settings::new(NATIVE)
    };
    read(Vec::new(), &sources(&case.files, folder), &settings)
}

fn sources(files: &[(String, String)], folder: &str) -> Vec<Source> {
    let mut sorted: Vec<_> = files.iter().filter(|(_, text)| !text.is_empty()).collect();
    sorted.sort();
    let at =
        |(path, text): &(String, String)| (format!("{folder}/{path}").into(), text.clone().into());
    let main = sorted.iter().filter(|(path, _)| !path.contains('/'));
    let source = |main: &&(String, String)| {
        let (path, text) = at(main);
        let prefix = format!("{}.d/", main.0);
        let drop_ins = sorted.iter().filter(|(path, _)| path.starts_with(&prefix));
        Source {
            path,
            text,
            drop_ins: drop_ins.map(|file| at(file)).collect(),
        }
    };
    main.map(source).collect()
}

/// The options of a case.
pub(crate) fn options(choices: &Choices) -> Options {
    Options {
        grain: choices.grain_size.and_then(Grain::new),
        empty: match choices.empty {
            Empty::Refuse => EmptyMode::Refuse,
            Empty::Allow => EmptyMode::Allow,
            Empty::Require => EmptyMode::Require,
            Empty::Force => EmptyMode::Force,
            Empty::Create => EmptyMode::Create,
        },
        size: match choices.size {
            Size::Keep => SizeMode::Keep,
            Size::AtLeast(size) => SizeMode::AtLeast(Bytes::new(size)),
            Size::Auto => SizeMode::Auto,
        },
        factory_reset: choices.factory_reset.into(),
        defer: Defer {
            types: choices
                .defer_types
                .iter()
                .filter_map(|name| kind(name))
                .collect(),
            empty: choices.defer_empty,
            factory_reset: choices.defer_factory_reset,
        },
        fs_sector: choices.sector_size.unwrap_or(4096),
        ..Options::new(Seed::new(guid::parse(peer::SEED).unwrap_or_default()))
    }
}

/// What a survey of a case's disk finds.
pub(crate) fn survey(case: &Case, set: &DefinitionSet) -> Survey {
    let table = case.disk.as_ref().and_then(table);
    let sector = match (case.choices.sector_size, &table) {
        (Some(size), _) => SectorSize::new(size).unwrap_or(SectorSize::S512),
        (None, Some(table)) if !matches!(case.choices.empty, Empty::Require | Empty::Force) => {
            table.sector_size()
        }
        _ => SectorSize::S512,
    };
    let contents = set.definitions.iter().map(|definition| {
        let name = match &definition.copy_blocks {
            Some(CopyBlocks::Path(path)) => path.file_name().and_then(|name| name.to_str()),
            _ => None,
        };
        let size = name.and_then(|name| peer::BLOCKS.iter().find(|(known, _)| *known == name));
        FoundContent {
            blocks: size.map(|(_, size)| Bytes::new(*size)),
            ..FoundContent::default()
        }
    });
    Survey {
        disk_size: Bytes::new(case.disk.as_ref().map_or(0, |disk| disk.size)),
        sector,
        label: match table {
            Some(table) if table.sector_size() == sector => {
                FoundLabel::Gpt(repart::build::table::found(&table))
            }
            Some(_) => FoundLabel::Other,
            None => FoundLabel::None,
        },
        contents: contents.collect(),
    }
}

/// Reads the table that the case wrote by hand.
pub(crate) fn table(disk: &Disk) -> Option<Table> {
    let bytes = disk.bytes();
    let at = |sector: u64| {
        let found = bytes
            .iter()
            .find(|(offset, _)| *offset == sector * disk.sector);
        found.map(|(_, bytes)| bytes.as_slice())
    };
    let mut sector = at(1)?.to_vec();
    sector.resize(usize::try_from(disk.sector).ok()?, 0);
    let header = Header::parse(&sector, Lba::new(1)).ok()??;
    Table::parse(&header, at(2)?).ok()
}

fn kind(name: &str) -> Option<PartitionType> {
    PartitionType::parse(name, NATIVE).ok()
}
