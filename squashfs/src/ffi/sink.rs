//! The library's file object over a [`WriteAt`].

use std::ffi::{c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;

use filetree::{WriteAt, WriteError};

use super::{Code, raw};

/// What the library writes to. It only appends and goes back to the superblock, so nothing has to be
/// read and the target may be write-only.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    file: NonNull<File<'a>>,
    owned: PhantomData<File<'a>>,
}

/// What the library sees; begins with its table of functions.
#[repr(C)]
struct File<'a> {
    base: raw::sqfs_file_t,
    target: &'a mut dyn WriteAt,
    end: u64,
    failure: Option<WriteError>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(target: &'a mut dyn WriteAt) -> Self {
        let file = Box::new(File {
            base: raw::sqfs_file_t {
                // Never destroyed nor copied by the library: its users only borrow it.
                base: raw::sqfs_object_t {
                    destroy: None,
                    copy: None,
                },
                read_at: Some(read_at),
                write_at: Some(write_at),
                get_size: Some(get_size),
                truncate: Some(truncate),
            },
            target,
            end: 0,
            failure: None,
        });
        Self {
            file: NonNull::from(Box::leak(file)),
            owned: PhantomData,
        }
    }

    pub(super) fn pointer(&self) -> *mut raw::sqfs_file_t {
        self.file.as_ptr().cast()
    }

    /// How far the image reaches by now, in bytes.
    pub(super) fn end(&self) -> u64 {
        // SAFETY: the pointer is our own box, and no call of the library is under way.
        unsafe { (*self.file.as_ptr()).end }
    }

    /// Says what `code` was: the target's own failure where there was one.
    pub(super) fn explain(&self, doing: &str, code: Code) -> WriteError {
        // SAFETY: as in `end`; `&self` is not shared with other threads, as the type is not `Sync`.
        let failure = unsafe { (*self.file.as_ptr()).failure.take() };
        failure.unwrap_or_else(|| WriteError::Backend {
            what: format!("{doing}: {}", code.text()),
            source: None,
        })
    }
}

impl Drop for Sink<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `Box::leak` in `new` and given back once, here.
        drop(unsafe { Box::from_raw(self.file.as_ptr()) });
    }
}

impl File<'_> {
    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        let end = u64::try_from(bytes.len())
            .ok()
            .and_then(|length| offset.checked_add(length))
            .ok_or_else(|| WriteError::Target(io::ErrorKind::FileTooLarge.into()))?;
        if end > self.target.size() {
            return Err(WriteError::TooSmall {
                needed: end,
                available: self.target.size(),
            });
        }
        self.target
            .write_all_at(bytes, offset)
            .map_err(WriteError::Target)?;
        self.end = self.end.max(end);
        Ok(())
    }
}

unsafe extern "C" fn write_at(
    file: *mut raw::sqfs_file_t,
    offset: u64,
    buffer: *const c_void,
    size: usize,
) -> c_int {
    // SAFETY: the library passes back the pointer that `Sink::pointer` gave it, from the thread that
    // called it, and a buffer of `size` bytes.
    let (file, bytes) = unsafe {
        (
            &mut *file.cast::<File<'_>>(),
            std::slice::from_raw_parts(buffer.cast::<u8>(), size),
        )
    };
    match file.write(bytes, offset) {
        Ok(()) => 0,
        Err(failure) => {
            file.failure.get_or_insert(failure);
            Code::IO.0
        }
    }
}

unsafe extern "C" fn get_size(file: *const raw::sqfs_file_t) -> u64 {
    // SAFETY: as in `write_at`.
    unsafe { (*file.cast::<File<'_>>()).end }
}

unsafe extern "C" fn read_at(_: *mut raw::sqfs_file_t, _: u64, _: *mut c_void, _: usize) -> c_int {
    Code::UNSUPPORTED.0
}

unsafe extern "C" fn truncate(_: *mut raw::sqfs_file_t, _: u64) -> c_int {
    Code::UNSUPPORTED.0
}
