//! Random repart runs: definitions, a disk and options, all from one number.
//!
//! Each [`Case`] is made from its seed alone, so any case can be had again. Everything is text and
//! bytes, made without the crates that are under test. Pure.

mod definitions;
mod disk;
mod options;
mod random;

pub use disk::{Disk, Partition, Table};
pub use options::{Choices, Empty, Size};
pub use random::Random;

/// The seed that every case passes as `--seed=`.
pub const SEED: &str = "11111111-2222-3333-4444-555555555555";

/// Files that `CopyBlocks=` may name, by name and size; they are to be put into one folder.
pub const BLOCKS: [(&str, u64); 4] = [
    ("blocks-small", 512),
    ("blocks-odd", 1536),
    ("blocks-64k", 65_536),
    ("blocks-12m", 12 << 20),
];

/// The types that definitions and disks are made of: as written in `Type=`, and the GUID.
const TYPES: [(&str, &str); 13] = [
    ("root", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
    ("usr", "8484680c-9521-48c6-9c11-b0720656f69e"),
    ("home", "933ac7e1-2eb4-4f13-b844-0e14e2aef915"),
    ("srv", "3b8f8425-20e0-4f3b-907f-1a25a76f98e8"),
    ("var", "4d21b016-b534-45c2-a9fb-5c16e091fd2d"),
    ("tmp", "7ec6f557-3bc5-4aca-b293-16ef5df639d1"),
    ("swap", "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"),
    ("esp", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
    ("xbootldr", "bc13c2ff-59e6-4262-a352-b275fd6f7172"),
    ("linux-generic", "0fc63daf-8483-4772-8e79-3d69d8477de4"),
    ("root-secondary", "44479540-f297-41b2-9af7-d131d5f0458a"),
    (
        "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
        "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
    ),
    ("root-verity", "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"),
];

/// One run to compare.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it was made from.
    pub seed: u64,
    /// Definition files and drop-ins: path below the folder of definitions, and text. An empty text
    /// stands for a link to `/dev/null`.
    pub files: Vec<(String, String)>,
    /// The disk; `None` where `--empty=create` makes it.
    pub disk: Option<Disk>,
    /// What the command line says.
    pub choices: Choices,
}

impl Case {
    /// Makes the case of `seed`; `blocks` is the folder of the [`BLOCKS`] as definitions name it.
    pub fn new(seed: u64, blocks: &str) -> Self {
        let mut random = Random::new(seed);
        let disk = Disk::random(&mut random);
        let choices = Choices::random(&mut random, &disk);
        let files = definitions::random(&mut random, &disk, blocks);
        let disk = (choices.empty != Empty::Create).then_some(disk);
        Self {
            seed,
            files,
            disk,
            choices,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_case() {
        for seed in 0..200 {
            let (first, second) = (Case::new(seed, "/b"), Case::new(seed, "/b"));
            assert_eq!(format!("{first:?}"), format!("{second:?}"));
            assert!(first.files.len() <= 40);
        }
    }
}
