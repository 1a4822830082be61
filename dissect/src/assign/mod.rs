//! Decides which partition is root, which is its hash tree, and so on (UAPI.2, UAPI.3, and the
//! choices of systemd-dissect). Pure.
//!
//! Partitions are looked at in table order. Of several for one purpose, the best architecture
//! wins, then, for root and usr and their verity partitions, the newest label, then the first.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use image_specs::arch::Architecture;
use image_specs::gpt::Table;
use image_specs::partition::{Designator, VerityRole};
use image_specs::release::image_name;
use image_specs::units::{Bytes, Extent, SectorSize};
use image_specs::version;
use uuid::Uuid;
use veritysetup::RootHash;

use crate::options::Options;
use crate::policy::{self, Encryption, Refused, State};
use crate::probe::{Content, Probed};
use crate::verity::Verity;

mod wanted;

use wanted::Wanted;

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
    /// The GPT, where there is one.
    pub table: Option<Table>,
    /// The partitions that are used, by purpose.
    pub partitions: BTreeMap<Designator, Partition>,
    /// Partitions that would do as well, but are not as good as those that are used, in table order.
    pub passed_over: Vec<Partition>,
    /// What is there and the policy leaves unused.
    pub unused: BTreeSet<Designator>,
    /// Whether a hash tree in a file of its own was named, even without a root hash.
    pub external_tree: bool,
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
    /// All GPT attribute bits.
    pub attributes: u64,
    /// What it holds, as blkid names it.
    pub file_system: Option<String>,
    /// How it is encrypted, where it is.
    pub encryption: Option<Encryption>,
    /// Whether it may be written to.
    pub writable: bool,
    /// Whether its file system is to grow when it is mounted, if it is writable.
    pub grow: bool,
    /// What is inside, once it has been unlocked.
    pub inside: Option<Inside>,
}

/// What an unlocked partition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Its type, as blkid names it.
    pub file_system: Option<String>,
    /// How large the volume is.
    pub size: Bytes,
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
    /// A verity set was asked for that the image does not have.
    #[error("a verity set of {0} was asked for, but there is no {0} partition")]
    NoSuchSet(Designator),
    /// There is a table, but a hash tree in a file of its own is for one file system.
    #[error(
        "the image has a partition table; the hash tree {} can only be for an image that is one \
         file system (set SYSTEMD_DISSECT_VERITY_SIDECAR=0 if it is there by chance)",
        .0.display()
    )]
    TreeWithTable(PathBuf),
    /// Only a GPT was allowed.
    #[error("the image has no GPT, and nothing else was allowed")]
    NoGpt,
    /// One file system is in the image, but a table was to be there.
    #[error("the image is one file system; a partition table was to be there")]
    NoTable,
    /// The file system's label is none that the filter takes: images without a table have none.
    #[error("the image filter asks for a label of root, but an image without a table has none")]
    Filtered,
    /// There is no root.
    #[error("there is no partition that could be the root file system")]
    NoRoot,
    /// No partition is of a known type.
    #[error("the image has a partition table, but no partition in it is of a known type")]
    Empty,
    /// The policy says no.
    #[error(transparent)]
    Policy(#[from] Refused),
}

/// Decides what each partition is for.
pub fn assign(probed: Probed, options: &Options) -> Result<Dissected, AssignError> {
    let mut dissected = Dissected {
        path: probed.path,
        size: probed.size,
        sector_size: probed.sector_size,
        uuid: probed.uuid,
        single_file_system: matches!(probed.content, Content::FileSystem { .. }),
        table: None,
        partitions: BTreeMap::new(),
        passed_over: Vec::new(),
        unused: BTreeSet::new(),
        external_tree: options.verity.tree.is_some(),
        verity: None,
    };
    match &probed.content {
        Content::FileSystem { kind, encryption } => {
            let root = single(probed.size, kind, *encryption, options)?;
            dissected.partitions.insert(root.designator, root);
        }
        Content::Partitions(found) => {
            let wanted = Wanted::new(options)?;
            if options.rules.only_gpt && probed.table.is_none() {
                return Err(AssignError::NoGpt);
            }
            if let Some(tree) = &options.verity.tree {
                return Err(AssignError::TreeWithTable(tree.clone()));
            }
            let partitions = found.iter().filter_map(|found| wanted.take(found));
            dissected.choose(partitions.collect(), options)?;
            dissected.check(options)?;
            policy::check_table(&dissected, &options.policy)?;
            if dissected.partitions.is_empty() && !options.rules.allow_empty {
                return Err(AssignError::Empty);
            }
        }
    }
    dissected.table = probed.table;
    Ok(dissected)
}

