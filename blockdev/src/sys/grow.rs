//! Growing mounted file systems: the ioctls of ext4, btrfs and xfs.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::io::Result;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

/// `#define EXT4_IOC_RESIZE_FS _IOW('f', 16, __u64)`
const EXT4_IOC_RESIZE_FS: Opcode = opcode::write::<u64>(b'f', 16);
/// `#define BTRFS_IOC_RESIZE _IOW(0x94, 3, struct btrfs_ioctl_vol_args)`
const BTRFS_IOC_RESIZE: Opcode = opcode::write::<BtrfsVolume>(0x94, 3);
/// `#define XFS_IOC_FSGROWFSDATA _IOW('X', 110, struct xfs_growfs_data)`
const XFS_IOC_FSGROWFSDATA: Opcode = opcode::write::<XfsGrow>(b'X', 110);
/// `#define XFS_IOC_FSGEOMETRY_V1 _IOR('X', 100, struct xfs_fsop_geom_v1)`
const XFS_IOC_FSGEOMETRY_V1: Opcode = opcode::read::<XfsGeometry>(b'X', 100);

/// `struct btrfs_ioctl_vol_args`
#[repr(C)]
struct BtrfsVolume {
    fd: i64,
    name: [u8; 4088],
}

/// `struct xfs_growfs_data`
#[repr(C)]
struct XfsGrow {
    blocks: u64,
    inode_percent: u32,
}

/// `struct xfs_fsop_geom_v1`
#[repr(C)]
#[derive(Debug, Default)]
struct XfsGeometry {
    block_size: u32,
    realtime_extent: u32,
    group_blocks: u32,
    groups: u32,
    log_blocks: u32,
    sector_size: u32,
    inode_size: u32,
    inode_percent: u32,
    data_blocks: u64,
    realtime_blocks: u64,
    realtime_extents: u64,
    log_start: u64,
    uuid: [u8; 16],
    stripe_unit: u32,
    stripe_width: u32,
    version: i32,
    flags: u32,
    log_sector_size: u32,
    realtime_sector_size: u32,
    directory_block: u32,
}

const _: () = assert!(size_of::<BtrfsVolume>() == 4096);
const _: () = assert!(size_of::<XfsGrow>() == 16);
const _: () = assert!(size_of::<XfsGeometry>() == 112);

/// Grows an ext4 file system to `blocks` of its own blocks.
pub(crate) fn ext4(root: &File, blocks: u64) -> Result<()> {
    // SAFETY: the kernel reads one `__u64`.
    unsafe { ioctl(root.as_fd(), Setter::<EXT4_IOC_RESIZE_FS, _>::new(blocks)) }
}

/// Grows a btrfs file system of one device over all of it.
pub(crate) fn btrfs(root: &File) -> Result<()> {
    let mut volume = BtrfsVolume {
        fd: 0,
        name: [0; 4088],
    };
    volume.name[..3].copy_from_slice(b"max");
    // SAFETY: the kernel reads one `struct btrfs_ioctl_vol_args`; the name ends with NUL.
    unsafe { ioctl(root.as_fd(), Setter::<BTRFS_IOC_RESIZE, _>::new(volume)) }
}

/// Grows an xfs file system over a device of `bytes`.
pub(crate) fn xfs(root: &File, bytes: u64) -> Result<()> {
    let mut geometry = XfsGeometry::default();
    // SAFETY: the kernel writes one `struct xfs_fsop_geom_v1`, and nothing else.
    unsafe {
        let call = Updater::<XFS_IOC_FSGEOMETRY_V1, _>::new(&mut geometry);
        ioctl(root.as_fd(), call)?;
    }
    let blocks = bytes / u64::from(geometry.block_size.max(1));
    if blocks <= geometry.data_blocks {
        return Ok(());
    }
    let grow = XfsGrow {
        blocks,
        inode_percent: geometry.inode_percent,
    };
    // SAFETY: the kernel reads one `struct xfs_growfs_data`.
    unsafe { ioctl(root.as_fd(), Setter::<XFS_IOC_FSGROWFSDATA, _>::new(grow)) }
}
