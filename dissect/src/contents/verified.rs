//! Data with a hash tree, each block checked against it as it is read, as far as the policy asks for
//! it: as when a verity device is activated, but without the kernel.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use filetree::ReadAt;
use image_specs::partition::VerityRole;
use image_specs::policy::{Flags, ImagePolicy};
use image_specs::units::{Bytes, Extent};
use image_specs::verity::{SUPERBLOCK_SIZE, Superblock, SuperblockError};
use veritysetup::params::ParamsError;
use veritysetup::signature::{Certificate, SignatureError};
use veritysetup::verified::Verified;
use veritysetup::verify::VerifyError;
use veritysetup::{Params, RootHash};

use super::part::{Part, Volume};
use crate::assign::{Dissected, Partition};
use crate::open::Image;
use crate::verity::Verity;

/// What data with a hash tree are held against.
#[derive(Clone, Copy, Debug)]
pub struct Verification<'a> {
    /// Which protections are asked for.
    pub policy: &'a ImagePolicy,
    /// Who may sign root hashes; the kernel's keyring is not asked.
    pub certificates: &'a [Certificate],
}

/// Data cannot be checked, or are not what they must be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnverifiedError {
    /// The policy wants a signature, and there is none.
    #[error("the policy wants root hash {0} to be signed, and it is not")]
    Unsigned(RootHash),
    /// The policy wants a signature, and nobody whom we trust has made the one that is there.
    #[error(
        "the policy wants root hash {root_hash} to be signed, and no signature is accepted; put the signer's certificate into /etc/verity.d as NAME.crt"
    )]
    Refused {
        /// The hash.
        root_hash: RootHash,
        /// Why the last one is not.
        source: SignatureError,
    },
    /// The hash partition is not there.
    #[error("there is a root hash, but no hash tree")]
    NoTree,
    /// The file with the hash tree cannot be opened.
    #[error("cannot open the hash tree {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The hash tree cannot be read.
    #[error("cannot read the hash tree")]
    Read(#[source] io::Error),
    /// It has no superblock.
    #[error("the hash tree has no verity superblock")]
    NoSuperblock,
    /// Its superblock is damaged.
    #[error("the verity superblock is damaged")]
    Superblock(#[from] SuperblockError),
    /// There is no such hash tree.
    #[error("the hash tree cannot be used")]
    Params(#[from] ParamsError),
    /// The tree is for more data than there are.
    #[error("the hash tree is for {needed} bytes of data, and there are {available}")]
    Size {
        /// Bytes that there are.
        available: u64,
        /// Bytes that there must be.
        needed: u64,
    },
    /// The tree is not of this root hash.
    #[error("verity fails")]
    Verify(#[from] VerifyError),
}

/// A partition behind its hash tree, and the bytes that this covers; `None` where it has none, or the
/// policy does not ask for it.
pub(super) fn open(
    image: &Image,
    dissected: &Dissected,
    data: &Partition,
    verification: Verification<'_>,
) -> Result<Option<Volume>, UnverifiedError> {
    let verity = dissected.verity.as_ref();
    let Some(verity) = verity.filter(|verity| verity.designator == data.designator) else {
        return Ok(None);
    };
    if !is_asked_for(verity, verification)? {
        return Ok(None);
    }
    let hash = tree(image, dissected, verity)?;
    let params = params(&hash)?;
    let part = Part::new(image, data.extent).map_err(UnverifiedError::Read)?;
    let verified = Verified::new(params, part, hash, verity.root_hash.clone())?;
    let (needed, available) = (verified.size(), data.extent.size.get());
    if needed > available {
        return Err(UnverifiedError::Size { available, needed });
    }
    Ok(Some(Volume {
        data: Arc::new(Checked(verified)),
        size: needed,
    }))
}

/// Whether the policy wants the data to be verified; an error where it wants more than there is.
fn is_asked_for(verity: &Verity, verification: Verification<'_>) -> Result<bool, UnverifiedError> {
    let allowed = verification.policy.effective(verity.designator);
    if allowed.contains(Flags::VERITY) {
        return Ok(true);
    }
    if !allowed.contains(Flags::SIGNED) {
        return Ok(false);
    }
    let root_hash = &verity.root_hash;
    let mut refused = None;
    for signature in verity.signatures() {
        match signature.verify(root_hash, verification.certificates) {
            Ok(()) => return Ok(true),
            Err(error) => refused = Some(error),
        }
    }
    Err(match refused {
        None => UnverifiedError::Unsigned(root_hash.clone()),
        Some(source) => UnverifiedError::Refused {
            root_hash: root_hash.clone(),
            source,
        },
    })
}

/// The hash tree: a partition, or a file of its own.
fn tree(image: &Image, dissected: &Dissected, verity: &Verity) -> Result<Part, UnverifiedError> {
    let Some(path) = &verity.tree else {
        let hash = dissected.verity_member(verity.designator, VerityRole::Hash);
        let extent = hash.ok_or(UnverifiedError::NoTree)?.extent;
        return Part::new(image, extent).map_err(UnverifiedError::Read);
    };
    let opened = File::open(path).and_then(|file| {
        let size = file.metadata()?.len();
        Ok((file, size))
    });
    let (file, size) = opened.map_err(|source| UnverifiedError::Open {
        path: path.clone(),
        source,
    })?;
    Ok(Part::of(file, Extent::new(Bytes::ZERO, Bytes::new(size))))
}

fn params(hash: &Part) -> Result<Params, UnverifiedError> {
    let mut start = [0; SUPERBLOCK_SIZE];
    ReadAt::read_exact_at(hash, &mut start, 0).map_err(UnverifiedError::Read)?;
    let superblock = Superblock::parse(&start)?.ok_or(UnverifiedError::NoSuperblock)?;
    Ok(Params::from_superblock(&superblock)?)
}

/// Data that are checked as they are read.
#[derive(Debug)]
struct Checked(Verified<Part, Part>);

impl ReadAt for Checked {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        veritysetup::io::ReadAt::read_exact_at(&self.0, buffer, offset)
    }
}
