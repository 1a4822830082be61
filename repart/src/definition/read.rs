//! From the texts of definition files to a [`DefinitionSet`]. Pure: texts, environment and the values
//! of specifiers are passed in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use image_specs::arch::Architecture;
use image_specs::conf::{self, closest};
use image_specs::partition::PartitionType;
use image_specs::specifier::Values;

use super::assign::Draft;
use super::link::link;
use super::resolve::resolve;
use super::{Definition, DefinitionSet, Diagnostic, Key, Origin, Position, Problem};

/// A definition's files, read but not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The main file.
    pub path: PathBuf,
    /// Its bytes.
    pub text: Vec<u8>,
    /// Drop-ins with their bytes, in the order in which they apply.
    pub drop_ins: Vec<(PathBuf, Vec<u8>)>,
}

/// What definitions mean depends on this.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What type identifiers without an architecture mean.
    pub native: Architecture,
    /// `--architecture=`.
    pub architecture: Option<Architecture>,
    /// Values of the specifiers.
    pub values: Values,
    /// The environment, or those variables of it that begin with `SYSTEMD_REPART_OVERRIDE_FSTYPE`.
    pub environment: BTreeMap<String, String>,
    /// `--include-partitions=` or `--exclude-partitions=`.
    pub filter: Filter,
    /// Whether file systems can be mounted to fill them.
    pub can_mount: bool,
}

/// Which definitions are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// Those of these types.
    Include(Vec<PartitionType>),
    /// Those of other types.
    Exclude(Vec<PartitionType>),
}

impl Settings {
    /// No specifier has a value, nothing is overridden, rewritten, skipped or mounted.
    pub fn new(native: Architecture) -> Self {
        let values = Values {
            architecture: Some(native.name().to_owned()),
            ..Values::default()
        };
        Self {
            native,
            architecture: None,
            values,
            environment: BTreeMap::new(),
            filter: Filter::All,
            can_mount: false,
        }
    }

    /// The type after `--architecture=`; one that the architecture does not have stays.
    pub(super) fn rewrite(&self, kind: PartitionType) -> PartitionType {
        let moved = self
            .architecture
            .and_then(|arch| kind.with_architecture(arch));
        moved.unwrap_or(kind)
    }

    fn skips(&self, kind: Option<PartitionType>) -> bool {
        let holds = |types: &[PartitionType]| {
            kind.is_some_and(|kind| types.iter().any(|other| self.rewrite(*other) == kind))
        };
        match &self.filter {
            Filter::All => false,
            Filter::Include(types) => !holds(types),
            Filter::Exclude(types) => holds(types),
        }
    }
}

/// Parses and checks all definitions. `copied` come from `--copy-from=` and stand first.
///
/// # Errors
/// The first thing that systemd-repart refuses; what it only warns about is in the set's warnings.
pub fn read(
    copied: Vec<Definition>,
    sources: &[Source],
    settings: &Settings,
) -> Result<DefinitionSet, Box<Diagnostic>> {
    read_into(copied, sources, settings, &mut Vec::new())
}

/// The same, where what was ignored until an error is told as well: `ignored` often says what is
/// behind it.
///
/// # Errors
/// As [`read`].
pub fn read_into(
    copied: Vec<Definition>,
    sources: &[Source],
    settings: &Settings,
    ignored: &mut Vec<Diagnostic>,
) -> Result<DefinitionSet, Box<Diagnostic>> {
    let mut set = DefinitionSet {
        definitions: copied,
        ..DefinitionSet::default()
    };
    let result = read_all(sources, settings, &mut set);
    if result.is_err() {
        ignored.append(&mut set.warnings);
    }
    result.map(|()| set)
}

fn read_all(
    sources: &[Source],
    settings: &Settings,
    set: &mut DefinitionSet,
) -> Result<(), Box<Diagnostic>> {
    for source in sources {
        let definition = read_one(source, settings, &mut set.warnings)?;
        set.definitions.extend(definition);
    }
    link(set)
}

/// Parses one definition; `None` where the filter skips it.
fn read_one(
    source: &Source,
    settings: &Settings,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Option<Definition>, Box<Diagnostic>> {
    let mut draft = Draft::default();
    draft.definition.origin = Origin {
        path: Some(source.path.clone()),
        drop_ins: source
            .drop_ins
            .iter()
            .map(|(path, _)| path.clone())
            .collect(),
        keys: BTreeMap::new(),
    };
    let main = (&source.path, &source.text);
    let drop_ins = source.drop_ins.iter().map(|(path, text)| (path, text));
    for (path, text) in std::iter::once(main).chain(drop_ins) {
        let mut file = File {
            path,
            settings,
            warnings,
        };
        file.read(text, &mut draft)?;
    }
    if settings.skips(draft.kind) {
        return Ok(None);
    }
    resolve(draft, settings, warnings).map(Some)
}

/// One file of a definition.
struct File<'a> {
    path: &'a PathBuf,
    settings: &'a Settings,
    warnings: &'a mut Vec<Diagnostic>,
}

impl File<'_> {
    fn read(&mut self, text: &[u8], draft: &mut Draft) -> Result<(), Box<Diagnostic>> {
        let parsed = conf::parse(text, &["Partition"])
            .map_err(|error| self.diagnostic(error.location, Problem::Text(error.what)))?;
        for strange in parsed.strange {
            let warning = self.diagnostic(strange.location, Problem::Line(strange.what));
            self.warnings.push(*warning);
        }
        for entry in &parsed.entries {
            self.entry(entry, draft)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &conf::Entry, draft: &mut Draft) -> Result<(), Box<Diagnostic>> {
        let Some(key) = Key::from_name(&entry.key) else {
            self.unknown(entry);
            return Ok(());
        };
        let position = Position {
            path: self.path.clone(),
            location: Some(entry.location),
        };
        draft.definition.origin.keys.insert(key, position);
        let mut notes = Vec::new();
        let assigned = draft.assign(key, &entry.value, self.settings, &mut notes);
        for problem in notes {
            let warning = self.diagnostic(entry.value_location, problem);
            self.warnings.push(*warning);
        }
        assigned.map_err(|problem| self.diagnostic(entry.value_location, problem))
    }

    fn unknown(&mut self, entry: &conf::Entry) {
        if entry.key.starts_with("X-") {
            return;
        }
        let problem = Problem::UnknownKey {
            name: entry.key.clone(),
            hint: closest(&entry.key, Key::NAMES),
        };
        let warning = self.diagnostic(entry.location, problem);
        self.warnings.push(*warning);
    }

    fn diagnostic(&self, location: conf::Location, problem: Problem) -> Box<Diagnostic> {
        let position = Position {
            path: self.path.clone(),
            location: Some(location),
        };
        Box::new(Diagnostic { position, problem })
    }
}
