//! Which clusters every directory and file gets: one run each, one after the other. Pure.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use filetree::{Content, InodeId, Kind, Timestamp, Tree, WriteError};

use super::geometry::Geometry;
use super::names::{FatName, Names};
use super::parameters::{Parameters, Width};
use super::{directory, length};

/// Bytes of a directory entry.
pub(super) const ENTRY: u64 = 32;

/// A directory has at most 2 MiB.
const DIRECTORY_ENTRIES: u64 = 65_536;

/// Everything that has clusters (or the fixed root directory), in ascending order.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    /// First cluster and count of each run, without gaps.
    runs: Vec<(u32, u32)>,
    next: u32,
}

#[derive(Debug)]
pub(super) enum Node<'a> {
    Directory(Directory),
    File { content: &'a Content, cluster: u32 },
}

#[derive(Debug)]
pub(super) struct Directory {
    /// `None` for the root of FAT12 and FAT16.
    pub(super) cluster: Option<u32>,
    /// The parent's cluster as `..` has it: 0 for the root. `None` in the root itself.
    pub(super) parent: Option<u32>,
    pub(super) time: Timestamp,
    pub(super) entries: Vec<Entry>,
}

/// A file or directory as its parent lists it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: FatName,
    pub(super) directory: bool,
    pub(super) cluster: u32,
    pub(super) size: u32,
    pub(super) time: Timestamp,
}

/// What a directory lists, before it has clusters.
type Listing<'a> = Vec<(FatName, &'a [u8], InodeId)>;

/// A directory whose entries have no clusters yet.
struct Pending<'a> {
    node: usize,
    path: Vec<u8>,
    listing: Listing<'a>,
}

impl Node<'_> {
    pub(super) fn first_cluster(&self) -> Option<u32> {
        match self {
            Self::Directory(directory) => directory.cluster,
            Self::File { cluster, .. } => Some(*cluster),
        }
    }
}

impl<'a> Layout<'a> {
    pub(super) fn new(
        tree: &'a Tree,
        parameters: &Parameters,
        geometry: &Geometry,
    ) -> Result<Self, WriteError> {
        let mut layout = Self {
            nodes: Vec::new(),
            runs: Vec::new(),
            next: 2,
        };
        let root = layout.root(tree, parameters, geometry)?;
        let mut pending = VecDeque::from([root]);
        while let Some(directory) = pending.pop_front() {
            layout.fill(tree, geometry, directory, &mut pending)?;
        }
        let used = u64::from(layout.clusters());
        if used > u64::from(geometry.clusters) {
            return Err(WriteError::TooSmall {
                needed: geometry.cluster_offset(2) + used * geometry.cluster_bytes(),
                available: u64::from(geometry.sectors) * u64::from(geometry.sector),
            });
        }
        Ok(layout)
    }

    /// Clusters that are taken.
    pub(super) fn clusters(&self) -> u32 {
        self.next - 2
    }

    /// The entries of the table, up to the last one that is taken.
    pub(super) fn entries(&self, geometry: &Geometry) -> impl Iterator<Item = u32> {
        const END: u32 = 0x0fff_fff8;
        let chains = self.runs.iter().flat_map(|(first, count)| {
            let last = first + count - 1;
            (*first..last).map(|cluster| cluster + 1).chain([END | 7])
        });
        [0x0fff_ff00 | u32::from(geometry.media), END | 7]
            .into_iter()
            .chain(chains)
    }

    /// A directory as it is stored.
    pub(super) fn directory(
        &self,
        directory: &Directory,
        parameters: &Parameters,
        geometry: &Geometry,
    ) -> Vec<u8> {
        let label = (directory.parent.is_none() && !parameters.label.is_none())
            .then_some((parameters.label.bytes(), parameters.time));
        directory::encode(directory, label, geometry.width)
    }

