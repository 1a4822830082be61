//! The chain of boot records within an extended partition, one for each logical partition. Pure.
//!
//! A record lists at most one partition with data, counted from the record's own sector, and at most
//! one of an extended type that leads to the next record, counted from the start of the extended
//! partition. Records that list neither end the chain.

use std::collections::BTreeSet;

use super::kind::is_extended;
use super::record::{Mbr, MbrPartition};
use crate::units::Lba;

/// The most records of a chain that are followed.
pub const MAX_LINKS: usize = 100;

/// One record of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where the record lies.
    pub at: Lba,
    /// The partition that it lists; its first sector counts from `at`.
    pub data: Option<MbrPartition>,
}

/// What was found within an extended partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The records, in the order in which they lead to each other.
    pub links: Vec<Link>,
    /// Why the chain was not followed to its end, if it was not.
    pub fault: Option<ChainFault>,
}

/// A chain that is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum ChainFault {
    #[error("the chain of logical partitions leads to sector {at}, where there is no boot record")]
    NoRecord { at: u64 },
    #[error("the chain of logical partitions leads back to sector {at}")]
    Loop { at: u64 },
    #[error("the chain of logical partitions has more than {MAX_LINKS} records")]
    TooLong,
}

impl Mbr {
    /// The places of extended partitions, from 0, with what stands there.
    pub fn extended(&self) -> impl Iterator<Item = (u32, MbrPartition)> {
        let places = (0..).zip(self.partitions);
        places.filter_map(|(slot, one)| Some((slot, one.filter(|one| is_extended(one.kind))?)))
    }
}

/// Follows the chain that begins with the first sector of an extended partition. `read` gives the
/// record in a sector, `None` where there is none or the disk ends before.
///
/// No record at the very start is an empty chain, as some tools leave it.
pub fn walk<E>(
    start: Lba,
    read: &mut dyn FnMut(Lba) -> Result<Option<Mbr>, E>,
) -> Result<Chain, E> {
    let mut chain = Chain::default();
    let mut seen = BTreeSet::new();
    let mut next = Some(start);
    while let Some(at) = next {
        chain.fault = match () {
            () if !seen.insert(at) => Some(ChainFault::Loop { at: at.get() }),
            () if chain.links.len() == MAX_LINKS => Some(ChainFault::TooLong),
            () => None,
        };
        if chain.fault.is_some() {
            break;
        }
        let Some(record) = read(at)? else {
            let fault = ChainFault::NoRecord { at: at.get() };
            chain.fault = Some(fault).filter(|_| at != start);
            break;
        };
        let (data, further) = entries(&record);
        chain.links.push(Link { at, data });
        let lead = |one: MbrPartition| Lba::new(start.get().saturating_add(one.first.get()));
        next = further.map(lead);
    }
    Ok(chain)
}

/// The partition with data and the lead to the next record: the first of each that is not empty.
fn entries(record: &Mbr) -> (Option<MbrPartition>, Option<MbrPartition>) {
    let used = record.partitions.iter().flatten();
    let mut used = used.filter(|one| one.sectors > 0);
    let data = used.clone().find(|one| !is_extended(one.kind));
    (
        data.copied(),
        used.find(|one| is_extended(one.kind)).copied(),
    )
}
