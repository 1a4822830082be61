//! Which blocks of a new file system hold nothing.

use std::ops::Range;

use filetree::WriteError;

use super::Disk;
use super::volume::Volume;

/// The byte ranges that no file and no table of the file system has, in order; and the parts of inode
/// tables that the kernel is still to clear before it uses them.
pub fn free(disk: &dyn Disk) -> Result<Vec<Range<u64>>, WriteError> {
    Volume::open(disk).map(|volume| volume.free())
}

impl Volume {
    /// The ranges of blocks that the bitmaps call free, in bytes.
    fn free(&self) -> Vec<Range<u64>> {
        let size = self.geometry.block_size;
        let mut free: Vec<Range<u64>> = Vec::new();
        for (start, bits) in self.bitmaps() {
            for (bit, is_used) in bits.enumerate() {
                if is_used {
                    continue;
                }
                let at = start
                    .saturating_add(super::length(bit))
                    .saturating_mul(size);
                match free.last_mut() {
                    Some(last) if last.end == at => last.end = at.saturating_add(size),
                    _ => free.push(at..at.saturating_add(size)),
                }
            }
        }
        free.extend(self.unused_inodes());
        free.sort_unstable_by_key(|range| range.start);
        free
    }
}
