//! Loop devices: `linux/loop.h`.

use std::ffi::c_void;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use rustix::io::{Errno, Result};
use rustix::ioctl::{Ioctl, IoctlOutput, NoArg, Opcode, Setter, Updater, ioctl};

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) rdevice: u64,
    pub(crate) offset: u64,
    pub(crate) size_limit: u64,
    pub(crate) number: u32,
    pub(crate) encrypt_type: u32,
    pub(crate) encrypt_key_size: u32,
    pub(crate) flags: u32,
    pub(crate) file_name: [u8; 64],
    pub(crate) crypt_name: [u8; 64],
    pub(crate) encrypt_key: [u8; 32],
    pub(crate) init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
#[derive(Debug)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Info>() == 232);
const _: () = assert!(size_of::<Config>() == 304);

pub(crate) const READ_ONLY: u32 = 1;
pub(crate) const AUTOCLEAR: u32 = 4;
pub(crate) const PARTSCAN: u32 = 8;
pub(crate) const DIRECT_IO: u32 = 16;

/// `#define LOOP_CLR_FD 0x4C01`
const LOOP_CLR_FD: Opcode = 0x4c01;
/// `#define LOOP_SET_STATUS64 0x4C04`
const LOOP_SET_STATUS64: Opcode = 0x4c04;
/// `#define LOOP_GET_STATUS64 0x4C05`
const LOOP_GET_STATUS64: Opcode = 0x4c05;
/// `#define LOOP_CONFIGURE 0x4C0A`
const LOOP_CONFIGURE: Opcode = 0x4c0a;
/// `#define LOOP_CTL_GET_FREE 0x4C82`
const LOOP_CTL_GET_FREE: Opcode = 0x4c82;

/// The call that answers by its return value.
struct GetFree;

// SAFETY: LOOP_CTL_GET_FREE takes no argument, and its result is the return value.
unsafe impl Ioctl for GetFree {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::null_mut()
    }

    // SAFETY: nothing is read through the pointer.
    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> Result<u32> {
        u32::try_from(out).map_err(|_| Errno::RANGE)
    }
}

/// The number of a device that nobody uses, made if there is none.
pub(crate) fn free_number(control: &File) -> Result<u32> {
    // SAFETY: see `GetFree`.
    unsafe { ioctl(control.as_fd(), GetFree) }
}

/// Binds an unused device to `backing`, all at once.
pub(crate) fn configure(device: &File, backing: &File, block_size: u32, info: &Info) -> Result<()> {
    let config = Config {
        fd: u32::try_from(backing.as_raw_fd()).map_err(|_| Errno::BADF)?,
        block_size,
        info: info.clone(),
        reserved: [0; 8],
    };
    // SAFETY: the opcode is that of `struct loop_config`, which the kernel only reads; `backing` is
    // borrowed, so its descriptor is open for the length of the call.
    unsafe { ioctl(device.as_fd(), Setter::<LOOP_CONFIGURE, _>::new(config)) }
}

/// What a device is bound to; `ENXIO` where it is to nothing.
pub(crate) fn status(device: &File) -> Result<Info> {
    let mut info = Info::new();
    // SAFETY: LOOP_GET_STATUS64 writes one `struct loop_info64`, and nothing else.
    unsafe {
        ioctl(
            device.as_fd(),
            Updater::<LOOP_GET_STATUS64, _>::new(&mut info),
        )?;
    }
    Ok(info)
}

/// Changes the flags, with everything else as [`status`] gave it.
pub(crate) fn set_status(device: &File, info: Info) -> Result<()> {
    // SAFETY: LOOP_SET_STATUS64 reads one `struct loop_info64`, and nothing else.
    unsafe { ioctl(device.as_fd(), Setter::<LOOP_SET_STATUS64, _>::new(info)) }
}

/// Unbinds a device, or has it unbound when its last user closes it.
pub(crate) fn clear(device: &File) -> Result<()> {
    // SAFETY: LOOP_CLR_FD takes no argument.
    unsafe { ioctl(device.as_fd(), NoArg::<LOOP_CLR_FD>::new()) }
}

impl Info {
    /// All zero.
    pub(crate) const fn new() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}
