//! A run from survey to the end: what is found, what is staged, the plan, and its application.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use blockdev::space;
use blockdev::table::TableCopy;
use filetree::Tree;
use filetree::collect::CollectError;
use image_specs::eltorito;
use image_specs::units::{Bytes, Extent};
use veritysetup::fec::LayoutError;

use super::apply::{self, Applied, ApplyError, Materials};
use super::backup::{Keep, KeepError};
use super::contents::{self, Overlay};
use super::encrypt;
use super::hash_tree::HashTreeError;
use super::job::Job;
use super::kernel::{self, InUse};
use super::mbr;
use super::overwrite::{Caution, WouldLose};
use super::phase::{Doing, Phase};
use super::recovery::{RecoveryError, Waiting};
use super::sign::SignError;
use super::sources::{BlockSource, SourceError};
use super::split;
use super::stage::{self, Staged, StagedContent};
use super::steps::{self, Step};
use super::tabs::Tabs;
use super::target::{Target, TargetError};
use crate::definition::{CopyBlocks, CopyMode, Definition, Encrypt, VerityMode};
use crate::integrity;
use crate::plan::{self, CheckError, EmptyMode, Plan, PlanError, PlannedPartition, SizeMode};
use crate::populate::PopulateError;
use crate::survey::{FoundContent, FoundLabel, Survey};

/// A run that has looked at its target and changed nothing yet.
#[derive(Debug)]
pub struct Session<'a> {
    pub(super) job: &'a Job,
    pub(super) target: Option<Target>,
    pub(super) sources: BTreeMap<usize, BlockSource>,
    pub(super) trees: BTreeMap<usize, Tree>,
    pub(super) staged: Staged,
    tabs: Option<Tabs>,
    notices: Vec<String>,
    committed: bool,
    pub(super) caution: Caution,
    pub(super) keep: Keep,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the causes say it")]
