//! Algorithms for tags and journals, as cryptsetup and the kernel name them. Pure.

use std::fmt;
use std::str::FromStr;

use image_specs::tab;

/// An algorithm of the kernel's, such as `crc32c` or `hmac(sha256)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Algorithm(String);

/// A word that names no algorithm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no algorithm; write it like crc32c, sha256 or hmac-sha256")]
pub struct AlgorithmError(pub String);

/// Bytes of what plain algorithms give.
const SIZES: [(&str, u16); 22] = [
    ("crc32", 4),
    ("crc32c", 4),
    ("xxhash64", 8),
    ("sha1", 20),
    ("sha224", 28),
    ("sha256", 32),
    ("sha384", 48),
    ("sha512", 64),
    ("sha3-224", 28),
    ("sha3-256", 32),
    ("sha3-384", 48),
    ("sha3-512", 64),
    ("rmd160", 20),
    ("ripemd160", 20),
    ("wp512", 64),
    ("whirlpool", 64),
    ("sm3", 32),
    ("streebog256", 32),
    ("streebog512", 64),
    ("blake2b-256", 32),
    ("blake2b-512", 64),
    ("blake2s-256", 32),
];

impl Algorithm {
    /// What cryptsetup and systemd take where nothing is said.
    pub fn crc32c() -> Self {
        Self("crc32c".to_owned())
    }

    /// What is taken where there is a key and nothing is said.
    pub fn hmac_sha256() -> Self {
        Self("hmac(sha256)".to_owned())
    }

    /// Takes the kernel's name.
    pub fn of_kernel(name: &str) -> Result<Self, AlgorithmError> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_()".contains(&byte);
        let good = !name.is_empty() && name.len() < 64 && name.bytes().all(fine);
        good.then(|| Self(name.to_owned()))
            .ok_or_else(|| AlgorithmError(name.to_owned()))
    }

    /// The kernel's name.
    pub fn kernel_name(&self) -> &str {
        &self.0
    }

    /// Bytes of its result; `None` where that is not known here.
    pub fn tag_size(&self) -> Option<u16> {
        let plain = self.keyed_hash().unwrap_or(&self.0);
        let found = SIZES.iter().find(|(name, _)| *name == plain);
        found.map(|(_, size)| *size)
    }

    /// Whether it takes a key.
    pub fn is_keyed(&self) -> bool {
        self.keyed_hash().is_some()
    }

    /// The hash within `hmac()` or `phmac()`.
    fn keyed_hash(&self) -> Option<&str> {
        let inner = self.0.strip_prefix("hmac(");
        inner
            .or_else(|| self.0.strip_prefix("phmac("))?
            .strip_suffix(')')
    }
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    /// Reads a word as cryptsetup has them: `hmac-sha256` for the kernel's `hmac(sha256)`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || AlgorithmError(text.to_owned());
        if text.contains(['(', ')']) {
            return Err(error());
        }
        let split = text.split_once('-');
        let name = match split {
            Some((mode, hash)) if !hash.starts_with(|first: char| first.is_ascii_digit()) => {
                if mode.is_empty() || hash.is_empty() {
                    return Err(error());
                }
                format!("{mode}({hash})")
            }
            _ => text.to_owned(),
        };
        Self::of_kernel(&name).map_err(|_| error())
    }
}

impl From<tab::Algorithm> for Algorithm {
    fn from(algorithm: tab::Algorithm) -> Self {
        Self(algorithm.kernel_name().to_owned())
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_the_kernels_names() {
        for (text, name, size, keyed) in [
            ("crc32c", "crc32c", Some(4), false),
            ("hmac-sha256", "hmac(sha256)", Some(32), true),
            ("phmac-sha512", "phmac(sha512)", Some(64), true),
            ("sha3-256", "sha3-256", Some(32), false),
            ("hmac-sha3-384", "hmac(sha3-384)", Some(48), true),
            ("cbc-aes", "cbc(aes)", None, false),
            ("nonsense", "nonsense", None, false),
        ] {
            let algorithm: Algorithm = text.parse().unwrap();
            assert_eq!(algorithm.kernel_name(), name);
            assert_eq!(
                (algorithm.tag_size(), algorithm.is_keyed()),
                (size, keyed),
                "{text}"
            );
        }
        for bad in ["", "hmac(sha256)", "-sha256", "hmac-", "a b", "a:b"] {
            assert_eq!(
                bad.parse::<Algorithm>(),
                Err(AlgorithmError(bad.to_owned()))
            );
        }
    }

    #[test]
    fn those_of_tables_are_known() {
        for name in [
            "crc32",
            "crc32c",
            "xxhash64",
            "sha1",
            "hmac-sha256",
            "phmac-sha512",
        ] {
            let known = tab::Algorithm::new(name).unwrap();
            let algorithm = Algorithm::from(known);
            assert_eq!(Ok(&algorithm), name.parse().as_ref());
            assert_eq!(algorithm.tag_size(), Some(known.tag_size()));
            assert_eq!(algorithm.is_keyed(), known.is_keyed());
        }
    }
}
