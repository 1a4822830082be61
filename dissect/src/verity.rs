//! Finds the root hash of an image: given, in the signature partition, or in the partitions' UUIDs.

use std::path::PathBuf;

use image_specs::partition::{Designator, VerityRole};
use image_specs::signature::{MAX_SIZE, VeritySignature, VeritySignatureError};
use image_specs::units::Extent;
use veritysetup::RootHash;
use veritysetup::signature::{Certificate, Signature, SignatureError};

use crate::assign::{Dissected, Partition};
use crate::open::Image;
use crate::options::{Options, VeritySettings};
use crate::probe::{Content, Probed};

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
    /// Signatures of the same hash by others; any that is good is enough.
    pub more: Vec<Signature>,
    /// The file with the hash tree, where no partition has it.
    pub tree: Option<PathBuf>,
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

impl Verity {
    /// Every signature, the compatible one first.
    pub fn signatures(&self) -> impl Iterator<Item = &Signature> {
        self.signature.iter().chain(&self.more)
    }

    /// The first certificate whose owner has signed the root hash, by any of the signatures that
    /// there are; `None` where none has.
    pub fn signer<'a>(&self, certificates: &'a [Certificate]) -> Option<&'a Certificate> {
        let signed = |certificate: &&Certificate| {
            let one = std::slice::from_ref(*certificate);
            let good = |signature: &Signature| signature.verify(&self.root_hash, one).is_ok();
            self.signatures().any(good)
        };
        certificates.iter().find(signed)
    }

    fn given(settings: &VeritySettings, designator: Designator) -> Option<Self> {
        Some(Self {
            designator,
            root_hash: settings.root_hash.clone()?,
            origin: Origin::Given,
            signature: settings.signature.clone(),
            fingerprint: None,
            more: Vec::new(),
            tree: None,
        })
    }
}

/// Finds the root hash; `None` where no partition has a hash tree. Data with one is not written to.
pub fn find(
    image: &Image,
    dissected: &Dissected,
    options: &Options,
) -> Result<Option<Verity>, VerityError> {
    let (settings, rules) = (&options.verity, &options.rules);
    if dissected.single_file_system {
        let given = Verity::given(settings, Designator::Root);
        return Ok(given
            .filter(|_| settings.covers_root())
            .map(|given| Verity {
                tree: settings.tree.clone(),
                ..given
            }));
    }
    let Some((data, hash)) = pair(dissected).filter(|_| rules.verity) else {
        return Ok(None);
    };
    let given = Verity::given(settings, data.designator);
    if given
        .as_ref()
        .is_some_and(|given| given.signature.is_some())
    {
        return Ok(given);
    }
    let signature = dissected.verity_member(data.designator, VerityRole::Signature);
    if let Some(signature) = signature.filter(|_| rules.embedded_hash) {
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
    Ok(given.or_else(|| from_uuids(data, hash).filter(|_| rules.guess_hash)))
}

/// Reads which root hash each signature partition is of, where only those of one hash will do.
pub(crate) fn read_signed_hashes(
    image: &Image,
    probed: &mut Probed,
    options: &Options,
) -> Result<(), VerityError> {
    let Content::Partitions(found) = &mut probed.content else {
        return Ok(());
    };
    if options.verity.root_hash.is_none() || !options.rules.verity {
        return Ok(());
    }
    let set = options.verity.data().verity_sibling(VerityRole::Signature);
    for partition in found.iter_mut().filter(|one| one.kind.designator == set) {
        let Some(designator) = partition.kind.designator else {
            continue;
        };
        let text = read_text(image, designator, partition.extent)?;
        partition.signs = Some(RootHash::new(text.root_hash));
    }
    Ok(())
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
    let text = read_text(image, place, partition.extent)?;
    let signature = |der: Vec<u8>| {
        Signature::from_der(der).map_err(|source| VerityError::Signature {
            partition: place,
            source,
        })
    };
    let more = text.more.into_iter().map(|more| signature(more.signature));
    Ok(Verity {
        designator,
        root_hash: RootHash::new(text.root_hash),
        origin: Origin::Embedded,
        more: more.collect::<Result<_, _>>()?,
        signature: Some(signature(text.signature)?),
        fingerprint: text.fingerprint,
        tree: None,
    })
}

fn read_text(
    image: &Image,
    partition: Designator,
    extent: Extent,
) -> Result<VeritySignature, VerityError> {
    let size = extent.size.get();
    let length = usize::try_from(size)
        .ok()
        .filter(|length| *length <= MAX_SIZE)
        .ok_or(VerityError::Size { partition, size })?;
    let mut bytes = vec![0; length];
    image.device().read_exact_at(&mut bytes, extent.start)?;
    VeritySignature::parse(&bytes).map_err(|source| VerityError::Text { partition, source })
}

fn from_uuids(data: &Partition, hash: &Partition) -> Option<Verity> {
    let both = [data.uuid?.into_bytes(), hash.uuid?.into_bytes()];
    Some(Verity {
        designator: data.designator,
        root_hash: RootHash::new(both.concat()),
        origin: Origin::Uuids,
        signature: None,
        fingerprint: None,
        more: Vec::new(),
        tree: None,
    })
}
