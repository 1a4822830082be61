//! Finds and repairs damaged blocks of tree and data.
//!
//! The tree says which blocks are wrong, so a code word puts right as many of them as it has roots;
//! and it confirms each repair: what still does not match is not written. Levels are done from the top
//! down, then data, each against what is right by then. Damage to parity itself only shows where it
//! is in the way.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;

use super::code::Syndromes;
use super::decode::corrections;
use super::input::{Input, Place};
use super::layout::Layout;
use super::{ReadError, Rounds, Scratch};
use crate::hasher::{HashError, Hasher};
use crate::io::ReadAt;
use crate::levels::Levels;
use crate::params::{Params, ParamsError, RootHash};
use crate::pipeline;
use crate::verify::{Bad, Checker, VerifyError};

/// So many damaged blocks are always looked at: each may have few wrong bytes.
const FEW: u64 = 1 << 16;

/// What is to be repaired, and with what.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The tree.
    pub params: &'a Params,
    /// What it must lead to.
    pub root: &'a RootHash,
    /// Which blocks parity is of.
    pub layout: &'a Layout,
    /// The data.
    pub data: &'a dyn ReadAt,
    /// The hash device.
    pub hash: &'a dyn ReadAt,
    /// Parity, from its first byte on.
    pub parity: &'a dyn ReadAt,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Blocks that were wrong and could be put right.
    pub repaired: u64,
    /// Bytes that were wrong in them.
    pub bytes: u64,
    /// Blocks that are wrong and stay so. What is below a block of the tree is not looked at then.
    pub lost: u64,
    /// The first of them.
    pub first_lost: Option<Place>,
}

/// Why damage cannot be looked for or repaired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// Tree or data cannot be checked.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// What is needed for a repair cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A block cannot be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// A block that was repaired cannot be written.
    #[error("cannot write a repaired block")]
    Write(#[source] io::Error),
}

impl From<ParamsError> for RepairError {
    fn from(error: ParamsError) -> Self {
        Self::Verify(error.into())
    }
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sources({})", self.root)
    }
}

/// Checks everything, and calls `write` with each block that could be put right.
pub fn repair(
    sources: &Sources<'_>,
    threads: NonZeroUsize,
    write: &mut dyn FnMut(Place, &[u8]) -> io::Result<()>,
) -> Result<Outcome, RepairError> {
    let levels = Levels::new(sources.params)?;
    let mut hash = Patched::new(sources);
    let mut outcome = Outcome::default();
    for stage in (0..levels.levels().len()).rev().map(Some).chain([None]) {
        let damage = find(sources, (&levels, stage), &hash, threads)?;
        if damage.is_hopeless() {
            outcome.lost += damage.count;
            outcome.first_lost = damage.first;
        }
        let mut repaired = Vec::new();
        damage.repair(sources, &hash, threads, |tried| {
            let Some((bytes, changed)) = tried.right else {
                outcome.lost += 1;
                outcome.first_lost.get_or_insert(tried.place);
                return Ok(());
            };
            outcome.repaired += 1;
            outcome.bytes += changed;
            write(tried.place, &bytes).map_err(RepairError::Write)?;
            if let Place::Hash(offset) = tried.place {
                repaired.push((offset, bytes));
            }
            Ok(())
        })?;
        hash.blocks.extend(repaired);
        if outcome.lost > 0 {
            break;
        }
    }
    Ok(outcome)
}

/// Looks for damage in a level of the tree, or in the data.
fn find<'a>(
    sources: &Sources<'a>,
    (levels, stage): (&Levels, Option<usize>),
    hash: &Patched<'_>,
    threads: NonZeroUsize,
) -> Result<Damage<'a>, VerifyError> {
    let mut damage = Damage::new(sources.layout);
    let checker = Checker {
        levels,
        params: sources.params,
        hash,
        root: sources.root,
    };
    let add = |bad| {
        damage.add(bad);
        Ok(())
    };
    match stage {
        Some(level) => checker.level(level, add)?,
        None => checker.data(sources.data, threads, add)?,
    }
    Ok(damage)
}

/// The hash device with the blocks that were repaired. All reads are of one block.
struct Patched<'a> {
    hash: &'a dyn ReadAt,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl<'a> Patched<'a> {
    fn new(sources: &Sources<'a>) -> Self {
        Self {
            hash: sources.hash,
            blocks: BTreeMap::new(),
        }
    }
}

impl ReadAt for Patched<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self.blocks.get(&offset) {
            Some(bytes) => bytes.as_slice().read_exact_at(buffer, 0),
            None => self.hash.read_exact_at(buffer, offset),
        }
    }
}

/// Blocks that are wrong, by the round that they are in.
struct Damage<'a> {
    layout: &'a Layout,
    rounds: BTreeMap<u64, Vec<Wrong>>,
    count: u64,
    first: Option<Place>,
}

/// A block that is wrong.
struct Wrong {
    symbol: usize,
    place: Place,
    expected: Vec<u8>,
}

/// What became of a block.
struct Tried {
    place: Place,
    /// Its right bytes, and how many of them were wrong; `None` where it could not be repaired.
    right: Option<(Vec<u8>, u64)>,
}

