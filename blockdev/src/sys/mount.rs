//! Mount attributes and namespaces: `linux/mount.h`, `unshare(2)`.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Result;
use rustix::mount::MountAttrFlags;
use rustix::thread::UnshareFlags;

/// `struct mount_attr`.
#[repr(C)]
#[derive(Debug)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// What [`set_attributes`] changes.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) set: MountAttrFlags,
    pub(crate) clear: MountAttrFlags,
    pub(crate) user_namespace: Option<BorrowedFd<'a>>,
    pub(crate) recursive: bool,
}

/// Changes the attributes of the mount that `tree` is the root of.
pub(crate) fn set_attributes(tree: BorrowedFd<'_>, change: &Change<'_>) -> Result<()> {
    let idmap = match change.user_namespace {
        Some(_) => MountAttrFlags::MOUNT_ATTR_IDMAP,
        None => MountAttrFlags::empty(),
    };
    let namespace = change.user_namespace.map_or(0, |one| one.as_raw_fd());
    let mut attributes = MountAttr {
        set: (change.set | idmap).bits().into(),
        clear: change.clear.bits().into(),
        propagation: 0,
        userns: u64::try_from(namespace).unwrap_or(0),
    };
    let recursive = match change.recursive {
        true => libc::AT_RECURSIVE,
        false => 0,
    };
    // SAFETY: the path is empty and ends with NUL, the structure has the size that is given, and
    // all descriptors are borrowed, so open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw mut attributes,
            size_of::<MountAttr>(),
        )
    };
    super::checked(result).map(|_| ())
}

/// Gives the calling thread a mount namespace of its own, a copy of the one it is in.
pub(crate) fn unshare_mounts() -> Result<()> {
    let flags = UnshareFlags::NEWNS | UnshareFlags::FS;
    // SAFETY: the table of descriptors stays shared, which is all that can go wrong here.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
