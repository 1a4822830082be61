//! What is in the file systems of an image, read in this process: without root, a loop device or a
//! mount.
//!
//! [`open`] chooses the reader by the signature that was found. All of them show what the kernel
//! shows when it mounts the file system, and trust nothing that the image says: places and sizes are
//! checked before they are used, checksums are verified, memory is bounded. Nothing is repaired; a
//! journal is not replayed, as with the mount option `norecovery`.

pub mod btrfs;
mod cache;
pub mod erofs;
pub mod ext4;
mod file;
mod source;
pub mod vfat;
pub mod xfs;

use std::sync::Arc;

use filetree::{ReadAt, ReadError, Reader};
use image_specs::magic::Kind;

/// Opens the file system of the kind `kind` that begins at the first byte of `image` and has `size`
/// bytes.
///
/// A kind that has no reader is [`ReadError::Unsupported`], with the way that root has.
pub fn open(image: Arc<dyn ReadAt>, size: u64, kind: &Kind) -> Result<Arc<dyn Reader>, ReadError> {
    match kind {
        Kind::Btrfs => found(btrfs::open(image, size)?, *kind),
        Kind::Erofs => found(erofs::open(image, size)?, *kind),
        Kind::Ext2 | Kind::Ext3 | Kind::Ext4 => found(ext4::open(image, size)?, *kind),
        Kind::Squashfs => found(squashfs::open(image, size)?, *kind),
        Kind::Vfat => found(vfat::open(image, size)?, *kind),
        Kind::Xfs => found(xfs::open(image, size)?, *kind),
        _ => Err(unsupported(*kind)),
    }
}

/// The signature was there when it was looked for.
fn found<R: Reader + 'static>(reader: Option<R>, kind: Kind) -> Result<Arc<dyn Reader>, ReadError> {
    match reader {
        Some(reader) => Ok(Arc::new(reader)),
        None => Err(ReadError::Damaged {
            format: kind.name(),
            offset: 0,
            what: "its signature is gone",
        }),
    }
}

fn unsupported(kind: Kind) -> ReadError {
    let what = match kind {
        Kind::Luks1 | Kind::Luks2 | Kind::Bitlocker => "it is encrypted",
        Kind::Gpt | Kind::Dos => "it is a partition table, not a file system",
        Kind::Integrity => {
            "its sectors have tags of their own; `integritysetup open` gives the device with the file system"
        }
        Kind::Swap | Kind::VerityHash | Kind::Jbd => "it is no file system",
        member if member.is_member() => "it is no file system",
        _ => {
            "there is no reader for this format; mount it as root with `ddi dissect --mount IMAGE DIRECTORY`"
        }
    };
    ReadError::Unsupported {
        format: kind.name(),
        what: what.to_owned(),
    }
}
