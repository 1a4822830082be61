//! Device-mapper: `linux/dm-ioctl.h`. Only the call itself; [`crate::dm`] knows what is in it.

use std::ffi::c_void;
use std::fs::File;
use std::os::fd::AsFd;

use rustix::io::{Errno, Result};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

/// Bytes of `struct dm_ioctl`.
pub(crate) const HEADER_SIZE: usize = 312;

/// Where `data_size`, the number of bytes that the kernel may use, stands in the header.
const DATA_SIZE_WORD: usize = 3;

/// `_IOWR(0xfd, number, struct dm_ioctl)`
const fn code(number: u8) -> Opcode {
    (3 << 30) | (312 << 16) | (0xfd << 8) | number as Opcode
}

struct Call<'a> {
    number: u8,
    buffer: &'a mut [u64],
}

// SAFETY: the kernel reads and writes at most `data_size` bytes, which `call` has set to the
// buffer's length.
unsafe impl Ioctl for Call<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        code(self.number)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.buffer.as_mut_ptr().cast()
    }

    // SAFETY: nothing is read through the pointer.
    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<()> {
        Ok(())
    }
}

/// Carries out one command. The buffer begins with a `struct dm_ioctl`, and the kernel may use all
/// of it.
pub(crate) fn call(control: &File, number: u8, buffer: &mut [u64]) -> Result<()> {
    let bytes = size_of_val(buffer);
    let size = u32::try_from(bytes).map_err(|_| Errno::TOOBIG)?;
    if bytes < HEADER_SIZE {
        return Err(Errno::INVAL);
    }
    // `data_size` is the fourth 32-bit word, so the later half of the second 64-bit one in memory.
    let word = buffer.get_mut(DATA_SIZE_WORD / 2).ok_or(Errno::INVAL)?;
    let mut pair = word.to_ne_bytes();
    pair[4..].copy_from_slice(&size.to_ne_bytes());
    *word = u64::from_ne_bytes(pair);
    // SAFETY: see `Call`.
    unsafe { ioctl(control.as_fd(), Call { number, buffer }) }
}
