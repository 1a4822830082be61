//! Building or measuring contents before the layout is decided, as steps of a [`Session`].

use image_specs::units::{Bytes, Extent};

use super::hash_tree::{self, HashTreeError};
use super::phase::{Doing, Phase};
use super::session::{Replay, Session, SessionError, file_of, place};
use super::stage::{self, StagedContent};
use crate::definition::{Definition, Encrypt, Minimize, VerityMode};
use crate::integrity;
use crate::plan::Plan;
use crate::populate::{self, Spec};

impl Session<'_> {
    /// Staging goes in list order: the place of each is certain once all before it are known.
    pub(super) fn stage(
        &mut self,
        random: &mut Replay<'_>,
        watch: &mut dyn FnMut(&Doing),
    ) -> Result<(), SessionError> {
        let job = self.job;
        let wants = |definition: &Definition| {
            definition.minimize != Minimize::Off && definition.copy_blocks.is_none()
        };
        for (at, definition) in job.definitions().iter().enumerate() {
            if wants(definition) && definition.format.is_some() && self.staged.get(at).is_none() {
                self.stage_file_system(at, definition, random, watch)?;
            }
        }
        for (at, definition) in job.definitions().iter().enumerate() {
            self.require_room_for_tags(at, definition)?;
            hash_tree::check(definition, stage::fs_sector(definition, job)).map_err(|source| {
                SessionError::Parity {
                    file: file_of(definition),
                    source,
                }
            })?;
            if wants(definition) && definition.verity.mode == VerityMode::Hash {
                self.stage_hash(at, definition)?;
            }
        }
        Ok(())
    }

    /// Refuses what fits `SizeMaxBytes=` only without its tags.
    fn require_room_for_tags(
        &self,
        at: usize,
        definition: &Definition,
    ) -> Result<(), SessionError> {
        let staged = self.staged.get(at).map(StagedContent::size);
        let content = staged.or_else(|| self.sources.get(&at)?.size);
        let limited = content.zip(definition.size_max);
        let Some((content, limit)) = limited.filter(|_| definition.tags.standalone) else {
            return Ok(());
        };
        let sector = stage::fs_sector(definition, self.job);
        let size = integrity::size_for(definition, sector, content.get()).unwrap_or(u64::MAX);
        match size > limit.get() {
            true => Err(SessionError::TooBig {
                file: file_of(definition),
                size,
                limit: limit.get(),
            }),
            false => Ok(()),
        }
    }

    fn stage_file_system(
        &mut self,
        at: usize,
        definition: &Definition,
        random: &mut Replay<'_>,
        watch: &mut dyn FnMut(&Doing),
    ) -> Result<(), SessionError> {
        // Identities do not depend on sizes, so a plan without them tells label and UUID.
        let Some(plan) = self.preview(at, Bytes::new(1), random) else {
            return Ok(());
        };
        let Some(index) = place(&plan, at).filter(|index| plan.partitions[*index].is_to_write())
        else {
            return Ok(());
        };
        let text = format!(
            "measuring the contents of {}",
            file_of(definition).display()
        );
        let doing = Doing::new(Phase::Minimizing).of(definition.origin.path.as_deref());
        watch(&doing.saying(text));
        self.collect(at, index, &plan)?;
        let job = self.job;
        let spec = Spec::new(definition, &plan.partitions[index], job);
        let tree = &self.trees[&at];
        let failed = |source| SessionError::Stage {
            file: file_of(definition),
            source,
        };
        let content = match populate::sizing(&spec, tree).map_err(failed)? {
            populate::Sizing::Known(size) => StagedContent::Sized(Bytes::new(size)),
            populate::Sizing::ByBuilding { at_most } => {
                let likely = self.likely_offset(at, Bytes::new(at_most), random);
                // What will be encrypted must not lie in the image before; what gets tags lies elsewhere.
                let plain =
                    definition.encryption.mode == Encrypt::Off && !definition.tags.standalone;
                let target = self.target.as_mut();
                let target = target.filter(|target| plain && target.is_new());
                match (likely, target) {
                    (Some(offset), Some(target)) => {
                        let device = target.device_mut();
                        let end = offset.saturating_add(Bytes::new(at_most));
                        if device.size() < end {
                            device.set_size(end).map_err(|error| failed(error.into()))?;
                        }
                        let room = Extent::new(offset, Bytes::new(at_most));
                        let size = populate::write(&spec, tree, device, room).map_err(failed)?;
                        StagedContent::InPlace {
                            offset,
                            size: Bytes::new(size),
                        }
                    }
                    _ => stage::in_scratch(&spec, tree, at_most).map_err(failed)?,
                }
            }
        };
        if let Some(limit) = definition.size_max.filter(|limit| content.size() > *limit) {
            let size = content.size().get();
            return Err(SessionError::TooBig {
                file: file_of(definition),
                size,
                limit: limit.get(),
            });
        }
        self.staged.insert(at, content);
        Ok(())
    }

    /// Where the partition will begin, if that is the same for all sizes that its content is likely
    /// to have. (Should it come out otherwise, the content is moved before the plan is applied.)
    fn likely_offset(&self, at: usize, at_most: Bytes, random: &mut Replay<'_>) -> Option<Bytes> {
        let mut offset = |size| {
            let plan = self.preview(at, size, random)?;
            let index = place(&plan, at)?;
            Some(plan.partitions[index].offset)
        };
        // Few contents shrink to less than a sixteenth.
        let small = offset(Bytes::new((at_most.get() / 16).max(4096)))?;
        offset(at_most).filter(|large| *large == small)
    }

    /// The plan as if the definition's content had this size.
    fn preview(&self, at: usize, size: Bytes, random: &mut Replay<'_>) -> Option<Plan> {
        let mut survey = self.survey();
        survey.contents[at].blocks = Some(size);
        self.plan_for(&survey, random).ok()
    }

    fn stage_hash(&mut self, at: usize, definition: &Definition) -> Result<(), SessionError> {
        let job = self.job;
        let data = job.wanted.verity_set_of(at).map(|set| set.data);
        let size = data.and_then(|data| {
            self.staged
                .get(data)
                .map(StagedContent::size)
                .or_else(|| self.sources.get(&data)?.size)
        });
        let Some(size) = size else { return Ok(()) };
        let sector = stage::fs_sector(definition, job);
        let size = hash_tree::covered(size, &definition.verity, sector);
        let keys = &definition.verity;
        let params =
            hash_tree::params(size, keys, sector, job.options.seed).map_err(HashTreeError::from)?;
        let size = hash_tree::size(&params, keys.fec)?;
        self.staged.insert(at, StagedContent::Sized(size));
        Ok(())
    }
}
