//! `--auto-definitions`: the definitions that grow what can grow, for a disk that nobody wrote any
//! for. Pure.

use image_specs::partition::{FLAG_GROW_FILE_SYSTEM, FLAG_READ_ONLY};
use image_specs::units::Bytes;

use crate::definition::{Definition, DefinitionSet, Existing, IfExists, IfMissing, UuidChoice};
use crate::survey::{FoundPartition, FoundTable};

/// A partition that could grow, but not be told from others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "partition {number} could grow, but has no UUID of its own by which to know it; give it one, or write a definition"
)]
pub struct AutoError {
    /// Its number, from 1.
    pub number: u64,
}

/// One definition, for the last partition on the disk whose file system can grow: its type supports
/// that, it is not read-only, and no verity partition of its kind is there. It may take all free space
/// behind it, and nothing is made. An empty set where there is no such partition.
pub fn growable(table: &FoundTable) -> Result<DefinitionSet, AutoError> {
    let growing = table
        .partitions
        .iter()
        .filter(|found| can_grow(found, table));
    let Some(last) = growing.max_by_key(|found| found.extent.start) else {
        return Ok(DefinitionSet::default());
    };
    let same = table.partitions.iter().filter(|p| p.uuid == last.uuid);
    if last.uuid.is_nil() || same.count() > 1 {
        let number = u64::from(last.slot) + 1;
        return Err(AutoError { number });
    }
    let mut definition = Definition::new(last.kind);
    definition.uuid = UuidChoice::Fixed(last.uuid);
    definition.label = Some(last.label.clone());
    definition.size_min = Some(Bytes::new(1));
    definition.existing = Existing {
        if_exists: IfExists::New, // this one, by its UUID, and no other of its type
        if_missing: IfMissing::Ignore,
        ..Existing::default()
    };
    Ok(DefinitionSet {
        definitions: vec![definition],
        ..DefinitionSet::default()
    })
}

fn can_grow(found: &FoundPartition, table: &FoundTable) -> bool {
    let grows = found.kind.known_flags() & FLAG_GROW_FILE_SYSTEM != 0;
    let verity = found.kind.identifier().map(|name| format!("{name}-verity"));
    let protected = verity.is_some_and(|verity| {
        let mut kinds = table.partitions.iter().map(|other| other.kind);
        kinds.any(|kind| kind.identifier().as_deref() == Some(verity.as_str()))
    });
    grows && found.flags & FLAG_READ_ONLY == 0 && !protected
}
