//! Whether a mounted file system is where it says that it belongs (systemd-validatefs@.service(8)).
//!
//! The root inode may list the mount points, partition labels and partition types that it may be
//! found with. [`survey`] reads that, where the file system is mounted, and the partitions below;
//! [`Survey::check`] compares (purely). Nothing is written.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use blockdev::backing;
use blockdev::file::OpenError;
use blockdev::sysfs::{Block, Sysfs, SysfsError};
use blockdev::table::{self, Label, ReadTableError};
use blockdev::{Access, FileDevice};
use image_specs::gpt::Entry;
use image_specs::guid;
use rustix::fs::{Mode, OFlags, ResolveFlags, fgetxattr, openat2};
use rustix::io::Errno;
use uuid::Uuid;

/// The most bytes that the kernel keeps in an attribute.
const MAX_ATTRIBUTE: usize = 65536;

/// How long others may hold a lock on the disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// More devices than this are not stacked on each other.
const MAX_LAYERS: usize = 32;

/// What a file system says about where it belongs. An empty list allows anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// Where it may be mounted.
    pub mount_points: Vec<PathBuf>,
    /// What its partition may be labelled.
    pub labels: Vec<String>,
    /// What type its partition may have.
    pub types: Vec<Uuid>,
}

/// The attributes that hold constraints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `user.validatefs.mount_point`
    MountPoint,
    /// `user.validatefs.gpt_label`
    Label,
    /// `user.validatefs.gpt_type_uuid`
    Type,
}

/// A partition that a file system is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its device.
    pub node: PathBuf,
    /// Its label and type; `None` where it is no partition of a GPT.
    pub entry: Option<(String, Uuid)>,
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// What it says.
    pub constraints: Constraints,
    /// Where it is mounted, as seen from the root that was given.
    pub place: PathBuf,
    /// What it is on. Empty where nothing is said about partitions.
    pub partitions: Vec<Partition>,
}

/// A file system cannot be examined, or what it says makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExamineError {
    /// It cannot be looked at.
    #[error("cannot examine {}", place.display())]
    Examine {
        /// Where.
        place: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The root does not lead to the mount point.
    #[error("{} is not below the root {}", place.display(), root.display())]
    Outside {
        /// The mount point.
        place: PathBuf,
        /// The root.
        root: PathBuf,
    },
    /// Nothing is mounted there.
    #[error("{} is not a mount point", .0.display())]
    NoMount(PathBuf),
    /// It speaks of partitions, but is on no block device, or on several.
    #[error("the file system on {} belongs on a partition, but is not on one block device", .0.display())]
    NoDevice(PathBuf),
    /// What it says makes no sense.
    #[error("the file system on {} says of itself what makes no sense", place.display())]
    Constraint {
        /// Where.
        place: PathBuf,
        /// Why.
        source: ConstraintError,
    },
    /// The kernel does not tell about its devices.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// Its disk cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The partition table of its disk cannot be read.
    #[error(transparent)]
    Table(#[from] ReadTableError),
}

/// An attribute does not hold what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{attribute} holds {value:?}, which is no {what}", attribute = attribute.name())]
pub struct ConstraintError {
    /// The attribute.
    pub attribute: Attribute,
    /// What it holds.
    pub value: String,
    what: &'static str,
}

/// A file system is not where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// It is mounted elsewhere.
    #[error("the file system may be mounted on {allowed} only, but is mounted on {}", found.display())]
    MountPoint {
        /// Where it may be.
        allowed: String,
        /// Where it is.
        found: PathBuf,
    },
    /// It is not on a GPT partition.
    #[error("the file system belongs on a GPT partition, but {} is none", .0.display())]
    NoPartition(PathBuf),
    /// The partition has another label.
    #[error("the file system belongs on a partition labelled {allowed}, but {} is labelled {found:?}", node.display())]
    Label {
        /// The labels that it may have.
        allowed: String,
        /// The partition.
        node: PathBuf,
        /// Its label.
        found: String,
    },
    /// The partition has another type.
    #[error("the file system belongs on a partition of type {allowed}, but {} has type {found}", node.display())]
    Type {
        /// The types that it may have.
        allowed: String,
        /// The partition.
        node: PathBuf,
        /// Its type.
        found: Uuid,
    },
}

