//! What a squashfs image is written with. Pure.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;

/// How an image is written.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// How blocks are compressed.
    pub compression: Compression,
    /// Bytes of a data block.
    pub block_size: BlockSize,
    /// The image's own time, in seconds since 1970 (UTC): `SOURCE_DATE_EPOCH` or now.
    pub time: u32,
    /// Threads that compress. The bytes of the image do not depend on it.
    pub threads: NonZeroUsize,
    /// What becomes of attributes that squashfs cannot hold.
    pub foreign_xattrs: ForeignXattrs,
}

/// What to do with attributes that are not in `user.`, `trusted.` or `security.` (squashfs has no
/// others: no ACLs above all).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "complete")]
pub enum ForeignXattrs {
    /// Fail, naming file and attribute.
    #[default]
    Refuse,
    /// Leave them out, as mksquashfs does.
    LeaveOut,
}

/// Algorithm and strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    algorithm: Algorithm,
    level: Option<u32>,
}

/// The compressors that squashfs knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    clippy::exhaustive_enums,
    reason = "their names; complete"
)]
pub enum Algorithm {
    Gzip,
    Lzma,
    Lzo,
    Xz,
    Lz4,
    Zstd,
}

/// Bytes of a data block: a power of two from 4 KiB to 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockSize(u32);

/// A parameter that squashfs does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// No such compressor.
    #[error("squashfs has no compression {0:?}: use gzip, lzma, lzo, xz, lz4 or zstd")]
    Algorithm(String),
    /// The level is out of the compressor's range, or no number.
    #[error("compression level {level:?} is not one that squashfs has for {algorithm}: {allowed}")]
    Level {
        /// What was asked for.
        level: String,
        /// For which compressor.
        algorithm: &'static str,
        /// What there is.
        allowed: &'static str,
    },
    /// The block size is out of range or no power of two.
    #[error("{0} bytes are no squashfs block size: it is a power of two from 4096 to 1048576")]
    BlockSize(u32),
}

impl Default for Parameters {
    /// What mksquashfs does by itself: gzip, 128 KiB; time 0; a thread for every processor.
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            block_size: BlockSize::default(),
            time: 0,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            foreign_xattrs: ForeignXattrs::default(),
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Gzip,
            level: None,
        }
    }
}

impl Compression {
    /// Takes the values of `Compression=` and `CompressionLevel=`.
    pub fn parse(algorithm: &str, level: Option<&str>) -> Result<Self, ParameterError> {
        let algorithm = Algorithm::parse(algorithm)?;
        let level = level
            .map(|text| {
                text.parse::<u32>()
                    .ok()
                    .filter(|level| algorithm.levels().contains(level))
                    .ok_or_else(|| ParameterError::Level {
                        level: text.to_owned(),
                        algorithm: algorithm.name(),
                        allowed: algorithm.allowed(),
                    })
            })
            .transpose()?;
        Ok(Self { algorithm, level })
    }

    /// The algorithm.
    pub fn algorithm(self) -> Algorithm {
        self.algorithm
    }

    /// The level, where one was asked for.
    pub fn level(self) -> Option<u32> {
        self.level
    }
}

impl Algorithm {
    /// All there are, by their number in the superblock.
    pub(crate) const ALL: [(u16, Self); 6] = [
        (1, Self::Gzip),
        (2, Self::Lzma),
        (3, Self::Lzo),
        (4, Self::Xz),
        (5, Self::Lz4),
        (6, Self::Zstd),
    ];

    fn parse(name: &str) -> Result<Self, ParameterError> {
        Self::ALL
            .into_iter()
            .map(|(_, algorithm)| algorithm)
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| ParameterError::Algorithm(name.to_owned()))
    }

    /// As `Compression=` and `mksquashfs -comp` write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Lzma => "lzma",
            Self::Lzo => "lzo",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The number that the superblock has for it.
    pub(crate) fn id(self) -> u16 {
        match self {
            Self::Gzip => 1,
            Self::Lzma => 2,
            Self::Lzo => 3,
            Self::Xz => 4,
            Self::Lz4 => 5,
            Self::Zstd => 6,
        }
    }

    fn levels(self) -> std::ops::RangeInclusive<u32> {
        match self {
            Self::Gzip | Self::Lzo => 1..=9,
            Self::Zstd => 1..=22,
            #[expect(clippy::reversed_empty_ranges, reason = "no level is allowed")]
            Self::Lzma | Self::Xz | Self::Lz4 => 1..=0,
        }
    }

    fn allowed(self) -> &'static str {
        match self {
            Self::Gzip | Self::Lzo => "it is a number from 1 to 9",
            Self::Zstd => "it is a number from 1 to 22",
            Self::Lzma | Self::Xz | Self::Lz4 => "it takes none; leave CompressionLevel= out",
        }
    }
}

impl BlockSize {
    /// Checks a block size in bytes.
    pub fn new(bytes: u32) -> Result<Self, ParameterError> {
        if bytes.is_power_of_two() && (4096..=1 << 20).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(ParameterError::BlockSize(bytes))
        }
    }

    /// In bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl Default for BlockSize {
    fn default() -> Self {
        Self(128 << 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_are_parsed() {
        for (algorithm, level, good) in [
            ("gzip", None, true),
            ("gzip", Some("9"), true),
            ("gzip", Some("10"), false),
            ("gzip", Some("x"), false),
            ("zstd", Some("22"), true),
            ("xz", None, true),
            ("xz", Some("6"), false),
            ("lz4", Some("1"), false),
            ("GZIP", None, false),
            ("brotli", None, false),
        ] {
            let parsed = Compression::parse(algorithm, level);
            assert_eq!(parsed.is_ok(), good, "{algorithm} {level:?}");
        }
    }

    #[test]
    fn numbers_and_algorithms_agree() {
        for (id, algorithm) in Algorithm::ALL {
            assert_eq!(algorithm.id(), id);
        }
    }

    #[test]
    fn block_sizes_are_checked() {
        for (bytes, good) in [
            (4096, true),
            (131_072, true),
            (1 << 20, true),
            (2048, false),
            (5000, false),
            (1 << 21, false),
        ] {
            assert_eq!(BlockSize::new(bytes).is_ok(), good, "{bytes}");
        }
    }
}
