//! The hash functions that trees can have.
//!
//! Known are those that cryptsetup and OpenSSL both know and that are not broken as weakly as MD5.
//! Only some are in every kernel; whirlpool is in none that calls it so.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::provider::Provider;

/// A hash function, by the kernel's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum HashAlgorithm {
    Sha1,
    Sha224,
    #[default]
    Sha256,
    Sha384,
    Sha512,
    Sha512Cut224,
    Sha512Cut256,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
    Blake2b512,
    Blake2s256,
    Sm3,
    Ripemd160,
    Whirlpool,
}

/// The name is no hash that is known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a known hash; use sha256 (the default), sha512, sha384, sha224, sha1, sha512-256, \
     sha512-224, sha3-512, sha3-384, sha3-256, sha3-224, blake2b-512, blake2s-256, sm3, rmd160 or \
     whirlpool"
)]
pub struct UnknownHash(pub String);

/// Other names that OpenSSL, and so cryptsetup, takes for the same.
const ALIASES: &[(&str, HashAlgorithm)] = &[
    ("sha-1", HashAlgorithm::Sha1),
    ("sha-224", HashAlgorithm::Sha224),
    ("sha-256", HashAlgorithm::Sha256),
    ("sha-384", HashAlgorithm::Sha384),
    ("sha-512", HashAlgorithm::Sha512),
    ("sha2-224", HashAlgorithm::Sha224),
    ("sha2-256", HashAlgorithm::Sha256),
    ("sha2-384", HashAlgorithm::Sha384),
    ("sha2-512", HashAlgorithm::Sha512),
    ("blake2b512", HashAlgorithm::Blake2b512),
    ("blake2s256", HashAlgorithm::Blake2s256),
    ("ripemd160", HashAlgorithm::Ripemd160),
    ("ripemd", HashAlgorithm::Ripemd160),
];

impl HashAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 16] = [
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Sha512Cut224,
        Self::Sha512Cut256,
        Self::Sha3_224,
        Self::Sha3_256,
        Self::Sha3_384,
        Self::Sha3_512,
        Self::Blake2b512,
        Self::Blake2s256,
        Self::Sm3,
        Self::Ripemd160,
        Self::Whirlpool,
    ];

    /// The name in superblocks and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Sha512Cut224 => "sha512-224",
            Self::Sha512Cut256 => "sha512-256",
            Self::Sha3_224 => "sha3-224",
            Self::Sha3_256 => "sha3-256",
            Self::Sha3_384 => "sha3-384",
            Self::Sha3_512 => "sha3-512",
            Self::Blake2b512 => "blake2b-512",
            Self::Blake2s256 => "blake2s-256",
            Self::Sm3 => "sm3",
            Self::Ripemd160 => "rmd160",
            Self::Whirlpool => "whirlpool",
        }
    }

    /// Bytes in a digest.
    pub const fn digest_size(self) -> usize {
        match self {
            Self::Sha1 | Self::Ripemd160 => 20,
            Self::Sha224 | Self::Sha512Cut224 | Self::Sha3_224 => 28,
            Self::Sha256 | Self::Sha512Cut256 | Self::Sha3_256 | Self::Blake2s256 | Self::Sm3 => 32,
            Self::Sha384 | Self::Sha3_384 => 48,
            Self::Sha512 | Self::Sha3_512 | Self::Blake2b512 | Self::Whirlpool => 64,
        }
    }

    /// OpenSSL's function; it may lack those that it counts as old.
    pub(crate) fn openssl(self) -> Result<MessageDigest, ErrorStack> {
        let name = match self {
            Self::Sha512Cut224 => "sha512-224",
            Self::Blake2b512 => "blake2b512",
            Self::Blake2s256 => "blake2s256",
            Self::Ripemd160 => "ripemd160",
            Self::Whirlpool => {
                old_functions();
                "whirlpool"
            }
            other => other.name(),
        };
        // Where there is none, hashing says so.
        MessageDigest::from_name(name).ok_or_else(ErrorStack::get)
    }
}

/// Makes OpenSSL know the functions that it keeps apart as old.
fn old_functions() {
    static LOADED: OnceLock<Result<Provider, ErrorStack>> = OnceLock::new();
    LOADED.get_or_init(|| Provider::try_load(None, "legacy", true));
}

impl FromStr for HashAlgorithm {
    type Err = UnknownHash;

    /// Parses a name in any case, as the tools do.
    fn from_str(text: &str) -> Result<Self, UnknownHash> {
        let own = Self::ALL.iter().map(|known| (known.name(), *known));
        let names = own.chain(ALIASES.iter().copied());
        let known = |(name, _): &(&str, Self)| name.eq_ignore_ascii_case(text);
        names
            .into_iter()
            .find(known)
            .map(|(_, known)| known)
            .ok_or_else(|| UnknownHash(text.to_owned()))
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_in_any_case() {
        for algorithm in HashAlgorithm::ALL {
            assert_eq!(algorithm.name().to_uppercase().parse(), Ok(algorithm));
            let function = algorithm.openssl().unwrap();
            assert_eq!(function.size(), algorithm.digest_size(), "{algorithm}");
        }
        for (name, algorithm) in ALIASES {
            assert_eq!(name.parse(), Ok(*algorithm));
        }
        for other in ["md5", "md4", "crc32", "", "sha"] {
            assert!(other.parse::<HashAlgorithm>().is_err(), "{other}");
        }
    }
}
