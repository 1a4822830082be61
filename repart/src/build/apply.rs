//! Carries a plan out, deciding nothing: the steps come from [`super::steps`].

use std::collections::BTreeMap;

use blockdev::partitions::changes::TellError;
use blockdev::table::{Commit, CommitError};
use blockdev::{BlockDevice, DeviceError, signatures};
use filetree::Tree;
use image_specs::eltorito::{self, ElToritoError, Moment};
use image_specs::gpt::Table;
use image_specs::identity;
use image_specs::magic::Found;
use image_specs::mbr::MbrTable;
use image_specs::units::{Bytes, Extent};
use luks::integrity::offline::Before;
use veritysetup::{HashAlgorithm, RootHash};

use super::encrypt::EncryptError;
use super::fill::Filling;
use super::hash_tree::{self, HashTreeError};
use super::integrity::{self, IntegrityError};
use super::job::Job;
use super::mbr;
use super::phase::{self, Doing};
use super::sign::SignError;
use super::sources::BlockSource;
use super::stage::{Staged, StagedContent};
use super::steps::Step;
use super::table::{self, TableError};
use crate::definition::{Definition, VerityMode};
use crate::plan::{Fate, Plan, PlannedLabel, PlannedPartition};
use crate::populate::PopulateError;

/// A plan that was carried out, with what was only known on the way.
#[derive(Debug)]
pub struct Applied {
    /// The plan, with the UUIDs that root hashes decided.
    pub plan: Plan,
    /// Root hashes, by the place in [`Plan::partitions`] of every member of the set.
    pub root_hashes: BTreeMap<usize, RootHash>,
    /// Hashes of volume keys for crypttab, by the same place.
    pub key_hashes: BTreeMap<usize, String>,
    /// What a person should hear.
    pub notices: Vec<String>,
    /// What the kernel did not learn; the table is committed all the same.
    pub untold: Vec<TellError>,
}

impl Applied {
    /// A plan that was only looked at.
    pub fn nothing(plan: Plan) -> Self {
        Self {
            plan,
            root_hashes: BTreeMap::new(),
            key_hashes: BTreeMap::new(),
            notices: Vec::new(),
            untold: Vec::new(),
        }
    }
}

/// What applying takes besides the plan.
#[derive(Debug)]
pub struct Materials<'a> {
    /// What was built beforehand, by definition.
    pub staged: &'a Staged,
    /// Sources of `CopyBlocks=`, by definition.
    pub sources: &'a BTreeMap<usize, BlockSource>,
    /// What goes into file systems, by definition.
    pub trees: &'a BTreeMap<usize, Tree>,
    /// The table that was found.
    pub old: Option<&'a Table>,
    /// The master boot record that was found.
    pub old_mbr: Option<&'a MbrTable>,
    /// The target is a block device.
    pub on_disk: bool,
}

/// A step that failed: which partition, and why.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct ApplyError {
    /// What was being done, and to which partition.
    doing: String,
    /// Why it failed.
    source: StepError,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the causes say it")]
#[non_exhaustive]
pub enum StepError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Populate(#[from] PopulateError),
    #[error(transparent)]
    HashTree(#[from] HashTreeError),
    #[error(transparent)]
    Encrypt(#[from] EncryptError),
    #[error(transparent)]
    Integrity(#[from] IntegrityError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    BootCatalog(#[from] ElToritoError),
    #[error("{path} has become smaller: it has {found} bytes where {expected} were found before", path = path.display())]
    Shrunk {
        path: std::path::PathBuf,
        expected: u64,
        found: u64,
    },
    #[error(
        "its root hash cannot be known from the UUIDs of the set, as it is longer than they are; make the hash partition and its signature in the same run"
    )]
    RootHashUnknown,
    #[error("the plan names contents that were not prepared; this is a bug in ddi")]
    Unprepared,
}

/// Carries `steps` out on `device`; `watch` hears what is about to be done.
pub fn apply(
    job: &Job,
    plan: Plan,
    steps: &[Step],
    materials: &Materials<'_>,
    device: &mut dyn BlockDevice,
    watch: &mut dyn FnMut(&Doing),
) -> Result<Applied, ApplyError> {
    let mut run = Run {
        job,
        materials,
        device,
        applied: Applied::nothing(plan),
        unzeroed: Vec::new(),
    };
    for step in steps {
        let doing = run.describe(step);
        let told = phase::of(step, &run.applied.plan, job.definitions()).saying(doing.as_str());
        if *step == Step::Commit {
            let adjusted = phase::adjusted(&run.applied.plan, job.definitions());
            adjusted.iter().for_each(&mut *watch);
        }
        watch(&told);
        run.step(step)
            .map_err(|source| ApplyError { doing, source })?;
        if matches!(step, Step::Blocks(_) | Step::FileSystem(_)) {
            watch(&told.done());
        }
    }
    Ok(run.applied)
}

struct Run<'a> {
    job: &'a Job,
    materials: &'a Materials<'a>,
    device: &'a mut dyn BlockDevice,
    applied: Applied,
    /// What could not be cleared quickly.
    unzeroed: Vec<Extent>,
}

