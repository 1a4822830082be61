//! Loading definitions for `ddi repart`: by directories, by `--make-ddi=`, by `--copy-from=`.

use std::path::Path;

use image_specs::arch::Architecture;
use image_specs::definitions::Ddi;
use image_specs::units::Grain;
use repart::build::target::Target;
use repart::definition::{Definition, DefinitionSet, Filter, Settings, Source, copied, read_into};
use repart::load::{self, Place};
use repart::plan::EmptyMode;
use uuid::Uuid;

use super::args::{DdiKind, RepartArgs};
use super::types;
use crate::exit::Failure;
use crate::surroundings;
use crate::ui::Ui;

/// Loads the definitions that the options ask for.
pub(crate) fn definitions(args: &RepartArgs, ui: &Ui) -> Result<DefinitionSet, Failure> {
    let root = args.configuration.root.as_deref();
    let native = surroundings::architecture()?;
    let environment = surroundings::variables();
    if args.planning.auto_definitions {
        return Ok(DefinitionSet::default()); // made of the disk, once that is open
    }
    let credentials = surroundings::credentials();
    let place = match args.ddi_kind() {
        Some(DdiKind::Sysext) => Place::Ddi(Ddi::Sysext),
        Some(DdiKind::Confext) => Place::Ddi(Ddi::Confext),
        Some(DdiKind::Portable) => Place::Ddi(Ddi::Portable),
        None if !args.configuration.definitions.is_empty() => {
            Place::Directories(&args.configuration.definitions)
        }
        None => credentials
            .as_deref()
            .map_or(Place::System, Place::SystemAnd),
    };
    let settings = Settings {
        architecture: args.operation.architecture,
        values: load::values(root, &environment)?,
        environment,
        filter: filter(args, native)?,
        ..Settings::new(native)
    };
    let sources = load::sources(place, root)?;
    for folder in &args.configuration.definitions {
        mention_lack(folder, &sources, ui);
    }
    let mut ignored = Vec::new();
    let set = read_into(copies(args)?, &sources, &settings, &mut ignored);
    for warning in ignored {
        ui.note(&format!("warning: {warning}"));
    }
    let mut set = set?;
    set.label = args.table.label();
    set.copy = args.table.copy();
    Ok(set)
}

/// A mistyped folder is not an error to systemd-repart, but a person should hear of it.
fn mention_lack(folder: &Path, sources: &[Source], ui: &Ui) {
    let inside = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let folder = folder.display();
    if matches!(inside.try_exists(), Ok(false)) {
        ui.note(&format!("warning: --definitions={folder} does not exist"));
    } else if !sources
        .iter()
        .any(|source| source.path.starts_with(&inside))
    {
        ui.note(&format!(
            "warning: --definitions={folder} has no definition files (*.conf)"
        ));
    }
}

fn filter(args: &RepartArgs, native: Architecture) -> Result<Filter, Failure> {
    match (
        &args.partitions.include_partitions,
        &args.partitions.exclude_partitions,
    ) {
        (Some(list), _) => types(list, native).map(Filter::Include),
        (None, Some(list)) => types(list, native).map(Filter::Exclude),
        (None, None) => Ok(Filter::All),
    }
}

/// The definitions that `--copy-from=` stands for; those of the image named last come first.
fn copies(args: &RepartArgs) -> Result<Vec<Definition>, Failure> {
    let grain = args
        .operation
        .grain_size
        .and_then(Grain::new)
        .unwrap_or(Grain::DEFAULT);
    let mut definitions = Vec::new();
    for path in &args.copying.copy_from {
        if matches!(path.try_exists(), Ok(false)) {
            let path = path.display();
            return Err(Failure::message(format!("--copy-from={path} is not there")));
        }
        let target = Target::open(path, EmptyMode::Refuse, false, None)?;
        let Some(table) = target.old() else {
            return Err(Failure::message(format!(
                "--copy-from={} has no GUID partition table",
                path.display()
            )));
        };
        definitions.splice(0..0, copied(table, path, grain)?);
    }
    Ok(definitions)
}

/// The machine ID below a root.
pub(crate) fn machine_id(root: Option<&Path>) -> Option<Uuid> {
    let path = root.unwrap_or(Path::new("/")).join("etc/machine-id");
    image_specs::guid::parse(std::fs::read_to_string(path).ok()?.trim()).ok()
}
