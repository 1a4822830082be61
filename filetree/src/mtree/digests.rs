//! Digests of many files by several threads, handed on in the order in which they are asked for.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::content::{Content, ContentError};
use crate::tree::{InodeId, Kind, Tree};

/// What the threads share.
pub(super) struct Digests<'a> {
    hash: fn(&Content) -> Result<[u8; 32], ContentError>,
    /// In the order in which they are wanted, each once.
    order: Vec<&'a Content>,
    /// Where in that order each inode is.
    places: HashMap<InodeId, usize>,
    next: AtomicUsize,
    slots: Mutex<Vec<Slot>>,
    changed: Condvar,
}

enum Slot {
    Waiting,
    Done([u8; 32]),
    Failed(ContentError),
    /// The error was handed on, or the thread is gone.
    Empty,
}

/// Runs `consume` while threads compute the digest of each file that is not empty, in the order of
/// the tree's walk.
pub(super) fn compute<T>(
    tree: &Tree,
    hash: fn(&Content) -> Result<[u8; 32], ContentError>,
    consume: impl FnOnce(&Digests<'_>) -> T,
) -> T {
    let digests = Digests::of(tree, hash);
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        let _stop = StopOnDrop(&digests);
        for _ in 0..threads.min(digests.order.len()) {
            scope.spawn(|| digests.work());
        }
        consume(&digests)
    })
}

impl<'a> Digests<'a> {
    fn of(tree: &'a Tree, hash: fn(&Content) -> Result<[u8; 32], ContentError>) -> Self {
        let mut order = Vec::new();
        let mut places = HashMap::new();
        for (_, id) in tree.walk() {
            let Kind::File(content) = &tree.inode(id).kind else {
                continue;
            };
            if content.size() > 0 && !places.contains_key(&id) {
                places.insert(id, order.len());
                order.push(content);
            }
        }
        let slots = order.iter().map(|_| Slot::Waiting).collect();
        Self {
            hash,
            order,
            places,
            next: AtomicUsize::new(0),
            slots: Mutex::new(slots),
            changed: Condvar::new(),
        }
    }

    /// The digest of a file, once it is there; `None` for what has none.
    pub(super) fn wait(&self, id: InodeId) -> Result<Option<[u8; 32]>, ContentError> {
        let Some(place) = self.places.get(&id).copied() else {
            return Ok(None);
        };
        let mut slots = self
            .changed
            .wait_while(self.lock(), |slots| matches!(slots[place], Slot::Waiting))
            .unwrap_or_else(PoisonError::into_inner);
        if let Slot::Done(digest) = slots[place] {
            return Ok(Some(digest));
        }
        match std::mem::replace(&mut slots[place], Slot::Empty) {
            Slot::Failed(error) => Err(error),
            _ => Ok(None),
        }
    }

    fn work(&self) {
        while let Some(index) = self.take() {
            let mut filling = Filling {
                digests: self,
                index,
                slot: Slot::Empty,
            };
            filling.slot = match (self.hash)(self.order[index]) {
                Ok(digest) => Slot::Done(digest),
                Err(error) => Slot::Failed(error),
            };
        }
    }

    fn take(&self) -> Option<usize> {
        let next = |next: usize| (next < self.order.len()).then_some(next + 1);
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .ok()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills a slot in any case, so that nobody waits for a thread that has panicked.
struct Filling<'a> {
    digests: &'a Digests<'a>,
    index: usize,
    slot: Slot,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        let slot = std::mem::replace(&mut self.slot, Slot::Empty);
        self.digests.lock()[self.index] = slot;
        self.digests.changed.notify_all();
    }
}

/// Lets the threads end when the consumer has.
struct StopOnDrop<'a>(&'a Digests<'a>);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.next.store(self.0.order.len(), Ordering::Relaxed);
    }
}