impl Dissected {
    /// The architecture of root, else of usr.
    pub fn architecture(&self) -> Option<Architecture> {
        let of = |designator| self.partitions.get(&designator)?.architecture;
        of(Designator::Root).or_else(|| of(Designator::Usr))
    }

    /// The given member of the verity set that `designator` belongs to.
    pub fn verity_member(&self, designator: Designator, role: VerityRole) -> Option<&Partition> {
        self.partitions.get(&designator.verity_sibling(role)?)
    }

    /// Every partition that could be used as `designator`, the one that is used first.
    pub fn versions(&self, designator: Designator) -> impl Iterator<Item = &Partition> {
        let rest = self.passed_over.iter();
        let rest = rest.filter(move |one| one.designator == designator);
        self.partitions.get(&designator).into_iter().chain(rest)
    }

    /// The name of the image: its file's, without what only says that it is an image.
    pub fn image_name(&self) -> String {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        image_name(&file).to_owned()
    }

    /// Whether root or usr is encrypted, whose files say what the image is.
    pub fn is_encrypted(&self) -> bool {
        let found = |designator| self.partitions.get(&designator);
        let mut system = [Designator::Root, Designator::Usr]
            .into_iter()
            .filter_map(found);
        system.any(|partition| partition.encryption.is_some())
    }

    /// Sets the root hash; data with one is not written to.
    pub(crate) fn take_verity(&mut self, verity: Option<Verity>) {
        let data = verity.as_ref().map(|verity| verity.designator);
        if let Some(data) = data.and_then(|data| self.partitions.get_mut(&data)) {
            data.writable = false;
        }
        self.verity = verity;
    }

    fn has(&self, designator: Designator) -> bool {
        self.partitions.contains_key(&designator)
    }

    /// Sorts partitions into those that are used, those that are not as good, and those that the
    /// policy leaves alone.
    fn choose(&mut self, found: Vec<Partition>, options: &Options) -> Result<(), AssignError> {
        let mut generic = Vec::new();
        for partition in found {
            let designator = partition.designator;
            if designator == Designator::LinuxGeneric {
                generic.push(partition);
            } else if options.policy.may_use(designator) {
                self.keep_better(partition, options.native);
            } else {
                self.unused.insert(designator);
            }
        }
        self.take_generic(generic, options)
    }

    fn keep_better(&mut self, new: Partition, native: Architecture) {
        let old = match self.partitions.get_mut(&new.designator) {
            Some(old) if is_better(&new, old, native) => std::mem::replace(old, new),
            Some(_) => new,
            None => {
                self.partitions.insert(new.designator, new);
                return;
            }
        };
        self.passed_over.push(old);
        self.passed_over.sort_by_key(|one| one.number);
    }

    /// Makes the only generic partition the root, where nothing else is.
    fn take_generic(
        &mut self,
        mut generic: Vec<Partition>,
        options: &Options,
    ) -> Result<(), AssignError> {
        let usr_hash = options.verity.root_hash.is_some()
            && options.verity.designator == Some(Designator::Usr);
        let known = self.has(Designator::Root) || self.has(Designator::Usr);
        if known || usr_hash || !options.rules.generic_root {
            return Ok(());
        }
        if generic.len() > 1 {
            return Err(AssignError::SeveralGeneric);
        }
        let Some(only) = generic.pop() else {
            return Ok(());
        };
        if !options.policy.may_use(Designator::Root) {
            self.unused.insert(Designator::Root);
            return Ok(());
        }
        let root = Partition {
            designator: Designator::Root,
            // Its label says what it is as little as its type does.
            label: None,
            ..only
        };
        self.partitions.insert(Designator::Root, root);
        Ok(())
    }

