//! Copying ranges between files: shared blocks where the file system can, copied by the kernel where
//! it can, and always without the holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;

use crate::sys;

const BUFFER: usize = 1024 * 1024;

/// What a copy did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes whose blocks are now shared by both files.
    pub shared: u64,
    /// Bytes that were written.
    pub written: u64,
}

/// A copy that failed half-way.
#[derive(Debug)]
pub(crate) struct CopyFailure {
    /// Whether the source is to blame.
    pub(crate) reading: bool,
    /// Offset in the file that is to blame.
    pub(crate) offset: u64,
    pub(crate) source: io::Error,
}

/// Copies `size` bytes of `source` from `from` to `to` in `target`. Holes of the source are left out,
/// so the target range must read as zeros before.
pub(crate) fn copy_range(
    source: &File,
    from: u64,
    target: &File,
    to: u64,
    size: u64,
) -> Result<Copied, CopyFailure> {
    let mut copy = Copy {
        source,
        target,
        copied: Copied::default(),
        in_kernel: true,
    };
    copy.check_length(from, size)?;
    if size > 0 && sys::clone_range(source, from, target, to, size).is_ok() {
        copy.copied.shared = size;
        return Ok(copy.copied);
    }
    let end = from + size;
    let mut at = from;
    while let Some(data) = next_data(source, at, end).map_err(|error| reading(at, error.into()))? {
        copy.segment(data.start, to + (data.start - from), data.end - data.start)?;
        at = data.end;
    }
    Ok(copy.copied)
}

struct Copy<'a> {
    source: &'a File,
    target: &'a File,
    copied: Copied,
    in_kernel: bool,
}

impl Copy<'_> {
    /// Regular files tell their length: better to refuse a short one than to leave zeros.
    fn check_length(&self, from: u64, size: u64) -> Result<(), CopyFailure> {
        let metadata = self
            .source
            .metadata()
            .map_err(|error| reading(from, error))?;
        let end = from.checked_add(size);
        if metadata.is_file() && end.is_none_or(|end| end > metadata.len()) {
            return Err(reading(metadata.len(), io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// Copies a range that holds data.
    fn segment(&mut self, mut from: u64, mut to: u64, mut left: u64) -> Result<(), CopyFailure> {
        while left > 0 {
            let done = match self.in_kernel {
                true => self.kernel_copy(from, to, left)?,
                false => Some(self.plain_copy(from, to, left)?),
            };
            let Some(done) = done else {
                self.in_kernel = false;
                continue;
            };
            from += done;
            to += done;
            left -= done;
            self.copied.written += done;
        }
        Ok(())
    }

    /// `None` means that the kernel cannot copy between these two.
    fn kernel_copy(&self, from: u64, to: u64, left: u64) -> Result<Option<u64>, CopyFailure> {
        let (mut source_offset, mut target_offset) = (from, to);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
        let done = copy_file_range(
            self.source,
            Some(&mut source_offset),
            self.target,
            Some(&mut target_offset),
            length,
        );
        match done {
            // A source that is no regular file may give nothing though it has bytes.
            Ok(0) => Ok(None),
            Ok(done) => Ok(Some(u64::try_from(done).unwrap_or(left))),
            Err(Errno::INTR) => Ok(Some(0)),
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
                Err(writing(to, io::ErrorKind::StorageFull.into()))
            }
            // EXDEV, EINVAL, EOPNOTSUPP, …; and an I/O error comes again below, with its side known.
            Err(_) => Ok(None),
        }
    }

    fn plain_copy(&self, from: u64, to: u64, left: u64) -> Result<u64, CopyFailure> {
        let length = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
        let mut buffer = vec![0; length];
        self.source
            .read_exact_at(&mut buffer, from)
            .map_err(|error| reading(from, error))?;
        self.target
            .write_all_at(&buffer, to)
            .map_err(|error| writing(to, error))?;
        Ok(u64::try_from(length).unwrap_or(left))
    }
}

/// The next range within `at..end` that holds data; `None` where only a hole follows.
pub fn next_data(
    file: &File,
    at: u64,
    end: u64,
) -> rustix::io::Result<Option<std::ops::Range<u64>>> {
    if at >= end {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // Block devices and some file systems know no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(at..end)),
        Err(error) => return Err(error),
    };
    if start >= end {
        return Ok(None);
    }
    let stop = seek(file, SeekFrom::Hole(start))?.min(end);
    // Character devices answer anything.
    let honest = start >= at && stop > start;
    Ok(Some(if honest { start..stop } else { at..end }))
}

fn reading(offset: u64, source: io::Error) -> CopyFailure {
    CopyFailure {
        reading: true,
        offset,
        source,
    }
}

fn writing(offset: u64, source: io::Error) -> CopyFailure {
    CopyFailure {
        reading: false,
        offset,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn sparse(pieces: &[(u64, &[u8])], size: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (offset, bytes) in pieces {
            file.write_all_at(bytes, *offset).unwrap();
        }
        file
    }

    #[test]
    fn holes_stay_holes() {
        let data = [7; 5000];
        let source = sparse(&[(1 << 20, &data), ((8 << 20) - 5000, &data)], 8 << 20);
        let target = sparse(&[], 16 << 20);
        let copied = copy_range(&source, 100, &target, 4 << 20, (8 << 20) - 100).unwrap();
        assert_eq!(copied.shared, 0);
        assert!(copied.written < 1 << 20, "{copied:?}");
        assert!(target.metadata().unwrap().blocks() * 512 < 1 << 20);
        let mut read = vec![0; (8 << 20) - 100];
        target.read_exact_at(&mut read, 4 << 20).unwrap();
        let mut expected = vec![0; (8 << 20) - 100];
        source.read_exact_at(&mut expected, 100).unwrap();
        assert!(read == expected);
    }

    #[test]
    fn a_short_source_is_refused_before_anything_is_written() {
        let source = sparse(&[(0, b"abc")], 3);
        let target = sparse(&[], 100);
        let failure = copy_range(&source, 1, &target, 0, 3).unwrap_err();
        assert!(failure.reading);
        assert_eq!(failure.offset, 3);
        assert_eq!(failure.source.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(target.metadata().unwrap().blocks(), 0);
    }

    #[test]
    fn what_the_kernel_cannot_copy_is_read_and_written() {
        // /dev/zero has no length and takes no part in copy_file_range.
        let source = File::open("/dev/zero").unwrap();
        let target = sparse(&[(0, &[1; 64])], 64);
        assert_eq!(copy_range(&source, 0, &target, 0, 32).unwrap().written, 32);
        let mut read = [0; 64];
        target.read_exact_at(&mut read, 0).unwrap();
        assert_eq!((read[31], read[32]), (0, 1));
    }
}