#[non_exhaustive]
pub enum SessionError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("{file}: {source}", file = file.display())]
    Source { file: PathBuf, source: SourceError },
    #[error("{}{source}", prefix(disk))]
    Plan { disk: PathBuf, source: PlanError },
    #[error("the plan would break what it must keep, so nothing was changed; this is a bug in ddi")]
    Check(#[from] CheckError),
    #[error("cannot collect the contents of {file}", file = file.display())]
    Collect { file: PathBuf, source: CollectError },
    #[error("cannot build {file} to learn its size", file = file.display())]
    Stage {
        file: PathBuf,
        source: PopulateError,
    },
    #[error("{file}: its contents need {size} bytes, more than SizeMaxBytes= allows ({limit})", file = file.display())]
    TooBig {
        file: PathBuf,
        size: u64,
        limit: u64,
    },
    #[error(transparent)]
    HashTree(#[from] HashTreeError),
    #[error("{file}: VerityFEC= is not possible: {source}", file = file.display())]
    Parity { file: PathBuf, source: LayoutError },
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("cannot write {path}", path = path.display())]
    Tab {
        path: PathBuf,
        source: super::beside::BesideError,
    },
    #[error(transparent)]
    Split(#[from] split::SplitError),
    #[error(transparent)]
    InUse(#[from] InUse),
    #[error(transparent)]
    WouldLose(#[from] WouldLose),
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error(transparent)]
    Space(#[from] space::SpaceError),
    #[error("--el-torito=yes needs an ESP to boot; add a definition with Type=esp")]
    NoEsp,
    #[error(
        "--el-torito=yes needs the sectors between the partition table and 42 KiB, but partitions may begin there; make the image larger than 4 MiB"
    )]
    NoRoomForCatalog,
}

impl<'a> Session<'a> {
    /// Opens the sources that definitions name, and takes the target (`None`: only to measure).
    pub fn new(job: &'a Job, target: Option<Target>) -> Result<Self, SessionError> {
        let mut session = Self {
            job,
            target,
            sources: BTreeMap::new(),
            trees: BTreeMap::new(),
            staged: Staged::default(),
            tabs: None,
            notices: Vec::new(),
            committed: false,
            caution: Caution::default(),
            keep: Keep::default(),
        };
        for (at, definition) in job.definitions().iter().enumerate() {
            if let Some(wanted) = &definition.copy_blocks {
                let source =
                    BlockSource::open(wanted, definition.kind, session.source_root(wanted))
                        .map_err(|source| SessionError::Source {
                            file: file_of(definition),
                            source,
                        })?;
                session.sources.insert(at, source);
            }
        }
        Ok(session)
    }

    fn source_root(&self, wanted: &CopyBlocks) -> Option<&'a Path> {
        match wanted {
            CopyBlocks::Range { .. } => None,
            _ => self.job.root.as_deref(),
        }
    }

    /// What a person should hear about, in order; each once.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Whether the plan has been carried out on the disk, whatever failed behind that.
    pub fn is_committed(&self) -> bool {
        self.committed
    }

    /// The target, where that is a block device.
    pub fn disk(&self) -> Option<PathBuf> {
        let target = self.target.as_ref();
        let target = target.filter(|target| target.is_block_device())?;
        Some(target.path().to_owned())
    }

    /// The target, where there is one.
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// The least size of a disk that takes everything.
    pub fn minimal_size(
        &mut self,
        random: &mut Replay<'_>,
        watch: &mut dyn FnMut(&Doing),
    ) -> Result<Bytes, SessionError> {
        self.name_partitions(watch);
        self.stage(random, watch)?;
        plan::minimal_size(&self.survey(), &self.job.wanted, &self.job.options)
            .map_err(|source| self.no_plan(source))
    }

    fn no_plan(&self, source: PlanError) -> SessionError {
        let disk = self.target.as_ref().map(|target| target.path().to_owned());
        SessionError::Plan {
            disk: disk.unwrap_or_default(),
            source,
        }
    }

    /// Builds what must be built to know its size, and plans.
    pub fn plan(
        &mut self,
        random: &mut Replay<'_>,
        watch: &mut dyn FnMut(&Doing),
    ) -> Result<Plan, SessionError> {
        self.name_partitions(watch);
        self.stage(random, watch)?;
        watch(&Doing::new(Phase::Placing));
        let survey = self.survey();
        let plan = self.plan_for(&survey, random);
        let plan = plan.map_err(|source| self.no_plan(source))?;
        plan::check(&plan, &survey)?;
        self.require_boot_catalog(&plan)?;
        Ok(plan)
    }

    /// Labels and UUIDs are part of the plan; here it is only said whose.
    fn name_partitions(&self, watch: &mut dyn FnMut(&Doing)) {
        for definition in self.job.definitions() {
            let file = definition.origin.path.as_deref();
            watch(&Doing::new(Phase::AcquiringPartitionLabels).of(file));
        }
    }

    pub(super) fn plan_for(
        &self,
        survey: &Survey,
        random: &mut Replay<'_>,
    ) -> Result<Plan, PlanError> {
        random.rewind();
        let mut options = self.job.options.clone();
        if self.target.is_none() {
            // Only the size is asked for: of a new image that has what it needs.
            options.empty = EmptyMode::Create;
            options.size = SizeMode::Auto;
        }
        plan::plan(survey, &self.job.wanted, &options, &mut || random.next())
    }

    pub(super) fn survey(&self) -> Survey {
        let contents = (0..self.job.definitions().len()).map(|at| FoundContent {
            blocks: self
                .staged
                .get(at)
                .map(StagedContent::size)
                .or_else(|| self.sources.get(&at)?.size),
            uuid: self.sources.get(&at).and_then(|source| source.uuid),
            replaced: None,
        });
        let target = self.target.as_ref();
        Survey {
            // A new image counts as empty, whatever was staged in it.
            disk_size: target
                .filter(|target| !target.is_new())
                .map_or(Bytes::ZERO, |target| target.device().size()),
            sector: self.job.sector,
            label: target.map_or(FoundLabel::None, |target| target.label().clone()),
            contents: contents.collect(),
        }
    }

    pub(super) fn collect(
        &mut self,
        at: usize,
        index: usize,
        plan: &Plan,
    ) -> Result<(), SessionError> {
        if self.trees.contains_key(&at) {
            return Ok(());
        }
        self.prepare_tabs(plan)?;
        let definition = &self.job.definitions()[at];
        let (tree, notices) =
            contents::collect(self.job, plan, index, &self.overlays()).map_err(|source| {
                SessionError::Collect {
                    file: file_of(definition),
                    source,
                }
            })?;
        self.notices.extend(notices);
        self.trees.insert(at, tree);
        Ok(())
    }

    /// The tabs are part of the images that copy them, before they are written to their places.
    fn prepare_tabs(&mut self, plan: &Plan) -> Result<(), SessionError> {
        if self.tabs.is_none() {
            self.tabs = Some(Tabs::new(self.job, plan)?);
        }
        Ok(())
    }

    fn overlays(&self) -> Vec<&Overlay> {
        self.tabs.iter().flat_map(Tabs::overlays).collect()
    }

    /// Carries the plan out and, last, gives a new image its name and writes the files beside it.
    pub fn apply(
        &mut self,
        plan: Plan,
        split: bool,
        watch: &mut dyn FnMut(&Doing),
    ) -> Result<Applied, SessionError> {
        self.require_safe(&plan)?;
        self.require_signatures(&plan)?;
        self.fill(&plan)?;
        self.prepare_tabs(&plan)?;
        let placed = self.keep_in_place(&plan)?;
        self.require_space(&plan)?;
        let job = self.job;
        let steps = self.steps(&plan, &placed);
        let Some(mut target) = self.target.take() else {
            return Ok(Applied::nothing(plan));
        };
        self.notices.extend(self.keep_table(&target, &plan)?);
        let mut recovery = Some(Waiting::prepare(job, &plan)?);
        let old = target.old().cloned();
        let old_mbr = target.old_mbr().cloned();
        let materials = Materials {
            staged: &self.staged,
            sources: &self.sources,
            trees: &self.trees,
            old: old.as_ref(),
            old_mbr: old_mbr.as_ref(),
            on_disk: target.is_block_device(),
        };
        // Contents may have taken a while, and nobody is kept from mounting meanwhile.
        kernel::require_unused(&target, &plan)?;
        let mut applied = apply::apply(job, plan, &steps, &materials, target.device_mut(), watch)?;
        self.committed = true;
        if !target.is_new() {
            // The partitions are there, whatever becomes of what is still to do.
            recovery.take().map_or(Ok(()), Waiting::finish)?;
        }
        if split {
            watch(&Doing::more("writing split artifacts"));
            let artifacts = split::artifacts(job, &applied.plan, target.path())?;
            split::write(&artifacts, target.device())?;
        }
        let disk = target.is_block_device().then(|| target.path().to_owned());
        target.finish()?;
        recovery.map_or(Ok(()), Waiting::finish)?;
        applied
            .notices
            .extend(disk.and_then(|disk| kernel::settle(&disk, &steps)));
        if let Some(tabs) = &self.tabs {
            tabs.write(job, &applied)?;
        }
        Ok(applied)
    }

    fn steps(&self, plan: &Plan, placed: &BTreeSet<usize>) -> Vec<Step> {
        let job = self.job;
        let mut steps = steps::steps(job, plan, placed, self.is_damaged());
        let old = self.target.as_ref().and_then(Target::old_mbr);
        if plan.changed && old.is_some_and(|old| mbr::detached(plan, old).is_some()) {
            steps.insert(0, Step::Detach);
        }
        if steps.is_empty() && self.restores_copy(plan) {
            steps.extend([Step::Flush, Step::Commit]);
        }
        if job.wanted.copy == CopyMode::Cut && job.options.empty == EmptyMode::Create {
            steps.extend([Step::Resize(plan.end_of_partitions()), Step::Flush]);
        }
        steps.extend(self.tell_steps(plan));
        steps
    }

    /// Refuses before the first write what could not be finished.
    fn require_signatures(&self, plan: &Plan) -> Result<(), SessionError> {
        for partition in plan
            .partitions
            .iter()
            .filter(|partition| partition.is_to_write())
        {
            let Some(definition) = partition.definition.map(|at| &self.job.definitions()[at])
            else {
                continue;
            };
            let signs =
                definition.verity.mode == VerityMode::Signature && definition.copy_blocks.is_none();
            if signs && !self.job.signing.is_possible() {
                return Err(SignError::NoKey(file_of(definition).display().to_string()).into());
            }
        }
        Ok(())
    }

    /// Whether the table is written though nothing in it changes, as one of its copies is damaged or
    /// missing at the disk's end.
    pub fn restores_copy(&self, plan: &Plan) -> bool {
        self.target
            .as_ref()
            .is_some_and(|target| self.restores_copy_on(target, plan))
    }

    pub(super) fn restores_copy_on(&self, target: &Target, plan: &Plan) -> bool {
        let broken = target.found().is_some_and(|found| found.other.is_some());
        broken && !plan.table.from_scratch && self.job.wanted.copy == CopyMode::Restore
    }

    /// Whether the table that was found stands only in its backup.
    fn is_damaged(&self) -> bool {
        let found = self.target.as_ref().and_then(Target::found);
        found.is_some_and(|found| found.copy == TableCopy::Backup)
    }

    /// Refuses to begin what the file system of the target has no room for.
    fn require_space(&self, plan: &Plan) -> Result<(), SessionError> {
        let Some(target) = self
            .target
            .as_ref()
            .filter(|target| !target.is_block_device())
        else {
            return Ok(());
        };
        let needed = plan
            .partitions
            .iter()
            .filter(|partition| partition.is_to_write())
            .filter_map(|partition| Some(self.bytes_to_write(partition.definition?, partition)))
            .fold(Bytes::ZERO, Bytes::saturating_add);
        let folder = target
            .path()
            .parent()
            .filter(|folder| *folder != Path::new(""));
        Ok(space::require(folder.unwrap_or(Path::new(".")), needed)?)
    }

    /// What filling a partition takes of the target's file system; holes take nothing.
    fn bytes_to_write(&self, definition: usize, partition: &PlannedPartition) -> Bytes {
        let contents = self.bytes_of_contents(definition);
        let wanted = &self.job.definitions()[definition];
        let encryption = &wanted.encryption;
        match encryption.mode {
            Encrypt::Off if wanted.tags.standalone => {
                let sector = stage::fs_sector(wanted, self.job);
                let room = integrity::inner_size(wanted, sector, partition.new_size);
                let room = room.unwrap_or(Bytes::ZERO);
                contents.saturating_add(partition.new_size.saturating_sub(room))
            }
            Encrypt::Off => contents,
            _ if contents.is_zero() => contents,
            _ if !encrypt::keeps_holes(encryption) => partition.new_size,
            _ => contents.saturating_add(luks::DATA_OFFSET),
        }
    }

    fn bytes_of_contents(&self, definition: usize) -> Bytes {
        match (
            self.staged.get(definition),
            self.sources.get(&definition),
            self.trees.get(&definition),
        ) {
            (Some(StagedContent::InPlace { .. }), ..) => Bytes::ZERO,
            (Some(StagedContent::File { size, .. }), ..) => *size,
            (_, Some(source), _) => source.allocated(),
            (_, None, Some(tree)) => contents::allocated(tree),
            (_, None, None) => Bytes::ZERO,
        }
    }

    /// The boot catalog needs an ESP, and room behind the partition table.
    fn require_boot_catalog(&self, plan: &Plan) -> Result<(), SessionError> {
        if self.job.el_torito.is_none() {
            return Ok(());
        }
        if steps::esp(plan).is_none() {
            return Err(SessionError::NoEsp);
        }
        let first = plan.table.first_usable.start(plan.table.sector);
        let table_end = Bytes::new(2 * plan.table.sector.get())
            .saturating_add(Bytes::new(u64::from(plan.table.slots) * 128));
        match first >= Some(eltorito::END) && table_end <= eltorito::OFFSET {
            true => Ok(()),
            false => Err(SessionError::NoRoomForCatalog),
        }
    }

    /// Collects the contents of all file systems that are still to be made.
    fn fill(&mut self, plan: &Plan) -> Result<(), SessionError> {
        for (index, partition) in plan.partitions.iter().enumerate() {
            let Some(at) = partition.definition.filter(|_| partition.is_to_write()) else {
                continue;
            };
            let definition = &self.job.definitions()[at];
            if definition.format.is_some()
                && definition.copy_blocks.is_none()
                && !apply::is_verity_metadata(definition)
            {
                self.collect(at, index, plan)?;
            }
        }
        Ok(())
    }

    /// Which staged contents lie where the plan wants them. What does not is moved to a scratch file.
    fn keep_in_place(&mut self, plan: &Plan) -> Result<BTreeSet<usize>, SessionError> {
        let mut placed = BTreeSet::new();
        let mut strays = Vec::new();
        for (at, content) in self.staged.iter() {
            let StagedContent::InPlace { offset, size } = content else {
                continue;
            };
            match place(plan, at) {
                Some(index) if plan.partitions[index].offset == *offset => {
                    placed.insert(index);
                }
                _ => strays.push((at, Extent::new(*offset, *size))),
            }
        }
        for (at, extent) in strays {
            let Some(target) = &mut self.target else {
                continue;
            };
            let failed = |source| SessionError::Stage {
                file: file_of(&self.job.definitions()[at]),
                source,
            };
            let content = stage::out_of(target.device_mut(), extent, &self.job.environment.scratch)
                .map_err(failed)?;
            self.staged.insert(at, content);
        }
        Ok(placed)
    }
}

