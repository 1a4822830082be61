//! Listing a directory of images: only reads.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use image_specs::vpick::Filter;
use rustix::fs::{IFlags, Mode, OFlags, StatVfsMountFlags};

use super::{Kind, Listed, Target};
use crate::vpick::{self, Form, Inode};

/// What a `.v/` directory of images may hold.
const VERSIONED: &[Form<'_>] = &[
    Form {
        kinds: &[Inode::Regular, Inode::Block],
        suffix: ".raw",
    },
    Form {
        kinds: &[Inode::Directory],
        suffix: ".mstack",
    },
    Form {
        kinds: &[Inode::Directory],
        suffix: "",
    },
];

/// The number of a btrfs subvolume's root directory.
const SUBVOLUME_ROOT: u64 = 256;

/// The magic number that statfs has for btrfs.
const BTRFS: u64 = 0x9123_683e;

/// A directory cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot look for images in {}", path.display())]
pub struct SurveyError {
    /// The directory.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Lists a directory; one that is not there is empty. Names that lead nowhere, are not text, or go
/// away meanwhile are left out.
pub fn survey(directory: &Path, filter: &Filter) -> Result<Vec<Listed>, SurveyError> {
    let fail = |source| SurveyError {
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut listed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        let Some(target) = target(&path) else {
            continue;
        };
        let versioned = name.ends_with(".v") && target.kind != Kind::File;
        let picked = versioned.then(|| picked(&path, filter)).flatten();
        listed.push(Listed {
            name,
            target,
            picked,
        });
    }
    listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

fn picked(path: &Path, filter: &Filter) -> Option<Target> {
    // A directory that cannot be listed holds no image that could be used.
    let picked = vpick::resolve(path, VERSIONED, filter).ok()??;
    target(&picked.path)
}

fn target(path: &Path) -> Option<Target> {
    let path = fs::canonicalize(path).ok()?;
    let metadata = fs::metadata(&path).ok()?;
    let of = metadata.file_type();
    let kind = if of.is_dir() {
        match metadata.ino() == SUBVOLUME_ROOT && is_btrfs(&path) {
            true => Kind::Subvolume,
            false => Kind::Directory,
        }
    } else if of.is_file() {
        Kind::File
    } else if of.is_block_device() {
        Kind::Block
    } else {
        return None;
    };
    let changed = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|since| u64::try_from(since.as_micros()).ok());
    Some(Target {
        read_only: is_read_only(&path, &metadata, kind),
        usage: (kind == Kind::File).then(|| metadata.blocks().saturating_mul(512)),
        changed,
        kind,
        path,
    })
}

fn is_btrfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(BTRFS))
}

/// Whether the file system, its mode or a flag keeps everybody from writing to it.
fn is_read_only(path: &Path, metadata: &Metadata, kind: Kind) -> bool {
    let mounted = rustix::fs::statvfs(path)
        .is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
    match kind {
        Kind::Block => false,
        Kind::File => mounted || metadata.mode() & 0o222 == 0,
        Kind::Directory | Kind::Subvolume => mounted || is_immutable(path),
    }
}

fn is_immutable(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .and_then(rustix::fs::ioctl_getflags)
        .is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE))
}
