//! What a line of `CopyFiles=` leaves out. As in systemd an exclusion is found by its path, once,
//! and then holds for the inode: all hard links of an excluded file are excluded with it.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::source::Base;
use super::{ALWAYS_EMPTY, CollectError, Copy, Rules};

/// How much of a file is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Denial {
    /// What is in the directory, but not itself.
    Contents,
    /// All of it.
    Whole,
}

/// The inodes that one line leaves out.
#[derive(Debug, Default)]
pub(super) struct Denied(HashMap<(u64, u64), Denial>);

impl Denied {
    /// Works out the exclusions for `copy`; `None` where they cover it wholly.
    pub(super) fn for_copy(
        rules: &Rules,
        base: &Base,
        copy: &Copy,
    ) -> Result<Option<Self>, CollectError> {
        let covered = |path: &Path, by: &[PathBuf]| by.iter().any(|by| path.starts_with(by));
        if covered(&copy.source, &rules.exclude_sources)
            || covered(&copy.target, &rules.exclude_targets)
        {
            return Ok(None);
        }
        let mut denied = Self::default();
        for path in ALWAYS_EMPTY {
            denied.add(base, Path::new(path), Denial::Contents)?;
        }
        for path in &rules.exclude_sources {
            denied.add(base, path, degree(path))?;
        }
        for path in &rules.exclude_targets {
            if let Ok(below) = path.strip_prefix(&copy.target) {
                denied.add(base, &copy.source.join(below), degree(path))?;
            }
        }
        for path in &rules.mount_points {
            match path.strip_prefix(&copy.target) {
                // Filling exactly the mount point was asked for.
                Ok(below) if !below.as_os_str().is_empty() => {
                    denied.add(base, &copy.source.join(below), Denial::Contents)?;
                }
                _ => (),
            }
        }
        Ok(Some(denied))
    }

    /// Whether and how a file is left out.
    pub(super) fn of(&self, metadata: &Metadata) -> Option<Denial> {
        self.0.get(&key(metadata)).copied()
    }

    fn add(&mut self, base: &Base, path: &Path, degree: Denial) -> Result<(), CollectError> {
        let Some(found) = base.find(path)? else {
            return Ok(());
        };
        if degree == Denial::Contents && !found.metadata.is_dir() {
            return match ends_in_slash(path) {
                true => Err(CollectError::NotDirectory(path.to_owned())),
                false => Ok(()),
            };
        }
        let entry = self.0.entry(key(&found.metadata)).or_insert(degree);
        *entry = degree.max(*entry);
        Ok(())
    }
}

fn key(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn degree(path: &Path) -> Denial {
    match ends_in_slash(path) {
        true => Denial::Contents,
        false => Denial::Whole,
    }
}

fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}
