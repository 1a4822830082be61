//! Decides which partition is root, which is its hash tree, and so on (UAPI.2, UAPI.3, and the
//! choices of systemd-dissect). Pure.
//!
//! Partitions are looked at in table order. Of several for one purpose, the best architecture
//! wins, then, for root and usr and their verity partitions, the newest label, then the first.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;

use image_specs::arch::Architecture;
use image_specs::filter::ImageFilter;
use image_specs::identity;
use image_specs::partition::{
    Designator, FLAG_GROW_FILE_SYSTEM, FLAG_NO_AUTO, FLAG_READ_ONLY, VerityRole,
};
use image_specs::units::{Bytes, Extent, SectorSize};
use image_specs::version;
use uuid::Uuid;
use veritysetup::RootHash;
use veritysetup::signature::Signature;

use crate::probe::{Content, Found, Probed};
use crate::verity::Verity;

/// The attribute bit by which firmware is told to leave an ESP alone.
const FLAG_NO_BLOCK_IO: u64 = 1 << 1;

/// The label of a place that waits for an update.
const EMPTY_LABEL: &str = "_empty";

/// What an image is held against.
#[derive(Clone, Debug)]
pub struct Options {
    /// The architecture to prefer.
    pub native: Architecture,
    /// Which labels each designator must have.
    pub filter: ImageFilter,
    /// The root hash that the image must have.
    pub root_hash: Option<GivenHash>,
}

/// A root hash from outside of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenHash {
    /// `Root` or `Usr`.
    pub designator: Designator,
    /// The hash.
    pub hash: RootHash,
    /// Its signature, where there is one.
    pub signature: Option<Signature>,
}

/// What is in an image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dissected {
    /// The path that the image was opened by.
    pub path: PathBuf,
    /// The image's size.
    pub size: Bytes,
    /// The sectors that its table counts in.
    pub sector_size: SectorSize,
    /// The disk's UUID, or that of the only file system.
    pub uuid: Option<Uuid>,
    /// Whether there is no partition table: the root partition is the whole image.
    pub single_file_system: bool,
    /// The partitions that are used, by purpose.
    pub partitions: BTreeMap<Designator, Partition>,
    /// The root hash, where one is known.
    pub verity: Option<Verity>,
}

/// A partition that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Partition {
    /// What it is for.
    pub designator: Designator,
    /// Its number, counted from 1; `None` where there is no table.
    pub number: Option<u32>,
    /// Where it lies.
    pub extent: Extent,
    /// Its own UUID.
    pub uuid: Option<Uuid>,
    /// Its label, if it has one.
    pub label: Option<String>,
    /// The architecture that its type is bound to.
    pub architecture: Option<Architecture>,
    /// What it holds, as blkid names it.
    pub file_system: Option<String>,
    /// Whether it may be written to.
    pub writable: bool,
    /// Whether its file system is to grow when it is mounted.
    pub grow: bool,
}

/// The partitions do not make an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssignError {
    /// A verity partition has nothing that it is for.
    #[error("there is a {found} partition, but no {missing} partition that it belongs to")]
    Unpaired {
        /// What is there.
        found: Designator,
        /// What is not.
        missing: Designator,
    },
    /// Two kinds of programs.
    #[error("the root partition is for {root}, but the usr partition for {usr}")]
    Architectures {
        /// Of root.
        root: Architecture,
        /// Of usr.
        usr: Architecture,
    },
    /// No type says what they are for.
    #[error(
        "there is no root partition, and several generic Linux partitions, of which any may be it"
    )]
    SeveralGeneric,
    /// Both root and usr have hash trees.
    #[error("both root and usr have verity partitions; only one of them can be verified")]
    TwoVerity,
    /// Root is verified, usr is not.
    #[error("root has a verity partition, so usr must be part of it, but there is a usr partition")]
    VerityRootWithUsr,
    /// The given root hash is of another image.
    #[error(
        "no pair of {designator} and {designator}-verity partitions has UUIDs of root hash {hash}"
    )]
    NoSuchHash {
        /// `Root` or `Usr`.
        designator: Designator,
        /// The hash.
        hash: RootHash,
    },
    /// The given root hash cannot name partitions.
    #[error("root hash {0} is too short, or half of it is zero")]
    UnusableHash(RootHash),
}

