//! Reads a case's definitions as repart does.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image_specs::arch::Architecture;
use image_specs::partition::PartitionType;
use repart::definition::{DefinitionSet, Filter, Settings, Source, read};
use testimages::peer::Choices;

/// The architecture of the machine that the peer runs on.
const NATIVE: Architecture = Architecture::X86_64;

/// The type of this name.
pub(crate) fn kind(name: &str) -> Option<PartitionType> {
    PartitionType::parse(name, NATIVE).ok()
}

/// Reads and checks all definitions in `folder`.
pub(crate) fn load(folder: &Path, choices: &Choices) -> Result<DefinitionSet, String> {
    let mut settings = Settings::new(NATIVE);
    settings.can_mount = true;
    if let Some(name) = &choices.architecture {
        settings.architecture = Some(name.parse().map_err(|_| format!("{name} is no architecture"))?);
    }
    let types = |names: &[String]| names.iter().filter_map(|name| kind(name)).collect();
    if !choices.include.is_empty() {
        settings.filter = Filter::Include(types(&choices.include));
    } else if !choices.exclude.is_empty() {
        settings.filter = Filter::Exclude(types(&choices.exclude));
    }
    let sources = sources(folder).map_err(|error| error.to_string())?;
    read(Vec::new(), &sources, &settings).map_err(|error| error.to_string())
}

/// The definition files of one folder, without masked ones.
fn sources(folder: &Path) -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for (name, path) in configuration_files(folder)? {
        let text = fs::read(&path)?;
        if text.is_empty() {
            continue;
        }
        let drop_ins = folder.join(format!("{name}.d"));
        let drop_ins = match drop_ins.is_dir() {
            true => configuration_files(&drop_ins)?,
            false => BTreeMap::new(),
        };
        let with_text = |path: PathBuf| Ok((path.clone(), fs::read(path)?));
        sources.push(Source {
            path,
            text,
            drop_ins: drop_ins.into_values().map(with_text).collect::<io::Result<_>>()?,
        });
    }
    Ok(sources)
}

fn configuration_files(folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|name| name.ends_with(".conf") && !path.is_dir()) {
            files.insert(name.to_owned(), path.clone());
        }
    }
    Ok(files)
}
