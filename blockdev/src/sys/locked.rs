//! Pages of memory for secrets: `mmap(2)`, `mlock(2)`, `madvise(2)`.

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};
use std::slice;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};

/// Bytes in pages of their own, which are erased before they are given back.
pub(crate) struct Pages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the pages belong to this value alone, as a box's memory does.
unsafe impl Send for Pages {}
// SAFETY: shared references only read.
unsafe impl Sync for Pages {}

impl Pages {
    /// Pages for `length` bytes, more than none, all zero. Locking them and leaving them out of core
    /// dumps is asked for; limits of the process may refuse it.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        // SAFETY: a new private mapping, where the kernel likes it, touches no other memory.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let pages = Self {
            start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            length,
        };
        // SAFETY: the range is the mapping made above; neither call changes its bytes.
        unsafe {
            let _ = mlock(pages.address(), length);
            let _ = madvise(pages.address(), length, Advice::LinuxDontDump);
        }
        Ok(pages)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has `length` initialised bytes and lives as long as `self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed for this use alone.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    fn address(&self) -> *mut c_void {
        self.start.as_ptr().cast()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: writes zeros over the mapping's own bytes, in a way that is not optimised away,
        // and gives back the mapping, to which no reference is left.
        unsafe {
            libc::explicit_bzero(self.address(), self.length);
            let _ = munmap(self.address(), self.length);
        }
    }
}
