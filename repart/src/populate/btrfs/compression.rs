//! Compression of files' data in pieces of 128 KiB, each of which stands for itself. Pure: the
//! outcome depends on neither threads nor order.

use libdeflater::{CompressionLvl, Compressor as Zlib};

/// Bytes of the largest piece that is compressed.
pub(super) const PIECE: u64 = 128 << 10;

/// Algorithm and strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    algorithm: Algorithm,
    level: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Zlib,
    Zstd,
}

/// A compression that btrfs does not have here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// What can only be read.
    #[error("Compression=lzo is not supported for btrfs; use zstd or zlib")]
    Lzo,
    /// No such compressor.
    #[error("btrfs has no compression {0:?} (Compression=): use zstd or zlib")]
    Algorithm(String),
    /// The level is out of range, or no number.
    #[error("CompressionLevel={level} is none that btrfs has for {algorithm}: use 1 to {most}")]
    Level {
        /// What was asked for.
        level: String,
        /// For which compressor.
        algorithm: &'static str,
        /// The highest there is.
        most: i32,
    },
}

impl Compression {
    /// Takes the values of `Compression=` and `CompressionLevel=`; the level is 3 where none is given.
    pub fn parse(algorithm: &str, level: Option<&str>) -> Result<Self, CompressionError> {
        let (name, algorithm, most) = match algorithm {
            "zlib" => ("zlib", Algorithm::Zlib, 9),
            "zstd" => ("zstd", Algorithm::Zstd, 15),
            "lzo" => return Err(CompressionError::Lzo),
            other => return Err(CompressionError::Algorithm(other.to_owned())),
        };
        let Some(text) = level else {
            return Ok(Self {
                algorithm,
                level: 3,
            });
        };
        let level = text.parse().ok().filter(|level| (1..=most).contains(level));
        let level = level.ok_or_else(|| CompressionError::Level {
            level: text.to_owned(),
            algorithm: name,
            most,
        })?;
        Ok(Self { algorithm, level })
    }

    /// What extents say that they are compressed with.
    pub(super) fn number(self) -> u8 {
        match self.algorithm {
            Algorithm::Zlib => 1,
            Algorithm::Zstd => 3,
        }
    }

    /// The bit of the superblock that keeps kernels away that do not know the algorithm.
    pub(super) fn incompatible(self) -> u64 {
        match self.algorithm {
            Algorithm::Zlib => 0,
            Algorithm::Zstd => 0x10,
        }
    }

    /// A compressor; each thread has its own. `None` where there is no memory for one.
    pub(super) fn compressor(self) -> Option<Compressor> {
        Some(match self.algorithm {
            Algorithm::Zlib => Compressor::Zlib(Zlib::new(CompressionLvl::new(self.level).ok()?)),
            Algorithm::Zstd => Compressor::Zstd(zstd::bulk::Compressor::new(self.level).ok()?),
        })
    }
}

/// A compressor that may be used again and again.
pub(super) enum Compressor {
    Zlib(Zlib),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    /// `plain`, whole sectors, in whole sectors; `None` where that saves no sector.
    pub(super) fn pack(&mut self, plain: &[u8], sector: usize) -> Option<Vec<u8>> {
        let most = plain.len().checked_sub(sector).filter(|most| *most > 0)?;
        let mut packed = vec![0; most];
        // What does not fit is the one thing that fails.
        let length = match self {
            Self::Zlib(zlib) => zlib.zlib_compress(plain, &mut packed).ok()?,
            Self::Zstd(zstd) => zstd.compress_to_buffer(plain, &mut packed[..]).ok()?,
        };
        packed.truncate(length);
        packed.resize(length.next_multiple_of(sector), 0);
        Some(packed)
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn values_are_those_of_btrfs() {
        for (algorithm, level, outcome) in [
            ("zlib", None, Ok(3)),
            ("zlib", Some("9"), Ok(9)),
            ("zstd", Some("15"), Ok(15)),
            ("zlib", Some("10"), Err("use 1 to 9")),
            ("zstd", Some("0"), Err("CompressionLevel=0")),
            ("zstd", Some("x"), Err("CompressionLevel=x")),
            ("lzo", None, Err("Compression=lzo is not supported")),
            ("xz", None, Err("no compression \"xz\"")),
        ] {
            match (Compression::parse(algorithm, level), outcome) {
                (Ok(parsed), Ok(expected)) => assert_eq!(parsed.level, expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (parsed, _) => panic!("{algorithm} {level:?}: {parsed:?}"),
            }
        }
    }

    #[test]
    fn packs_only_what_saves_a_sector() {
        let hash = |at: u32| Sha256::digest(at.to_le_bytes());
        let noise: Vec<u8> = (0..256).flat_map(hash).collect();
        for name in ["zlib", "zstd"] {
            let compression = Compression::parse(name, None).unwrap();
            let mut compressor = compression.compressor().unwrap();
            let packed = compressor.pack(&[7; 8192], 4096).unwrap();
            assert_eq!(packed.len(), 4096, "{name}");
            assert_eq!(compressor.pack(&[7; 4096], 4096), None, "{name}");
            assert_eq!(compressor.pack(&noise, 4096), None, "{name}");
        }
    }
}
