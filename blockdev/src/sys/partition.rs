//! Partitions that the kernel is told of: `linux/blkpg.h`.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::os::fd::AsFd;

use rustix::io::Result;
use rustix::ioctl::{Opcode, Setter, ioctl};

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
#[derive(Debug)]
struct Argument {
    op: c_int,
    flags: c_int,
    length: c_int,
    data: *mut c_void,
}

/// `struct blkpg_partition`.
#[repr(C)]
#[derive(Debug)]
struct Partition {
    start: i64,
    length: i64,
    number: c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

const _: () = assert!(size_of::<Partition>() == 152);
const LENGTH: c_int = 152;

/// `#define BLKPG _IO(0x12,105)`
const BLKPG: Opcode = 0x1269;
/// `#define BLKPG_ADD_PARTITION 1`
const ADD: c_int = 1;
/// `#define BLKPG_DEL_PARTITION 2`
const DELETE: c_int = 2;
/// `#define BLKPG_RESIZE_PARTITION 3`
const RESIZE: c_int = 3;

/// Tells the kernel of a partition, in bytes; `EBUSY` where it knows one that overlaps.
pub(crate) fn add(disk: &File, number: i32, start: i64, length: i64) -> Result<()> {
    call(disk, ADD, number, start, length)
}

/// Makes the kernel forget a partition; `EBUSY` while that is used, `ENXIO` where there is none.
pub(crate) fn delete(disk: &File, number: i32) -> Result<()> {
    call(disk, DELETE, number, 0, 0)
}

/// Tells the kernel that a partition, which may be in use, has another size in bytes; `EBUSY` where it
/// would overlap with another, `EINVAL` where it begins elsewhere.
pub(crate) fn resize(disk: &File, number: i32, start: i64, length: i64) -> Result<()> {
    call(disk, RESIZE, number, start, length)
}

fn call(disk: &File, op: c_int, number: c_int, start: i64, length: i64) -> Result<()> {
    let mut partition = Partition {
        start,
        length,
        number,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let argument = Argument {
        op,
        flags: 0,
        length: LENGTH,
        data: (&raw mut partition).cast(),
    };
    // SAFETY: BLKPG reads one `struct blkpg_ioctl_arg` and, through it, one `struct
    // blkpg_partition`, which lives until the call has returned.
    unsafe { ioctl(disk.as_fd(), Setter::<BLKPG, _>::new(argument)) }
}
