//! Growing a mounted file system over all of its device: ext4, btrfs, xfs.

use std::fs::File;
use std::io;

use image_specs::units::Bytes;
use rustix::fs::fstatvfs;

use crate::sys::grow as sys;

/// What has become of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// It now fills its device, or did before.
    Grown,
    /// File systems of this type cannot grow while mounted.
    Unsupported,
}

/// Grows the file system of type `kind`, mounted writable with `root` as a directory in it, over a
/// device of `device` bytes.
pub fn grow(root: &File, kind: &str, device: Bytes) -> io::Result<Growth> {
    match kind {
        "ext4" => {
            let block = fstatvfs(root)?.f_bsize.max(1);
            sys::ext4(root, device.get() / block)?;
        }
        "btrfs" => sys::btrfs(root)?,
        "xfs" => sys::xfs(root, device.get())?,
        _ => return Ok(Growth::Unsupported),
    }
    Ok(Growth::Grown)
}