impl<'a> Run<'a> {
    fn step(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::Mend => self.mend(),
            Step::Detach => self.detach(),
            Step::Resize(size) => Ok(self.device.set_size(*size)?),
            Step::ClearSignatures => {
                let disk = Extent::new(Bytes::ZERO, self.device.size());
                let chosen = |found: &Found| !found.kind.is_table();
                signatures::wipe(self.device, disk, &chosen)?;
                Ok(())
            }
            Step::Zero(extent) => self.clear(*extent),
            Step::Blocks(index) | Step::FileSystem(index) => self.fill(*index),
            Step::HashTree { data, hash } => self.hash_tree(*data, *hash),
            Step::Signature { hash, signature } => self.sign(*hash, *signature),
            Step::BootCatalog { esp } => self.boot_catalog(*esp),
            Step::Flush => Ok(self.device.flush()?),
            Step::Commit => self.commit(),
            Step::Tell(change) => {
                self.applied.untold.extend(self.device.tell(*change).err());
                Ok(())
            }
        }
    }

    fn clear(&mut self, extent: Extent) -> Result<(), StepError> {
        // Of a block device it gives up what lies there, as discarding does.
        if (self.job.discard || !self.materials.on_disk) && self.device.clear(extent)? {
            return Ok(());
        }
        if self.job.discard {
            self.device.discard(extent)?;
        }
        self.unzeroed.push(extent);
        // They are looked for where the partitions will be; a later one clears its own place.
        let new = self.applied.plan.partitions.iter();
        let new = new.filter(|partition| partition.fate == Fate::Create);
        for place in new.map(PlannedPartition::extent) {
            if meet(place, extent) {
                signatures::wipe(self.device, place, &|_| true)?;
            }
        }
        Ok(())
    }

    /// Whether the range may hold anything but zeros.
    fn is_unzeroed(&self, extent: Extent) -> bool {
        self.unzeroed.iter().any(|other| meet(*other, extent))
    }

    /// For what is written whole, and is small.
    fn make_zero(&mut self, extent: Extent) -> Result<(), StepError> {
        match self.is_unzeroed(extent) {
            true => Ok(self.device.zero(extent)?),
            false => Ok(()),
        }
    }

    fn fill(&mut self, index: usize) -> Result<(), StepError> {
        let (at, definition) = self.definition(index)?;
        let filling = Filling {
            job: self.job,
            materials: self.materials,
            at,
            definition,
            partition: self.partition(index).clone(),
        };
        let extent = filling.partition.extent();
        if definition.tags.standalone {
            let before = match self.is_unzeroed(extent) {
                true => Before::Anything,
                false => Before::Zeros,
            };
            return integrity::write(&filling, before, self.device);
        }
        let hashed = filling.partition.verity.data.is_some();
        if hashed {
            // All of it is hashed, and the same contents are to give the same hash.
            self.make_zero(extent)?;
        }
        let done = match !hashed && self.is_unzeroed(extent) {
            true => filling.write_over_old(self.device)?,
            false => filling.write_all(self.device)?,
        };
        let Some(done) = done else {
            return Ok(());
        };
        self.applied.key_hashes.insert(index, done.key_hash);
        self.applied.notices.extend(done.notice);
        Ok(())
    }

    fn hash_tree(&mut self, data: usize, hash: usize) -> Result<(), StepError> {
        let (at, _) = self.definition(data)?;
        let (_, definition) = self.definition(hash)?;
        let mut covered = self.partition(data).extent();
        if definition.minimize != crate::definition::Minimize::Off {
            // The tree was sized for what the data partition holds, not for what it has room for.
            let content = self.data_size(at).unwrap_or(covered.size);
            let sector = super::stage::fs_sector(definition, self.job);
            covered.size = hash_tree::covered(content, &definition.verity, sector);
        }
        let job = self.job;
        let params = hash_tree::params(
            covered.size,
            &definition.verity,
            super::stage::fs_sector(definition, job),
            job.options.seed,
        )
        .map_err(HashTreeError::from)?;
        let extent = self.partition(hash).extent();
        self.make_zero(extent)?;
        let tree = hash_tree::HashTree {
            params: &params,
            parity: definition.verity.fec,
            scratch: &job.environment.scratch,
        };
        let root = tree.write(self.device, covered, extent)?;
        self.settle(hash, root);
        Ok(())
    }

    fn data_size(&self, definition: usize) -> Option<Bytes> {
        let staged = self
            .materials
            .staged
            .get(definition)
            .map(StagedContent::size);
        staged.or_else(|| self.materials.sources.get(&definition)?.size)
    }

    /// The root hash is known: it decides the set's UUIDs.
    fn settle(&mut self, hash: usize, root: RootHash) {
        let siblings = self.partition(hash).verity;
        let pair = identity::verity_pair(root.as_bytes());
        let uuids = [
            (siblings.data, pair.map(|pair| pair.0)),
            (siblings.hash, pair.map(|pair| pair.1)),
        ];
        for (index, uuid) in uuids {
            let partition = index.and_then(|index| self.applied.plan.partitions.get_mut(index));
            if let (Some(partition), Some(uuid)) = (partition, uuid)
                && partition.uuid_from_root_hash
            {
                partition.uuid = uuid;
            }
        }
        for member in [siblings.data, siblings.hash, siblings.signature]
            .into_iter()
            .flatten()
        {
            self.applied.root_hashes.insert(member, root.clone());
        }
    }

    fn sign(&mut self, hash: usize, signature: usize) -> Result<(), StepError> {
        let root = match self.applied.root_hashes.get(&hash) {
            Some(root) => root.clone(),
            None => self.found_root_hash(hash)?,
        };
        let extent = self.partition(signature).extent();
        let text = self.job.signing.text(&root, extent.size.get())?;
        self.make_zero(extent)?;
        self.device.write_all_at(&text, extent.start)?;
        self.settle(hash, root);
        Ok(())
    }

    /// The root hash that the UUIDs of an existing set say.
    fn found_root_hash(&self, hash: usize) -> Result<RootHash, StepError> {
        let siblings = self.partition(hash).verity;
        let tree = siblings
            .hash
            .map(|tree| self.definition(tree))
            .transpose()?;
        let algorithm = tree.and_then(|(_, tree)| tree.verity.algorithm);
        if algorithm.is_some_and(|algorithm| algorithm != HashAlgorithm::Sha256) {
            return Err(StepError::RootHashUnknown);
        }
        let uuid = |index: Option<usize>| Some(self.applied.plan.partitions.get(index?)?.uuid);
        let (data, tree) = uuid(siblings.data)
            .zip(uuid(siblings.hash))
            .ok_or(StepError::Unprepared)?;
        Ok(RootHash::new(
            [data.into_bytes(), tree.into_bytes()].concat(),
        ))
    }

    fn boot_catalog(&mut self, esp: usize) -> Result<(), StepError> {
        let Some(names) = &self.job.el_torito else {
            return Ok(());
        };
        let moment = Moment {
            seconds: self.job.environment.time(),
            zone: 0,
        };
        let sectors = eltorito::encode(names, moment, self.partition(esp).offset)?;
        Ok(self.device.write_all_at(&sectors, eltorito::OFFSET)?)
    }

    fn mend(&mut self) -> Result<(), StepError> {
        match self.materials.old {
            Some(old) => Ok(blockdev::table::commit(self.device, old, Commit::Update)?),
            None => Ok(()),
        }
    }

    fn detach(&mut self) -> Result<(), StepError> {
        let old = self.materials.old_mbr;
        match old.and_then(|old| mbr::detached(&self.applied.plan, old)) {
            Some(table) => Ok(blockdev::mbr::commit(self.device, &table, Commit::Update)?),
            None => Ok(()),
        }
    }

    fn commit(&mut self) -> Result<(), StepError> {
        let over = match self.applied.plan.table.from_scratch {
            true => Commit::Create,
            false => Commit::Update,
        };
        if let PlannedLabel::Mbr { .. } = self.applied.plan.table.label {
            let new = mbr::planned(&self.applied.plan, self.materials.old_mbr)?;
            return Ok(blockdev::mbr::commit(self.device, &new, over)?);
        }
        let new = table::planned(&self.applied.plan, self.materials.old)?;
        let listed = table::listed(&self.applied.plan, self.job.definitions())?;
        Ok(blockdev::table::commit_hybrid(
            self.device,
            &new,
            over,
            &listed,
        )?)
    }

    fn partition(&self, index: usize) -> &PlannedPartition {
        &self.applied.plan.partitions[index]
    }

    fn definition(&self, index: usize) -> Result<(usize, &'a Definition), StepError> {
        let at = self
            .partition(index)
            .definition
            .ok_or(StepError::Unprepared)?;
        self.job
            .definitions()
            .get(at)
            .map(|definition| (at, definition))
            .ok_or(StepError::Unprepared)
    }

    fn describe(&self, step: &Step) -> String {
        let name = |index: &usize| {
            let partition = self.partition(*index);
            let file = partition
                .definition
                .and_then(|at| self.job.definitions()[at].origin.path.as_ref());
            let file = file
                .and_then(|path| path.file_name())
                .map(|name| name.to_string_lossy().into_owned());
            file.unwrap_or_else(|| partition.label.clone())
        };
        let format = |index: &usize| {
            let at = self.partition(*index).definition;
            let format = at.and_then(|at| self.job.definitions()[at].format.as_ref());
            format.map_or_else(String::new, |format| format.name().to_owned())
        };
        match step {
            Step::Mend => format!("mending the partition table of {}", self.device.name()),
            Step::Detach => format!(
                "taking the logical partitions that end from the table of {}",
                self.device.name()
            ),
            Step::Resize(size) => format!("resizing {} to {size}", self.device.name()),
            Step::ClearSignatures => format!("clearing old signatures of {}", self.device.name()),
            Step::Zero(extent) => {
                format!("clearing {} at byte {}", extent.size, extent.start.get())
            }
            Step::Blocks(index) => format!("copying blocks into the partition of {}", name(index)),
            Step::FileSystem(index) => format!(
                "making the {} file system of {}",
                format(index),
                name(index)
            ),
            Step::HashTree { data, hash } => format!("hashing {} into {}", name(data), name(hash)),
            Step::Signature { signature, .. } => {
                format!("signing the root hash for {}", name(signature))
            }
            Step::BootCatalog { .. } => "writing the El Torito boot catalog".to_owned(),
            Step::Flush => format!("flushing {}", self.device.name()),
            Step::Commit => format!("writing the partition table of {}", self.device.name()),
            Step::Tell(change) => format!("telling the kernel that {change}"),
        }
    }
}

fn meet(one: Extent, other: Extent) -> bool {
    let ends = one.end().zip(other.end());
    ends.is_none_or(|(end, its)| other.start < end && one.start < its)
}

/// Whether a definition's content comes from elsewhere than its own keys.
pub(super) fn is_verity_metadata(definition: &Definition) -> bool {
    matches!(
        definition.verity.mode,
        VerityMode::Hash | VerityMode::Signature
    )
}