    /// What a set of partitions must be, once it is complete.
    fn check(&self, options: &Options) -> Result<(), AssignError> {
        self.check_pairs()?;
        self.check_architectures()?;
        let rules = &options.rules;
        let root =
            self.has(Designator::Root) || (rules.usr_without_root && self.has(Designator::Usr));
        if rules.require_root && !root {
            return Err(AssignError::NoRoot);
        }
        if self.has(Designator::RootVerity) && self.has(Designator::UsrVerity) {
            return Err(AssignError::TwoVerity);
        }
        if self.has(Designator::RootVerity) && self.has(Designator::Usr) {
            return Err(AssignError::VerityRootWithUsr);
        }
        match rules.verity {
            true => self.check_settings(options),
            false => Ok(()),
        }
    }

    fn check_pairs(&self) -> Result<(), AssignError> {
        for (found, missing) in [
            (Designator::RootVerity, Designator::Root),
            (Designator::UsrVerity, Designator::Usr),
            (Designator::RootVeritySig, Designator::RootVerity),
            (Designator::UsrVeritySig, Designator::UsrVerity),
        ] {
            if self.has(found) && !self.has(missing) {
                return Err(AssignError::Unpaired { found, missing });
            }
        }
        Ok(())
    }

    fn check_architectures(&self) -> Result<(), AssignError> {
        let arch = |designator| self.partitions.get(&designator)?.architecture;
        match (arch(Designator::Root), arch(Designator::Usr)) {
            (Some(root), Some(usr)) if root != usr => Err(AssignError::Architectures { root, usr }),
            _ => Ok(()),
        }
    }

    /// Whether the verity set is there that the caller knows of.
    fn check_settings(&self, options: &Options) -> Result<(), AssignError> {
        let settings = &options.verity;
        if let Some(asked) = settings.designator.filter(|asked| !self.has(*asked)) {
            return Err(AssignError::NoSuchSet(asked));
        }
        let Some(hash) = &settings.root_hash else {
            return Ok(());
        };
        let designator = settings.data();
        let hashes = designator.verity_sibling(VerityRole::Hash);
        match self.has(designator) && hashes.is_some_and(|hashes| self.has(hashes)) {
            true => Ok(()),
            false => Err(AssignError::NoSuchHash {
                designator,
                hash: hash.clone(),
            }),
        }
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

/// The root partition of an image without a table.
fn single(
    size: Bytes,
    kind: &str,
    encryption: Option<Encryption>,
    options: &Options,
) -> Result<Partition, AssignError> {
    let rules = &options.rules;
    if rules.only_gpt {
        return Err(AssignError::NoGpt);
    }
    if !rules.generic_root && !rules.no_table {
        return Err(AssignError::NoTable);
    }
    if !options.filter.matches(Designator::Root, "") {
        return Err(AssignError::Filtered);
    }
    let root = Partition {
        designator: Designator::Root,
        number: None,
        extent: Extent::new(Bytes::ZERO, size),
        uuid: None,
        label: None,
        architecture: None,
        attributes: 0,
        file_system: Some(kind.to_owned()),
        encryption,
        writable: !options.verity.covers_root(),
        grow: false,
        inside: None,
    };
    let signed = options.verity.signature.is_some();
    let tree = options.verity.covers_root().then_some(match signed {
        true => State::Signed,
        false => State::Verity,
    });
    policy::check_single(&options.policy, &root, tree)?;
    Ok(root)
}

#[cfg(test)]
mod tests;
