//! Keys for the kernel, in the keyring of the calling thread: nobody else sees them, and they end
//! with the thread at the latest.

use std::ffi::{CStr, CString};
use std::io;
use std::marker::PhantomData;

use rustix::io::Errno;

use crate::sys::keyring as sys;

/// A key in the calling thread's keyring; taken off when dropped.
#[derive(Debug)]
pub struct ThreadKey {
    serial: i32,
    /// The keyring is this thread's.
    bound: PhantomData<*const ()>,
}

/// The kernel does not take the key.
#[derive(Debug, thiserror::Error)]
#[error("cannot hand the key {description:?} to the kernel")]
pub struct KeyError {
    /// Under which name.
    pub description: String,
    /// Why.
    pub source: io::Error,
}

impl ThreadKey {
    /// Adds `payload` under `description`, as a key that processes may read (`user`).
    pub fn add(description: &str, payload: &[u8]) -> Result<Self, KeyError> {
        Self::add_as(c"user", description, payload)
    }

    /// Adds `payload` as a key that only the kernel reads (`logon`). Its description begins with the
    /// name of a service and a colon.
    pub fn add_logon(description: &str, payload: &[u8]) -> Result<Self, KeyError> {
        Self::add_as(c"logon", description, payload)
    }

    fn add_as(kind: &CStr, description: &str, payload: &[u8]) -> Result<Self, KeyError> {
        let failed = |source: io::Error| KeyError {
            description: description.to_owned(),
            source,
        };
        let name = CString::new(description).map_err(|error| failed(error.into()))?;
        let serial = sys::add_key(kind, &name, payload);
        serial
            .map(|serial| Self {
                serial,
                bound: PhantomData,
            })
            .map_err(|error: Errno| failed(error.into()))
    }
}

impl Drop for ThreadKey {
    fn drop(&mut self) {
        if let Err(error) = sys::unlink(self.serial) {
            tracing::debug!(%error, "cannot take a key off the thread's keyring");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_and_go_with_their_guard() {
        let key = ThreadKey::add("ddi-test:thread-key", b"payload").unwrap();
        let serial = key.serial;
        drop(key);
        assert!(sys::unlink(serial).is_err(), "still there");
    }

    #[test]
    fn keys_for_the_kernel_need_a_service() {
        let key = ThreadKey::add_logon("ddi-test:logon", b"payload").unwrap();
        drop(key);
        assert!(ThreadKey::add_logon("nobody", b"payload").is_err());
    }

    #[test]
    fn names_end_where_they_end() {
        assert!(ThreadKey::add("a\0b", b"x").is_err());
    }
}
