//! GUID partition tables (UEFI 2.10, chapter 5): parsed from bytes with every limit checked, laid out
//! fresh as libfdisk does, and encoded to the byte as libfdisk writes them.
//!
//! Reading: [`Header::parse`] a sector, read [`Header::entries_extent`], then [`Table::parse`]. What
//! the table holds is kept as it is: slot numbers with their gaps, attribute bits that nobody knows,
//! ill-formed names, entry counts other than 128 and entries of more than 128 bytes. Whether the
//! partitions make sense is another question, which [`Table::findings`] answers.
//!
//! Invariants: a [`Table`]'s slots lie below its entry count and its arrays are bounded
//! ([`MAX_ENTRIES_SIZE`]). Pure.

mod check;
mod convert;
mod encode;
mod entry;
mod header;
mod layout;
mod table;

pub use check::Finding;
pub use convert::SectorsError;
pub use encode::{Chunk, Encoded};
pub use entry::{Entry, Label, LabelTooLong};
pub use header::{Header, HeaderError, MAX_ENTRIES_SIZE};
pub use table::{LayoutError, SlotError, Table, TableError};

#[cfg(test)]
mod tests;
