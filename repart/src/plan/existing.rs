//! What definitions want of partitions that exist: which one is theirs, what must be there and what
//! must not (`IfExists=`, `IfMissing=`, `IfOutOfBounds=`).
//!
//! Invariant: a definition with a partition of its own never takes one that it did not make, and
//! never makes a second one. What it made is known by the UUID that it gave. Pure.

use image_specs::identity::Seed;
use image_specs::units::Bytes;
use uuid::Uuid;

use super::layout::{Entry, Layout, UNLIMITED};
use super::{Options, VeritySiblings};
use crate::definition::{Existing, IfExists, IfMissing, IfOutOfBounds, UuidChoice};
use crate::survey::FoundPartition;

/// A disk that is not as a definition demands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ExistingError {
    #[error(
        "existing partition {number} has the type of {what}, which wants no other to be there (IfExists=fail), so the disk is left alone; remove the one or the other"
    )]
    Exists { what: String, number: u64 },
    #[error(
        "{what} is not there, but must be (IfMissing=fail), so the disk is left alone; IfMissing=create makes it"
    )]
    Missing { what: String },
    #[error(
        "existing partition {number} has {size}, less than the {least} that {what} needs (IfOutOfBounds=fail), so the disk is left alone"
    )]
    TooSmall {
        what: String,
        number: u64,
        size: Bytes,
        least: Bytes,
    },
    #[error(
        "existing partition {number} has {size}, more than the {most} that {what} may have (IfOutOfBounds=fail), so the disk is left alone"
    )]
    TooLarge {
        what: String,
        number: u64,
        size: Bytes,
        most: Bytes,
    },
    #[error(
        "{what} is told from others by its UUID (IfExists=), but the seed is another in each run; pass --seed=, or set UUID="
    )]
    NoLastingSeed { what: String },
    #[error(
        "{what} is told from others by its UUID (IfExists=), but another partition has {uuid}; set another UUID="
    )]
    UuidTaken { what: String, uuid: Uuid },
}

