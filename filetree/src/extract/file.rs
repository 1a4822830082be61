//! One regular file: its data and what describes it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::{ExtractError, Extracted, Ownership, failed};
use crate::content::{Content, OpenContent};
use crate::tree::{Metadata, Timestamp};

/// Bytes copied at once.
const CHUNK: u64 = 256 << 10;

/// Copies one regular file to `target`, where nothing may be yet.
pub fn extract_file(
    content: &Content,
    metadata: &Metadata,
    target: &Path,
    ownership: Ownership,
) -> Result<Extracted, ExtractError> {
    let mut extracted = Extracted::default();
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(target)
        .map_err(|source| failed("create", target, source))?;
    let done = fill(&file, content, target)
        .and_then(|()| describe(&file, metadata, ownership, target, &mut extracted.unset));
    if let Err(error) = done {
        // Half a file helps nobody; the first error is the one to tell.
        drop(std::fs::remove_file(target));
        return Err(error);
    }
    Ok(extracted)
}

/// Writes the data of a file; holes stay holes.
pub(super) fn fill(file: &File, content: &Content, shown: &Path) -> Result<(), ExtractError> {
    let read = |source| ExtractError::Content {
        path: shown.to_owned(),
        source,
    };
    let source = content.open().map_err(read)?;
    file.set_len(content.size())
        .map_err(|error| failed("set the size of", shown, error))?;
    let mut buffer = Vec::new();
    for range in content.data() {
        copy_range(&source, file, range.clone(), &mut buffer, shown)?;
    }
    source.finish().map_err(read)
}

fn copy_range(
    source: &OpenContent,
    file: &File,
    mut range: Range<u64>,
    buffer: &mut Vec<u8>,
    shown: &Path,
) -> Result<(), ExtractError> {
    while range.start < range.end {
        let length = (range.end - range.start).min(CHUNK);
        buffer.resize(usize::try_from(length).unwrap_or(0), 0);
        source
            .read_exact_at(buffer, range.start)
            .map_err(|source| ExtractError::Content {
                path: shown.to_owned(),
                source,
            })?;
        file.write_all_at(buffer, range.start)
            .map_err(|error| failed("write", shown, error))?;
        range.start += length;
    }
    Ok(())
}

/// Owner, mode, attributes and time of an open file or directory, in the order in which the kernel
/// keeps them: changing the owner takes away capabilities and set-user-ID.
pub(super) fn describe(
    file: &File,
    metadata: &Metadata,
    ownership: Ownership,
    shown: &Path,
    unset: &mut Vec<(PathBuf, Vec<u8>)>,
) -> Result<(), ExtractError> {
    if ownership == Ownership::Keep {
        fchown(file, Some(metadata.uid), Some(metadata.gid))
            .map_err(|error| failed("set the owner of", shown, error))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(metadata.mode.into()))
        .map_err(|errno| failed("set the mode of", shown, errno.into()))?;
    for (key, value) in &metadata.xattrs {
        let set = rustix::fs::fsetxattr(file, key.as_slice(), value, XattrFlags::empty());
        note_unset(set, key, shown, unset)?;
    }
    let time = timespec(metadata.mtime);
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::futimens(file, &times)
        .map_err(|errno| failed("set the time of", shown, errno.into()))
}

/// An attribute that this user may not set, or the file system cannot hold, is no failure.
pub(super) fn note_unset(
    set: Result<(), Errno>,
    key: &[u8],
    shown: &Path,
    unset: &mut Vec<(PathBuf, Vec<u8>)>,
) -> Result<(), ExtractError> {
    match set {
        Ok(()) => Ok(()),
        Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL) => {
            unset.push((shown.to_owned(), key.to_vec()));
            Ok(())
        }
        Err(errno) => {
            let source = io::Error::from(errno);
            Err(failed("set an extended attribute of", shown, source))
        }
    }
}

pub(super) fn timespec(time: Timestamp) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    }
}
