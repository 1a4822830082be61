//! The hot loop: digests of many blocks, each with the same salt. Pure.
//!
//! SHA-256 with the salt in front (nearly every tree) goes through a kernel that hashes several
//! blocks at once, one per SIMD lane; all else goes through OpenSSL, block by block.

use std::fmt;
use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::hash::Hasher as Context;

use crate::algorithm::HashAlgorithm;
use crate::params::{BlockSize, HashType, Params};

/// Below this many blocks, idle lanes cost more than one stream at a time.
const FEW: usize = 4;

/// OpenSSL could not hash.
#[derive(Debug, thiserror::Error)]
#[error("cannot compute {algorithm} digests")]
pub struct HashError {
    algorithm: HashAlgorithm,
    source: ErrorStack,
}

/// Hashes blocks as one tree wants it.
#[derive(Clone)]
pub(crate) struct Hasher {
    algorithm: HashAlgorithm,
    salt: Vec<u8>,
    salt_first: bool,
    /// OpenSSL's state after the salt that comes first, if one does.
    start: Context,
}

/// Hashes blocks of one size that follow each other; blocks of zeros only once.
pub(crate) struct BlockHasher {
    hasher: Hasher,
    block: usize,
    /// The digest of a block of zeros, once there was one.
    zero: OnceLock<Vec<u8>>,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm)
    }
}

impl Hasher {
    pub(crate) fn new(params: &Params) -> Result<Self, HashError> {
        let algorithm = params.algorithm;
        let salt_first = params.hash_type == HashType::Normal;
        let start = || -> Result<Context, ErrorStack> {
            let mut start = Context::new(algorithm.openssl()?)?;
            if salt_first {
                start.update(params.salt.as_bytes())?;
            }
            Ok(start)
        };
        Ok(Self {
            algorithm,
            salt: params.salt.as_bytes().to_vec(),
            salt_first,
            start: start().map_err(|source| HashError { algorithm, source })?,
        })
    }

    /// Appends the digest of each of `blocks` to `digests`.
    pub(crate) fn digests(&self, blocks: &[&[u8]], digests: &mut Vec<u8>) -> Result<(), HashError> {
        if self.algorithm == HashAlgorithm::Sha256 && self.salt_first && blocks.len() >= FEW {
            let mut lanes = vec![[0; 32]; blocks.len()];
            tape_sha256::hash_many_prefixed(&self.salt, blocks, &mut lanes);
            digests.extend_from_slice(lanes.as_flattened());
            return Ok(());
        }
        for block in blocks {
            let digest = self.one(block).map_err(|source| HashError {
                algorithm: self.algorithm,
                source,
            })?;
            digests.extend_from_slice(&digest);
        }
        Ok(())
    }

    /// The digest of one block.
    pub(crate) fn digest(&self, block: &[u8]) -> Result<Vec<u8>, HashError> {
        let mut digest = Vec::with_capacity(self.algorithm.digest_size());
        self.digests(&[block], &mut digest)?;
        Ok(digest)
    }

    fn one(&self, block: &[u8]) -> Result<openssl::hash::DigestBytes, ErrorStack> {
        let mut context = self.start.clone();
        context.update(block)?;
        if !self.salt_first {
            context.update(&self.salt)?;
        }
        context.finish()
    }
}

impl BlockHasher {
    pub(crate) fn new(params: &Params, block: BlockSize) -> Result<Self, HashError> {
        Ok(Self {
            hasher: Hasher::new(params)?,
            block: block.in_memory(),
            zero: OnceLock::new(),
        })
    }

    /// The digests of the buffer's blocks, back to back.
    pub(crate) fn digests(&self, buffer: &[u8]) -> Result<Vec<u8>, HashError> {
        let (empty, full): (Vec<_>, Vec<_>) = buffer
            .chunks_exact(self.block)
            .enumerate()
            .partition(|(_, block)| is_zero(block));
        let blocks: Vec<&[u8]> = full.iter().map(|(_, block)| *block).collect();
        let mut found = Vec::new();
        self.hasher.digests(&blocks, &mut found)?;
        if empty.is_empty() {
            return Ok(found);
        }
        let zero = self.zero()?;
        let mut all = zero.repeat(buffer.len() / self.block);
        for ((index, _), digest) in full.iter().zip(found.chunks_exact(zero.len())) {
            all[index * zero.len()..][..zero.len()].copy_from_slice(digest);
        }
        Ok(all)
    }

    fn zero(&self) -> Result<&[u8], HashError> {
        if let Some(digest) = self.zero.get() {
            return Ok(digest);
        }
        let digest = self.hasher.digest(&vec![0; self.block])?;
        Ok(self.zero.get_or_init(|| digest))
    }
}

fn is_zero(block: &[u8]) -> bool {
    // Nearly all blocks show in their first bytes that they are not.
    let (head, rest) = block.split_at(block.len().min(64));
    let zero = |part: &[u8]| part.iter().fold(0, |all, byte| all | byte) == 0;
    zero(head) && zero(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Salt;
    use image_specs::units::Bytes;
    use proptest::prelude::*;
    use sha2::Digest;

    fn hasher(hash_type: HashType, algorithm: HashAlgorithm, salt: &[u8]) -> Hasher {
        Hasher::new(&Params {
            hash_type,
            algorithm,
            data_block: BlockSize::DEFAULT,
            hash_block: BlockSize::DEFAULT,
            data_blocks: 1,
            salt: Salt::new(salt).unwrap(),
            superblock: None,
            hash_offset: Bytes::ZERO,
        })
        .unwrap()
    }

    #[test]
    fn every_function_can_be_computed() {
        for algorithm in HashAlgorithm::ALL {
            let hasher = hasher(HashType::Normal, algorithm, b"");
            let digest = hasher.digest(b"x").unwrap();
            assert_eq!(digest.len(), algorithm.digest_size(), "{algorithm}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn many_at_once_are_what_one_by_one_are(
            salt in proptest::collection::vec(any::<u8>(), 0..=256),
            seed in any::<u64>(),
            shift in 0_u32..6,
            count in 1_usize..40,
            first in any::<bool>(),
        ) {
            let size = 512_usize << shift;
            let mut state = seed | 1;
            let data: Vec<u8> = (0..size * count).map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            }).collect();
            let blocks: Vec<&[u8]> = data.chunks(size).collect();
            let hash_type = if first { HashType::Normal } else { HashType::ChromeOs };
            let mut found = Vec::new();
            hasher(hash_type, HashAlgorithm::Sha256, &salt).digests(&blocks, &mut found).unwrap();
            let expected: Vec<u8> = blocks.iter().flat_map(|block| {
                let parts = if first { [&salt[..], block] } else { [block, &salt[..]] };
                sha2::Sha256::digest(parts.concat())
            }).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
