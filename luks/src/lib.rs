//! LUKS2 volumes and dm-integrity: what is encrypted or authenticated, and by which keys.
//!
//! [`Header`] makes, reads and changes headers, on a private copy; [`bulk`] encrypts and decrypts
//! data in this process; [`VolumeKey`] is what both share.
#![forbid(unsafe_code)]

pub mod bulk;
mod clib;
mod header;
pub mod integrity;
pub mod key;
mod secret;
pub mod tpm2;
pub mod unlock;
mod volume_key;

pub use clib::LibraryError;
pub use header::{DATA_OFFSET, Format, Header, HeaderError, Kdf, Notice, PluginError, Strictness};
pub use secret::Secret;
pub use volume_key::{HashError, VolumeKey};
