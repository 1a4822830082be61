//! A backup of a partition table: the bytes that a commit is about to overwrite, in one small file.
//!
//! The format (version 1) is ours: lines of text, an empty line, then the bytes of all ranges one after
//! the other. The last line is a SHA-256 of all that stands before it and of the bytes, so that a
//! file that was cut short or changed is never restored.
//!
//! ```text
//! ddi-table-backup 1
//! disk-size: 268435456
//! sector-size: 512
//! before: 6c08bd44-fed4-4c4e-915a-d1b245eb89de
//! after: 0f1e2d3c-fed4-4c4e-915a-d1b245eb89de
//! time: 1764108000
//! device: /dev/sda
//! range: 0 17408
//! range: 268418560 16896
//! sha256: …
//! ```
//!
//! `before` is the UUID of the GPT that is kept, or `-` where there was none; `after` that of the GPT
//! that was written over it. Pure; the bytes may come from anywhere.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::guid;
use crate::units::{Bytes, Extent, SectorSize};

const MAGIC: &str = "ddi-table-backup 1";
/// More than this is no partition table.
const MAX_BYTES: usize = 64 << 20;
const MAX_HEAD: usize = 64 << 10;

/// A table that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableBackup {
    /// Size of the disk.
    pub disk_size: Bytes,
    /// Sectors that its tables count in.
    pub sector: SectorSize,
    /// UUID of the GPT that is kept; `None` where there was none.
    pub before: Option<Uuid>,
    /// UUID of the GPT that was written over it.
    pub after: Uuid,
    /// When, in seconds since 1970.
    pub time: i64,
    /// The disk's name then.
    pub device: String,
    /// What stood where, ascending.
    pub ranges: Vec<SavedRange>,
}

/// Bytes of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedRange {
    /// Where they begin.
    pub offset: Bytes,
    /// The bytes, whole sectors.
    pub bytes: Vec<u8>,
}

/// A file that is no backup, or not a sound one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum TableBackupError {
    #[error("it is no backup of a partition table: it does not begin with {MAGIC:?}")]
    Magic,
    #[error("its line {0:?} makes no sense")]
    Line(String),
    #[error("it has no line {0:?}")]
    Missing(&'static str),
    #[error("its ranges overlap, or lie outside of the disk")]
    Ranges,
    #[error("it has {found} bytes of the disk where {expected} are listed")]
    Length { expected: usize, found: usize },
    #[error("its checksum is wrong: it was changed or damaged")]
    Checksum,
}

impl SavedRange {
    /// The place on the disk.
    pub fn extent(&self) -> Extent {
        let size = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        Extent::new(self.offset, Bytes::new(size))
    }
}

impl TableBackup {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let before = self
            .before
            .map_or_else(|| "-".to_owned(), |uuid| uuid.to_string());
        let device: String = self.device.chars().filter(|c| !c.is_control()).collect();
        let mut head = format!(
            "{MAGIC}\ndisk-size: {}\nsector-size: {}\nbefore: {before}\nafter: {}\ntime: {}\ndevice: {device}\n",
            self.disk_size.get(),
            self.sector.get(),
            self.after,
            self.time,
        );
        for range in &self.ranges {
            let extent = range.extent();
            // Writing to a string does not fail.
            let _ = writeln!(head, "range: {} {}", extent.start.get(), extent.size.get());
        }
        let bytes: Vec<u8> = self
            .ranges
            .iter()
            .flat_map(|range| range.bytes.clone())
            .collect();
        let digest = digest(&head, &bytes);
        let _ = writeln!(head, "sha256: {digest}\n");
        [head.into_bytes(), bytes].concat()
    }

    /// Reads such a file.
    pub fn parse(file: &[u8]) -> Result<Self, TableBackupError> {
        if !file.starts_with(MAGIC.as_bytes()) {
            return Err(TableBackupError::Magic);
        }
        let start = &file[..file.len().min(MAX_HEAD)];
        let end = start.windows(2).position(|pair| pair == b"\n\n");
        let end = end.ok_or(TableBackupError::Missing("sha256"))?;
        let bytes = &file[end + 2..];
        let head = std::str::from_utf8(&file[..=end])
            .map_err(|_| TableBackupError::Missing("disk-size"))?;
        let at = head
            .rfind("sha256: ")
            .ok_or(TableBackupError::Missing("sha256"))?;
        let (listed, sum) = head.split_at(at);
        let expected = sum.trim_end().trim_start_matches("sha256: ");
        let head = Head::parse(listed)?;
        let backup = head.with(bytes)?;
        match digest(listed, bytes) == expected {
            true => Ok(backup),
            false => Err(TableBackupError::Checksum),
        }
    }
}

/// The lines before the bytes.
#[derive(Default)]
struct Head {
    disk_size: Option<u64>,
    sector: Option<SectorSize>,
    before: Option<Option<Uuid>>,
    after: Option<Uuid>,
    time: Option<i64>,
    device: Option<String>,
    ranges: Vec<(u64, usize)>,
}

impl Head {
    fn parse(text: &str) -> Result<Self, TableBackupError> {
        let mut head = Self::default();
        for line in text.lines().skip(1) {
            let wrong = || TableBackupError::Line(line.to_owned());
            let (key, value) = line.split_once(": ").ok_or_else(wrong)?;
            head.take(key, value).ok_or_else(wrong)?;
        }
        Ok(head)
    }

