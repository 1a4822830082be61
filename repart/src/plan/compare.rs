//! Whether a disk is as the definitions say: which partitions must be there and which must not, and
//! their sizes, types, UUIDs, labels and flags. Nothing is planned and nothing changed. Pure.
//!
//! Which partition is whose is decided as for a plan. Not compared are content, place and free space,
//! and partitions that no definition speaks of.

use std::fmt;

use image_specs::partition::PartitionType;
use image_specs::units::Bytes;
use uuid::Uuid;

use super::existing::ExistingError;
use super::layout::{Layout, UNLIMITED};
use super::make::Disk;
use super::shares::{self, Wholes};
use super::{Options, PlanError};
use crate::definition::{
    Definition, DefinitionSet, IfExists, IfMissing, Key, Position, UuidChoice,
};
use crate::survey::{FoundLabel, FoundPartition, FoundTable, Survey};

/// Attribute bits that definitions decide.
const FLAGS: u64 = !((1 << 48) - 1);

/// One way in which the disk is not as a definition says.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Where the definition says so; `None` for what concerns the whole disk.
    pub position: Option<Position>,
    /// The partition's slot, from 0; `None` where there is none.
    pub slot: Option<u32>,
    /// What differs.
    pub deviation: Deviation,
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Deviation {
    #[error("there is no GUID partition table")]
    NoTable,
    #[error("there is no {kind} partition")]
    Missing { kind: PartitionType },
    #[error("there is a {kind} partition, but must be none")]
    Unwanted { kind: PartitionType },
    #[error("the type is {found}, not {wanted}")]
    Type {
        found: PartitionType,
        wanted: PartitionType,
    },
    #[error("the UUID is {found}, not {wanted}")]
    Uuid { found: Uuid, wanted: Uuid },
    #[error("the label is {found:?}, not {wanted:?}")]
    Label { found: String, wanted: String },
    #[error("the flags are {found:#x}, not {wanted:#x}")]
    Flags { found: u64, wanted: u64 },
    #[error("the size is {found}, less than {least}")]
    TooSmall { found: Bytes, least: Bytes },
    #[error("the size is {found}, more than {most}")]
    TooLarge { found: Bytes, most: Bytes },
}

impl fmt::Display for Difference {
    /// `file:line:column: partition N: what differs`, as much of it as there is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = &self.position {
            write!(f, "{position}: ")?;
        }
        if let Some(slot) = self.slot {
            write!(f, "partition {}: ", u64::from(slot) + 1)?;
        }
        write!(f, "{}", self.deviation)
    }
}

impl Deviation {
    /// A word for it that programs can rely on.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoTable => "no-table",
            Self::Missing { .. } => "missing",
            Self::Unwanted { .. } => "unwanted",
            Self::Type { .. } => "type",
            Self::Uuid { .. } => "uuid",
            Self::Label { .. } => "label",
            Self::Flags { .. } => "flags",
            Self::TooSmall { .. } => "too-small",
            Self::TooLarge { .. } => "too-large",
        }
    }
}

/// Compares what was found with the definitions; an empty list where the disk is as they say.
///
/// # Errors
/// Where a definition knows its partition by a UUID that this run cannot know.
pub fn compare(
    survey: &Survey,
    set: &DefinitionSet,
    options: &Options,
) -> Result<Vec<Difference>, PlanError> {
    let FoundLabel::Gpt(table) = &survey.label else {
        return Ok(vec![Difference {
            position: None,
            slot: None,
            deviation: Deviation::NoTable,
        }]);
    };
    let disk = Disk::start(survey, (options, set.label), false)?;
    let wholes = Wholes::new(Some(&disk.table), options);
    let set = &*shares::resolve(set, survey, wholes)?;
    let mut layout = Layout::new(survey, set, options);
    layout.match_found(table.partitions.clone(), options.seed);
    let mut comparison = Comparison {
        layout: &layout,
        options,
        table,
        differences: Vec::new(),
    };
    for (index, definition) in set.definitions.iter().enumerate() {
        comparison.definition(index, definition)?;
    }
    Ok(comparison.differences)
}

