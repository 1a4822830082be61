//! Damage of many kinds, repaired with parity or said to be lost.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::num::NonZeroUsize;

use image_specs::units::Bytes;
use veritysetup::fec::{self, Layout, Outcome, Place, RepairError, Roots, Sources};
use veritysetup::verify::VerifyError;
use veritysetup::{BlockSize, HashAlgorithm, HashType, Params, RootHash, tree};

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();
const BLOCK: usize = 512;
const BLOCKS: usize = 700;

/// Data of 700 blocks, a tree of 48 (top, three, the leaves), parity of two roots in three rounds.
#[derive(Clone, PartialEq)]
struct Image {
    data: Vec<u8>,
    hash: Vec<u8>,
    parity: Vec<u8>,
}

struct Sample {
    good: Image,
    params: Params,
    root: RootHash,
    layout: Layout,
}

impl Sample {
    fn new(roots: u64) -> Self {
        let block = BlockSize::new(512).unwrap();
        let params = Params {
            hash_type: HashType::Normal,
            algorithm: HashAlgorithm::Sha256,
            data_block: block,
            hash_block: block,
            data_blocks: u64::try_from(BLOCKS).unwrap(),
            salt: "00ff".parse().unwrap(),
            superblock: Some(uuid::Uuid::nil()),
            hash_offset: Bytes::ZERO,
        };
        let mut state = 1_u64;
        let data = (0..BLOCK * BLOCKS).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        });
        let data: Vec<u8> = data.collect();
        let (mut hash, mut parity) = (Vec::new(), Vec::new());
        let root = tree::build(&params, &data, &mut hash, TWO).unwrap();
        let layout = Layout::of_tree(&params, Roots::new(roots).unwrap()).unwrap();
        fec::encode(&layout, (&data, &hash), &mut parity, TWO).unwrap();
        Self {
            good: Image { data, hash, parity },
            params,
            root,
            layout,
        }
    }

    /// Blocks that lie one behind the other in a code word are so far apart.
    fn rounds(&self) -> usize {
        let roots = usize::from(self.layout.roots().get());
        usize::try_from(self.layout.size().get()).unwrap() / roots / BLOCK
    }

    fn repair(&self, image: &mut Image) -> Result<Outcome, RepairError> {
        let before = image.clone();
        let sources = Sources {
            params: &self.params,
            root: &self.root,
            layout: &self.layout,
            data: &before.data,
            hash: &before.hash,
            parity: &before.parity,
        };
        let image = RefCell::new(image);
        fec::repair(&sources, TWO, &mut |place, bytes| {
            let mut image = image.borrow_mut();
            let (target, offset) = match place {
                Place::Data(offset) => (&mut image.data, offset),
                Place::Hash(offset) => (&mut image.hash, offset),
                Place::Nowhere => panic!("zeros cannot be wrong"),
            };
            let offset = usize::try_from(offset).unwrap();
            target[offset..offset + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })
    }

    fn repaired(&self, damage: impl FnOnce(&mut Image)) -> Outcome {
        let mut image = self.good.clone();
        damage(&mut image);
        let outcome = self.repair(&mut image).unwrap();
        assert_eq!((outcome.lost, outcome.first_lost), (0, None));
        assert!(image.data == self.good.data && image.hash == self.good.hash);
        outcome
    }

    /// Nothing that was right may become wrong, either.
    fn lost(&self, damage: impl FnOnce(&mut Image)) -> Outcome {
        let mut image = self.good.clone();
        damage(&mut image);
        let before = image.clone();
        let outcome = self.repair(&mut image).unwrap();
        assert!(outcome.lost > 0);
        let all = [
            (&image.data, &before.data, &self.good.data),
            (&image.hash, &before.hash, &self.good.hash),
        ];
        for (now, before, good) in all {
            for ((now, before), good) in now.iter().zip(before).zip(good) {
                assert!(now == before || now == good);
            }
        }
        outcome
    }
}

fn spoil(bytes: &mut [u8], block: usize) {
    for byte in &mut bytes[block * BLOCK..(block + 1) * BLOCK] {
        *byte = byte.wrapping_add(1);
    }
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let sample = Sample::new(2);
    assert_eq!(sample.repaired(|_| {}), Outcome::default());
    // Parity that nobody needs is not looked at.
    let outcome = sample.repaired(|image| spoil(&mut image.parity, 0));
    assert_eq!(outcome, Outcome::default());
}

