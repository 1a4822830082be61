//! Where the bytes of a regular file come from.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes read at once.
const CHUNK: u64 = 128 << 10;

/// Bytes that can be read at any offset, by several threads at once.
pub trait ReadAt: Debug + Send + Sync {
    /// Fills all of `buffer` with the bytes from `offset` on.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Bytes of memory that it takes (about), which [`Limits`](crate::Limits) count.
    fn memory(&self) -> usize {
        0
    }
}

/// The data of a regular file: how long it is, which parts of it are not holes, and its source.
#[derive(Clone, Debug)]
pub struct Content {
    size: u64,
    data: Vec<Range<u64>>,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Bytes(Arc<[u8]>),
    File { path: PathBuf, stamp: Stamp },
    Reader(Arc<dyn ReadAt>),
}

/// What says that a source file is still the one that was surveyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
}

/// A file's content, opened for reading. Holes read as zeros.
#[derive(Debug)]
pub struct OpenContent {
    source: OpenSource,
}

#[derive(Debug)]
enum OpenSource {
    Bytes(Arc<[u8]>),
    File {
        path: PathBuf,
        file: File,
        stamp: Stamp,
    },
    Reader(Arc<dyn ReadAt>),
}

/// Why a file's content cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// The source cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The source file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The source is not what it was when the tree was collected.
    #[error("{} changed while it was being copied; try again when nothing writes to it", .0.display())]
    Changed(PathBuf),
}

impl Content {
    /// Bytes held in memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let data = if size == 0 { Vec::new() } else { vec![0..size] };
        Self {
            size,
            data,
            source: Source::Bytes(bytes),
        }
    }

    /// A file of the host: `metadata` is what it was found to be, `data` its parts that are no
    /// holes, in order.
    pub fn from_file(path: PathBuf, metadata: &std::fs::Metadata, data: Vec<Range<u64>>) -> Self {
        Self {
            size: metadata.len(),
            data,
            source: Source::File {
                path,
                stamp: Stamp::of(metadata),
            },
        }
    }

    /// `size` bytes that `reader` gives, of which `data` are no holes.
    pub fn from_reader(reader: Arc<dyn ReadAt>, size: u64, data: Vec<Range<u64>>) -> Self {
        Self {
            size,
            data,
            source: Source::Reader(reader),
        }
    }

    /// Length in bytes, holes included.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The parts that are not holes, in order, not touching, within the size.
    pub fn data(&self) -> &[Range<u64>] {
        &self.data
    }

    /// Bytes of memory that the description takes (about).
    pub fn memory(&self) -> usize {
        let ranges = self.data.len().saturating_mul(size_of::<Range<u64>>());
        ranges.saturating_add(match &self.source {
            Source::Bytes(bytes) => bytes.len(),
            Source::File { path, .. } => path.as_os_str().len(),
            Source::Reader(reader) => reader.memory(),
        })
    }

    /// The host's file that holds these bytes, if one does.
    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::File { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Opens the source, and checks that it is still what was surveyed.
    pub fn open(&self) -> Result<OpenContent, ContentError> {
        let source = match &self.source {
            Source::Bytes(bytes) => OpenSource::Bytes(Arc::clone(bytes)),
            Source::Reader(reader) => OpenSource::Reader(Arc::clone(reader)),
            Source::File { path, stamp } => {
                let read = |source| ContentError::Read {
                    path: path.clone(),
                    source,
                };
                let file = File::open(path).map_err(read)?;
                let found = Stamp::of(&file.metadata().map_err(read)?);
                if found != *stamp {
                    return Err(ContentError::Changed(path.clone()));
                }
                OpenSource::File {
                    path: path.clone(),
                    file,
                    stamp: *stamp,
                }
            }
        };
        Ok(OpenContent { source })
    }
}

impl OpenContent {
    /// Fills `buffer` with the bytes from `offset` on, which must lie within the size.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), ContentError> {
        match &self.source {
            OpenSource::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(buffer.len());
                let part = bytes.get(start..end).ok_or_else(|| ContentError::Read {
                    path: PathBuf::from("(memory)"),
                    source: io::ErrorKind::UnexpectedEof.into(),
                })?;
                buffer.copy_from_slice(part);
                Ok(())
            }
            OpenSource::Reader(reader) => {
                reader
                    .read_exact_at(buffer, offset)
                    .map_err(|source| ContentError::Read {
                        path: PathBuf::from("(image)"),
                        source,
                    })
            }
            OpenSource::File { path, file, .. } => {
                file.read_exact_at(buffer, offset)
                    .map_err(|source| match source.kind() {
                        io::ErrorKind::UnexpectedEof => ContentError::Changed(path.clone()),
                        _ => ContentError::Read {
                            path: path.clone(),
                            source,
                        },
                    })
            }
        }
    }

    /// Hands all `size` bytes to `each`, in order, in chunks that fit a cache.
    pub fn read_chunks(&self, size: u64, mut each: impl FnMut(&[u8])) -> Result<(), ContentError> {
        let mut buffer = vec![0; usize::try_from(size.min(CHUNK)).unwrap_or(0)];
        let mut offset = 0;
        while offset < size {
            let length = usize::try_from((size - offset).min(CHUNK)).unwrap_or(0);
            let part = &mut buffer[..length];
            self.read_exact_at(part, offset)?;
            each(part);
            offset += CHUNK;
        }
        Ok(())
    }

    /// The open host file, for copying within the kernel.
    pub fn file(&self) -> Option<&File> {
        match &self.source {
            OpenSource::File { file, .. } => Some(file),
            _ => None,
        }
    }

    /// Ends the reading: checks that the source did not change meanwhile.
    pub fn finish(self) -> Result<(), ContentError> {
        let OpenSource::File { path, file, stamp } = self.source else {
            return Ok(());
        };
        match file.metadata() {
            Ok(metadata) if Stamp::of(&metadata) == stamp => Ok(()),
            Ok(_) => Err(ContentError::Changed(path)),
            Err(source) => Err(ContentError::Read { path, source }),
        }
    }
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"before").unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        let content = Content::from_file(path.clone(), &metadata, Vec::from([0..6]));
        let open = content.open().unwrap();
        let mut buffer = [0; 6];
        open.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"before");
        std::fs::write(&path, b"longer than before").unwrap();
        assert!(matches!(open.finish(), Err(ContentError::Changed(changed)) if changed == path));
        assert!(matches!(content.open(), Err(ContentError::Changed(_))));
    }
}
