//! Which disk is meant: selectors such as `bus=nvme,size>=64G`, held against what is known of each
//! disk.
//!
//! Invariant: a choice is exactly one disk, or an error that says why it is not; never the first of
//! several. A disk that is read-only or has no bytes is never chosen, a removable one only where the
//! selector names one disk or asks for removable ones, a virtual one (loop, device-mapper, RAM) only
//! where it names the disk or its bus. Pure, but for [`survey`], which reads `/sys` and `/dev`.

mod bus;
mod candidate;
mod survey;
mod term;

use std::fmt;
use std::str::FromStr;

pub use bus::Bus;
pub use candidate::{Candidate, Identity};
pub use survey::{identity, survey};
use term::Term;

/// A selector: terms that must all hold, as they were typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    terms: Vec<Term>,
    text: String,
}

/// A selector that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum SelectorError {
    #[error(
        "it is empty; say which disk is meant, for instance serial=NAME, id=NAME or bus=nvme,size>=64G"
    )]
    Empty,
    #[error(
        "{0:?} is no term; there are serial=, id= (or wwid=), model=, size=, size>=, size<=, bus=, path=, uuid=, removable= and boot"
    )]
    Unknown(String),
    #[error("{0:?} has no value")]
    NoValue(String),
    #[error("{0:?} is no size, nor a range such as 64G..1T")]
    Size(String),
    #[error("{0:?} is no bus; there are {buses}", buses = Bus::names())]
    Bus(String),
    #[error("{0:?} is no UUID of a partition table")]
    Table(String),
    #[error("{0:?} is neither yes nor no")]
    Boolean(String),
}

/// Why no disk was chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// None fits.
    #[error("no disk fits {selector:?}")]
    None {
        /// The selector, as typed.
        selector: String,
        /// All disks, with what speaks against each.
        disks: Vec<Rejected>,
    },
    /// More than one fits.
    #[error(
        "{selector:?} fits several disks: {}; name one of them, for instance by serial=, id= or path=",
        names(.disks)
    )]
    Several {
        /// The selector, as typed.
        selector: String,
        /// Those that fit.
        disks: Vec<Candidate>,
    },
    /// The disk of the boot loader is asked for, and unknown.
    #[error(
        "nobody knows which disk this system was booted from: the boot loader left no EFI variable LoaderDevicePartUUID; name the disk in another way"
    )]
    NoBootPartition,
}

/// A disk that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The disk.
    pub disk: Candidate,
    /// All that speaks against it, never nothing.
    pub why: Vec<Mismatch>,
}

/// What speaks against a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// A term of the selector does not hold; what the disk has instead, where it has anything.
    Term {
        /// The term, as typed.
        term: String,
        /// What the disk has.
        found: Option<String>,
    },
    /// It can not be written to.
    ReadOnly,
    /// It has no bytes: there is no medium in it.
    Empty,
    /// It can be taken out, and the selector asks for no such disk.
    Removable,
    /// It is made of other devices or of memory, and the selector does not name it.
    Virtual(Bus),
}

impl Selector {
    /// Whether the partition tables of disks have to be read to decide.
    pub fn needs_tables(&self) -> bool {
        (self.terms.iter()).any(|term| matches!(term, Term::Boot | Term::Table(_)))
    }

    /// What speaks against the disk; nothing where it fits. `boot` is the UUID of the partition that
    /// the boot loader came from.
    pub fn check(&self, disk: &Candidate, boot: Option<&str>) -> Vec<Mismatch> {
        let mut why = Vec::new();
        if disk.size.is_zero() {
            why.push(Mismatch::Empty);
        }
        if disk.read_only {
            why.push(Mismatch::ReadOnly);
        }
        if disk.bus.is_virtual() && !self.names_virtual() {
            why.push(Mismatch::Virtual(disk.bus));
        }
        if disk.removable && !self.permits_removable() {
            why.push(Mismatch::Removable);
        }
        for term in self.terms.iter().filter(|term| !term.holds(disk, boot)) {
            why.push(Mismatch::Term {
                term: term.to_string(),
                found: term.found(disk),
            });
        }
        why
    }

    /// The one disk that fits.
    pub fn choose<'a>(
        &self,
        disks: &'a [Candidate],
        boot: Option<&str>,
    ) -> Result<&'a Candidate, SelectError> {
        if self.terms.contains(&Term::Boot) && boot.is_none() {
            return Err(SelectError::NoBootPartition);
        }
        let mut fits = Vec::new();
        let mut rejected = Vec::new();
        for disk in disks {
            let why = self.check(disk, boot);
            match why.is_empty() {
                true => fits.push(disk),
                false => rejected.push(Rejected {
                    disk: disk.clone(),
                    why,
                }),
            }
        }
        let selector = self.text.clone();
        match fits[..] {
            [] => Err(SelectError::None {
                selector,
                disks: rejected,
            }),
            [one] => Ok(one),
            _ => Err(SelectError::Several {
                selector,
                disks: fits.into_iter().cloned().collect(),
            }),
        }
    }

    fn names_virtual(&self) -> bool {
        (self.terms.iter()).any(|term| term.is_identity() || matches!(term, Term::Bus(_)))
    }

    fn permits_removable(&self) -> bool {
        let removable = |term: &Term| term.is_identity() || *term == Term::Removable(true);
        self.terms.iter().any(removable)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let parts = text.split(',').map(str::trim);
        let terms: Vec<Term> = parts.map(Term::parse).collect::<Result<_, _>>()?;
        Ok(Self {
            terms,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Term {
                term,
                found: Some(found),
            } => write!(f, "not {term}, but {found}"),
            Self::Term { term, found: None } => write!(f, "not {term}"),
            Self::ReadOnly => f.write_str("read-only"),
            Self::Empty => f.write_str("no medium"),
            Self::Removable => f.write_str("removable (removable=yes permits it)"),
            Self::Virtual(bus) => write!(f, "virtual (bus={bus} permits it)"),
        }
    }
}

fn names(disks: &[Candidate]) -> String {
    let names: Vec<String> = disks.iter().map(Candidate::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests;
