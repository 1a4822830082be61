//! Whether verity data, hash tree, root hash and signature belong together.
//!
//! Opening an image does not ask this: systemd, too, finds out when the device is activated.

use std::num::NonZeroUsize;

use image_specs::identity;
use image_specs::partition::{Designator, VerityRole};
use image_specs::units::{Bytes, Extent, SectorSize};
use image_specs::verity::{SUPERBLOCK_SIZE, Superblock, SuperblockError};
use uuid::Uuid;
use veritysetup::signature::{Certificate, SignatureError};
use veritysetup::verify::VerifyError;
use veritysetup::{Levels, Params, RootHash, verify};

use crate::assign::{Dissected, Partition};
use crate::open::{Image, OpenError};
use crate::verity::{self, Verity};

/// Something does not belong to the rest of its verity set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// No partition is of any use here.
    #[error("no partition is one of an image's")]
    NoPartitions,
    /// A partition's UUID is not the half of the root hash that it must be.
    #[error(
        "partition {partition} has UUID {found}, but root hash {root_hash} asks for {expected}"
    )]
    Uuid {
        /// The partition.
        partition: Designator,
        /// Its UUID.
        found: Uuid,
        /// What it must be.
        expected: Uuid,
        /// The hash.
        root_hash: RootHash,
    },
    /// The root hash has fewer than 16 bytes.
    #[error("root hash {0} is too short to name partitions")]
    ShortHash(RootHash),
    /// Labels of data, hash tree and signature differ in version: it is a mixed A/B set.
    #[error("partition {partition} is labelled {found:?}, but its data partition {data:?}")]
    Label {
        /// The partition.
        partition: Designator,
        /// Its version, from its label.
        found: String,
        /// That of the data partition.
        data: String,
    },
}

/// A signature or hash tree is not what it must be, or cannot be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// There is no verity set.
    #[error("the image has no verity partitions")]
    NoVerity,
    /// There is no signature.
    #[error("root hash {0} is not signed")]
    NoSignature(RootHash),
    /// The signature is wrong.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The file with the hash tree cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The hash partition cannot be read.
    #[error(transparent)]
    Read(#[from] blockdev::DeviceError),
    /// It has no superblock.
    #[error("the {0} partition has no verity superblock")]
    NoSuperblock(Designator),
    /// Its superblock is damaged.
    #[error("the {partition} partition is damaged")]
    Superblock {
        /// The partition.
        partition: Designator,
        /// Why.
        source: SuperblockError,
    },
    /// There is no such hash tree.
    #[error("the {partition} partition has a hash tree that cannot be used")]
    Params {
        /// The partition.
        partition: Designator,
        /// Why.
        source: veritysetup::params::ParamsError,
    },
    /// The tree does not fit the partitions.
    #[error(
        "the {partition} partition has {available} bytes, but its verity superblock asks for {needed}"
    )]
    Size {
        /// The partition.
        partition: Designator,
        /// Bytes that there are.
        available: u64,
        /// Bytes that there must be.
        needed: u64,
    },
    /// Data or tree are not what the root hash stands for.
    #[error("verity of the {partition} partition fails")]
    Verify {
        /// The data partition.
        partition: Designator,
        /// Why.
        source: VerifyError,
    },
}

/// What does not belong together, as far as the table and the signature's text tell.
pub fn findings(dissected: &Dissected) -> Vec<Finding> {
    if dissected.partitions.is_empty() {
        return vec![Finding::NoPartitions];
    }
    let (Some(verity), Some((data, hash))) = (&dissected.verity, verity::pair(dissected)) else {
        return Vec::new();
    };
    let root_hash = &verity.root_hash;
    let Some((data_uuid, hash_uuid)) = identity::verity_pair(root_hash.as_bytes()) else {
        return vec![Finding::ShortHash(root_hash.clone())];
    };
    let wrong = |partition: &Partition, expected: Uuid| {
        let found = partition.uuid.filter(|found| *found != expected)?;
        Some(Finding::Uuid {
            partition: partition.designator,
            found,
            expected,
            root_hash: root_hash.clone(),
        })
    };
    let uuids = [wrong(data, data_uuid), wrong(hash, hash_uuid)];
    let siblings = [VerityRole::Hash, VerityRole::Signature];
    let labels = siblings.into_iter().filter_map(|role| {
        let other = dissected.verity_member(data.designator, role)?;
        let (found, data) = (version(other)?, version(data)?);
        (found != data).then(|| Finding::Label {
            partition: other.designator,
            found: found.to_owned(),
            data: data.to_owned(),
        })
    });
    uuids.into_iter().flatten().chain(labels).collect()
}

