//! What a TPM2 chip's users write down: PCR lists, policies, key areas, LUKS2 tokens, signatures.
//!
//! Sources: TCG TPM 2.0 Library (structures, policies), and the files of systemd-cryptenroll,
//! systemd-measure and systemd-pcrlock. All numbers of TPM structures are big-endian. Everything that
//! comes from a file is bounded before it is used. Pure.

pub mod pcrlock;
pub mod pcrs;
pub mod policy;
pub mod public;
pub mod signature;
pub mod token;
pub mod wire;

mod json;

use std::fmt;
use std::str::FromStr;

pub use pcrlock::Pcrlock;
pub use pcrs::{PcrList, PcrSet, PcrValue};
pub use policy::PolicyDigest;
pub use public::Public;
pub use signature::PcrSignatures;
pub use token::Token;

/// The handle that the storage root key has in every TPM.
pub const SRK_HANDLE: u32 = 0x8100_0001;

/// A bank of PCRs: the hash algorithm that they are extended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bank {
    /// SHA-1: old chips only.
    Sha1,
    /// SHA-256: what every chip has.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Bank {
    /// All, weakest first.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The TCG's number of the algorithm.
    pub const fn algorithm(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// The bank with this algorithm number.
    pub fn from_algorithm(algorithm: u16) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|bank| bank.algorithm() == algorithm)
    }

    /// How many bytes a PCR of this bank has.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Its name in files and options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such PCR bank.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no PCR bank {0:?}; write sha1, sha256, sha384 or sha512")]
pub struct UnknownBank(String);

impl FromStr for Bank {
    type Err = UnknownBank;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|bank| bank.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownBank(text.to_owned()))
    }
}
