//! What is known of a disk, as plain values.

use std::fmt;
use std::path::{Path, PathBuf};

use image_specs::units::Bytes;

use super::Bus;

/// A disk that a selector is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its node, `/dev/sda`.
    pub node: PathBuf,
    /// Other names of the node: links below `/dev`.
    pub links: Vec<PathBuf>,
    /// How large it is.
    pub size: Bytes,
    /// How it is attached.
    pub bus: Bus,
    /// Whether its medium can be taken out.
    pub removable: bool,
    /// Whether the kernel lets nobody write to it.
    pub read_only: bool,
    /// Its model, with the vendor in front where that is told apart.
    pub model: Option<String>,
    /// Its serial numbers: the disk's own, and that of what it is plugged in by.
    pub serials: Vec<String>,
    /// Identities that no other device has: what the kernel calls WWID.
    pub ids: Vec<String>,
    /// What its partition table says, where that was read.
    pub identity: Identity,
}

/// What a partition table says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The UUID of a GPT; the number of another, in hex.
    pub table: Option<String>,
    /// The UUIDs of its partitions.
    pub partitions: Vec<String>,
}

impl Candidate {
    /// The names below `/dev/disk/by-id`, without the directory.
    pub(super) fn by_id(&self) -> impl Iterator<Item = &str> {
        let below = |link: &'_ PathBuf| link.parent().is_some_and(|at| at.ends_with("disk/by-id"));
        let links = self.links.iter().filter(move |link| below(link));
        links.filter_map(|link| link.file_name()?.to_str())
    }

    /// Whether `path` is one of its names.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.node == path || self.links.iter().any(|link| link == path)
    }
}

/// One line that a person tells it from others by.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}", self.node.display(), self.size, self.bus)?;
        if let Some(model) = &self.model {
            write!(f, ", {model}")?;
        }
        if let Some(serial) = self.serials.first() {
            write!(f, ", serial {serial}")?;
        }
        f.write_str(")")
    }
}
