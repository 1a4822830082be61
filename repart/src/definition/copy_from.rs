//! `--copy-from=`: definitions made up from the partitions of an image. Pure.

use std::path::Path;

use image_specs::gpt::Table;
use image_specs::units::{Bytes, Grain};

use super::{CopyBlocks, Definition, UuidChoice};

/// A partition table that holds what no definition can say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyFromError {
    /// A partition lies beyond 2⁶⁴ bytes.
    #[error("partition {number} lies outside of what can be addressed")]
    Outside {
        /// Number of the partition, from 1.
        number: u32,
    },
    /// A label that is no valid UTF-16.
    #[error("the label of partition {number} is no valid text")]
    Label {
        /// Number of the partition, from 1.
        number: u32,
    },
}

/// One definition for each partition of the image at `path`, in the order of the table: same type,
/// UUID, label, flags, size and space behind (which the last one keeps to itself).
///
/// # Errors
/// Where a partition cannot be described; offsets are not compared with the image's size here.
pub fn copied(table: &Table, path: &Path, grain: Grain) -> Result<Vec<Definition>, CopyFromError> {
    let sector = table.sector_size();
    let mut definitions = Vec::new();
    for (slot, entry) in table.slots() {
        let number = slot.saturating_add(1);
        let outside = CopyFromError::Outside { number };
        let extent = entry.extent(sector).ok_or(outside.clone())?;
        let end = extent.end().ok_or(outside.clone())?;
        let size = extent.size.round_up(grain).ok_or(outside)?;
        let mut definition = Definition::new(entry.kind);
        definition.uuid = UuidChoice::Fixed(entry.uuid);
        definition.label = Some(entry.label.text().ok_or(CopyFromError::Label { number })?);
        definition.flags = entry.attributes;
        definition.size_min = Some(size);
        definition.size_max = Some(size);
        definition.copy_blocks = Some(CopyBlocks::Range {
            path: path.to_owned(),
            offset: extent.start,
            size: extent.size,
        });
        let padding = gap_behind(table, end);
        definition.padding_min = padding;
        definition.padding_max = padding;
        definitions.push(definition);
    }
    Ok(definitions)
}

/// The space from `end` to the next partition; `None` behind the last.
fn gap_behind(table: &Table, end: Bytes) -> Option<Bytes> {
    let sector = table.sector_size();
    let starts = table
        .slots()
        .values()
        .filter_map(|entry| entry.first.start(sector));
    starts.filter(|start| *start >= end).min()?.checked_sub(end)
}
