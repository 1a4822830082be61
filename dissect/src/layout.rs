//! Every part of a disk in order: partitions of known and unknown types, and what is free. Pure.

use image_specs::gpt::{Finding, Table};
use image_specs::partition::PartitionType;
use image_specs::units::{Bytes, Extent};
use uuid::Uuid;

/// All parts of a disk with a GPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// In the order in which they lie on the disk, without gaps between first and last usable
    /// sector. Partitions that overlap stand side by side.
    pub parts: Vec<Part>,
    /// What is wrong with the table.
    pub findings: Vec<Finding>,
}

/// A part of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Nothing is here.
    Free(Extent),
    /// A partition.
    Partition(Box<Slot>),
}

/// A used slot of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Counted from 1.
    pub number: u64,
    /// What it is for, known or not.
    pub kind: PartitionType,
    /// Its own UUID.
    pub uuid: Uuid,
    /// Its label; empty where it has none or it is ill-formed.
    pub label: String,
    /// All attribute bits.
    pub attributes: u64,
    /// Where it lies; no bytes where it ends before it starts.
    pub extent: Extent,
}

/// Lays out a table on a disk of `size`.
pub fn layout(table: &Table, size: Bytes) -> Layout {
    let sector = table.sector_size();
    let mut slots: Vec<Slot> = table
        .slots()
        .iter()
        .map(|(slot, entry)| Slot {
            number: u64::from(*slot) + 1,
            kind: entry.kind,
            uuid: entry.uuid,
            label: entry.label.text().unwrap_or_default(),
            attributes: entry.attributes,
            extent: entry.extent(sector).unwrap_or_else(|| {
                let start = entry.first.start(sector).unwrap_or(Bytes::MAX);
                Extent::new(start, Bytes::ZERO)
            }),
        })
        .collect();
    slots.sort_by_key(|slot| (slot.extent.start, slot.number));
    let mut reached = table.first_usable().start(sector).unwrap_or(Bytes::MAX);
    let mut parts = Vec::new();
    for slot in slots {
        parts.extend(gap(reached, slot.extent.start));
        let end = slot.extent.start.saturating_add(slot.extent.size);
        reached = reached.max(end);
        parts.push(Part::Partition(Box::new(slot)));
    }
    let usable = table.last_usable().start(sector).unwrap_or(Bytes::MAX);
    parts.extend(gap(reached, usable.saturating_add(sector.bytes())));
    Layout {
        parts,
        findings: table.findings(size),
    }
}

fn gap(from: Bytes, to: Bytes) -> Option<Part> {
    let size = to.checked_sub(from).filter(|size| !size.is_zero())?;
    Some(Part::Free(Extent::new(from, size)))
}
