//! The hash tree of a partition that lies on the target already.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;

use blockdev::{BlockDevice, DeviceError};
use image_specs::identity::Seed;
use image_specs::units::{Bytes, Extent};
use veritysetup::io::{ReadAt, WriteAt};
use veritysetup::params::ParamsError;
use veritysetup::tree::BuildError;
use veritysetup::{BlockSize, HashType, Levels, Params, RootHash, Salt};

use crate::definition::Verity;

/// Why a hash partition could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashTreeError {
    /// There is no such tree.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The tree could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The partition is too small for the tree.
    #[error(
        "the hash tree of {data} bytes of data needs {needed} bytes, but its partition has {available}; enlarge SizeMinBytes= of the hash partition or use Minimize=best on it"
    )]
    TooSmall {
        /// Bytes that are hashed.
        data: u64,
        /// Bytes of superblock and tree.
        needed: u64,
        /// Bytes of the hash partition.
        available: u64,
    },
    /// The tree could not be kept while it was built.
    #[error("cannot write a scratch file for the hash tree")]
    Scratch(#[source] io::Error),
    /// The tree could not be written to the target.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// The parameters of the tree over `data` bytes, by the keys of the hash partition.
pub fn params(
    data: Bytes,
    keys: &Verity,
    fs_sector: u64,
    seed: Seed,
) -> Result<Params, ParamsError> {
    let block = |size: Option<u32>| BlockSize::new(size.map_or(fs_sector.min(4096), u64::from));
    let blocks = (block(keys.data_block_size)?, block(keys.hash_block_size)?);
    let salt = match &keys.salt {
        Some(salt) => salt.clone(),
        None => Salt::new(seed.verity_salt())?,
    };
    Ok(Params {
        algorithm: keys.algorithm.unwrap_or_default(),
        hash_type: keys.hash_type.unwrap_or(HashType::Normal),
        ..Params::for_data(data, blocks, salt, seed.verity_superblock())?
    })
}

/// How much of a partition a tree over `data` bytes of content covers: whole blocks.
pub fn covered(data: Bytes, keys: &Verity, fs_sector: u64) -> Bytes {
    let block = keys.data_block_size.map_or(fs_sector.min(4096), u64::from);
    Bytes::new(data.get().next_multiple_of(block.max(1)))
}

/// Bytes that superblock and tree take.
pub fn size(params: &Params) -> Result<Bytes, ParamsError> {
    Ok(Levels::new(params)?.hash_size())
}

/// Hashes the partition at `data` and writes superblock and tree to the partition at `hash`.
pub fn write(
    params: &Params,
    device: &mut dyn BlockDevice,
    data: Extent,
    hash: Extent,
    scratch: &Path,
) -> Result<RootHash, HashTreeError> {
    let needed = size(params)?;
    if needed > hash.size {
        return Err(HashTreeError::TooSmall {
            data: data.size.get(),
            needed: needed.get(),
            available: hash.size.get(),
        });
    }
    // The tree is under a hundredth of the data: it goes through a scratch file, so that the data can
    // be read by several threads while the target is not written to.
    let mut tree = Scratch(tempfile::tempfile_in(scratch).map_err(HashTreeError::Scratch)?);
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let root = veritysetup::tree::build(
        params,
        &Reader {
            device,
            start: data.start,
        },
        &mut tree,
        threads,
    )?;
    device.copy_from(&tree.0, 0, hash.start, needed)?;
    Ok(root)
}

/// A partition's bytes, for several threads to read.
struct Reader<'a> {
    device: &'a dyn BlockDevice,
    start: Bytes,
}

impl ReadAt for Reader<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let at = self.start.saturating_add(Bytes::new(offset));
        self.device
            .read_exact_at(buffer, at)
            .map_err(io::Error::other)
    }
}

struct Scratch(File);

impl WriteAt for Scratch {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}
