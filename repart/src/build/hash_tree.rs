//! The hash tree of a partition that lies on the target already, and parity of both.

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;

use blockdev::{BlockDevice, DeviceError};
use image_specs::fec_footer::FooterError;
use image_specs::identity::Seed;
use image_specs::units::{Bytes, Extent};
use veritysetup::fec::{self, Area, EncodeError, LayoutError, Roots};
use veritysetup::io::{ReadAt, Window};
use veritysetup::params::ParamsError;
use veritysetup::tree::BuildError;
use veritysetup::{BlockSize, HashType, Levels, Params, RootHash, Salt};

use crate::definition::{Definition, Verity};

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
    /// There is no such parity.
    #[error("cannot place the parity of VerityFEC=")]
    Layout(#[from] LayoutError),
    /// The parity could not be calculated.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The parity cannot be told of.
    #[error(transparent)]
    Footer(#[from] FooterError),
    /// The partition is too small for the tree.
    #[error(
        "the hash tree of {data} bytes of data, with its parity, needs {needed} bytes, but its partition has {available}; enlarge SizeMinBytes= of the hash partition or use Minimize=best on it"
    )]
    TooSmall {
        /// Bytes that are hashed.
        data: u64,
        /// Bytes of superblock and tree, parity and footer.
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

/// Bytes that superblock and tree take, and parity with its footer.
pub fn size(params: &Params, parity: Option<Roots>) -> Result<Bytes, HashTreeError> {
    Ok(match parity {
        None => Levels::new(params)?.hash_size(),
        Some(roots) => Area::behind_tree(params, roots)?.device_size(),
    })
}

/// Refuses parity over blocks of several sizes, which the default sizes may lead to.
pub fn check(definition: &Definition, fs_sector: u64) -> Result<(), LayoutError> {
    let keys = &definition.verity;
    let block = |size: Option<u32>| size.map_or(fs_sector.min(4096), u64::from);
    let (data, hash) = (block(keys.data_block_size), block(keys.hash_block_size));
    match keys.fec {
        Some(_) if data != hash => Err(LayoutError::BlockSizes { data, hash }),
        _ => Ok(()),
    }
}

/// What a hash partition gets.
#[derive(Clone, Copy, Debug)]
pub struct HashTree<'a> {
    /// The tree.
    pub params: &'a Params,
    /// Parity behind it.
    pub parity: Option<Roots>,
    /// Where scratch files are made.
    pub scratch: &'a Path,
}

impl HashTree<'_> {
    /// Hashes the partition at `data` and writes superblock, tree and parity to the partition at `hash`.
    pub fn write(
        &self,
        device: &mut dyn BlockDevice,
        data: Extent,
        hash: Extent,
    ) -> Result<RootHash, HashTreeError> {
        let needed = size(self.params, self.parity)?;
        if needed > hash.size {
            return Err(HashTreeError::TooSmall {
                data: data.size.get(),
                needed: needed.get(),
                available: hash.size.get(),
            });
        }
        // Tree and parity are few beside the data: they go through a scratch file, so that the data can
        // be read by several threads while the target is not written to.
        let scratch = tempfile::tempfile_in(self.scratch).map_err(HashTreeError::Scratch)?;
        let reader = Reader {
            device,
            start: data.start,
        };
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let mut tree = scratch.try_clone().map_err(HashTreeError::Scratch)?;
        let root = veritysetup::tree::build(self.params, &reader, &mut tree, threads)?;
        let area = self
            .parity
            .map(|roots| Area::behind_tree(self.params, roots));
        let Some(area) = area.transpose()? else {
            device.copy_from(&scratch, 0, hash.start, needed)?;
            return Ok(root);
        };
        let behind = Extent::new(area.offset(), area.layout().size());
        let mut parity = Window::new(&mut tree, behind);
        fec::encode(area.layout(), (&reader, &scratch), &mut parity, threads)?;
        device.copy_from(&scratch, 0, hash.start, area.end())?;
        let footer = area.footer().encode()?;
        device.write_all_at(&footer, footer_place(hash))?;
        Ok(root)
    }
}

/// The last bytes of a partition.
fn footer_place(hash: Extent) -> Bytes {
    let end = hash.start.saturating_add(hash.size);
    end.saturating_sub(Bytes::new(4096))
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
