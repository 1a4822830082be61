//! What was read last, in bounded memory that threads share.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes by a key, in two generations: when the young one is full, the old one is dropped.
#[derive(Debug)]
pub(super) struct Cache<K> {
    generations: Mutex<Generations<K>>,
    /// Bytes that are kept at most (about).
    most: usize,
}

#[derive(Debug)]
struct Generations<K> {
    young: HashMap<K, Arc<[u8]>>,
    old: HashMap<K, Arc<[u8]>>,
    /// Bytes in the young generation.
    used: usize,
}

impl<K: Copy + Eq + Hash> Cache<K> {
    /// Keeps about `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            generations: Mutex::new(Generations {
                young: HashMap::new(),
                old: HashMap::new(),
                used: 0,
            }),
            most,
        }
    }

    /// What is kept by `key`, or what `make` gives, which is kept if it is no error.
    pub(super) fn get_or<E>(
        &self,
        key: K,
        make: impl FnOnce() -> Result<Arc<[u8]>, E>,
    ) -> Result<Arc<[u8]>, E> {
        if let Some(known) = self.get(key) {
            return Ok(known);
        }
        let made = make()?;
        self.insert(&mut self.lock(), key, &made);
        Ok(made)
    }

    fn get(&self, key: K) -> Option<Arc<[u8]>> {
        let mut generations = self.lock();
        if let Some(known) = generations.young.get(&key) {
            return Some(Arc::clone(known));
        }
        let known = generations.old.remove(&key)?;
        self.insert(&mut generations, key, &known);
        Some(known)
    }

    fn insert(&self, generations: &mut Generations<K>, key: K, bytes: &Arc<[u8]>) {
        if generations.used + bytes.len() > self.most / 2 {
            generations.old = std::mem::take(&mut generations.young);
            generations.used = 0;
        }
        if generations.young.insert(key, Arc::clone(bytes)).is_none() {
            generations.used += bytes.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations<K>> {
        // It is whole after every step.
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
