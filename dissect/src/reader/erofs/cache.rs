//! What was read or decompressed, and may be needed soon again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use filetree::ReadError;

use super::bytes::{length, wide};
use super::compressed::Pcluster;
use super::{Area, Image};

/// Decompressed bytes that are kept, for all files together.
const KEPT: usize = 16 << 20;

/// Metadata that is read at once.
const WINDOW: u64 = 4096;

/// Decompressed data of which only a part was asked for, newest last.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// What is stored, and how much was asked of it.
    key: (Pcluster, u64),
    bytes: Arc<[u8]>,
}

impl Cache {
    /// What is kept, or else what `make` gives.
    pub(super) fn get(
        &self,
        key: (Pcluster, u64),
        make: impl FnOnce() -> Result<Arc<[u8]>, ReadError>,
    ) -> Result<Arc<[u8]>, ReadError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = kept.entries.iter().rev().find(|entry| entry.key == key) {
            return Ok(Arc::clone(&entry.bytes));
        }
        drop(kept);
        let bytes = make()?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += bytes.len();
        kept.entries.push_back(Entry {
            key,
            bytes: Arc::clone(&bytes),
        });
        while kept.bytes > KEPT
            && let Some(oldest) = kept.entries.pop_front()
        {
            kept.bytes -= oldest.bytes.len();
        }
        Ok(bytes)
    }
}

/// A look at metadata that is walked in small steps.
#[derive(Debug)]
pub(super) struct Window<'a> {
    pub(super) image: &'a Image,
    area: Area,
    begin: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(image: &'a Image, area: Area) -> Self {
        Self {
            image,
            area,
            begin: 0,
            bytes: Vec::new(),
        }
    }

    /// `N` bytes from a place of the area.
    pub(super) fn take<const N: usize>(&mut self, at: u64) -> Result<[u8; N], ReadError> {
        if let Some(bytes) = self.known(at) {
            return Ok(bytes);
        }
        let begin = at - at % WINDOW;
        let size = self.image.size(self.area).saturating_sub(begin).min(WINDOW);
        self.bytes.resize(length(size), 0);
        self.begin = begin;
        self.image.read(self.area, &mut self.bytes, begin)?;
        if let Some(bytes) = self.known(at) {
            return Ok(bytes);
        }
        let mut bytes = [0; N];
        self.image.read(self.area, &mut bytes, at)?;
        Ok(bytes)
    }

    fn known<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let within = at.checked_sub(self.begin)?;
        if within >= wide(self.bytes.len()) {
            return None;
        }
        self.bytes.get(length(within)..)?.first_chunk().copied()
    }
}
