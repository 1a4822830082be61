//! The planner's working state: every partition that is wanted or found, and the free areas.
//!
//! Sizes are plain `u64` bytes here and nowhere else: `u64::MAX` means "without limit", and sums
//! saturate there, which always ends as "does not fit" and never as a wrapped number. Pure.

use image_specs::units::{Bytes, Grain};
use uuid::Uuid;

use super::VeritySiblings;
use super::mbr::Rules;
use crate::definition::Definition;
use crate::survey::{FoundContent, FoundPartition};

/// "Without limit".
pub(super) const UNLIMITED: u64 = u64::MAX;

/// The whole state.
#[derive(Clone, Debug)]
pub(super) struct Layout<'a> {
    pub(super) grain: u64,
    /// First usable byte, aligned.
    pub(super) start: u64,
    /// End of the usable area, aligned.
    pub(super) end: u64,
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) areas: Vec<Area>,
    /// What a master boot record allows; `None` for a GPT.
    pub(super) mbr: Option<Rules>,
    /// Let an existing partition be that is as large as it must be, even where its end lies off the
    /// grain and so, rounded up, in its neighbour.
    pub(super) lenient: bool,
    /// Nothing is made and nothing grows.
    pub(super) frozen: bool,
}

/// One partition, wanted or found or both.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    /// The definition and its place; `None` for a foreign one.
    pub(super) wanted: Option<Wanted<'a>>,
    pub(super) found: Option<FoundPartition>,
    /// Gap behind it, in whole grains.
    pub(super) found_padding: u64,
    pub(super) dropped: bool,
    /// Exists, but its definition was given up for its priority.
    pub(super) given_up: bool,
    /// The entry that this one is a supplement of.
    pub(super) supplement_for: Option<usize>,
    /// The supplement that is merged into this one.
    pub(super) merged: Option<usize>,
    pub(super) verity: VeritySiblings,
    pub(super) label: String,
    pub(super) uuid: Uuid,
    pub(super) uuid_from_root_hash: bool,
    pub(super) fs_uuid: Uuid,
    pub(super) luks_uuid: Uuid,
    /// The area it goes into or, if it exists, that lies behind it.
    pub(super) area: Option<usize>,
    pub(super) slot: Option<u32>,
    /// Whether it is a logical partition of a master boot record.
    pub(super) logical: bool,
    /// Where the boot record lies that lists it, if it is one.
    pub(super) record: Option<u64>,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) padding: u64,
}

/// A definition with what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) index: usize,
    pub(super) definition: &'a Definition,
    pub(super) content: FoundContent,
    /// Sector size of its file system.
    pub(super) fs_sector: u64,
    /// `SizeMinBytes=`, or what the hash tree of a data partition of limited size needs.
    pub(super) size_min: Option<u64>,
}

/// A stretch of free space.
#[derive(Clone, Debug)]
pub(super) struct Area {
    pub(super) size: u64,
    /// First byte, where no partition lies right before it.
    pub(super) start: u64,
    /// Whether it lies within the extended partition, or may become part of it.
    pub(super) logical: bool,
    /// The existing partition right before it.
    pub(super) after: Option<usize>,
    /// What new partitions take of it at least.
    pub(super) allocated: u64,
}

impl Layout<'_> {
    pub(super) fn up(&self, value: u64) -> u64 {
        value
            .checked_next_multiple_of(self.grain)
            .unwrap_or(UNLIMITED)
    }

    /// Rounds down; "without limit" stays.
    pub(super) fn down(&self, value: u64) -> u64 {
        match value {
            UNLIMITED => UNLIMITED,
            _ => value - value % self.grain,
        }
    }

    /// Whether entry `index` is merged into the one it supplements.
    pub(super) fn is_merged(&self, index: usize) -> bool {
        self.entries[index]
            .supplement_for
            .is_some_and(|target| self.entries[target].merged == Some(index))
    }

    /// Whether entry `index` is neither dropped nor merged.
    pub(super) fn is_kept(&self, index: usize) -> bool {
        !self.entries[index].dropped && !self.is_merged(index)
    }

    /// The entry to which what supplements `index` was merged, with its definition.
    pub(super) fn supplement(&self, index: usize) -> Option<&Wanted<'_>> {
        let merged = self.entries[index].merged?;
        self.entries[merged].wanted.as_ref()
    }

    /// The first byte behind existing partition `index`, aligned.
    pub(super) fn found_end(&self, index: usize) -> u64 {
        let entry = &self.entries[index];
        self.up(entry.found_start().saturating_add(entry.found_size()))
    }
}

impl<'a> Entry<'a> {
    pub(super) fn new(wanted: Option<Wanted<'a>>, found: Option<FoundPartition>) -> Self {
        Self {
            wanted,
            found,
            found_padding: 0,
            dropped: false,
            given_up: false,
            supplement_for: None,
            merged: None,
            verity: VeritySiblings::default(),
            label: String::new(),
            uuid: Uuid::nil(),
            uuid_from_root_hash: false,
            fs_uuid: Uuid::nil(),
            luks_uuid: Uuid::nil(),
            area: None,
            slot: None,
            logical: false,
            record: None,
            offset: 0,
            size: 0,
            padding: 0,
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.found.is_some()
    }

    pub(super) fn found_start(&self) -> u64 {
        self.found.as_ref().map_or(0, |f| f.extent.start.get())
    }

    pub(super) fn found_size(&self) -> u64 {
        self.found.as_ref().map_or(0, |f| f.extent.size.get())
    }

    pub(super) fn priority(&self) -> i32 {
        self.wanted.as_ref().map_or(0, |w| w.definition.priority)
    }

    /// How the user knows it: its definition's file, else its label or number.
    pub(super) fn what(&self) -> String {
        let file = self
            .wanted
            .as_ref()
            .and_then(|w| w.definition.origin.path.as_deref());
        match (file, &self.found) {
            (Some(path), _) => format!("the {} partition of {}", self.kind(), path.display()),
            (None, Some(found)) => format!("existing partition {}", u64::from(found.slot) + 1),
            (None, None) => format!("partition {:?}", self.label),
        }
    }

    pub(super) fn kind(&self) -> image_specs::partition::PartitionType {
        match (&self.wanted, &self.found) {
            (Some(wanted), _) => wanted.definition.kind,
            (None, Some(found)) => found.kind,
            (None, None) => unreachable!("an entry is wanted or found"),
        }
    }
}

/// The effective grain: what was asked for, but at least 4096 and the sector.
pub(super) fn effective_grain(asked: Option<Grain>, sector: u64) -> u64 {
    let asked = asked.unwrap_or(Grain::DEFAULT).get();
    asked.max(sector)
}

/// A limit in bytes as the working state counts it.
pub(super) fn limit(bytes: Option<Bytes>) -> u64 {
    bytes.map_or(UNLIMITED, Bytes::get)
}
