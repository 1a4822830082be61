//! fstab and crypttab: what images hold of them, and what is written in the end.
//!
//! Images that copy such a file hold it before it is written to its place. Invariant: a file is only
//! written once the partitions that it speaks of are in the table.

use std::path::{Path, PathBuf};

use super::apply::Applied;
use super::beside::{self, BesideError};
use super::contents::Overlay;
use super::job::Job;
use super::session::SessionError;
use crate::crypttab::{self, Volume};
use crate::fstab::{self, Mountable};
use crate::plan::Plan;

/// The files as images hold them.
#[derive(Debug, Default)]
pub(super) struct Tabs {
    fstab: Option<Overlay>,
    crypttab: Option<Overlay>,
}

impl Tabs {
    /// Makes the texts; nothing is written. Fails where a file exists that must not be changed.
    pub(super) fn new(job: &Job, plan: &Plan) -> Result<Self, SessionError> {
        Ok(Self {
            fstab: fstab(job, plan)?,
            crypttab: crypttab(job, plan)?,
        })
    }

    /// What images hold.
    pub(super) fn overlays(&self) -> impl Iterator<Item = &Overlay> {
        self.fstab.iter().chain(&self.crypttab)
    }

    /// Writes the files: the crypttab with the hashes of volume keys, now that they are known.
    pub(super) fn write(&self, job: &Job, applied: &Applied) -> Result<(), SessionError> {
        let hash = |index: usize| applied.key_hashes.get(&index).map(String::as_str);
        let crypttab = self.crypttab.as_ref().and_then(|overlay| {
            let text = crypttab::text(&volumes(job, &applied.plan, &hash))?;
            Some((&overlay.path, text))
        });
        let fstab = self.fstab.as_ref();
        let fstab = fstab.map(|overlay| (&overlay.path, overlay.text.clone()));
        for (path, text) in fstab.into_iter().chain(crypttab) {
            let path = place(job, path);
            beside::write(&path, &text).map_err(|source| SessionError::Tab { path, source })?;
        }
        Ok(())
    }
}

fn fstab(job: &Job, plan: &Plan) -> Result<Option<Overlay>, SessionError> {
    let Some(wanted) = &job.fstab else {
        return Ok(None);
    };
    let mountable = |partition: &crate::plan::PlannedPartition| {
        let part_uuid = plan.part_uuid(partition);
        Some((partition.definition?, partition.fs_uuid, part_uuid))
    };
    let mountables: Vec<Mountable<'_>> = plan
        .listed()
        .filter_map(mountable)
        .filter_map(|(at, file_system, partition)| {
            Some(Mountable {
                definition: job.definitions().get(at)?,
                file_system,
                partition,
            })
        })
        .collect();
    let Some(section) = fstab::section(&mountables) else {
        return Ok(None);
    };
    let place = place(job, &wanted.path);
    let failed = |source| SessionError::Tab {
        path: place.clone(),
        source,
    };
    let existing = beside::read(&place).map_err(failed)?;
    let text = fstab::merge(&section, existing.as_deref(), wanted.append)
        .map_err(|exists| failed(exists.into()))?;
    Ok(Some(Overlay {
        path: wanted.path.clone(),
        text,
    }))
}

fn crypttab(job: &Job, plan: &Plan) -> Result<Option<Overlay>, SessionError> {
    let Some(path) = &job.crypttab else {
        return Ok(None);
    };
    let Some(text) = crypttab::text(&volumes(job, plan, &|_| None)) else {
        return Ok(None);
    };
    let place = place(job, path);
    if place.symlink_metadata().is_ok() {
        let source = BesideError::from(crypttab::Exists);
        return Err(SessionError::Tab {
            path: place,
            source,
        });
    }
    Ok(Some(Overlay {
        path: path.clone(),
        text,
    }))
}

fn volumes<'a>(
    job: &'a Job,
    plan: &Plan,
    hash: &dyn Fn(usize) -> Option<&'a str>,
) -> Vec<Volume<'a>> {
    let listed = plan.partitions.iter().enumerate();
    let listed = listed.filter(|(_, partition)| partition.is_listed());
    listed
        .filter_map(|(index, partition)| {
            Some(Volume {
                definition: job.definitions().get(partition.definition?)?,
                luks: partition.luks_uuid,
                key_hash: hash(index),
            })
        })
        .collect()
}

/// Where a file lies that is written beside the image.
fn place(job: &Job, path: &Path) -> PathBuf {
    super::sources::below(job.copy_source.as_deref(), path)
}
