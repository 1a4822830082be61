//! One partition entry and its label. Pure.

use std::fmt;

use uuid::Uuid;
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use super::layout::RawEntry;
use crate::guid;
use crate::partition::PartitionType;
use crate::units::{Bytes, Extent, Lba, SectorSize};

/// A used entry of a partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the partition is for; never the null GUID in a parsed table.
    pub kind: PartitionType,
    /// The partition's own UUID.
    pub uuid: Uuid,
    /// First sector.
    pub first: Lba,
    /// Last sector, itself part of the partition.
    pub last: Lba,
    /// All 64 attribute bits as stored.
    pub attributes: u64,
    /// The name field as stored.
    pub label: Label,
    /// What follows the 128 known bytes in tables of larger entries; cut or filled with zeros to the
    /// table's entry size when encoded.
    pub tail: Vec<u8>,
}

/// A partition's name: 36 UTF-16 code units, kept verbatim even where they are ill-formed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label([u16; Self::UNITS]);

/// The text does not fit a GPT label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the label {0:?} does not fit a partition table: it must have at most 36 UTF-16 units and no NUL"
)]
pub struct LabelTooLong(pub String);

impl Entry {
    /// Parses the bytes of one slot; `None` where it is unused (null type) or shorter than 128 bytes.
    pub(super) fn parse(slot: &[u8]) -> Option<Self> {
        let (raw, tail) = RawEntry::ref_from_prefix(slot).ok()?;
        if raw.kind == [0; 16] {
            return None;
        }
        Some(Self {
            kind: PartitionType::new(guid::from_gpt(raw.kind)),
            uuid: guid::from_gpt(raw.uuid),
            first: Lba::new(raw.first.get()),
            last: Lba::new(raw.last.get()),
            attributes: raw.attributes.get(),
            label: Label(raw.label.map(U16::get)),
            tail: tail.to_vec(),
        })
    }

    /// Fills a slot (of the table's entry size) with this entry.
    pub(super) fn encode(&self, slot: &mut [u8]) {
        let raw = RawEntry {
            kind: guid::to_gpt(self.kind.guid()),
            uuid: guid::to_gpt(self.uuid),
            first: self.first.get().into(),
            last: self.last.get().into(),
            attributes: self.attributes.into(),
            label: self.label.0.map(U16::new),
        };
        let (known, rest) = slot.split_at_mut(size_of::<RawEntry>());
        known.copy_from_slice(raw.as_bytes());
        let kept = rest.len().min(self.tail.len());
        rest[..kept].copy_from_slice(&self.tail[..kept]);
    }

    /// The bytes that the partition covers; `None` where it ends before it starts or past 2⁶⁴.
    pub fn extent(&self, sector: SectorSize) -> Option<Extent> {
        let start = self.first.start(sector)?;
        let end = Lba::new(self.last.get().checked_add(1)?).start(sector)?;
        let size = end.checked_sub(start).filter(|size| *size > Bytes::ZERO)?;
        Some(Extent::new(start, size))
    }
}

impl Label {
    /// How many UTF-16 code units fit.
    pub const UNITS: usize = 36;
    /// The empty label.
    pub const EMPTY: Self = Self([0; Self::UNITS]);

    /// Encodes a text of at most 36 UTF-16 units without NUL.
    pub fn new(text: &str) -> Result<Self, LabelTooLong> {
        let mut label = Self::EMPTY;
        let units: Vec<u16> = text.encode_utf16().collect();
        if units.len() > Self::UNITS || units.contains(&0) {
            return Err(LabelTooLong(text.to_owned()));
        }
        label.0[..units.len()].copy_from_slice(&units);
        Ok(label)
    }

    /// Takes the field as stored.
    pub const fn from_units(units: [u16; Self::UNITS]) -> Self {
        Self(units)
    }

    /// The field as stored.
    pub const fn units(&self) -> &[u16; Self::UNITS] {
        &self.0
    }

    /// Whether the label says nothing.
    pub const fn is_empty(&self) -> bool {
        self.0[0] == 0
    }

    /// The text up to the first NUL, or `None` where it is ill-formed UTF-16.
    pub fn text(&self) -> Option<String> {
        String::from_utf16(self.used()).ok()
    }

    fn used(&self) -> &[u16] {
        let end = self.0.iter().position(|unit| *unit == 0);
        &self.0[..end.unwrap_or(Self::UNITS)]
    }
}

impl fmt::Display for Label {
    /// The text up to the first NUL, with `U+FFFD` for what is ill-formed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf16_lossy(self.used()))
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Label({:?})", self.to_string())
    }
}

impl Default for Label {
    fn default() -> Self {
        Self::EMPTY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_hold_36_units() {
        for good in ["", "root", "ü", "🦀🦀", &"x".repeat(36), &"🦀".repeat(18)] {
            assert_eq!(Label::new(good).unwrap().text().as_deref(), Some(good));
        }
        for bad in ["x".repeat(37), "🦀".repeat(19), "a\0b".to_owned()] {
            assert!(Label::new(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ill_formed_labels_are_kept_and_shown() {
        let mut units = [0; 36];
        units[..3].copy_from_slice(&[0x61, 0xd800, 0x62]);
        units[5] = 7; // behind the NUL
        let label = Label::from_units(units);
        assert_eq!(label.text(), None);
        assert_eq!(label.to_string(), "a\u{fffd}b");
        assert_eq!(label.units(), &units);
    }
}