/// Finds the one of `certificates` whose owner has signed the root hash.
pub fn signature<'a>(
    dissected: &Dissected,
    certificates: &'a [Certificate],
) -> Result<&'a Certificate, CheckError> {
    let verity = dissected.verity.as_ref().ok_or(CheckError::NoVerity)?;
    let first = verity.signatures().next();
    let first = first.ok_or_else(|| CheckError::NoSignature(verity.root_hash.clone()))?;
    match verity.signer(certificates) {
        Some(signer) => Ok(signer),
        // The reason that the first signature is refused for stands for all of them.
        None => match first.verify(&verity.root_hash, certificates) {
            Err(error) => Err(error.into()),
            Ok(()) => Err(CheckError::NoSignature(verity.root_hash.clone())),
        },
    }
}

/// Reads all data and the whole tree, and checks them against the root hash.
pub fn data(image: &Image, dissected: &Dissected, threads: NonZeroUsize) -> Result<(), CheckError> {
    let verity = dissected.verity.as_ref().ok_or(CheckError::NoVerity)?;
    if let Some(path) = &verity.tree {
        let tree = Image::open(path, Some(SectorSize::S512))?;
        let whole = Extent::new(Bytes::ZERO, tree.device().size());
        let root = dissected.partitions.get(&Designator::Root);
        let root = root.ok_or(CheckError::NoVerity)?;
        let tree = Tree {
            image: &tree,
            partition: Designator::RootVerity,
            extent: whole,
        };
        return tree.check(image, root, verity, threads);
    }
    let (data, hash) = verity::pair(dissected).ok_or(CheckError::NoVerity)?;
    let tree = Tree {
        image,
        partition: hash.designator,
        extent: hash.extent,
    };
    tree.check(image, data, verity, threads)
}

/// Where a hash tree lies, superblock first.
struct Tree<'a> {
    image: &'a Image,
    partition: Designator,
    extent: Extent,
}

impl Tree<'_> {
    fn check(
        &self,
        image: &Image,
        data: &Partition,
        verity: &Verity,
        threads: NonZeroUsize,
    ) -> Result<(), CheckError> {
        let params = self.params()?;
        let levels = Levels::new(&params).map_err(|source| CheckError::Params {
            partition: self.partition,
            source,
        })?;
        // Both sizes were found to be below 2⁶³ when the levels were laid out.
        let needed = params.data_blocks * params.data_block.get();
        fits(data.designator, data.extent, needed)?;
        fits(self.partition, self.extent, levels.hash_size().get())?;
        let (bytes, tree) = (image.window(data.extent), self.image.window(self.extent));
        verify::verify(&params, &bytes, &tree, &verity.root_hash, threads).map_err(|source| {
            CheckError::Verify {
                partition: data.designator,
                source,
            }
        })
    }

    fn params(&self) -> Result<Params, CheckError> {
        let partition = self.partition;
        if self.extent.size < Bytes::new(512) {
            return Err(CheckError::NoSuperblock(partition));
        }
        let mut start = [0; SUPERBLOCK_SIZE];
        let device = self.image.device();
        device.read_exact_at(&mut start, self.extent.start)?;
        let superblock = Superblock::parse(&start)
            .map_err(|source| CheckError::Superblock { partition, source })?
            .ok_or(CheckError::NoSuperblock(partition))?;
        let params = Params::from_superblock(&superblock)
            .and_then(|params| Levels::new(&params).map(|_| params));
        params.map_err(|source| CheckError::Params { partition, source })
    }
}

fn fits(partition: Designator, extent: Extent, needed: u64) -> Result<(), CheckError> {
    let available = extent.size.get();
    if needed <= available {
        return Ok(());
    }
    Err(CheckError::Size {
        partition,
        available,
        needed,
    })
}

/// The version that a label ends in: what follows its first `_`.
fn version(partition: &Partition) -> Option<&str> {
    let (_, version) = partition.label.as_deref()?.split_once('_')?;
    Some(version)
}
