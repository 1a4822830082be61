//! Carries a plan out: checks file systems, mounts them on one another, grows them, and hands the
//! whole on as one tree.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use blockdev::grow;
use blockdev::mount::{self, Attributes, MountError, NewFileSystem, Tree};
use blockdev::tool::{Program, ToolError};
use image_specs::partition::Designator;
use rustix::fs::{Dir, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::plan::{Place, Plan, PlannedMount, When};

/// What the work needs besides the plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tools<'a> {
    /// `fsck`; nothing is checked without it.
    pub fsck: Option<&'a Program>,
    /// The user namespace by which owners are mapped, where the plan wants that.
    pub owners: Option<BorrowedFd<'a>>,
}

/// A plan cannot be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// A mount failed.
    #[error("cannot mount partition {}", name(*designator))]
    Mount {
        /// Which.
        designator: Option<Designator>,
        /// Why.
        #[source]
        source: MountError,
    },
    /// There is no device for a partition.
    #[error("there is no device for partition {}", name(*.0))]
    NoDevice(Option<Designator>),
    /// Its place in the image cannot be used.
    #[error("cannot mount partition {} on /{} of the image", name(*designator), place.path)]
    Place {
        /// Which.
        designator: Option<Designator>,
        /// Where.
        place: Place,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its owners cannot be mapped.
    #[error("the file system of partition {} cannot map owners", name(*designator))]
    Owners {
        /// Which.
        designator: Option<Designator>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file system is damaged.
    #[error("the file system of partition {} is damaged beyond what a quick check mends", name(*designator))]
    Damaged {
        /// Which.
        designator: Option<Designator>,
        /// What the checker says.
        #[source]
        source: ToolError,
    },
    /// The tree cannot be taken out of the namespace in which it was made.
    #[error("cannot put the mounts together")]
    Join(#[source] io::Error),
    /// The plan mounts nothing.
    #[error("there is nothing to mount")]
    Nothing,
}

/// Mounts everything, on one another and nowhere else. `device` tells each partition's device, which
/// must exist until then.
pub fn apply(
    plan: &Plan,
    device: &(dyn Fn(Designator) -> Option<PathBuf> + Sync),
    tools: Tools<'_>,
) -> Result<Tree, ApplyError> {
    for planned in plan.mounts.iter().filter(|planned| planned.check) {
        check(planned, device, tools)?;
    }
    let work = || join(plan, device, tools);
    mount::in_own_namespace(work).map_err(|source| ApplyError::Mount {
        designator: plan.mounts.first().and_then(|first| first.designator),
        source,
    })?
}

/// In a namespace of its own: the root covers everything else there.
fn join(
    plan: &Plan,
    device: &(dyn Fn(Designator) -> Option<PathBuf> + Sync),
    tools: Tools<'_>,
) -> Result<Tree, ApplyError> {
    let (first, rest) = plan.mounts.split_first().ok_or(ApplyError::Nothing)?;
    let root = make(first, device, tools)?;
    let failed = |source| ApplyError::Mount {
        designator: first.designator,
        source,
    };
    root.attach_at(Path::new("/")).map_err(failed)?;
    grow_over(&root, first);
    let mut taken: Vec<&str> = vec![""];
    for planned in rest {
        let Some((place, directory)) = find(&root, planned, &taken)? else {
            continue;
        };
        let tree = make(planned, device, tools)?;
        let attached = tree.attach(directory.as_fd());
        attached.map_err(|source| planned.at(place, source))?;
        grow_over(&tree, planned);
        taken.push(place.path);
    }
    Tree::copy_of(root.as_fd()).map_err(ApplyError::Join)
}

fn make(
    planned: &PlannedMount,
    device: &(dyn Fn(Designator) -> Option<PathBuf> + Sync),
    tools: Tools<'_>,
) -> Result<Tree, ApplyError> {
    let source = planned.device(device)?;
    let memory = Path::new("rootfs");
    let read_only = match planned.read_only {
        true => Attributes::MOUNT_ATTR_RDONLY,
        false => Attributes::empty(),
    };
    let tree = Tree::new(&NewFileSystem {
        kind: &planned.kind,
        source: Some(source.as_deref().unwrap_or(memory)),
        options: &planned.options,
        read_only: planned.read_only,
        attributes: planned.attributes | read_only,
    });
    let tree = tree.map_err(|source| ApplyError::Mount {
        designator: planned.designator,
        source,
    })?;
    if planned.map_owners
        && let Some(owners) = tools.owners
    {
        let mapped = tree.map_owners(owners);
        mapped.map_err(|source| ApplyError::Owners {
            designator: planned.designator,
            source,
        })?;
    }
    Ok(tree)
}

/// Looks for bad blocks of metadata and mends what can be mended without asking.
fn check(
    planned: &PlannedMount,
    device: &dyn Fn(Designator) -> Option<PathBuf>,
    tools: Tools<'_>,
) -> Result<(), ApplyError> {
    let (Some(fsck), Some(source)) = (tools.fsck, planned.device(device)?) else {
        return Ok(());
    };
    // Only "mended, but restart" (2) and "not mended" (4) keep it from being mounted.
    let fine: Vec<i32> = (0..256).filter(|status| status & 6 == 0).collect();
    let run = fsck.run().arg("-aT").arg(&source).accept(&fine);
    run.output()
        .map(|_| ())
        .map_err(|source| ApplyError::Damaged {
            designator: planned.designator,
            source,
        })
}

/// Grows it; that it cannot is no reason not to mount it.
fn grow_over(tree: &Tree, planned: &PlannedMount) {
    let Some(size) = planned.grow else { return };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let grown = openat(tree.as_fd(), ".", flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|root| grow::grow(&File::from(root), &planned.kind, size));
    if let Err(error) = grown {
        tracing::debug!(%error, mount = %planned, "cannot grow");
    }
}

/// The first place that may be taken.
fn find<'a>(
    root: &Tree,
    planned: &'a PlannedMount,
    taken: &[&str],
) -> Result<Option<(&'a Place, OwnedFd)>, ApplyError> {
    for place in &planned.places {
        if taken.contains(&place.path) {
            continue;
        }
        let opened = open_place(root, place);
        if let Some(directory) = opened.map_err(|source| planned.at(place, source))? {
            return Ok(Some((place, directory)));
        }
    }
    Ok(None)
}

/// Opens a place; `None` where it may not be taken.
fn open_place(root: &Tree, place: &Place) -> io::Result<Option<OwnedFd>> {
    let path = Path::new(place.path);
    let found = match root.open_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => Some(other?),
    };
    match (place.when, found) {
        (When::Empty, None) => Ok(None),
        (When::Always, Some(directory)) => Ok(Some(directory)),
        (_, Some(directory)) => Ok(is_empty(&directory)?.then_some(directory)),
        (when, None) => match make_directory(root, path) {
            Ok(directory) => Ok(Some(directory)),
            // An optional place that cannot be made is not there.
            Err(error)
                if when == When::MissingOrEmpty
                    && Errno::from_io_error(&error) == Some(Errno::ROFS) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        },
    }
}

fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = openat(directory, ".", flags, Mode::empty())?;
    for entry in Dir::read_from(&readable)? {
        let entry = entry?;
        if ![&b"."[..], b".."].contains(&entry.file_name().to_bytes()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes a directory and those above it; nothing leads out of the tree.
fn make_directory(root: &Tree, path: &Path) -> io::Result<OwnedFd> {
    let mut above = root.open_directory(Path::new("."))?;
    let mut reached = PathBuf::new();
    for part in path.components() {
        reached.push(part);
        above = match root.open_directory(&reached) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                mkdirat(
                    &above,
                    Path::new(part.as_os_str()),
                    Mode::from_raw_mode(0o755),
                )?;
                root.open_directory(&reached)?
            }
            other => other?,
        };
    }
    Ok(above)
}

impl PlannedMount {
    /// The device; `None` for a file system in memory.
    fn device(
        &self,
        device: &dyn Fn(Designator) -> Option<PathBuf>,
    ) -> Result<Option<PathBuf>, ApplyError> {
        let Some(designator) = self.designator else {
            return Ok(None);
        };
        let found = device(designator);
        found.map(Some).ok_or(ApplyError::NoDevice(self.designator))
    }

    const fn at(&self, place: &Place, source: io::Error) -> ApplyError {
        ApplyError::Place {
            designator: self.designator,
            place: *place,
            source,
        }
    }
}

fn name(designator: Option<Designator>) -> &'static str {
    designator.map_or("root (in memory)", Designator::name)
}