struct Comparison<'a> {
    layout: &'a Layout<'a>,
    options: &'a Options,
    table: &'a FoundTable,
    differences: Vec<Difference>,
}

impl Comparison<'_> {
    fn definition(&mut self, index: usize, definition: &Definition) -> Result<(), ExistingError> {
        self.layout.require_lasting_seed(index, self.options)?;
        if definition.existing.if_exists == IfExists::Fail {
            let kind = definition.kind;
            for stranger in self.layout.strangers(index) {
                let deviation = Deviation::Unwanted { kind };
                self.note(definition, Key::IfExists, Some(stranger), deviation);
            }
        }
        match &self.layout.entries[index].found {
            Some(found) => {
                self.identity(definition, found);
                self.size(index, definition, found);
            }
            None => self.absence(index, definition),
        }
        Ok(())
    }

    fn note(
        &mut self,
        definition: &Definition,
        key: Key,
        found: Option<&FoundPartition>,
        deviation: Deviation,
    ) {
        self.differences.push(Difference {
            position: Some(definition.position(key)),
            slot: found.map(|found| found.slot),
            deviation,
        });
    }

    /// A partition that is not there, unless it need not be, or has another type.
    fn absence(&mut self, index: usize, definition: &Definition) {
        let optional = definition.existing.if_missing == IfMissing::Ignore
            || definition.existing.only_on_new_disks
            || definition.priority > 0
            || self.layout.is_merged(index);
        let uuid = match definition.uuid {
            UuidChoice::Fixed(uuid) => Some(uuid).filter(|uuid| !uuid.is_nil()),
            UuidChoice::Derived => self.layout.own_uuid(index, self.options.seed),
        };
        let kind = definition.kind;
        let mut others = self.table.partitions.iter();
        let same = others.find(|other| other.kind != kind && uuid == Some(other.uuid));
        if let Some(other) = same {
            let (found, wanted) = (other.kind, kind);
            let deviation = Deviation::Type { found, wanted };
            self.note(definition, Key::Type, Some(other), deviation);
        } else if !optional {
            let deviation = Deviation::Missing { kind };
            self.note(definition, Key::Type, None, deviation);
        }
    }

    fn identity(&mut self, definition: &Definition, partition: &FoundPartition) {
        if let UuidChoice::Fixed(wanted) = definition.uuid
            && wanted != partition.uuid
        {
            let found = partition.uuid;
            let deviation = Deviation::Uuid { found, wanted };
            self.note(definition, Key::UUID, Some(partition), deviation);
        }
        if let Some(wanted) = &definition.label
            && *wanted != partition.label
        {
            let (found, wanted) = (partition.label.clone(), wanted.clone());
            let deviation = Deviation::Label { found, wanted };
            self.note(definition, Key::Label, Some(partition), deviation);
        }
        let (found, wanted) = (partition.flags & FLAGS, definition.flags & FLAGS);
        if found != wanted {
            let deviation = Deviation::Flags { found, wanted };
            self.note(definition, Key::Flags, Some(partition), deviation);
        }
    }

    fn size(&mut self, index: usize, definition: &Definition, partition: &FoundPartition) {
        let (least, most) = self.layout.bounds(index);
        let found = partition.extent.size;
        if found.get() < least {
            let least = Bytes::new(least);
            let deviation = Deviation::TooSmall { found, least };
            self.note(definition, Key::SizeMinBytes, Some(partition), deviation);
        } else if most != UNLIMITED && found.get() > most {
            let most = Bytes::new(most);
            let deviation = Deviation::TooLarge { found, most };
            self.note(definition, Key::SizeMaxBytes, Some(partition), deviation);
        }
    }
}
