//! The kernel's keys: `keyctl(2)`, `add_key(2)`.

use std::ffi::CStr;

use rustix::io::{Errno, Result};

/// `KEYCTL_UNLINK`
const UNLINK: libc::c_long = 9;
/// `KEY_SPEC_THREAD_KEYRING`
const THREAD_KEYRING: libc::c_long = -1;

/// Adds a key of a type to the calling thread's keyring and gives its serial number.
pub(crate) fn add_key(kind: &CStr, description: &CStr, payload: &[u8]) -> Result<i32> {
    // SAFETY: type and description end with NUL, the payload is as long as is said, and the kernel
    // only reads them.
    let serial = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            kind.as_ptr(),
            description.as_ptr(),
            payload.as_ptr(),
            payload.len(),
            THREAD_KEYRING,
        )
    };
    let serial = super::checked(serial)?;
    i32::try_from(serial).map_err(|_| Errno::RANGE)
}

/// Takes a key off the calling thread's keyring.
pub(crate) fn unlink(serial: i32) -> Result<()> {
    let key = libc::c_long::from(serial);
    // SAFETY: KEYCTL_UNLINK takes two serial numbers and no pointers.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, UNLINK, key, THREAD_KEYRING) };
    super::checked(result).map(|_| ())
}
