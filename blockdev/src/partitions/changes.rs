//! From the partitions that the kernel knows to those that a table names: what has to be told, and
//! telling it (`BLKPG`), one partition after the other.
//!
//! [`changes`] decides, purely. Partitions that stay as they are are never touched, so they may be in
//! use all the while; those in use can still grow.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use image_specs::units::Extent;
use rustix::io::Errno;

use super::{PartitionFailure, Wanted, node, signed, sys, wait_for};
use crate::sysfs::{Block, Number, Sysfs, SysfsError};
use crate::usage::{self, User};

/// One thing that the kernel has to learn of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The partition of this number, counted from 1, is gone.
    Forget(u32),
    /// A partition has another size.
    Resize(Wanted),
    /// There is one more.
    Add(Wanted),
}

/// The kernel did not take a change: it keeps what it knew.
#[derive(Debug, thiserror::Error)]
#[error("the kernel does not learn that {change} on {}", disk.display())]
pub struct TellError {
    /// The disk.
    pub disk: PathBuf,
    /// What it was told.
    pub change: Change,
    /// Why.
    #[source]
    pub why: TellFailure,
}

/// Why the kernel did not take a change.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum TellFailure {
    #[error("the partition is in use{}", by(.0))]
    InUse(Vec<User>),
    #[error(transparent)]
    Partition(#[from] PartitionFailure),
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
}

/// What has to be told so that the kernel knows `wanted`, all of it and nothing else, where it knows
/// `known`: first what is gone, then what is smaller, then what has grown, then what is new, each by
/// number. In this order nothing overlaps on the way. Pure.
pub fn changes(known: &[Wanted], wanted: &[Wanted]) -> Vec<Change> {
    let by_number = |list: &[Wanted]| -> BTreeMap<u32, Extent> {
        let pairs = list.iter().map(|one| (one.number, one.extent));
        pairs.collect()
    };
    let (known, wanted) = (by_number(known), by_number(wanted));
    let (mut gone, mut shrunk, mut grown, mut new) = (vec![], vec![], vec![], vec![]);
    for (number, found) in &known {
        if wanted.get(number).map(|extent| extent.start) != Some(found.start) {
            gone.push(Change::Forget(*number));
        }
    }
    for (number, extent) in wanted {
        let wanted = Wanted { number, extent };
        match known
            .get(&number)
            .filter(|known| known.start == extent.start)
        {
            Some(known) if known.size > extent.size => shrunk.push(Change::Resize(wanted)),
            Some(known) if known.size < extent.size => grown.push(Change::Resize(wanted)),
            Some(_) => {}
            None => new.push(Change::Add(wanted)),
        }
    }
    [gone, shrunk, grown, new].concat()
}

/// The partitions of the disk that the kernel knows; `None` where it makes none of such a device.
pub fn known(disk: &File) -> Result<Option<Vec<Wanted>>, SysfsError> {
    let block = block(disk)?;
    if !block.takes_partitions() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for partition in block.partitions()? {
        // One that vanishes meanwhile is not known any more.
        let bounds = partition.start().zip(partition.size().ok());
        let bounds = bounds.map(|(start, size)| Extent::new(start, size));
        found.extend(
            partition
                .partition()
                .zip(bounds)
                .map(|(number, extent)| Wanted { number, extent }),
        );
    }
    Ok(Some(found))
}

/// Tells the kernel of one change, and waits for the node of a new partition.
pub fn tell(disk: &File, change: Change) -> Result<(), TellError> {
    let block = block(disk);
    let path = block.as_ref().ok().and_then(|block| block.node().ok());
    let told = block
        .map_err(TellFailure::from)
        .and_then(|block| told(disk, &block, change));
    told.map_err(|why| TellError {
        disk: path.unwrap_or_default(),
        change,
        why,
    })
}

fn told(disk: &File, block: &Block, change: Change) -> Result<(), TellFailure> {
    let number = i32::try_from(change.number()).map_err(|_| PartitionFailure::Range)?;
    let result = match change {
        Change::Forget(_) => sys::delete(disk, number),
        Change::Resize(wanted) => {
            let (start, size) = (signed(wanted.extent.start)?, signed(wanted.extent.size)?);
            sys::resize(disk, number, start, size)
        }
        Change::Add(wanted) => {
            let (start, size) = (signed(wanted.extent.start)?, signed(wanted.extent.size)?);
            sys::add(disk, number, start, size)
        }
    };
    match (result, change) {
        (Ok(()), Change::Add(_)) => {
            wait_for(&node(&block.node()?, change.number()))?;
            Ok(())
        }
        (Ok(()), _) | (Err(Errno::NXIO), Change::Forget(_)) => Ok(()),
        (Err(Errno::BUSY), Change::Forget(gone)) => {
            let uses = usage::uses(disk).unwrap_or_default().into_iter();
            let users = uses.filter(|used| used.partition == Some(gone));
            Err(TellFailure::InUse(users.map(|used| used.user).collect()))
        }
        (Err(Errno::BUSY), _) => Err(PartitionFailure::Overlap.into()),
        (Err(error), _) => Err(PartitionFailure::Io(error.into()).into()),
    }
}

