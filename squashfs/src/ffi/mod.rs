//! libsquashfs behind safe types: the only place of this crate where `unsafe` may stand.
//!
//! Nothing above sees a pointer. The library's objects are owned by [`Object`]; what it calls back
//! (file, compressor) are Rust structures that begin with the library's own table of functions.
#![allow(unsafe_code, reason = "this is the fence around libsquashfs")]

mod compressor;
mod image;
mod sink;

use std::ptr::NonNull;

pub(crate) use compressor::Compressor;
pub(crate) use image::{FileLayout, Image, Layout};

/// The library's declarations, generated from its headers by `build.rs`.
#[allow(
    non_camel_case_types,
    dead_code,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated"
)]
mod raw {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

/// What a call of the library returned as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(i32);

impl Code {
    const IO: Self = Self(raw::SQFS_ERROR_IO);
    const UNSUPPORTED: Self = Self(raw::SQFS_ERROR_UNSUPPORTED);
    const COMPRESSOR: Self = Self(raw::SQFS_ERROR_COMPRESSOR);
    const ALLOC: Self = Self(raw::SQFS_ERROR_ALLOC);

    /// `Ok` of what is not negative.
    fn check(result: i32) -> Result<i32, Self> {
        if result < 0 {
            Err(Self(result))
        } else {
            Ok(result)
        }
    }

    /// What the library's headers say that it means.
    pub(crate) fn text(self) -> &'static str {
        match self.0 {
            raw::SQFS_ERROR_ALLOC => "out of memory",
            raw::SQFS_ERROR_IO => "input or output failed",
            raw::SQFS_ERROR_COMPRESSOR => "the compressor failed",
            raw::SQFS_ERROR_CORRUPTED => "the data is damaged",
            raw::SQFS_ERROR_UNSUPPORTED => "not supported by this libsquashfs",
            raw::SQFS_ERROR_OVERFLOW => "a number is too big for the format",
            raw::SQFS_ERROR_OUT_OF_BOUNDS => "a location is out of bounds",
            raw::SQFS_ERROR_ARG_INVALID => "an argument is invalid",
            _ => "internal error of libsquashfs",
        }
    }
}

/// An object of the library that we own.
///
/// Invariant: `T` begins with a filled-in `sqfs_object_t`, as all objects of the library do.
#[derive(Debug)]
struct Object<T>(NonNull<T>);

impl<T> Object<T> {
    /// Takes over what a `…_create` function returned; a null pointer is its lack of memory.
    ///
    /// # Safety
    /// `pointer` is null, or points to an object of the library that nobody else destroys.
    unsafe fn own(pointer: *mut T) -> Result<Self, Code> {
        NonNull::new(pointer).map(Self).ok_or(Code::ALLOC)
    }

    fn pointer(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Object<T> {
    fn drop(&mut self) {
        let object = self.0.cast::<raw::sqfs_object_t>().as_ptr();
        // SAFETY: by the invariant `T` begins with an `sqfs_object_t`, and we own it, so this is the
        // one call of its destructor.
        unsafe {
            if let Some(destroy) = (*object).destroy {
                destroy(object);
            }
        }
    }
}
