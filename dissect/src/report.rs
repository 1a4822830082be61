//! The answer as systemd-dissect gives it: rows of a table, and JSON with its field names. Pure.

use image_specs::partition::VerityRole;
use serde::Serialize;

use crate::assign::{Dissected, Partition};

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

/// The whole answer. Fields that only a look into the file systems could fill are left out, or
/// false.
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
    #[serde(flatten)]
    pub uses: Uses,
    pub mounts: Vec<Mount>,
}

/// What an image can be used as: unknown, and so false, until its file systems are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each is its own name")]
pub struct Uses {
    pub use_bootable_uefi: bool,
    pub use_bootable_container: bool,
    pub use_initrd: bool,
    pub use_portable_service: bool,
    pub use_system_extension: bool,
    #[serde(rename = "useInitRDSystemExtension")]
    pub use_initrd_system_extension: bool,
    pub use_portable_system_extension: bool,
    pub use_configuration_extension: bool,
    #[serde(rename = "useInitRDConfigurationExtension")]
    pub use_initrd_configuration_extension: bool,
    pub use_portable_configuration_extension: bool,
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
    /// Puts the answer together.
    pub fn new(dissected: &Dissected) -> Self {
        let mounts = dissected.partitions.values();
        let path = dissected.path.as_path();
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self {
            name: name.to_string_lossy().into_owned(),
            size: dissected.size.get(),
            sector_size: dissected.sector_size.get(),
            architecture: dissected.architecture().map(|arch| arch.name().to_owned()),
            image_uuid: dissected.uuid.map(|uuid| uuid.to_string()),
            uses: Uses::default(),
            mounts: mounts.map(|one| Mount::new(dissected, one)).collect(),
        }
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

    fn row(&self) -> [String; 9] {
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
    if partition.designator.verity_role()? != VerityRole::Data || dissected.single_file_system {
        return None;
    }
    let has = |role| {
        let member = dissected.verity_member(partition.designator, role);
        member.is_some()
    };
    Some(match (has(VerityRole::Hash), has(VerityRole::Signature)) {
        (_, true) => "signed",
        (true, false) => "yes",
        (false, false) => "no",
    })
}
