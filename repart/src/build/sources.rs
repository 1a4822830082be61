//! The sources of `CopyBlocks=`, opened and measured. Reads only.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use blockdev::sysfs::Sysfs;
use image_specs::partition::PartitionType;
use image_specs::units::Bytes;
use uuid::Uuid;

use super::in_use::{self, InUseError};
use crate::definition::CopyBlocks;

/// Blocks to copy into a partition.
#[derive(Debug)]
pub struct BlockSource {
    /// The file's or device's path, for messages.
    pub path: PathBuf,
    /// Open for reading.
    pub file: File,
    /// First byte to copy.
    pub offset: Bytes,
    /// Number of bytes; `None` for a character device, which fills its partition.
    pub size: Option<Bytes>,
    /// The UUID of the partition that `CopyBlocks=auto` found.
    pub uuid: Option<Uuid>,
}

/// Why a source cannot be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It cannot be opened or measured.
    #[error("cannot open {} for CopyBlocks=", path.display())]
    Open {
        /// The source.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its size is not one of whole sectors.
    #[error("{} has {size} bytes; CopyBlocks= needs a source of at least one byte and a multiple of 512", path.display())]
    Size {
        /// The source.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// It is nothing to copy from.
    #[error("{} is {what}; CopyBlocks= copies from a regular file, a block device or a character device", path.display())]
    Kind {
        /// The source.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Nothing of the running system is meant, or it cannot be found.
    #[error(transparent)]
    InUse(#[from] InUseError),
    /// Devices of the running system do not belong in an image of another root.
    #[error("{} is no regular file; with --root= only such can be copied from", .0.display())]
    DeviceWithRoot(PathBuf),
    /// The same of what is found by itself.
    #[error(
        "CopyBlocks=auto finds partitions of the running system, which is not the one of --root=; name the file to copy from"
    )]
    AutoWithRoot,
}

impl BlockSource {
    /// Opens what the `CopyBlocks=` of a partition of this type names; below `root` where one is given.
    pub fn open(
        wanted: &CopyBlocks,
        kind: PartitionType,
        root: Option<&Path>,
    ) -> Result<Self, SourceError> {
        match wanted {
            CopyBlocks::Auto if root.is_some() => Err(SourceError::AutoWithRoot),
            CopyBlocks::Auto => {
                let found = in_use::find(kind, Path::new("/"), &Sysfs::default())?;
                Ok(Self {
                    uuid: Some(found.uuid),
                    ..Self::whole(&found.node, false)?
                })
            }
            CopyBlocks::Path(path) => Self::whole(&below(root, path), root.is_some()),
            CopyBlocks::Range { path, offset, size } => {
                let source = Self::whole(path, false)?;
                Ok(Self {
                    offset: *offset,
                    size: Some(*size),
                    ..source
                })
            }
        }
    }

    /// Bytes that a copy takes at least on a file system that keeps holes.
    pub(super) fn allocated(&self) -> Bytes {
        let size = self.size.unwrap_or(Bytes::ZERO);
        match self.file.metadata() {
            Ok(metadata) if metadata.is_file() => {
                size.min(Bytes::new(metadata.blocks().saturating_mul(512)))
            }
            _ => size,
        }
    }

    fn whole(path: &Path, with_root: bool) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Open {
            path: path.to_owned(),
            source,
        };
        let kind = |what| SourceError::Kind {
            path: path.to_owned(),
            what,
        };
        // A pipe without writer must not block us, and a terminal must not become ours.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        let flags =
            i32::try_from(flags.bits()).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let found = metadata.file_type();
        if with_root && !found.is_file() {
            return Err(SourceError::DeviceWithRoot(path.to_owned()));
        }
        let size = if found.is_file() {
            metadata.len()
        } else if found.is_block_device() {
            file.seek(SeekFrom::End(0)).map_err(failed)?
        } else if found.is_char_device() {
            return Ok(Self {
                path: path.to_owned(),
                file,
                offset: Bytes::ZERO,
                size: None,
                uuid: None,
            });
        } else if found.is_dir() {
            return Self::whole(&in_use::device_of(path, &Sysfs::default())?, false);
        } else {
            return Err(kind("a pipe or socket"));
        };
        if size == 0 || !size.is_multiple_of(512) {
            return Err(SourceError::Size {
                path: path.to_owned(),
                size,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            offset: Bytes::ZERO,
            size: Some(Bytes::new(size)),
            uuid: None,
        })
    }
}

/// An absolute path as it lies below `root`.
pub fn below(root: Option<&Path>, path: &Path) -> PathBuf {
    match root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use image_specs::arch::Architecture;

    use super::*;

    #[test]
    fn sources_are_measured_and_refused_by_kind() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("good"), vec![0; 1024]).unwrap();
        std::fs::write(at("odd"), b"x").unwrap();
        std::fs::write(at("empty"), b"").unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
        let root = PartitionType::parse("root", Architecture::X86_64).unwrap();
        let open = |path| BlockSource::open(&CopyBlocks::Path(path), root, None);
        assert_eq!(open(at("good")).unwrap().size, Some(Bytes::new(1024)));
        assert_eq!(open("/dev/zero".into()).unwrap().size, None);
        assert!(matches!(
            open(at("odd")),
            Err(SourceError::Size { size: 1, .. })
        ));
        assert!(matches!(
            open(at("empty")),
            Err(SourceError::Size { size: 0, .. })
        ));
        assert!(matches!(open(at("pipe")), Err(SourceError::Kind { .. })));
        assert!(matches!(open(at("missing")), Err(SourceError::Open { .. })));
        assert!(matches!(
            open("/proc".into()),
            Err(SourceError::InUse(InUseError::NoDevice(_)))
        ));
        let below = |wanted| BlockSource::open(&wanted, root, Some(Path::new("/")));
        for path in ["/dev/zero", "/usr"] {
            assert!(matches!(
                below(CopyBlocks::Path(path.into())),
                Err(SourceError::DeviceWithRoot(_))
            ));
        }
        let auto = below(CopyBlocks::Auto);
        assert!(matches!(auto, Err(SourceError::AutoWithRoot)));
    }
}
