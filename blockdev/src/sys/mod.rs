//! The ioctls and system calls that `rustix` has no safe call for. All `unsafe` of this crate is here.
#![allow(unsafe_code)]

pub(crate) mod btrfs;
pub(crate) mod clog;
pub(crate) mod dm;
pub(crate) mod grow;
pub(crate) mod keyring;
pub(crate) mod locked;
pub(crate) mod loopdev;
pub(crate) mod mount;
pub(crate) mod partition;
pub(crate) mod socket;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::{Errno, Result};
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// `struct file_clone_range` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug)]
struct FileCloneRange {
    src_fd: i64,
    src_offset: u64,
    src_length: u64,
    dest_offset: u64,
}

/// `#define FICLONERANGE _IOW(0x94, 13, struct file_clone_range)`
const FICLONERANGE: Opcode = opcode::write::<FileCloneRange>(0x94, 13);

/// `#define BLKDISCARD _IO(0x12,119)`, which takes `uint64_t range[2]`.
const BLKDISCARD: Opcode = opcode::none(0x12, 119);

/// Lets `target` share the blocks of `size` bytes of `source`.
///
/// Fails with `EOPNOTSUPP`, `EXDEV` or `EINVAL` where the file systems cannot, or not for this range.
pub(crate) fn clone_range(
    source: &File,
    from: u64,
    target: &File,
    to: u64,
    size: u64,
) -> Result<()> {
    let range = FileCloneRange {
        src_fd: i64::from(source.as_raw_fd()),
        src_offset: from,
        src_length: size,
        dest_offset: to,
    };
    // SAFETY: the opcode is that of `FileCloneRange`, which the kernel only reads; `source` is
    // borrowed, so its descriptor is open for the length of the call.
    unsafe { ioctl(target.as_fd(), Setter::<FICLONERANGE, _>::new(range)) }
}

/// Tells a block device that `size` bytes from `start` are no longer needed.
pub(crate) fn discard(device: &File, start: u64, size: u64) -> Result<()> {
    // SAFETY: BLKDISCARD reads two `uint64_t`, start and length, and nothing else.
    unsafe { ioctl(device.as_fd(), Setter::<BLKDISCARD, _>::new([start, size])) }
}

/// The error of a raw system call, where it is one.
fn checked(result: libc::c_long) -> Result<libc::c_long> {
    match result {
        -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
        fine => Ok(fine),
    }
}