fn block(disk: &File) -> Result<Block, SysfsError> {
    let number = disk
        .metadata()
        .map(|metadata| Number::from_dev(metadata.rdev()));
    let number = number.map_err(|source: io::Error| SysfsError {
        path: PathBuf::new(),
        source,
    })?;
    Sysfs::default().block(number)
}

impl Change {
    /// The partition's number, counted from 1.
    pub const fn number(&self) -> u32 {
        match self {
            Self::Forget(number) => *number,
            Self::Resize(wanted) | Self::Add(wanted) => wanted.number,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forget(number) => write!(f, "partition {number} is gone"),
            Self::Resize(wanted) => {
                write!(
                    f,
                    "partition {} has a size of {}",
                    wanted.number, wanted.extent.size
                )
            }
            Self::Add(wanted) => {
                let Wanted { number, extent } = wanted;
                write!(
                    f,
                    "partition {number} is at {} and has {}",
                    extent.start, extent.size
                )
            }
        }
    }
}

fn by(users: &[User]) -> String {
    let names: Vec<String> = users.iter().map(User::to_string).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(": {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use image_specs::units::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn part(number: u32, start: u64, size: u64) -> Wanted {
        let extent = Extent::new(Bytes::mib(start), Bytes::mib(size));
        Wanted { number, extent }
    }

    #[test]
    fn only_what_differs_is_told_in_an_order_that_never_overlaps() {
        use Change::{Add, Forget, Resize};
        let old = [part(1, 1, 4), part(2, 5, 5), part(3, 10, 2)];
        for (known, wanted, expected) in [
            (&old[..], &old[..], vec![]),
            (&[], &old[..1], vec![Add(old[0])]),
            (&old, &[], vec![Forget(1), Forget(2), Forget(3)]),
            (
                &old,
                &[part(1, 1, 4), part(2, 5, 9), part(7, 30, 1)],
                vec![Forget(3), Resize(part(2, 5, 9)), Add(part(7, 30, 1))],
            ),
            // The second takes the place that the first gives back, the third begins elsewhere.
            (
                &[part(1, 4, 4), part(2, 8, 1), part(3, 20, 1)],
                &[part(1, 4, 3), part(2, 8, 2), part(3, 7, 1), part(4, 20, 1)],
                vec![
                    Forget(3),
                    Resize(part(1, 4, 3)),
                    Resize(part(2, 8, 2)),
                    Add(part(3, 7, 1)),
                    Add(part(4, 20, 1)),
                ],
            ),
        ] {
            assert_eq!(changes(known, wanted), expected);
        }
    }

    /// Up to eight partitions that do not overlap, under numbers in any order.
    fn layout() -> impl Strategy<Value = Vec<Wanted>> {
        let gaps = prop::collection::vec((0u64..3, 1u64..4), 0..8);
        let numbers = Just((1..=8).collect::<Vec<u32>>()).prop_shuffle();
        (gaps, numbers).prop_map(|(gaps, numbers)| {
            let mut at = 1;
            let place = |((gap, size), number): ((u64, u64), u32)| {
                let start = at + gap;
                at = start + size;
                part(number, start, size)
            };
            gaps.into_iter().zip(numbers).map(place).collect()
        })
    }

    proptest! {
        #[test]
        fn the_kernel_ends_with_what_is_wanted(known in layout(), wanted in layout()) {
            let mut kernel: BTreeMap<u32, Extent> =
                known.iter().map(|one| (one.number, one.extent)).collect();
            for change in changes(&known, &wanted) {
                let was = match change {
                    Change::Forget(number) => kernel.remove(&number).is_some(),
                    Change::Resize(one) => kernel.insert(one.number, one.extent).is_some(),
                    Change::Add(one) => kernel.insert(one.number, one.extent).is_none(),
                };
                prop_assert!(was, "{change:?}");
                let overlaps = kernel.iter().any(|(number, extent)| {
                    kernel.iter().any(|(other, place)| {
                        number < other && extent.start < place.end().unwrap() && place.start < extent.end().unwrap()
                    })
                });
                prop_assert!(!overlaps, "{change:?} in {kernel:?}");
            }
            let wanted: BTreeMap<u32, Extent> =
                wanted.iter().map(|one| (one.number, one.extent)).collect();
            prop_assert_eq!(kernel, wanted);
        }
    }
}