impl Layout<'_> {
    /// Gives found partitions to the definitions that made them, where those know their own; returns
    /// the others.
    pub(super) fn claim_own(
        &mut self,
        found: Vec<FoundPartition>,
        seed: Seed,
    ) -> Vec<FoundPartition> {
        let mut others = Vec::new();
        for partition in found {
            let mine = |index: &usize| {
                let entry = &self.entries[*index];
                !entry.exists()
                    && entry.kind() == partition.kind
                    && self.own_uuid(*index, seed) == Some(partition.uuid)
            };
            match (0..self.entries.len()).find(mine) {
                Some(index) => self.entries[index].found = Some(partition),
                None => others.push(partition),
            }
        }
        others
    }

    /// The UUID by which entry `index` knows what it made.
    pub(super) fn own_uuid(&self, index: usize, seed: Seed) -> Option<Uuid> {
        let entry = &self.entries[index];
        let wanted = entry.wanted.as_ref()?;
        if !wanted.definition.existing.knows_its_own() {
            return None;
        }
        match wanted.definition.uuid {
            UuidChoice::Fixed(uuid) => Some(uuid),
            UuidChoice::Derived => Some(seed.partition(entry.kind().guid(), self.earlier(index))),
        }
    }

    /// Leaves out what is neither there nor to be made.
    pub(super) fn leave_out_missing(&mut self, new_table: bool) {
        for entry in &mut self.entries {
            let ignored = entry.rules().is_some_and(|rules| {
                rules.if_missing == IfMissing::Ignore || rules.only_on_new_disks && !new_table
            });
            if !entry.exists() && ignored {
                entry.dropped = true;
            }
        }
    }

    /// Leaves everything as it was found: what exists becomes foreign, nothing is made.
    pub(super) fn freeze(&mut self) {
        for entry in &mut self.entries {
            match entry.exists() {
                true => entry.wanted = None,
                false => entry.dropped = true,
            }
            entry.merged = None;
            entry.verity = VeritySiblings::default();
        }
        self.frozen = true;
    }

    /// Refuses a disk that is not as the definitions demand. Names have been given already.
    pub(super) fn require_existing(&self, options: &Options) -> Result<(), ExistingError> {
        for index in (0..self.entries.len()).filter(|_| !self.frozen) {
            if let Some(rules) = self.entries[index].rules() {
                self.require_absence(index, &rules)?;
                self.require_presence(index, &rules)?;
                self.require_own_name(index, options)?;
                self.require_bounds(index, &rules)?;
            }
        }
        Ok(())
    }

    fn require_absence(&self, index: usize, rules: &Existing) -> Result<(), ExistingError> {
        let stranger = self.strangers(index).next();
        match stranger.filter(|_| rules.if_exists == IfExists::Fail) {
            Some(found) => Err(ExistingError::Exists {
                what: self.entries[index].what(),
                number: number(found),
            }),
            None => Ok(()),
        }
    }

    /// What was found of the type of entry `index` and no definition takes.
    pub(super) fn strangers(&self, index: usize) -> impl Iterator<Item = &FoundPartition> {
        let kind = self.entries[index].kind();
        let foreign = self.entries.iter().filter(|entry| entry.wanted.is_none());
        let found = foreign.filter_map(|entry| entry.found.as_ref());
        found.filter(move |found| found.kind == kind)
    }

    fn require_presence(&self, index: usize, rules: &Existing) -> Result<(), ExistingError> {
        let entry = &self.entries[index];
        match rules.if_missing == IfMissing::Fail && !entry.exists() {
            true => Err(ExistingError::Missing { what: entry.what() }),
            false => Ok(()),
        }
    }

    /// What is made must be known again by the next run.
    fn require_own_name(&self, index: usize, options: &Options) -> Result<(), ExistingError> {
        let entry = &self.entries[index];
        let Some(own) = self.own_uuid(index, options.seed) else {
            return Ok(());
        };
        self.require_lasting_seed(index, options)?;
        let others = (self.entries.iter().enumerate()).filter(|(at, _)| *at != index);
        let mut taken = others.flat_map(|(_, e)| [Some(e.uuid), e.found.as_ref().map(|f| f.uuid)]);
        match !entry.exists() && !entry.dropped && taken.any(|uuid| uuid == Some(own)) {
            true => Err(ExistingError::UuidTaken {
                what: entry.what(),
                uuid: own,
            }),
            false => Ok(()),
        }
    }

    /// A UUID that another seed gave tells nothing.
    pub(super) fn require_lasting_seed(
        &self,
        index: usize,
        options: &Options,
    ) -> Result<(), ExistingError> {
        let entry = &self.entries[index];
        let derived = entry.wanted.as_ref().is_some_and(|wanted| {
            let definition = wanted.definition;
            definition.existing.knows_its_own() && definition.uuid == UuidChoice::Derived
        });
        match derived && !options.seed_lasts {
            true => Err(ExistingError::NoLastingSeed { what: entry.what() }),
            false => Ok(()),
        }
    }

    fn require_bounds(&self, index: usize, rules: &Existing) -> Result<(), ExistingError> {
        let entry = &self.entries[index];
        let Some(found) = &entry.found else {
            return Ok(());
        };
        if rules.if_out_of_bounds == IfOutOfBounds::Accept {
            return Ok(());
        }
        let (least, most) = self.bounds(index);
        let (what, number, size) = (entry.what(), number(found), found.extent.size);
        if size.get() < least {
            let least = Bytes::new(least);
            return Err(ExistingError::TooSmall {
                what,
                number,
                size,
                least,
            });
        }
        if most != UNLIMITED && size.get() > most {
            let most = Bytes::new(most);
            return Err(ExistingError::TooLarge {
                what,
                number,
                size,
                most,
            });
        }
        Ok(())
    }
}

impl Entry<'_> {
    /// What its definition says of partitions that exist.
    pub(super) fn rules(&self) -> Option<Existing> {
        self.wanted.as_ref().map(|w| w.definition.existing)
    }

    /// Whether it takes a partition of its type that somebody else made.
    pub(super) fn takes_strangers(&self) -> bool {
        self.rules().is_some_and(|r| r.if_exists == IfExists::Use)
    }

    /// Whether it exists and must not grow.
    pub(super) fn stays(&self) -> bool {
        self.exists() && self.rules().is_some_and(|rules| !rules.grow)
    }
}

fn number(found: &FoundPartition) -> u64 {
    u64::from(found.slot) + 1
}
