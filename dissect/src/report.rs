//! The answer as systemd-dissect gives it: rows of a table, and JSON with its field names. Pure.

use image_specs::partition::VerityRole;
use image_specs::release::Release;
use serde::Serialize;

use crate::assign::{Dissected, Partition};
use crate::metadata::Metadata;
use crate::uses::Uses;

/// The table's columns. NODE is not among them: without a loop device there is none.
pub const COLUMNS: [&str; 9] = [
    "RW",
    "DESIGNATOR",
    "PARTITION UUID",
    "PARTITION LABEL",
    "FSTYPE",
    "ARCHITECTURE",
    "VERITY",
    "GROWFS",
    "PARTNO",
];

/// The whole answer. Fields that only a look into the file systems can fill are left out, or false,
/// where nobody has looked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each is its own name")]
pub struct Report {
    pub name: String,
    pub size: u64,
    pub sector_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machine_info: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub os_release: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub initrd_release: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sysext_release: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confext_release: Vec<String>,
    #[serde(flatten)]
    pub uses: Uses,
    pub mounts: Vec<Mount>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<Candidate>,
}

/// One of several partitions for the same purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each is its own name")]
pub struct Candidate {
    pub chosen: bool,
    #[serde(flatten)]
    pub mount: Mount,
}

/// A partition of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each is its own name")]
pub struct Mount {
    pub rw: &'static str,
    pub designator: &'static str,
    pub partition_uuid: Option<String>,
    pub partition_label: Option<String>,
    pub fstype: Option<String>,
    pub architecture: Option<&'static str>,
    pub verity: Option<&'static str>,
    pub growfs: bool,
    pub node: Option<String>,
    pub partno: Option<u32>,
}

impl Report {
    /// Puts the answer together; `metadata` is empty where nobody has looked into the files.
    pub fn new(dissected: &Dissected, metadata: &Metadata) -> Self {
        let mounts = dissected.partitions.values();
        let path = dissected.path.as_path();
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self {
            name: name.to_string_lossy().into_owned(),
            size: dissected.size.get(),
            sector_size: dissected.sector_size.get(),
            architecture: dissected.architecture().map(|arch| arch.name().to_owned()),
            image_uuid: dissected.uuid.map(|uuid| uuid.to_string()),
            hostname: metadata.hostname.clone(),
            machine_id: metadata.machine_id.map(|id| id.simple().to_string()),
            machine_info: lines(Some(&metadata.machine_info)),
            os_release: lines(Some(&metadata.os_release)),
            initrd_release: lines(metadata.initrd_release.as_ref()),
            sysext_release: lines(metadata.sysext_release.as_ref()),
            confext_release: lines(metadata.confext_release.as_ref()),
            uses: Uses::of(dissected, metadata),
            mounts: mounts.map(|one| Mount::new(dissected, one)).collect(),
            versions: Vec::new(),
        }
    }

    /// Adds every partition of which there is more than one for its purpose, in table order.
    pub fn with_versions(mut self, dissected: &Dissected) -> Self {
        for designator in dissected.partitions.keys() {
            let mut found: Vec<&Partition> = dissected.versions(*designator).collect();
            let chosen = found.first().and_then(|first| first.number);
            found.sort_by_key(|one| one.number);
            let several = found.len() > 1;
            let found = found.into_iter().filter(|_| several);
            self.versions.extend(found.map(|one| {
                let chosen = one.number == chosen;
                let mut mount = Mount::new(dissected, one);
                // The hash tree is that of the chosen one.
                mount.verity = mount.verity.filter(|_| chosen);
                Candidate { chosen, mount }
            }));
        }
        self
    }

    /// The table's rows, a dash for what is empty.
    pub fn rows(&self) -> Vec<[String; 9]> {
        self.mounts.iter().map(Mount::row).collect()
    }
}

impl Mount {
    fn new(dissected: &Dissected, partition: &Partition) -> Self {
        let path = dissected.path.to_string_lossy();
        Self {
            rw: if partition.writable { "rw" } else { "ro" },
            designator: partition.designator.name(),
            partition_uuid: partition.uuid.map(|uuid| uuid.to_string()),
            partition_label: partition.label.clone(),
            fstype: partition.file_system.clone(),
            architecture: partition.architecture.map(|arch| arch.name()),
            verity: verity(dissected, partition),
            growfs: partition.grow,
            node: dissected.single_file_system.then(|| path.into_owned()),
            partno: partition.number,
        }
    }

    /// Its row of the table.
    pub fn row(&self) -> [String; 9] {
        let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let number = self.partno.map(|number| number.to_string());
        [
            self.rw.to_owned(),
            self.designator.to_owned(),
            text(self.partition_uuid.as_deref()),
            text(self.partition_label.as_deref()),
            text(self.fstype.as_deref()),
            text(self.architecture),
            text(self.verity),
            text(Some(if self.growfs { "yes" } else { "no" })),
            text(number.as_deref()),
        ]
    }
}

/// How a partition that can have a hash tree is protected.
fn verity(dissected: &Dissected, partition: &Partition) -> Option<&'static str> {
    let designator = partition.designator;
    if designator.verity_role()? != VerityRole::Data {
        return None;
    }
    if dissected.external_tree {
        return Some("external");
    }
    if dissected.single_file_system {
        return None;
    }
    let verity = dissected.verity.as_ref();
    Some(
        match verity.filter(|verity| verity.designator == designator) {
            None => "no",
            Some(verity) if verity.signature.is_some() => "signed",
            Some(_) => "yes",
        },
    )
}

/// Lines of `KEY=value`, as they are in the file but without quotes.
fn lines(release: Option<&Release>) -> Vec<String> {
    let fields = release.into_iter().flat_map(Release::fields);
    fields
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}