/// Decides what each partition is for.
pub fn assign(probed: &Probed, options: &Options) -> Result<Dissected, AssignError> {
    let mut partitions = BTreeMap::new();
    let mut generic = Vec::new();
    if let Content::Partitions(found) = &probed.content {
        let wanted = Wanted::new(options)?;
        for partition in found.iter().filter_map(|found| wanted.take(found)) {
            if partition.designator == Designator::LinuxGeneric {
                generic.push(partition);
            } else {
                keep_better(&mut partitions, partition, options.native);
            }
        }
        take_generic(&mut partitions, generic, options)?;
        check(&partitions, options)?;
    }
    if let Content::FileSystem { kind, .. } = &probed.content {
        let root = single(probed.size, kind);
        partitions.insert(root.designator, root);
    }
    Ok(Dissected {
        path: probed.path.clone(),
        size: probed.size,
        sector_size: probed.sector_size,
        uuid: probed.uuid,
        single_file_system: matches!(probed.content, Content::FileSystem { .. }),
        partitions,
        verity: None,
    })
}

impl Options {
    /// No filter, no root hash.
    pub fn new(native: Architecture) -> Self {
        Self {
            native,
            filter: ImageFilter::default(),
            root_hash: None,
        }
    }
}

impl Dissected {
    /// The architecture of root, else of usr.
    pub fn architecture(&self) -> Option<Architecture> {
        let of = |designator| self.partitions.get(&designator)?.architecture;
        of(Designator::Root).or_else(|| of(Designator::Usr))
    }

    /// Sets the root hash; data with one is not written to.
    pub(crate) fn take_verity(&mut self, verity: Option<Verity>) {
        let data = verity.as_ref().map(|verity| verity.designator);
        if let Some(data) = data.and_then(|data| self.partitions.get_mut(&data)) {
            data.writable = false;
        }
        self.verity = verity;
    }

    /// The given member of the verity set that `designator` belongs to.
    pub fn verity_member(&self, designator: Designator, role: VerityRole) -> Option<&Partition> {
        self.partitions.get(&designator.verity_sibling(role)?)
    }
}

/// What partitions must be like to be looked at.
struct Wanted<'a> {
    options: &'a Options,
    /// Whose UUIDs the root hash decides, and the UUIDs.
    verity: Option<(Designator, (Uuid, Uuid))>,
}

impl<'a> Wanted<'a> {
    fn new(options: &'a Options) -> Result<Self, AssignError> {
        let pair = |given: &GivenHash| {
            let pair = identity::verity_pair(given.hash.as_bytes());
            pair.filter(|(data, hash)| !data.is_nil() && !hash.is_nil())
                .map(|pair| (given.designator, pair))
                .ok_or_else(|| AssignError::UnusableHash(given.hash.clone()))
        };
        let verity = options.root_hash.as_ref().map(pair).transpose()?;
        Ok(Self { options, verity })
    }

    /// The partition as it would be used; `None` where it is not for us.
    fn take(&self, found: &Found) -> Option<Partition> {
        let designator = found.kind.designator?;
        let label = found.label.as_deref().unwrap_or_default();
        let flags = found.attributes;
        let esp = designator == Designator::Esp;
        let skipped = label == EMPTY_LABEL
            || designator == Designator::UserHome
            || !self.passes(designator, label)
            || (esp && flags & FLAG_NO_BLOCK_IO != 0)
            || (!esp && flags & FLAG_NO_AUTO != 0)
            || !self.fits_hash(designator, found.uuid);
        if skipped {
            return None;
        }
        let (writable, grow) = modes(designator, flags);
        Some(Partition {
            designator,
            number: Some(found.number),
            extent: found.extent,
            uuid: found.uuid,
            label: found.label.clone(),
            architecture: found.kind.architecture,
            file_system: forced_file_system(designator).map(str::to_owned),
            writable,
            grow: grow && writable,
        })
    }

    fn passes(&self, designator: Designator, label: &str) -> bool {
        let designator = match designator {
            Designator::LinuxGeneric => Designator::Root,
            other => other,
        };
        self.options.filter.matches(designator, label)
    }

    /// Whether the partition's UUID is the one that a given root hash asks for.
    fn fits_hash(&self, designator: Designator, uuid: Option<Uuid>) -> bool {
        let Some((set, (data, hash))) = self.verity else {
            return true;
        };
        let ours = designator.verity_sibling(VerityRole::Data) == Some(set);
        match designator.verity_role() {
            Some(VerityRole::Data) => !ours || uuid == Some(data),
            Some(VerityRole::Hash) => ours && uuid == Some(hash),
            // Its JSON is held against the hash when it is read.
            Some(VerityRole::Signature) => ours,
            None => true,
        }
    }
}

