//! Mounting through the kernel's new calls: a mount is a descriptor first and has no place; it is put
//! together, and put in its place in one step. What is not put anywhere ends with its descriptor.
//!
//! `fsopen(2)`, `fsmount(2)`, `open_tree(2)`, `move_mount(2)`, `mount_setattr(2)`: Linux 5.12.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2, syncfs};
use rustix::io::Errno;
pub use rustix::mount::MountAttrFlags as Attributes;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount, open_tree, unmount,
};

use crate::mountinfo;
use crate::sys::mount as sys;

/// How long a mount that somebody has just left may still be busy.
const PATIENCE: Duration = Duration::from_millis(500);

/// A file system to mount.
#[derive(Clone, Debug)]
pub struct NewFileSystem<'a> {
    /// Its type, as the kernel names it.
    pub kind: &'a str,
    /// The device that it is on; `None` for those without one.
    pub source: Option<&'a Path>,
    /// Options of the file system: `name` or `name=value`.
    pub options: &'a [String],
    /// Whether the file system is to be read only.
    pub read_only: bool,
    /// Attributes of the mount.
    pub attributes: Attributes,
}

/// A mount, or several on top of one another, without a place of its own.
#[derive(Debug)]
pub struct Tree(OwnedFd);

/// A mount failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The kernel does not mount this file system.
    #[error(
        "cannot mount the {kind} file system{}{}",
        of(source_path),
        said(messages)
    )]
    FileSystem {
        /// The type.
        kind: String,
        /// On which device.
        source_path: Option<PathBuf>,
        /// What the file system itself says.
        messages: Vec<String>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not know this type.
    #[error("the kernel has no file system {0}; its module may be missing")]
    UnknownKind(String),
    /// An option is refused.
    #[error(
        "the {kind} file system does not take the option {option:?}{}",
        said(messages)
    )]
    Option {
        /// The type.
        kind: String,
        /// The option.
        option: String,
        /// What the file system itself says.
        messages: Vec<String>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else than mounting failed.
    #[error("cannot {action} {}", place.display())]
    Place {
        /// What was tried.
        action: &'static str,
        /// Where.
        place: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Tree {
    /// Mounts a file system nowhere.
    pub fn new(wanted: &NewFileSystem<'_>) -> Result<Self, MountError> {
        let context = match fsopen(wanted.kind, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(context) => File::from(context),
            Err(Errno::NODEV) => return Err(MountError::UnknownKind(wanted.kind.to_owned())),
            Err(error) => return Err(wanted.failed(Vec::new(), error)),
        };
        if let Some(source) = wanted.source {
            let set = fsconfig_set_string(context.as_fd(), "source", source);
            set.map_err(|error| wanted.failed(messages(&context), error))?;
        }
        let read_only = wanted.read_only.then(|| "ro".to_owned());
        for option in read_only.iter().chain(wanted.options) {
            set(&context, option).map_err(|error| MountError::Option {
                kind: wanted.kind.to_owned(),
                option: option.clone(),
                messages: messages(&context),
                source: error.into(),
            })?;
        }
        let mounted = fsconfig_create(context.as_fd()).and_then(|()| {
            let flags = FsMountFlags::FSMOUNT_CLOEXEC;
            fsmount(context.as_fd(), flags, wanted.attributes)
        });
        mounted
            .map(Self)
            .map_err(|error| wanted.failed(messages(&context), error))
    }

    /// A copy of the mount at `directory`, with all below it.
    pub fn copy_of(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        Ok(Self(open_tree(directory, "", flags)?))
    }

    /// Sets and clears attributes of all its mounts.
    pub fn change(&self, set: Attributes, clear: Attributes) -> io::Result<()> {
        let change = sys::Change {
            set,
            clear,
            user_namespace: None,
            recursive: true,
        };
        Ok(sys::set_attributes(self.0.as_fd(), &change)?)
    }

    /// Shows owners as this user namespace maps them. Not every file system can.
    pub fn map_owners(&self, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
        let change = sys::Change {
            set: Attributes::empty(),
            clear: Attributes::empty(),
            user_namespace: Some(user_namespace),
            recursive: false,
        };
        Ok(sys::set_attributes(self.0.as_fd(), &change)?)
    }

    /// Puts it on an open directory.
    pub fn attach(&self, directory: BorrowedFd<'_>) -> io::Result<()> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(self.0.as_fd(), "", directory, "", flags)?)
    }

    /// Puts it in its place, a directory. Symbolic links on the way are followed.
    pub fn attach_at(&self, place: &Path) -> Result<(), MountError> {
        let failed = |source| MountError::Place {
            action: "mount on",
            place: place.to_owned(),
            source,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(place, flags, Mode::empty());
        let directory = directory.map_err(|error| failed(error.into()))?;
        self.attach(directory.as_fd()).map_err(failed)
    }

    /// Returns when all that was written to its root's file system is on stable storage.
    pub fn sync(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(self.0.as_fd(), ".", flags, Mode::empty())?;
        Ok(syncfs(root)?)
    }

    /// Opens a directory in it. Nothing leads out: its root is the root of every path and link.
    pub fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        Ok(openat2(
            self.0.as_fd(),
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )?)
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs `work` on a thread in a mount namespace of its own. What it mounts there ends with it;
/// descriptors of trees copied from there live on.
pub fn in_own_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, MountError> {
    let enter = || {
        sys::unshare_mounts()?;
        // What is unmounted outside must not be held here; what is mounted here must not show there.
        let propagation = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", propagation)
    };
    let result = thread::scope(|scope| {
        let thread = scope.spawn(|| enter().map(|()| work()));
        thread.join()
    });
    match result {
        Ok(done) => done.map_err(|error| MountError::Place {
            action: "make a mount namespace for",
            place: "/".into(),
            source: error.into(),
        }),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Whether something is mounted exactly there.
pub fn is_mount_point(place: &Path) -> io::Result<bool> {
    Ok(mountinfo::all()?.iter().any(|entry| entry.place == place))
}

/// Unmounts everything at `place` and below, the last mount first. One that was left this moment is
/// waited for.
pub fn unmount_all(place: &Path) -> Result<(), MountError> {
    let failed = |place: &Path, source| MountError::Place {
        action: "unmount",
        place: place.to_owned(),
        source,
    };
    let end = Instant::now() + PATIENCE;
    loop {
        let mounts = mountinfo::below(place).map_err(|error| failed(place, error))?;
        let Some(last) = mounts.last() else {
            return Ok(());
        };
        match unmount(&last.place, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::BUSY) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(failed(&last.place, error.into())),
        }
    }
}

impl NewFileSystem<'_> {
    fn failed(&self, messages: Vec<String>, error: Errno) -> MountError {
        MountError::FileSystem {
            kind: self.kind.to_owned(),
            source_path: self.source.map(Path::to_owned),
            messages,
            source: error.into(),
        }
    }
}

fn set(context: &File, option: &str) -> rustix::io::Result<()> {
    match option.split_once('=') {
        None => fsconfig_set_flag(context.as_fd(), option),
        Some((name, value)) => fsconfig_set_string(context.as_fd(), name, value),
    }
}

/// What the file system has to say: one message a read, after a letter for its weight.
fn messages(mut context: &File) -> Vec<String> {
    let mut messages = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = context.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]);
        let text = text.trim_end();
        let told = text.split_once(' ').map_or(text, |(_, message)| message);
        messages.push(told.to_owned());
        if messages.len() > 16 {
            break;
        }
    }
    messages
}

fn of(source: &Option<PathBuf>) -> String {
    match source {
        Some(source) => format!(" on {}", source.display()),
        None => String::new(),
    }
}

fn said(messages: &[String]) -> String {
    match messages.is_empty() {
        true => String::new(),
        false => format!(" ({})", messages.join("; ")),
    }
}