#[test]
fn as_many_blocks_of_a_code_word_as_it_has_roots() {
    for roots in [2, 3, 5, 24] {
        let sample = Sample::new(roots);
        let rounds = sample.rounds();
        let roots = usize::try_from(roots).unwrap();
        let spread = |count: usize| {
            move |image: &mut Image| {
                for index in 0..count {
                    spoil(&mut image.data, 1 + index * rounds);
                }
            }
        };
        let outcome = sample.repaired(spread(roots));
        let bytes = u64::try_from(roots * BLOCK).unwrap();
        assert_eq!((outcome.repaired, outcome.bytes), (bytes / 512, bytes));
        let outcome = sample.lost(spread(roots + 1));
        assert_eq!(outcome.lost, u64::try_from(roots + 1).unwrap());
        assert_eq!(outcome.first_lost, Some(Place::Data(512)));
        // One after the other: as many in each round.
        let outcome = sample.repaired(|image| {
            (100..100 + roots * rounds).for_each(|block| spoil(&mut image.data, block));
        });
        assert_eq!(outcome.repaired, u64::try_from(roots * rounds).unwrap());
        let outcome = sample.lost(|image| {
            (100..=100 + roots * rounds).for_each(|block| spoil(&mut image.data, block));
        });
        // One round has one too many, the others not.
        let lost = u64::try_from(roots + 1).unwrap();
        assert_eq!(
            (outcome.lost, outcome.first_lost),
            (lost, Some(Place::Data(51200)))
        );
    }
}

#[test]
fn trees_are_repaired_before_what_is_below() {
    let sample = Sample::new(2);
    // All in other rounds: of damage further down, nothing is known yet.
    for blocks in [&[1][..], &[2], &[14], &[1, 14], &[2, 16]] {
        let outcome = sample.repaired(|image| {
            blocks
                .iter()
                .for_each(|block| spoil(&mut image.hash, *block));
            spoil(&mut image.data, 171);
        });
        assert_eq!(outcome.repaired, u64::try_from(blocks.len()).unwrap() + 1);
    }
}

#[test]
fn bytes_apart_from_each_other_are_repaired_one_by_one() {
    let sample = Sample::new(2);
    let rounds = sample.rounds();
    let outcome = sample.repaired(|image| {
        for index in 0..7 {
            image.data[(2 + index * rounds) * BLOCK + index] ^= 0x55;
        }
    });
    assert_eq!((outcome.repaired, outcome.bytes), (7, 7));
}

#[test]
fn parity_that_is_wrong_where_it_is_needed_makes_nothing_worse() {
    let sample = Sample::new(2);
    let outcome = sample.lost(|image| {
        spoil(&mut image.data, 3);
        image.parity.fill(7);
    });
    assert_eq!((outcome.lost, outcome.repaired), (1, 0));
    let more = Sample::new(4);
    more.repaired(|image| {
        spoil(&mut image.data, 3);
        (0..BLOCK).for_each(|word| image.parity[word * 4] ^= 9);
    });
}

#[test]
fn wrong_root_hashes_and_short_files_are_no_damage_to_repair() {
    let mut sample = Sample::new(2);
    let short = |change: fn(&mut Image)| {
        let mut image = sample.good.clone();
        change(&mut image);
        sample.repair(&mut image).unwrap_err()
    };
    assert!(matches!(
        short(|image| image.data.truncate(5000)),
        RepairError::Verify(VerifyError::Data(_))
    ));
    assert!(matches!(
        short(|image| image.hash.truncate(5000)),
        RepairError::Verify(VerifyError::Read { .. })
    ));
    let error = short(|image| {
        spoil(&mut image.data, 3);
        image.parity.clear();
    });
    assert_eq!(error.to_string(), "cannot read the parity at byte 0");
    sample.root = RootHash::new([1; 32]);
    let outcome = sample.lost(|_| {});
    assert_eq!(outcome.first_lost, Some(Place::Hash(512)));
}
