//! Opening data, trees and parity, and learning what is in them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use image_specs::units::{Bytes, Extent};
use image_specs::verity::{SUPERBLOCK_SIZE, Superblock};
use veritysetup::fec::Layout;
use veritysetup::io::Window;
use veritysetup::{Levels, Params, RootHash};

use super::options::VerityArgs;
use crate::exit::{Exit, Failure};

/// A file or block device.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: File,
    pub(super) size: u64,
    /// What is the same for two names of one file or device.
    identity: (u64, u64),
    pub(super) is_device: bool,
}

/// How much of a socket is read for a root hash.
const LONGEST_HASH: u64 = 1024;

impl Source {
    pub(super) fn open(path: &Path, write: bool) -> Result<Self, Failure> {
        let opened = OpenOptions::new().read(true).write(write).open(path);
        let opened = opened.map_err(|error| cannot("open", path, error))?;
        Self::new(opened, path)
    }

    /// Opens a file for reading and writing; makes one that is not there, and says whether it did.
    pub(super) fn create(path: &Path) -> Result<(Self, bool), Failure> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match options.open(path) {
            Ok(file) => return Ok((Self::new(file, path)?, false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot("open", path, error)),
        }
        let made = options.create_new(true).mode(0o600).open(path);
        let made = made.map_err(|error| cannot("make", path, error).with_exit(Exit::Failure))?;
        Ok((Self::new(made, path)?, true))
    }

    fn new(mut file: File, path: &Path) -> Result<Self, Failure> {
        let metadata = file
            .metadata()
            .map_err(|error| cannot("look at", path, error))?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let text = format!("{} is no file or block device", path.display());
            return Err(Failure::message(text).with_exit(Exit::NoDevice));
        }
        let size = file.seek(SeekFrom::End(0));
        Ok(Self {
            size: size.map_err(|error| cannot("measure", path, error))?,
            identity: match kind.is_block_device() {
                true => (0, metadata.rdev()),
                false => (metadata.dev(), metadata.ino()),
            },
            is_device: kind.is_block_device(),
            file,
        })
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.identity == other.identity && self.is_device == other.is_device
    }

    /// The bytes from `offset` on.
    pub(super) fn from(&self, offset: u64) -> Window<&File> {
        let size = Bytes::new(self.size.saturating_sub(offset));
        Window::new(&self.file, Extent::new(Bytes::new(offset), size))
    }
}

impl VerityArgs {
    /// What the superblock says, or without one the options.
    pub(super) fn params(
        &self,
        data: Option<&Source>,
        hash: &Source,
        path: &Path,
    ) -> Result<Params, Failure> {
        if !self.no_superblock {
            return self.params_on_disk(hash, path);
        }
        let salt = self.salt.clone().ok_or_else(|| {
            Failure::message("without a superblock, nothing says what the salt is")
                .with_hint("give it with --salt=, or --salt=- where there is none")
        })?;
        Ok(Params {
            salt,
            superblock: None,
            data_blocks: self.data_blocks(data)?,
            ..self.bare()
        })
    }

    /// The options, without what cannot be said yet.
    pub(super) fn bare(&self) -> Params {
        Params {
            hash_type: self.format,
            algorithm: self.hash,
            data_block: self.data_block_size,
            hash_block: self.hash_block_size,
            data_blocks: 0,
            salt: veritysetup::Salt::default(),
            superblock: None,
            hash_offset: Bytes::new(self.hash_offset),
        }
    }

    /// `--data-blocks=`, or as many as there are.
    pub(super) fn data_blocks(&self, data: Option<&Source>) -> Result<u64, Failure> {
        match (self.data_blocks, data) {
            (Some(count), _) if count > 0 => Ok(count),
            (_, Some(data)) => Ok(data.size / self.data_block_size.get()),
            (_, None) => Err(Failure::message(
                "without a superblock, --data-blocks= says how much data there are",
            )),
        }
    }