/// Random numbers that come again in the same order, so that plans made in one run agree.
pub struct Replay<'a> {
    source: &'a mut dyn FnMut() -> [u8; 16],
    seen: Vec<[u8; 16]>,
    at: usize,
}

impl<'a> Replay<'a> {
    /// Takes numbers from `source`.
    pub fn new(source: &'a mut dyn FnMut() -> [u8; 16]) -> Self {
        Self {
            source,
            seen: Vec::new(),
            at: 0,
        }
    }

    fn rewind(&mut self) {
        self.at = 0;
    }

    fn next(&mut self) -> [u8; 16] {
        if self.at == self.seen.len() {
            self.seen.push((self.source)());
        }
        self.at += 1;
        self.seen[self.at - 1]
    }
}

impl std::fmt::Debug for Replay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay")
            .field("seen", &self.seen.len())
            .finish_non_exhaustive()
    }
}

/// The definition's partition in the plan, unless it is dropped or merged.
pub(super) fn place(plan: &Plan, at: usize) -> Option<usize> {
    let mine = |partition: &plan::PlannedPartition| {
        partition.definition == Some(at) && partition.is_listed()
    };
    plan.partitions.iter().position(mine)
}

/// What stands before a message on the disk; nothing where there is none.
fn prefix(disk: &Path) -> String {
    match disk.as_os_str().is_empty() {
        true => String::new(),
        false => format!("{}: ", disk.display()),
    }
}

pub(super) fn file_of(definition: &Definition) -> PathBuf {
    definition
        .origin
        .path
        .clone()
        .unwrap_or_else(|| PathBuf::from("--copy-from="))
}
