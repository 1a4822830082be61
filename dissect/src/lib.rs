//! From an image file to its partitions, without root, loop devices or mounts.
//!
//! `Image → Probed → Dissected`: [`open`] finds the sector size, [`probe`] reads the partition table
//! or the file system, [`assign`] decides (purely) which partition is which. [`layout`] shows every
//! part of the disk, [`report`] is the answer as systemd-dissect gives it, and [`check`] says
//! whether verity data, hashes and signature belong together. [`vpick`] finds the newest version of
//! an image that is kept in several.
#![forbid(unsafe_code)]

pub mod activate;
pub mod assign;
pub mod check;
pub mod contents;
pub mod discover;
pub mod gpt_auto;
pub mod growfs;
pub mod layout;
pub mod metadata;
pub mod mount;
pub mod open;
pub mod options;
pub mod policy;
pub mod probe;
pub mod reader;
pub mod report;
pub mod sidecar;
pub mod trust;
pub mod unlock;
pub mod uses;
pub mod validatefs;
pub mod verity;
pub mod vpick;

use std::path::Path;

pub use assign::{AssignError, Dissected, Inside, Partition};
pub use open::{Image, OpenError};
pub use options::{FileSystems, Options, Rules, VarCheck, VeritySettings};
pub use probe::{ContentsError, ProbeError, Probed};
pub use verity::{Verity, VerityError};

/// An image could not be taken apart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DissectError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Its contents cannot be told, or are not what the policy allows.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// Its partitions are not those of an image.
    #[error(transparent)]
    Assign(#[from] AssignError),
    /// Its root hash or signature cannot be had.
    #[error(transparent)]
    Verity(#[from] VerityError),
}

/// Opens an image, reads its table and file-system types, and says what is what.
pub fn dissect(path: &Path, options: &Options) -> Result<(Image, Dissected), DissectError> {
    let image = Image::open(path, None)?;
    let mut probed = probe::probe(&image, &options.file_systems)?;
    verity::read_signed_hashes(&image, &mut probed, options)?;
    let mut dissected = assign::assign(probed, options)?;
    probe::file_systems(&image, &mut dissected, options)?;
    dissected.take_verity(verity::find(&image, &dissected, options)?);
    Ok((image, dissected))
}
