//! The devices of a btrfs, which `stat` does not tell.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::io::Result;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `#define BTRFS_IOC_FS_INFO _IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)`
const BTRFS_IOC_FS_INFO: Opcode = opcode::read::<FsInfo>(0x94, 31);
/// `#define BTRFS_IOC_DEV_INFO _IOWR(0x94, 30, struct btrfs_ioctl_dev_info_args)`
const BTRFS_IOC_DEV_INFO: Opcode = opcode::read_write::<DevInfo>(0x94, 30);

/// `struct btrfs_ioctl_fs_info_args`
#[repr(C)]
struct FsInfo {
    /// The largest device number that there is.
    max_id: u64,
    devices: u64,
    fsid: [u8; 16],
    rest: [u8; 992],
}

/// `struct btrfs_ioctl_dev_info_args`
#[repr(C)]
struct DevInfo {
    id: u64,
    uuid: [u8; 16],
    used: u64,
    size: u64,
    fsid: [u8; 16],
    reserved: [u64; 377],
    path: [u8; 1024],
}

const _: () = assert!(size_of::<FsInfo>() == 1024);
const _: () = assert!(size_of::<DevInfo>() == 4096);

/// How many devices there are, and the largest of their numbers.
pub(crate) fn devices(root: &File) -> Result<(u64, u64)> {
    let mut info = FsInfo {
        max_id: 0,
        devices: 0,
        fsid: [0; 16],
        rest: [0; 992],
    };
    // SAFETY: the kernel reads and writes one `struct btrfs_ioctl_fs_info_args`.
    unsafe {
        ioctl(
            root.as_fd(),
            Updater::<BTRFS_IOC_FS_INFO, _>::new(&mut info),
        )?
    };
    Ok((info.devices, info.max_id))
}

/// The path of the device `id`, up to its first NUL; fails with `ENODEV` where there is none.
pub(crate) fn path(root: &File, id: u64) -> Result<Vec<u8>> {
    let mut info = DevInfo {
        id,
        uuid: [0; 16],
        used: 0,
        size: 0,
        fsid: [0; 16],
        reserved: [0; 377],
        path: [0; 1024],
    };
    // SAFETY: the kernel reads and writes one `struct btrfs_ioctl_dev_info_args`.
    unsafe {
        ioctl(
            root.as_fd(),
            Updater::<BTRFS_IOC_DEV_INFO, _>::new(&mut info),
        )?
    };
    let path = info.path.split(|byte| *byte == 0).next();
    Ok(path.unwrap_or_default().to_vec())
}