impl<'a> Damage<'a> {
    fn new(layout: &'a Layout) -> Self {
        Self {
            layout,
            rounds: BTreeMap::new(),
            count: 0,
            first: None,
        }
    }

    fn add(&mut self, bad: Bad) {
        let layout = self.layout;
        let (place, index) = match bad.level {
            None => (Place::Data(bad.offset), bad.block),
            Some(_) => {
                let index = (bad.offset - layout.tree_start) / layout.block;
                (Place::Hash(bad.offset), layout.data_blocks + index)
            }
        };
        self.count += 1;
        self.first.get_or_insert(place);
        if self.is_hopeless() {
            self.rounds.clear();
            return;
        }
        let wrong = Wrong {
            symbol: usize::try_from(index / layout.rounds).unwrap_or(usize::MAX),
            place,
            expected: bad.expected,
        };
        let round = self.rounds.entry(index % layout.rounds);
        round.or_default().push(wrong);
    }

    /// Whether far more is wrong than parity can put right; it is only counted then.
    fn is_hopeless(&self) -> bool {
        let whole_blocks = self.layout.rounds * u64::from(self.layout.roots.get());
        self.count > whole_blocks.max(FEW)
    }

    /// Repairs what can be repaired.
    fn repair(
        self,
        sources: &Sources<'_>,
        hash: &Patched<'_>,
        threads: NonZeroUsize,
        mut done: impl FnMut(Tried) -> Result<(), RepairError>,
    ) -> Result<(), RepairError> {
        let workshop = Workshop {
            input: Input::new(self.layout, sources.data, hash),
            hasher: Hasher::new(sources.params)?,
            layout: self.layout,
            parity: sources.parity,
        };
        let rounds: Vec<(u64, Vec<Wrong>)> = self.rounds.into_iter().collect();
        let count = u64::try_from(rounds.len()).unwrap_or(u64::MAX);
        let work = |index, scratch: &mut Scratch| {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            let (round, wrong) = &rounds[index];
            workshop.repair(*round, wrong, scratch)
        };
        pipeline::in_order(count, threads, work, |_, tried: Vec<Tried>| {
            tried.into_iter().try_for_each(&mut done)
        })
    }
}

/// All that is needed to repair the blocks of a round.
struct Workshop<'a> {
    input: Input<'a>,
    hasher: Hasher,
    layout: &'a Layout,
    parity: &'a dyn ReadAt,
}

impl Workshop<'_> {
    fn repair(
        &self,
        round: u64,
        wrong: &[Wrong],
        scratch: &mut Scratch,
    ) -> Result<Vec<Tried>, RepairError> {
        self.syndromes(round, scratch)?;
        let mut tried = Vec::new();
        for wrong in wrong {
            tried.push(Tried {
                place: wrong.place,
                right: None,
            });
        }
        let places: Vec<usize> = wrong.iter().map(|wrong| wrong.symbol).collect();
        if places.len() <= self.layout.roots.count() {
            self.attempt(&places, (wrong, &mut tried), &scratch.syndromes)?;
        }
        // With too many, or wrong parity, each byte on its own may still have little that is wrong.
        self.attempt(&[], (wrong, &mut tried), &scratch.syndromes)?;
        Ok(tried)
    }

    /// Tries to put blocks right that are not yet, with those at `known` for wrong in every byte.
    fn attempt(
        &self,
        known: &[usize],
        (wrong, tried): (&[Wrong], &mut [Tried]),
        syndromes: &Syndromes,
    ) -> Result<(), RepairError> {
        if tried.iter().all(|tried| tried.right.is_some()) {
            return Ok(());
        }
        let mut blocks = Vec::new();
        for wrong in wrong {
            blocks.push((self.input.block(wrong.place)?, 0));
        }
        for (byte, syndromes) in syndromes.words().enumerate() {
            for found in corrections(&syndromes, known).unwrap_or_default() {
                let index = wrong.iter().position(|wrong| wrong.symbol == found.symbol);
                if let Some((block, changed)) = index.and_then(|index| blocks.get_mut(index)) {
                    block[byte] ^= found.value;
                    *changed += 1;
                }
            }
        }
        for ((wrong, tried), repaired) in wrong.iter().zip(tried).zip(blocks) {
            if tried.right.is_none() && self.hasher.digest(&repaired.0)? == wrong.expected {
                tried.right = Some(repaired);
            }
        }
        Ok(())
    }

    /// Reads a round with its parity.
    fn syndromes(&self, round: u64, scratch: &mut Scratch) -> Result<(), ReadError> {
        let rounds = Rounds::new(self.layout, round, 1);
        self.input.syndromes(&rounds, scratch)?;
        let count = self.layout.roots.count();
        let mut parity = vec![0; rounds.width * count];
        let offset = rounds.parity_offset;
        self.parity
            .read_exact_at(&mut parity, offset)
            .map_err(|source| ReadError {
                what: "parity",
                offset,
                source,
            })?;
        let mut row = vec![0; rounds.width];
        for place in 0..count {
            for (symbol, word) in row.iter_mut().zip(parity.chunks_exact(count)) {
                *symbol = word[place];
            }
            scratch.syndromes.push(&row);
        }
        Ok(())
    }
}
