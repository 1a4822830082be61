//! Files of equal content, found before they are written.
//!
//! By size first, so that a file of a size of its own is never read for this; then by SHA-256. The
//! library's own way would be 32-bit checksums verified by reading the image back, and an image that
//! is being written cannot always be read.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use filetree::{Content, InodeId, WriteError};
use sha2::{Digest, Sha256};

#[derive(Debug)]
pub(super) struct Duplicates {
    shared_sizes: HashSet<u64>,
    written: HashMap<(u64, [u8; 32]), usize>,
}

impl Duplicates {
    /// From every file with its size (a file may come several times).
    pub(super) fn new(files: impl Iterator<Item = (InodeId, u64)>) -> Self {
        let mut first = HashMap::new();
        let mut shared_sizes = HashSet::new();
        for (id, size) in files {
            if *first.entry(size).or_insert(id) != id {
                shared_sizes.insert(size);
            }
        }
        Self {
            shared_sizes,
            written: HashMap::new(),
        }
    }

    /// The slot of a file written before with this content. Where there is none, `slot` will be it.
    pub(super) fn find(
        &mut self,
        content: &Content,
        slot: usize,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, WriteError> {
        let size = content.size();
        if !self.shared_sizes.contains(&size) {
            return Ok(None);
        }
        let mut hasher = Sha256::new();
        super::read(content, buffer, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        let known = *self
            .written
            .entry((size, hasher.finalize().into()))
            .or_insert(slot);
        Ok((known != slot).then_some(known))
    }
}
