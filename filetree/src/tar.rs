//! Trees as tar archives: pax (POSIX.1-2001) with `SCHILY.xattr.` records, as GNU tar and bsdtar
//! write and read them.

mod header;
mod read;
mod write;

pub use read::{Fault, ReadTarError, read};
pub use write::{WriteTarError, write};

/// All of tar is in blocks of this size.
const BLOCK: u64 = 512;

/// The pax key before an extended attribute's name.
const XATTR: &[u8] = b"SCHILY.xattr.";

#[cfg(test)]
mod tests;
