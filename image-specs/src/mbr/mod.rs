//! Master boot records: which partition table a disk has, the protective record of a GPT disk (UEFI
//! 2.10, section 5.2), and whole tables with primary and logical partitions.
//!
//! Reading a table: parse sector 0 as an [`Mbr`], [`walk`] the chain of its extended partition, and
//! check both with [`MbrTable::parse`]. Whoever only wants to see what is there may use the record and
//! the chain alone, which stop at whatever is broken.
//!
//! Invariants: a chain is followed through at most [`MAX_LINKS`] records and never twice through one;
//! in a [`MbrTable`] nothing overlaps. Pure.

mod chain;
mod kind;
mod record;
mod table;
#[cfg(test)]
mod tests;

pub use chain::{Chain, ChainFault, Link, MAX_LINKS, walk};
pub use kind::{MbrType, UnknownMbrType};
pub use record::{BOOT_CODE, ForeignLabel, Mbr, MbrKind, MbrPartition, RECORD, hybrid, protective};
pub use table::{Extended, MbrEntry, MbrError, MbrTable, Sector};