/// Looks at the file system that is mounted on `place`, where `root` stands for `/`.
pub fn survey(place: &Path, root: &Path, sysfs: &Sysfs) -> Result<Survey, ExamineError> {
    let failed = |source| ExamineError::Examine {
        place: place.to_owned(),
        source,
    };
    let inner = place.strip_prefix(root).map_err(|_| outside(place, root))?;
    let directory = open(root, inner).map_err(failed)?;
    if !backing::is_mount_root(&directory).map_err(failed)? {
        return Err(ExamineError::NoMount(place.to_owned()));
    }
    let constraints = Constraints::read(&directory, place)?;
    let mut survey = Survey {
        place: seen_from(root, &directory).map_err(failed)?,
        constraints,
        partitions: Vec::new(),
    };
    if survey.constraints.speaks_of_partitions() {
        let number = backing::device(&directory).map_err(failed)?;
        let number = number.ok_or_else(|| ExamineError::NoDevice(place.to_owned()))?;
        for block in partitions(sysfs.block(number)?)? {
            survey.partitions.push(Partition::read(&block)?);
        }
    }
    Ok(survey)
}

fn outside(place: &Path, root: &Path) -> ExamineError {
    ExamineError::Outside {
        place: place.to_owned(),
        root: root.to_owned(),
    }
}

