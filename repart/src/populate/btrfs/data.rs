//! Files' data on its way to the device, with its checksums.

use std::fs::File;
use std::os::unix::fs::FileExt;

use filetree::{Content, WriteError};

use super::items::{DataExtent, Key, kind};
use super::node::Items;
use super::space::{DATA, Space};
use super::tree_id;

/// Bytes copied at once.
const STEP: u64 = 1 << 20;
/// The owner of checksums.
const CSUMS: u64 = 0u64.wrapping_sub(10);
/// Checksums in one item, at most.
const CSUMS_PER_ITEM: usize = 2048;

/// An extent with its place on the device.
pub(super) struct Placed {
    pub(super) extent: DataExtent,
    pub(super) place: u64,
}

/// The copying of one file; without an image nothing is read, and all counts as zeros.
pub(super) struct Copy<'c> {
    content: &'c Content,
    to: Option<(filetree::OpenContent, &'c File)>,
    buffer: Vec<u8>,
}

impl<'c> Copy<'c> {
    pub(super) fn new(content: &'c Content, image: Option<&'c File>) -> Result<Self, WriteError> {
        let to = match image {
            Some(image) => Some((content.open()?, image)),
            None => None,
        };
        Ok(Self {
            content,
            to,
            buffer: Vec::new(),
        })
    }

    pub(super) fn extent(
        &mut self,
        Placed { extent, place }: &Placed,
        mut csums: Option<&mut Csums>,
        sector: u64,
    ) -> Result<(), WriteError> {
        let mut done = 0;
        while done < extent.length {
            let step = (extent.length - done).min(STEP);
            self.buffer.clear();
            self.buffer.resize(usize::try_from(step).unwrap_or(0), 0);
            let at = extent.offset + done;
            if let Some((open, image)) = &self.to {
                // What is behind the end of the file stays zero.
                let live = self.content.size().saturating_sub(at).min(step);
                let live = usize::try_from(live).unwrap_or(0);
                open.read_exact_at(&mut self.buffer[..live], at)?;
                let written = image.write_all_at(&self.buffer, place + done);
                written.map_err(WriteError::Target)?;
            }
            if let Some(csums) = &mut csums {
                csums.add(extent.start + done, &self.buffer, sector);
            }
            done += step;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), WriteError> {
        match self.to {
            Some((open, _)) => Ok(open.finish()?),
            None => Ok(()),
        }
    }
}

/// The data chunks, filled from the front.
pub(super) struct Room {
    pub(super) chunk: usize,
}

impl Room {
    /// Takes up to `length` bytes, `least` at least, in one piece: address, place on the device,
    /// length; zeros where there is no room.
    pub(super) fn take(&mut self, length: u64, least: u64, space: &mut Space) -> (u64, u64, u64) {
        while let Some(chunk) = space.chunks.get_mut(self.chunk) {
            let left = chunk.length - chunk.used;
            if chunk.profile & DATA == 0 || left < least.max(1) {
                self.chunk += 1;
                continue;
            }
            let length = length.min(left);
            let (address, place) = (chunk.start + chunk.used, chunk.stripes[0] + chunk.used);
            chunk.used += length;
            return (address, place, length);
        }
        (0, 0, 0)
    }
}

/// Checksums by address; runs that follow each other are one.
#[derive(Default)]
pub(super) struct Csums(Vec<(u64, u64, Vec<u8>)>);

impl Csums {
    pub(super) fn add(&mut self, mut address: u64, bytes: &[u8], sector: u64) {
        for part in bytes.chunks(usize::try_from(sector).unwrap_or(4096)) {
            let sum = crc32c::crc32c(part).to_le_bytes();
            match self.0.last_mut() {
                Some((_, end, sums)) if *end == address && sums.len() < CSUMS_PER_ITEM * 4 => {
                    sums.extend_from_slice(&sum);
                    *end += sector;
                }
                _ => self.0.push((address, address + sector, sum.to_vec())),
            }
            address += sector;
        }
    }

    pub(super) fn items(self) -> Items {
        let mut items = Items::new(tree_id::CSUM);
        for (start, _, sums) in self.0 {
            items.add(Key(CSUMS, kind::CSUM, start), sums);
        }
        items
    }
}
