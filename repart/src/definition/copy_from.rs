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
/// UUID, label (unless it is empty), flags, size and space behind (of which the last has none to keep).
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
        definition.origin.path = Some(path.to_owned());
        let label = entry.label.text().ok_or(CopyFromError::Label { number })?;
        definition.label = Some(label).filter(|label| !label.is_empty());
        definition.flags = writable(entry.attributes);
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

/// The attribute bits as libfdisk writes them: all or, where one is below 48, none.
fn writable(attributes: u64) -> u64 {
    const LOW: u64 = (1 << 48) - 1;
    if attributes & LOW == 0 { attributes } else { 0 }
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

#[cfg(test)]
mod tests {
    use image_specs::arch::Architecture;
    use image_specs::gpt::{Entry, Label};
    use image_specs::partition::{FLAG_NO_AUTO, PartitionType};
    use image_specs::units::{Lba, SectorSize};
    use uuid::Uuid;

    use super::*;

    fn entry(kind: &str, first: u64, last: u64, attributes: u64) -> Entry {
        Entry {
            kind: PartitionType::parse(kind, Architecture::X86_64).unwrap(),
            uuid: Uuid::from_u128(first.into()),
            first: Lba::new(first),
            last: Lba::new(last),
            attributes,
            label: Label::new(kind).unwrap(),
            tail: Vec::new(),
        }
    }

    #[test]
    fn every_partition_becomes_a_definition() {
        let mut table = Table::new(Uuid::nil(), SectorSize::S512, Bytes::mib(16)).unwrap();
        table.insert(0, entry("esp", 2048, 4095, 1 << 2)).unwrap();
        table
            .insert(3, entry("home", 6144, 6144, FLAG_NO_AUTO))
            .unwrap();
        table.insert(1, entry("srv", 4096, 4103, 0)).unwrap();
        let definitions = copied(&table, Path::new("/i"), Grain::DEFAULT).unwrap();
        let lines: Vec<_> = definitions
            .iter()
            .map(|d| {
                assert_eq!(d.size_min, d.size_max);
                assert_eq!(d.padding_min, d.padding_max);
                let (size, gap) = (d.size_min.unwrap(), d.padding_min);
                format!(
                    "{} {} {size} {gap:?} {:#x}",
                    d.kind,
                    d.label.as_deref().unwrap(),
                    d.flags
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "esp esp 1M Some(Bytes(0)) 0x0",
                "srv srv 4K Some(Bytes(1044480)) 0x0",
                "home home 4K None 0x8000000000000000",
            ]
        );
        let range = CopyBlocks::Range {
            path: "/i".into(),
            offset: Bytes::new(6144 * 512),
            size: Bytes::new(512),
        };
        assert_eq!(definitions[2].copy_blocks, Some(range));
        assert_eq!(definitions[2].origin.path.as_deref(), Some(Path::new("/i")));
        table.entry_mut(0).unwrap().label = Label::EMPTY;
        assert_eq!(
            copied(&table, Path::new("/i"), Grain::DEFAULT).unwrap()[0].label,
            None
        );
    }
}