    /// `None` where the line makes no sense or comes twice.
    fn take(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "disk-size" => once(&mut self.disk_size, value.parse().ok()?),
            "sector-size" => once(&mut self.sector, SectorSize::new(value.parse().ok()?)?),
            "before" if value == "-" => once(&mut self.before, None),
            "before" => once(&mut self.before, Some(guid::parse(value).ok()?)),
            "after" => once(&mut self.after, guid::parse(value).ok()?),
            "time" => once(&mut self.time, value.parse().ok()?),
            "device" => once(&mut self.device, value.to_owned()),
            "range" => {
                let (offset, size) = value.split_once(' ')?;
                self.ranges.push((offset.parse().ok()?, size.parse().ok()?));
                Some(())
            }
            _ => None,
        }
    }

    fn with(self, bytes: &[u8]) -> Result<TableBackup, TableBackupError> {
        let missing = TableBackupError::Missing;
        let disk_size = self.disk_size.ok_or(missing("disk-size"))?;
        let sector = self.sector.ok_or(missing("sector-size"))?;
        let sizes = self.ranges.iter().map(|(_, size)| *size);
        let expected = sizes.fold(0, usize::saturating_add);
        if expected != bytes.len() || expected > MAX_BYTES {
            let found = bytes.len();
            return Err(TableBackupError::Length { expected, found });
        }
        let mut ranges = Vec::new();
        let (mut rest, mut end) = (bytes, 0);
        for (offset, size) in self.ranges {
            let (own, more) = rest.split_at(size);
            rest = more;
            let range = SavedRange {
                offset: Bytes::new(offset),
                bytes: own.to_vec(),
            };
            let extent = range.extent();
            let whole = [extent.start, extent.size];
            let aligned = whole.iter().all(|at| at.is_multiple_of(sector.get()));
            let last = extent.end().filter(|last| last.get() <= disk_size);
            let last = last.filter(|_| offset >= end && aligned);
            end = last.ok_or(TableBackupError::Ranges)?.get();
            ranges.push(range);
        }
        Ok(TableBackup {
            disk_size: Bytes::new(disk_size),
            sector,
            before: self.before.ok_or(missing("before"))?,
            after: self.after.ok_or(missing("after"))?,
            time: self.time.ok_or(missing("time"))?,
            device: self.device.ok_or(missing("device"))?,
            ranges,
        })
    }
}

fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

fn digest(head: &str, bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(head);
    hash.update(bytes);
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> TableBackup {
        let range = |offset, size| SavedRange {
            offset: Bytes::new(offset),
            bytes: vec![7; size],
        };
        TableBackup {
            disk_size: Bytes::mib(1),
            sector: SectorSize::S512,
            before: None,
            after: Uuid::from_bytes([3; 16]),
            time: 1_764_108_000,
            device: "/dev/sda".to_owned(),
            ranges: vec![
                range(0, 1024),
                range(2048, 512),
                range((1 << 20) - 512, 512),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let with_table = TableBackup {
            before: Some(Uuid::from_bytes([9; 16])),
            ..sample()
        };
        for backup in [sample(), with_table] {
            assert_eq!(TableBackup::parse(&backup.encode()), Ok(backup));
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let file = sample().encode();
        for at in 0..file.len() {
            let mut other = file.clone();
            other[at] ^= 1;
            assert!(TableBackup::parse(&other).is_err(), "byte {at}");
            assert!(TableBackup::parse(&file[..at]).is_err(), "{at} bytes");
        }
        assert!(TableBackup::parse(&[&file[..], b"x"].concat()).is_err());
    }

    /// With a right checksum, too.
    #[test]
    fn what_makes_no_sense_is_refused() {
        let sum = |head: &str, bytes: &[u8]| {
            let text = format!("{head}sha256: {}\n\n", digest(head, bytes));
            TableBackup::parse(&[text.as_bytes(), bytes].concat())
        };
        let good = "ddi-table-backup 1\ndisk-size: 4096\nsector-size: 512\nbefore: -\nafter: 00000000-0000-0000-0000-000000000001\ntime: 1\ndevice: x\n";
        assert!(sum(&format!("{good}range: 0 512\n"), &[0; 512]).is_ok());
        for (lines, bytes) in [
            ("range: 0 512\nrange: 0 512\n", 1024),
            ("range: 4096 512\n", 512),
            ("range: 3584 1024\n", 1024),
            ("range: 1 512\n", 512),
            ("range: 0 511\n", 511),
            ("range: 18446744073709551104 1024\n", 1024),
            ("range: 0 512\n", 511),
            ("range: 0 18446744073709551615\nrange: 0 1\n", 0),
            ("range: 0\n", 0),
            ("time: 2\n", 0),
            ("color: red\n", 0),
            ("nonsense\n", 0),
        ] {
            let head = format!("{good}{lines}");
            assert!(sum(&head, &vec![0; bytes]).is_err(), "{lines}");
        }
        for line in good.lines().skip(1) {
            let head = good.replace(&format!("{line}\n"), "");
            assert!(sum(&head, &[]).is_err(), "without {line}");
        }
        assert_eq!(TableBackup::parse(b""), Err(TableBackupError::Magic));
    }
}