/// Whether the attribute bits let a partition be written and grown.
fn modes(designator: Designator, flags: u64) -> (bool, bool) {
    let known = designator.known_flags();
    match designator {
        Designator::Esp | Designator::Swap => (true, false),
        Designator::LinuxGeneric => (
            flags & FLAG_READ_ONLY == 0,
            flags & FLAG_GROW_FILE_SYSTEM != 0,
        ),
        _ if matches!(
            designator.verity_role(),
            Some(VerityRole::Hash | VerityRole::Signature)
        ) =>
        {
            (false, false)
        }
        _ => (
            flags & known & FLAG_READ_ONLY == 0,
            flags & known & FLAG_GROW_FILE_SYSTEM != 0,
        ),
    }
}

/// What a partition holds by its type alone.
fn forced_file_system(designator: Designator) -> Option<&'static str> {
    match designator {
        Designator::Esp | Designator::Xbootldr => Some("vfat"),
        _ => match designator.verity_role()? {
            VerityRole::Data => None,
            VerityRole::Hash => Some("DM_verity_hash"),
            VerityRole::Signature => Some("verity_hash_signature"),
        },
    }
}

fn keep_better(
    partitions: &mut BTreeMap<Designator, Partition>,
    new: Partition,
    native: Architecture,
) {
    let better = partitions
        .get(&new.designator)
        .is_none_or(|old| is_better(&new, old, native));
    if better {
        partitions.insert(new.designator, new);
    }
}

fn is_better(new: &Partition, old: &Partition, native: Architecture) -> bool {
    let rank = |partition: &Partition| match partition.architecture {
        Some(arch) if arch == native => 0,
        Some(arch) if Some(arch) == native.secondary() => 1,
        _ => 2,
    };
    match rank(new).cmp(&rank(old)) {
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => {
            let label = |partition: &Partition| partition.label.clone().unwrap_or_default();
            new.designator.verity_role().is_some()
                && version::compare(label(new), label(old)) == Ordering::Greater
        }
    }
}

/// Makes the only generic partition the root, where nothing else is.
fn take_generic(
    partitions: &mut BTreeMap<Designator, Partition>,
    generic: Vec<Partition>,
    options: &Options,
) -> Result<(), AssignError> {
    let has = |designator| partitions.contains_key(&designator);
    let usr_hash = options
        .root_hash
        .as_ref()
        .is_some_and(|given| given.designator == Designator::Usr);
    if has(Designator::Root) || has(Designator::Usr) || usr_hash {
        return Ok(());
    }
    let mut generic = generic.into_iter();
    match (generic.next(), generic.next()) {
        (Some(_), Some(_)) => Err(AssignError::SeveralGeneric),
        (Some(only), None) => {
            let root = Partition {
                designator: Designator::Root,
                // Its label says what it is as little as its type does.
                label: None,
                ..only
            };
            partitions.insert(Designator::Root, root);
            Ok(())
        }
        (None, _) => Ok(()),
    }
}

/// What a set of partitions must be, once it is complete.
fn check(
    partitions: &BTreeMap<Designator, Partition>,
    options: &Options,
) -> Result<(), AssignError> {
    let has = |designator| partitions.contains_key(&designator);
    for (found, missing) in [
        (Designator::RootVerity, Designator::Root),
        (Designator::UsrVerity, Designator::Usr),
        (Designator::RootVeritySig, Designator::RootVerity),
        (Designator::UsrVeritySig, Designator::UsrVerity),
    ] {
        if has(found) && !has(missing) {
            return Err(AssignError::Unpaired { found, missing });
        }
    }
    let arch = |designator| partitions.get(&designator)?.architecture;
    if let (Some(root), Some(usr)) = (arch(Designator::Root), arch(Designator::Usr))
        && root != usr
    {
        return Err(AssignError::Architectures { root, usr });
    }
    if has(Designator::RootVerity) && has(Designator::UsrVerity) {
        return Err(AssignError::TwoVerity);
    }
    if has(Designator::RootVerity) && has(Designator::Usr) {
        return Err(AssignError::VerityRootWithUsr);
    }
    let Some(given) = &options.root_hash else {
        return Ok(());
    };
    let members = [VerityRole::Data, VerityRole::Hash];
    let complete = members.iter().all(|role| {
        let sibling = given.designator.verity_sibling(*role);
        sibling.is_some_and(has)
    });
    match complete {
        true => Ok(()),
        false => Err(AssignError::NoSuchHash {
            designator: given.designator,
            hash: given.hash.clone(),
        }),
    }
}

/// The root partition of an image without a table.
fn single(size: Bytes, kind: &str) -> Partition {
    Partition {
        designator: Designator::Root,
        number: None,
        extent: Extent::new(Bytes::ZERO, size),
        uuid: None,
        label: None,
        architecture: None,
        file_system: Some(kind.to_owned()),
        writable: true,
        grow: false,
    }
}

#[cfg(test)]
mod tests;