    fn params_on_disk(&self, hash: &Source, path: &Path) -> Result<Params, Failure> {
        let offset = self.hash_offset;
        if !offset.is_multiple_of(512) {
            return Err(Failure::message(format!(
                "Unsupported VERITY hash offset {offset}: it must be a multiple of 512"
            )));
        }
        let mut bytes = [0; SUPERBLOCK_SIZE];
        let read = veritysetup::io::ReadAt::read_exact_at(&hash.file, &mut bytes, offset);
        let none = || {
            let text = format!(
                "{} is not a valid VERITY device: it has no superblock at byte {offset}",
                path.display()
            );
            Failure::message(text).with_hint("--hash-offset= says where it is")
        };
        match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(none()),
            other => other.map_err(|error| cannot("read", path, error))?,
        }
        let named = |error: &dyn std::error::Error| {
            Failure::message(format!("{}: {error}", path.display()))
        };
        let superblock = Superblock::parse(&bytes).map_err(|error| named(&error))?;
        let params = Params::from_superblock(&superblock.ok_or_else(none)?);
        Ok(Params {
            hash_offset: Bytes::new(offset),
            ..params.map_err(|error| named(&error))?
        })
    }

    /// Which blocks parity is of; fails where it would lie upon the tree.
    pub(super) fn layout(
        &self,
        params: &Params,
        hash: &Source,
        parity: &Source,
    ) -> Result<Layout, Failure> {
        let offset = self.fec_offset;
        if !offset.is_multiple_of(512) || !offset.is_multiple_of(params.hash_block.get()) {
            return Err(Failure::message(format!(
                "Unsupported VERITY FEC offset {offset}: it must be a multiple of the block size"
            )));
        }
        let end = match parity.is_same(hash) {
            true => offset,
            false => hash.size.max(Levels::new(params)?.hash_size().get()),
        };
        Ok(Layout::new(params, self.fec_roots, Bytes::new(end))?)
    }

    /// The same for parity that is there, in whole.
    pub(super) fn stored_layout(
        &self,
        params: &Params,
        hash: &Source,
        (parity, path): (&Source, &Path),
    ) -> Result<Layout, Failure> {
        let layout = self.layout(params, hash, parity)?;
        let end = layout.size().checked_add(Bytes::new(self.fec_offset));
        if end.is_some_and(|end| end.get() <= parity.size) {
            return Ok(layout);
        }
        let (name, size) = (path.display(), layout.size());
        Err(Failure::message(format!(
            "{name} is too short: it has {} bytes, and from byte {} on parity has {size}",
            parity.size, self.fec_offset
        ))
        .with_hint("--fec-offset= and --fec-roots= must be as they were with format"))
    }

    /// The root hash from `--root-hash-file=` or the command line.
    pub(super) fn root(
        &self,
        params: &Params,
        word: Option<&std::ffi::OsString>,
    ) -> Result<RootHash, Failure> {
        let text = match (&self.root_hash_file, word) {
            (Some(path), _) => read_root(path)?,
            (None, Some(word)) => word.to_string_lossy().into_owned(),
            (None, None) => {
                return Err(Failure::message(
                    "Command requires <root_hash> or --root-hash-file option as argument.",
                ));
            }
        };
        let root: RootHash = text
            .parse()
            .map_err(|error| Failure::message(format!("Invalid root hash: {error}")))?;
        let (found, wanted) = (root.as_bytes().len(), params.algorithm.digest_size());
        match found == wanted {
            true => Ok(root),
            false => Err(Failure::message(format!(
                "Invalid root hash: it has {found} bytes, but one of {} has {wanted}",
                params.algorithm
            ))),
        }
    }
}

fn read_root(path: &Path) -> Result<String, Failure> {
    let failed = |error| cannot("read the root hash from", path, error).with_exit(Exit::Failure);
    let is_socket = path.metadata().map_err(failed)?.file_type().is_socket();
    let mut bytes = Vec::new();
    let read = match is_socket {
        true => UnixStream::connect(path)
            .map_err(failed)?
            .take(LONGEST_HASH)
            .read_to_end(&mut bytes),
        false => File::open(path)
            .map_err(failed)?
            .take(LONGEST_HASH)
            .read_to_end(&mut bytes),
    };
    read.map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// A failure about a file or device, with the exit code that the original tool gives it.
pub(super) fn cannot(what: &str, path: &Path, error: io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            Exit::NoDevice
        }
        io::ErrorKind::PermissionDenied => Exit::Refused,
        io::ErrorKind::ResourceBusy => Exit::InUse,
        _ => Exit::Failure,
    };
    Failure::message(format!("cannot {what} {}: {error}", path.display())).with_exit(exit)
}
