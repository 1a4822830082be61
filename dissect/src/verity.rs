//! Finds the root hash of an image: given, in the signature partition, or in the partitions' UUIDs.

use image_specs::partition::{Designator, VerityRole};
use image_specs::signature::{MAX_SIZE, VeritySignature, VeritySignatureError};
use image_specs::units::Bytes;
use veritysetup::RootHash;
use veritysetup::signature::{Signature, SignatureError};

use crate::assign::{Dissected, Options, Partition};
use crate::open::Image;

/// A root hash and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verity {
    /// What it protects: `Root` or `Usr`.
    pub designator: Designator,
    /// The hash.
    pub root_hash: RootHash,
    /// Where it is from.
    pub origin: Origin,
    /// The signature, where there is one. Nobody has checked it yet.
    pub signature: Option<Signature>,
    /// The SHA-256 of the signer's certificate, as the signature partition says.
    pub fingerprint: Option<[u8; 32]>,
}

/// Where a root hash is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The caller gave it.
    Given,
    /// The signature partition holds it.
    Embedded,
    /// The UUIDs of the data and the hash partition make it.
    Uuids,
}

/// The signature partition cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerityError {
    /// It has more than 4 MiB.
    #[error("the {partition} partition has {size} bytes; at most 4 MiB are possible")]
    Size {
        /// The partition.
        partition: Designator,
        /// Its size.
        size: u64,
    },
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] blockdev::DeviceError),
    /// Its text is wrong.
    #[error("the {partition} partition is damaged")]
    Text {
        /// The partition.
        partition: Designator,
        /// Why.
        source: VeritySignatureError,
    },
    /// Its signature is none.
    #[error("the {partition} partition holds no signature")]
    Signature {
        /// The partition.
        partition: Designator,
        /// Why.
        source: SignatureError,
    },
    /// It is of another root hash than the one that was given.
    #[error("the {partition} partition is of root hash {found}, not of {given}")]
    OtherHash {
        /// The partition.
        partition: Designator,
        /// Its hash.
        found: RootHash,
        /// The one that was asked for.
        given: RootHash,
    },
}

/// Finds the root hash; `None` where no partition has a hash tree. Data with one is not written to.
pub fn find(
    image: &Image,
    dissected: &Dissected,
    options: &Options,
) -> Result<Option<Verity>, VerityError> {
    let Some((data, hash)) = pair(dissected) else {
        return Ok(None);
    };
    let given = options.root_hash.as_ref().map(|given| Verity {
        designator: data.designator,
        root_hash: given.hash.clone(),
        origin: Origin::Given,
        signature: given.signature.clone(),
        fingerprint: None,
    });
    if given
        .as_ref()
        .is_some_and(|known| known.signature.is_some())
    {
        return Ok(given);
    }
    if let Some(signature) = dissected.verity_member(data.designator, VerityRole::Signature) {
        let found = embedded(image, data.designator, signature)?;
        if let Some(given) = given.filter(|given| given.root_hash != found.root_hash) {
            return Err(VerityError::OtherHash {
                partition: signature.designator,
                found: found.root_hash,
                given: given.root_hash,
            });
        }
        return Ok(Some(found));
    }
    Ok(given.or_else(|| from_uuids(data, hash)))
}

/// The partition with a hash tree, and the tree.
pub(crate) fn pair(dissected: &Dissected) -> Option<(&Partition, &Partition)> {
    [Designator::Root, Designator::Usr]
        .into_iter()
        .find_map(|designator| {
            let data = dissected.partitions.get(&designator)?;
            let hash = dissected.verity_member(designator, VerityRole::Hash)?;
            Some((data, hash))
        })
}

fn embedded(
    image: &Image,
    designator: Designator,
    partition: &Partition,
) -> Result<Verity, VerityError> {
    let place = partition.designator;
    let size = partition.extent.size.get();
    let length = usize::try_from(size)
        .ok()
        .filter(|length| *length <= MAX_SIZE)
        .ok_or(VerityError::Size {
            partition: place,
            size,
        })?;
    let mut bytes = vec![0; length];
    let start: Bytes = partition.extent.start;
    image.device().read_exact_at(&mut bytes, start)?;
    let text = VeritySignature::parse(&bytes).map_err(|source| VerityError::Text {
        partition: place,
        source,
    })?;
    let signature = Signature::from_der(text.signature);
    Ok(Verity {
        designator,
        root_hash: RootHash::new(text.root_hash),
        origin: Origin::Embedded,
        signature: Some(signature.map_err(|source| VerityError::Signature {
            partition: place,
            source,
        })?),
        fingerprint: text.fingerprint,
    })
}

fn from_uuids(data: &Partition, hash: &Partition) -> Option<Verity> {
    let both = [data.uuid?.into_bytes(), hash.uuid?.into_bytes()];
    Some(Verity {
        designator: data.designator,
        root_hash: RootHash::new(both.concat()),
        origin: Origin::Uuids,
        signature: None,
        fingerprint: None,
    })
}
