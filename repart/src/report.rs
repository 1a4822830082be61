//! A plan as rows: for the table that people read, and for `--json=`. Pure.
//!
//! Dropped and merged partitions are not listed. Keys and their order are systemd-repart's.

use std::path::{Path, PathBuf};

use image_specs::mbr::MbrType;
use image_specs::partition::PartitionType;
use image_specs::units::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use uuid::Uuid;

use crate::definition::{Definition, VerityMode};
use crate::plan::{Fate, Plan, PlannedPartition};

/// Every partition that is on the disk afterwards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The partitions, by their place on the disk.
    pub rows: Vec<Row>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its type.
    pub kind: PartitionType,
    /// Its label, which may be empty; its type's name where it is foreign and has none.
    pub label: String,
    /// Its type in a master boot record.
    pub mbr: Option<MbrType>,
    /// Its UUID; all zeros while a root hash is still to decide it. In a master boot record, the disk's
    /// number and its own.
    pub uuid: String,
    /// Its slot, from 0.
    pub partno: Option<u32>,
    /// Its definition's main file.
    pub file: Option<PathBuf>,
    /// The drop-ins of that file.
    pub drop_ins: Vec<PathBuf>,
    /// Where it is found as a device, or would be.
    pub node: Option<PathBuf>,
    /// First byte.
    pub offset: Bytes,
    /// Size before; zero for a new one.
    pub old_size: Bytes,
    /// Size after.
    pub new_size: Bytes,
    /// Free space behind it before; zero for a new one.
    pub old_padding: Bytes,
    /// Free space behind it after.
    pub new_padding: Bytes,
    /// What happens to it.
    pub activity: Activity,
    /// The root hash of the verity set that it belongs to.
    pub root_hash: RootHash,
    /// The file that `--split=` makes of it.
    pub split_path: Option<PathBuf>,
    /// Whether there is any `split_path` to speak of.
    splits: bool,
}

/// What happens to a partition that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Activity {
    Create,
    Resize,
    Unchanged,
}

/// What is known of a root hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RootHash {
    /// The partition is in no verity set.
    #[default]
    None,
    /// It is not computed (yet).
    Unknown,
    /// This one.
    Known(Vec<u8>),
}

impl Report {
    /// Lists the plan for the disk or image at `node`.
    pub fn new(plan: &Plan, definitions: &[Definition], node: Option<&Path>) -> Self {
        let row = |partition| Row::new(plan, partition, (definitions, node));
        let mut rows: Vec<Row> = plan.listed().map(row).collect();
        rows.sort_by_key(|row| row.offset);
        Self { rows }
    }

    /// Shows definition files that lie below `root` as relative to it.
    pub fn show_files_below(&mut self, root: &Path) {
        let below = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(root) {
                *path = rest.to_owned();
            }
        };
        for row in &mut self.rows {
            row.file.iter_mut().for_each(below);
            row.drop_ins.iter_mut().for_each(below);
        }
    }

    /// Enters the root hash that was computed for a data, hash or signature partition, found by its
    /// slot.
    pub fn set_root_hash(&mut self, slot: u32, root_hash: &[u8]) {
        let mut rows = self.rows.iter_mut();
        if let Some(row) = rows.find(|row| row.partno == Some(slot)) {
            row.root_hash = RootHash::Known(root_hash.to_vec());
        }
    }

    /// Enters the files that `--split=` makes, by slot; all others are shown as having none.
    pub fn set_split_paths(&mut self, paths: &[(u32, PathBuf)]) {
        for row in &mut self.rows {
            let mine = paths.iter().find(|(slot, _)| row.partno == Some(*slot));
            row.split_path = mine.map(|(_, path)| path.clone());
            row.splits = !paths.is_empty();
        }
    }

    /// Whether the column of root hashes is shown.
    pub fn has_root_hashes(&self) -> bool {
        self.rows.iter().any(|row| row.root_hash != RootHash::None)
    }

    /// Whether the column of drop-ins is shown.
    pub fn has_drop_ins(&self) -> bool {
        self.rows.iter().any(|row| !row.drop_ins.is_empty())
    }

    /// Whether the column of split artifacts is shown.
    pub fn has_split_paths(&self) -> bool {
        self.rows.iter().any(|row| row.splits)
    }

    /// What all partitions take together: their size and the free space behind them.
    pub fn total(&self) -> (Bytes, Bytes) {
        let sum = |of: fn(&Row) -> Bytes| {
            let sizes = self.rows.iter().map(of);
            sizes.fold(Bytes::ZERO, Bytes::saturating_add)
        };
        (sum(|row| row.new_size), sum(|row| row.new_padding))
    }

    /// The rows as `--json=` prints them.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or(serde_json::Value::Null)
    }
}

