//! What nobody reads of a new file system: on an encrypted partition it may stay a hole.
//!
//! A hole reads as noise through the encryption. So only what the file system itself calls free is
//! named here, and nothing where its format is not known that well.

use std::io;

use blockdev::BlockDevice;
use image_specs::units::{Bytes, Extent};

use super::{ext4, vfat};
use crate::definition::Format;
use crate::ranges::Ranges;
use crate::window::Window;

/// A swap area's header; all else is written before it is read.
const SWAP_HEADER: u64 = 4096;

/// The ranges of `extent` that hold nothing of the file system, of which `covered` bytes were written.
/// Offsets are those of the device.
pub fn free(
    format: &Format,
    device: &mut dyn BlockDevice,
    extent: Extent,
    covered: u64,
) -> io::Result<Ranges> {
    let size = extent.size.get();
    let mut free = Ranges::default();
    let mut add = |start: u64, end: u64| {
        let place = |offset: u64| extent.start.saturating_add(Bytes::new(offset.min(size)));
        free.insert(place(start).get()..place(end).get());
    };
    let window = Window::new(device, extent);
    match format {
        Format::Swap => add(SWAP_HEADER, size),
        Format::Squashfs | Format::Erofs => add(covered, size),
        Format::Ext2 | Format::Ext3 | Format::Ext4 => {
            // Features that our books do not know make it a file system that nothing is known of.
            let ranges = ext4::free(&window).unwrap_or_default();
            ranges
                .into_iter()
                .for_each(|range| add(range.start, range.end));
        }
        Format::Vfat => {
            let ranges = vfat::free(&|buffer, offset| window.read_exact_at(buffer, offset))?;
            let ranges = ranges.unwrap_or_default();
            ranges
                .into_iter()
                .for_each(|range| add(range.start, range.end));
        }
        _ => {}
    }
    Ok(free)
}