    fn root(
        &mut self,
        tree: &'a Tree,
        parameters: &Parameters,
        geometry: &Geometry,
    ) -> Result<Pending<'a>, WriteError> {
        let listing = listing(tree, InodeId::ROOT, b"")?;
        let entries = entries(&listing) + u64::from(!parameters.label.is_none());
        let cluster = if geometry.width == Width::Fat32 {
            Some(self.take(entries * ENTRY, geometry)?)
        } else {
            let room = u64::from(geometry.root_entries);
            if entries > room {
                return Err(unsupported(
                    b"",
                    format!(
                        "the root directory needs {entries} entries, but has {room}; use FAT32 or the option -r"
                    ),
                ));
            }
            None
        };
        self.nodes.push(Node::Directory(Directory {
            cluster,
            parent: None,
            time: Timestamp::default(),
            entries: Vec::new(),
        }));
        Ok(Pending {
            node: 0,
            path: Vec::new(),
            listing,
        })
    }

    /// Gives all entries of a directory their clusters; its own directories become pending.
    fn fill(
        &mut self,
        tree: &'a Tree,
        geometry: &Geometry,
        directory: Pending<'a>,
        pending: &mut VecDeque<Pending<'a>>,
    ) -> Result<(), WriteError> {
        // `..` says 0 where the parent is the root, on FAT32 too.
        let parent = match self.nodes.get(directory.node) {
            Some(Node::Directory(Directory {
                cluster: Some(cluster),
                parent: Some(_),
                ..
            })) => *cluster,
            _ => 0,
        };
        let mut filled = Vec::with_capacity(directory.listing.len());
        for (name, bytes, id) in directory.listing {
            let path = match directory.path.is_empty() {
                true => bytes.to_vec(),
                false => [&directory.path[..], b"/", bytes].concat(),
            };
            let inode = tree.inode(id);
            let mut entry = Entry {
                name,
                directory: false,
                cluster: 0,
                size: 0,
                time: inode.metadata.mtime,
            };
            if let Kind::File(content) = &inode.kind {
                (entry.cluster, entry.size) = self.file(content, &path, geometry)?;
            } else {
                entry.directory = true;
                let below = self.subdirectory(tree, (id, parent), path, geometry)?;
                entry.cluster = self.nodes[below.node].first_cluster().unwrap_or(0);
                pending.push_back(below);
            }
            filled.push(entry);
        }
        if let Some(Node::Directory(node)) = self.nodes.get_mut(directory.node) {
            node.entries = filled;
        }
        Ok(())
    }

    fn file(
        &mut self,
        content: &'a Content,
        path: &[u8],
        geometry: &Geometry,
    ) -> Result<(u32, u32), WriteError> {
        let size = u32::try_from(content.size()).map_err(|_| {
            unsupported(
                path,
                "FAT holds no file of 4 GiB or more; exclude it".to_owned(),
            )
        })?;
        if size == 0 {
            return Ok((0, 0));
        }
        let cluster = self.take(content.size(), geometry)?;
        self.nodes.push(Node::File { content, cluster });
        Ok((cluster, size))
    }

    fn subdirectory(
        &mut self,
        tree: &'a Tree,
        (id, parent): (InodeId, u32),
        path: Vec<u8>,
        geometry: &Geometry,
    ) -> Result<Pending<'a>, WriteError> {
        let listing = listing(tree, id, &path)?;
        // With `.` and `..`.
        let entries = entries(&listing) + 2;
        if entries > DIRECTORY_ENTRIES {
            return Err(unsupported(
                &path,
                format!(
                    "the directory needs {entries} entries, but FAT holds {DIRECTORY_ENTRIES}; spread its files over several"
                ),
            ));
        }
        let cluster = self.take(entries * ENTRY, geometry)?;
        self.nodes.push(Node::Directory(Directory {
            cluster: Some(cluster),
            parent: Some(parent),
            time: tree.inode(id).metadata.mtime,
            entries: Vec::new(),
        }));
        Ok(Pending {
            node: self.nodes.len() - 1,
            path,
            listing,
        })
    }

    /// Takes the next run, at least one cluster.
    fn take(&mut self, bytes: u64, geometry: &Geometry) -> Result<u32, WriteError> {
        let count = bytes.div_ceil(geometry.cluster_bytes()).max(1);
        let first = self.next;
        let taken = u32::try_from(count)
            .ok()
            .and_then(|count| Some((count, first.checked_add(count)?)));
        let Some((count, next)) = taken else {
            return Err(WriteError::TooSmall {
                needed: bytes,
                available: u64::from(geometry.sectors) * u64::from(geometry.sector),
            });
        };
        self.runs.push((first, count));
        self.next = next;
        Ok(first)
    }
}

/// What of a directory FAT can hold: files and directories.
fn listing<'a>(tree: &'a Tree, id: InodeId, path: &[u8]) -> Result<Listing<'a>, WriteError> {
    let entries: Vec<_> = tree
        .inode(id)
        .entries()
        .into_iter()
        .flatten()
        .filter(|(name, child)| {
            let held = matches!(tree.inode(**child).kind, Kind::File(_) | Kind::Directory(_));
            if !held {
                let directory = String::from_utf8_lossy(path);
                let name = String::from_utf8_lossy(name.as_bytes());
                tracing::debug!(
                    "left out {directory}/{name}: FAT holds files and directories only"
                );
            }
            held
        })
        .map(|(name, child)| (name.as_bytes(), *child))
        .collect();
    let names = Names::of(entries.iter().map(|(name, _)| *name))
        .map_err(|(name, error)| unsupported(&[path, b"/", name].concat(), error.to_string()))?;
    let entries = names.into_iter().zip(entries);
    Ok(entries
        .map(|(made, (name, child))| (made, name, child))
        .collect())
}

fn entries(listing: &Listing<'_>) -> u64 {
    let counts = listing.iter().map(|(name, ..)| length(name.entries()));
    counts.sum()
}

fn unsupported(path: &[u8], what: String) -> WriteError {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let path = if path.is_empty() { b"/" } else { path };
    WriteError::Unsupported {
        path: PathBuf::from(OsStr::from_bytes(path)),
        what,
    }
}