impl Row {
    fn new(
        plan: &Plan,
        partition: &PlannedPartition,
        (definitions, node): (&[Definition], Option<&Path>),
    ) -> Self {
        let definition = partition
            .definition
            .and_then(|index| definitions.get(index));
        let verity = definition.is_some_and(|d| d.verity.mode != VerityMode::Off);
        let name = |slot: u32| node.map(|node| partition_node(node, slot));
        Self {
            kind: partition.kind,
            label: match partition.definition {
                None if partition.label.is_empty() && !partition.given_up => {
                    partition.kind.identifier().unwrap_or_default()
                }
                _ => partition.label.clone(),
            },
            mbr: partition.mbr.map(|record| record.kind),
            uuid: (plan.part_uuid(partition)).unwrap_or_else(|| Uuid::nil().to_string()),
            partno: partition.slot,
            file: definition.and_then(|definition| definition.origin.path.clone()),
            drop_ins: definition.map_or_else(Vec::new, |d| d.origin.drop_ins.clone()),
            node: partition.slot.and_then(name),
            offset: partition.offset,
            old_size: partition.old_size,
            new_size: partition.new_size,
            old_padding: partition.old_padding,
            new_padding: partition.new_padding,
            activity: match partition.fate {
                Fate::Resize => Activity::Resize,
                Fate::Unchanged => Activity::Unchanged,
                Fate::Create | Fate::Dropped | Fate::Merged(_) => Activity::Create,
            },
            root_hash: match verity {
                true => RootHash::Unknown,
                false => RootHash::None,
            },
            split_path: None,
            splits: false,
        }
    }
}

impl Row {
    /// How its type is shown: by its name, for a master boot record by that and the byte.
    pub fn type_text(&self) -> String {
        match (self.mbr, &self.file) {
            (None, _) => self.kind.to_string(),
            (Some(mbr), None) => format!("mbr:{mbr}"),
            (Some(mbr), Some(_)) => format!("{} mbr:{mbr}", self.kind),
        }
    }
}

impl Activity {
    /// The word in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Resize => "resize",
            Self::Unchanged => "unchanged",
        }
    }
}

impl RootHash {
    /// In hex, `TBD` where it is not known, `None` outside of verity sets.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Unknown => Some("TBD".to_owned()),
            Self::Known(hash) => Some(hex::encode(hash)),
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let columns = Columns {
            root_hash: self.has_root_hashes(),
            drop_ins: self.has_drop_ins(),
            split_path: self.has_split_paths(),
        };
        serializer.collect_seq(self.rows.iter().map(|row| Json { row, columns }))
    }
}

/// Which of the columns that may be left out are there.
#[derive(Clone, Copy)]
struct Columns {
    root_hash: bool,
    drop_ins: bool,
    split_path: bool,
}

struct Json<'a> {
    row: &'a Row,
    columns: Columns,
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (row, columns) = (self.row, self.columns);
        let label = if row.label.is_empty() {
            "-"
        } else {
            &row.label
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &row.type_text())?;
        map.serialize_entry("label", label)?;
        map.serialize_entry("uuid", &row.uuid)?;
        map.serialize_entry("partno", &row.partno)?;
        map.serialize_entry("file", &row.file.as_deref().map(text))?;
        map.serialize_entry("node", &row.node.as_deref().map_or("-".into(), text))?;
        map.serialize_entry("offset", &row.offset.get())?;
        map.serialize_entry("old_size", &row.old_size.get())?;
        map.serialize_entry("raw_size", &row.new_size.get())?;
        map.serialize_entry("old_padding", &row.old_padding.get())?;
        map.serialize_entry("raw_padding", &row.new_padding.get())?;
        map.serialize_entry("activity", row.activity.name())?;
        if columns.root_hash {
            map.serialize_entry("roothash", &row.root_hash.text())?;
        }
        if columns.drop_ins {
            let files: Vec<_> = row.drop_ins.iter().map(|path| text(path)).collect();
            map.serialize_entry("drop-in_files", &(!files.is_empty()).then_some(files))?;
        }
        if columns.split_path {
            let path = row.split_path.as_deref().map_or("-".into(), text);
            map.serialize_entry("split_path", &path)?;
        }
        map.end()
    }
}

fn text(path: &Path) -> std::borrow::Cow<'_, str> {
    path.to_string_lossy()
}

/// The name that the kernel gives a partition: with a `p` where the disk's ends in a digit.
pub fn partition_node(disk: &Path, slot: u32) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    if name
        .as_encoded_bytes()
        .last()
        .is_some_and(u8::is_ascii_digit)
    {
        name.push("p");
    }
    name.push((u64::from(slot) + 1).to_string());
    name.into()
}
