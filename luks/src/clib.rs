//! libcryptsetup on a private copy of a header: a file in memory that only this process has. It is
//! given nothing that our own parser has not checked, and never the image itself.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Once;

use blockdev::clog;
use image_specs::units::Bytes;
use libcryptsetup_rs::consts::vals::EncryptionFormat;
use libcryptsetup_rs::{CryptDevice, CryptInit, LibcryptErr, set_log_callback};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

/// libcryptsetup cannot do something.
#[derive(Debug, thiserror::Error)]
#[error("libcryptsetup cannot {action}{}", said(.messages))]
pub struct LibraryError {
    /// What it was asked to do.
    pub action: &'static str,
    /// What it says about it.
    pub messages: Vec<String>,
    /// The error that it gives.
    #[source]
    pub source: io::Error,
}

fn said(messages: &[String]) -> String {
    match messages {
        [] => String::new(),
        _ => format!(" ({})", messages.join(" ")),
    }
}

/// A file in memory, as large as the device whose header is in it, but with nothing else in it.
pub(crate) fn private_file(size: Bytes) -> io::Result<File> {
    let file = File::from(memfd_create("luks-header", MemfdFlags::CLOEXEC)?);
    ftruncate(&file, size.get())?;
    Ok(file)
}

/// Has the library look at the copy, as a device that has no header yet.
pub(crate) fn with_new<T>(
    copy: &File,
    action: &'static str,
    work: impl FnOnce(&mut CryptDevice) -> Result<T, LibcryptErr>,
) -> Result<T, LibraryError> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| set_log_callback::<()>(Some(clog::keep), None));
    clog::take();
    let path = PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()));
    let done = CryptInit::init(&path).and_then(|mut device| {
        // A lock is for devices that others have as well.
        device.settings_handle().metadata_locking(false)?;
        work(&mut device)
    });
    done.map_err(|error| LibraryError {
        action,
        messages: clog::take(),
        source: cause(error),
    })
}

/// Has the library work with the header in the copy.
pub(crate) fn with<T>(
    copy: &File,
    format: EncryptionFormat,
    action: &'static str,
    work: impl FnOnce(&mut CryptDevice) -> Result<T, LibcryptErr>,
) -> Result<T, LibraryError> {
    with_new(copy, action, |device| {
        device.context_handle().load::<()>(Some(format), None)?;
        work(device)
    })
}

fn cause(error: LibcryptErr) -> io::Error {
    match error {
        LibcryptErr::IOError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}