/// Opens a directory as one whose `/` is `root` would.
fn open(root: &Path, inner: &Path) -> io::Result<File> {
    let root = File::open(root)?;
    let inner = match inner.as_os_str().is_empty() {
        true => Path::new("."),
        false => inner,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = openat2(root, inner, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    Ok(found.into())
}

/// Where an open directory is, seen from `root`.
fn seen_from(root: &Path, directory: &File) -> io::Result<PathBuf> {
    let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    let root = root.canonicalize()?;
    let inner = path.strip_prefix(root).unwrap_or(&path);
    Ok(Path::new("/").join(inner))
}

impl Survey {
    /// Whether the file system is where it may be.
    pub fn check(&self) -> Result<(), Violation> {
        let Constraints {
            mount_points,
            labels,
            types,
        } = &self.constraints;
        if !mount_points.is_empty() && !mount_points.contains(&self.place) {
            return Err(Violation::MountPoint {
                allowed: list(mount_points.iter().map(|path| path.display().to_string())),
                found: self.place.clone(),
            });
        }
        for partition in &self.partitions {
            partition.check(labels, types)?;
        }
        Ok(())
    }
}

impl Partition {
    fn check(&self, labels: &[String], types: &[Uuid]) -> Result<(), Violation> {
        let node = self.node.clone();
        let Some((label, kind)) = &self.entry else {
            return Err(Violation::NoPartition(node));
        };
        if !labels.is_empty() && !labels.contains(label) {
            return Err(Violation::Label {
                allowed: list(labels.iter().map(|label| format!("{label:?}"))),
                node,
                found: label.clone(),
            });
        }
        if !types.is_empty() && !types.contains(kind) {
            return Err(Violation::Type {
                allowed: list(types.iter().map(Uuid::to_string)),
                node,
                found: *kind,
            });
        }
        Ok(())
    }

    /// Reads a partition's label and type from the table of its disk.
    fn read(block: &Block) -> Result<Self, ExamineError> {
        let entry = match (block.disk(), block.partition()) {
            (Some(disk), Some(number)) => entry(&disk, number)?,
            _ => None,
        };
        Ok(Self {
            node: block.node()?,
            entry: entry.map(|entry| (entry.label.text().unwrap_or_default(), entry.kind.guid())),
        })
    }
}

fn entry(disk: &Block, number: u32) -> Result<Option<Entry>, ExamineError> {
    let device = FileDevice::open_waiting(&disk.node()?, Access::ReadOnly, None, PATIENCE)?;
    let Label::Gpt(found) = table::read(&device)? else {
        return Ok(None);
    };
    let slot = number.checked_sub(1);
    Ok(slot.and_then(|slot| found.table.slots().get(&slot).cloned()))
}

/// What a device is made of in the end: itself, or what is below device-mapper and its like.
fn partitions(top: Block) -> Result<Vec<Block>, SysfsError> {
    let mut found: Vec<Block> = Vec::new();
    let mut level = vec![top];
    for _ in 0..MAX_LAYERS {
        let mut below = Vec::new();
        for block in std::mem::take(&mut level) {
            let parts = block.made_of()?;
            let (to, blocks) = match parts.is_empty() {
                true => (&mut found, vec![block]),
                false => (&mut below, parts),
            };
            let new = blocks.into_iter().filter(|block| !to.contains(block));
            let new: Vec<Block> = new.collect();
            to.extend(new);
        }
        level = below;
    }
    Ok(found)
}

impl Constraints {
    /// Reads the attributes of the root directory.
    fn read(directory: &File, place: &Path) -> Result<Self, ExamineError> {
        let mut constraints = Self::default();
        for attribute in Attribute::ALL {
            let value = attribute
                .read(directory)
                .map_err(|source| ExamineError::Examine {
                    place: place.to_owned(),
                    source,
                })?;
            let taken = constraints.take(attribute, &value);
            taken.map_err(|source| ExamineError::Constraint {
                place: place.to_owned(),
                source,
            })?;
        }
        Ok(constraints)
    }

    /// Takes what an attribute holds: texts that end in NUL (the last may lack it).
    pub fn take(&mut self, attribute: Attribute, value: &[u8]) -> Result<(), ConstraintError> {
        if value.is_empty() {
            return Ok(());
        }
        let value = value.strip_suffix(b"\0").unwrap_or(value);
        for text in value.split(|byte| *byte == 0) {
            let wrong = |what| ConstraintError {
                attribute,
                value: String::from_utf8_lossy(text).into_owned(),
                what,
            };
            let text = str::from_utf8(text)
                .ok()
                .filter(|text| !text.chars().any(|letter| letter.is_ascii_control()))
                .ok_or_else(|| wrong("text of printable letters"))?;
            match attribute {
                Attribute::Label => self.labels.push(text.to_owned()),
                Attribute::MountPoint => {
                    let path =
                        mount_point(text).ok_or_else(|| wrong("normalized absolute path"))?;
                    self.mount_points.push(path);
                }
                Attribute::Type => self
                    .types
                    .push(guid::parse(text).map_err(|_| wrong("UUID"))?),
            }
        }
        Ok(())
    }

    /// Whether anything is said.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    fn speaks_of_partitions(&self) -> bool {
        !self.labels.is_empty() || !self.types.is_empty()
    }
}

impl Attribute {
    const ALL: [Self; 3] = [Self::MountPoint, Self::Label, Self::Type];

    /// The attribute's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MountPoint => "user.validatefs.mount_point",
            Self::Label => "user.validatefs.gpt_label",
            Self::Type => "user.validatefs.gpt_type_uuid",
        }
    }

    /// What it holds; nothing where it is not there.
    fn read(self, directory: &File) -> io::Result<Vec<u8>> {
        let mut value = vec![0; MAX_ATTRIBUTE];
        match fgetxattr(directory, self.name(), &mut value[..]) {
            Ok(size) => {
                value.truncate(size);
                Ok(value)
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// An absolute path without `.`, `..` and doubled slashes.
fn mount_point(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let normal = |part| matches!(part, Component::RootDir | Component::Normal(_));
    let dots = text.split('/').any(|part| part == ".");
    let fine = path.is_absolute() && path.components().all(normal) && !dots;
    (fine && !text.contains("//")).then(|| path.to_owned())
}

fn list(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests;
