//! Parity for the kernel, by which it repairs blocks that do not fit the hash tree.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use blockdev::loopdev::LoopDevice;
use image_specs::units::{Bytes, SectorSize};
use veritysetup::Params;
use veritysetup::activate::{DeviceNumber, ErrorCorrection};
use veritysetup::fec::{Area, AreaError, Layout, LayoutError};

use super::attach::attach_plain;
use super::{AttachError, Node, Parity};

/// Parity cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParityError {
    /// It cannot be looked at.
    #[error("cannot open the parity {}", place.display())]
    Open {
        /// Its file or device.
        place: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is none for such a tree.
    #[error("there is no such parity")]
    Layout(#[from] LayoutError),
    /// It does not begin with a block.
    #[error("parity begins at a multiple of the block size, {block}, not at byte {offset}")]
    Offset {
        /// Where it is to begin.
        offset: u64,
        /// Bytes in a block.
        block: u64,
    },
    /// There are not enough bytes of it.
    #[error(
        "parity of this image has {needed} bytes from byte {offset} on, but {} ends at byte {end}",
        place.display()
    )]
    Short {
        /// Its file or device.
        place: PathBuf,
        /// Where it begins.
        offset: u64,
        /// Its size.
        needed: u64,
        /// Where the file ends.
        end: u64,
    },
    /// Its file cannot be made a device.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// What became of parity that only the footer behind the tree tells of.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum FoundParity {
    /// There is no footer, or other parity was named.
    #[default]
    None,
    /// The kernel repairs by it.
    Used,
    /// The kernel does not take it.
    Unsupported,
    /// The footer cannot be true.
    Unusable(AreaError),
}

/// Parity that the kernel can use.
pub(super) struct Open {
    pub(super) correction: ErrorCorrection,
    /// The device of a file.
    pub(super) device: Option<LoopDevice>,
}

/// Opens parity of the data and tree that `params` describe; the device with the tree ends at
/// `hash_end`.
pub(super) fn open(parity: &Parity, params: &Params, hash_end: Bytes) -> Result<Open, ParityError> {
    let layout = Layout::new(params, parity.roots, hash_end)?;
    let failed = |source| ParityError::Open {
        place: parity.place.clone(),
        source,
    };
    let (offset, block) = (parity.offset.get(), params.hash_block.get());
    if offset % block != 0 {
        return Err(ParityError::Offset { offset, block });
    }
    let file = File::open(&parity.place).map_err(failed)?;
    let (needed, end) = (layout.size().get(), size(&file).map_err(failed)?.get());
    if offset.checked_add(needed).is_none_or(|last| last > end) {
        return Err(ParityError::Short {
            place: parity.place.clone(),
            offset,
            needed,
            end,
        });
    }
    let device = match file
        .metadata()
        .map_err(failed)?
        .file_type()
        .is_block_device()
    {
        true => None,
        false => Some(attach_plain(&file, SectorSize::S512)?),
    };
    let node = Node::open(device.as_ref().map_or(&parity.place, LoopDevice::node))?;
    let correction = ErrorCorrection {
        device: node.number().map_err(failed)?,
        offset: parity.offset,
        roots: parity.roots.get(),
        hash_end,
    };
    Ok(Open { correction, device })
}

/// Looks for parity behind a tree. A footer that cannot be true is no reason not to open the device: the
/// tree alone says what is right.
pub(super) fn find(
    tree: &File,
    params: &Params,
    (size, hash): (Bytes, DeviceNumber),
) -> (FoundParity, Option<ErrorCorrection>) {
    match Area::find(params, tree, size) {
        Ok(None) => (FoundParity::None, None),
        Ok(Some(area)) => {
            let correction = ErrorCorrection::of_area(&area, hash);
            (FoundParity::Used, Some(correction))
        }
        Err(error) => (FoundParity::Unusable(error), None),
    }
}

/// The size of a file or block device.
pub(super) fn size(mut file: &File) -> io::Result<Bytes> {
    file.seek(SeekFrom::End(0)).map(Bytes::new)
}
