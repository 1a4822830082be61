//! The safe face of libsquashfs: write a [`filetree::Tree`] as squashfs, read one back.
//!
//! Writing goes through the C library (block processor with worker threads, tables, compressors); all
//! `unsafe` is in `ffi`. Reading is this crate's own code over the format, because an image is hostile
//! until proven otherwise: the library contributes only the bounded decompressors.
#![deny(unsafe_code)]

mod ffi;
pub mod parameters;
pub mod reader;
pub mod writer;

pub use parameters::{
    Algorithm, BlockSize, Compression, ForeignXattrs, ParameterError, Parameters,
};
pub use reader::{Squashfs, open};
pub use writer::SquashfsWriter;
