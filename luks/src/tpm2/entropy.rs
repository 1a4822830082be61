//! Random bytes for keys and nonces, from a seed that the caller passes in.

use zeroize::Zeroizing;

use super::crypto::hmac;

/// A stream of random bytes: HMAC-SHA256 of a counter with the seed as key.
pub struct Entropy {
    seed: Zeroizing<[u8; 32]>,
    next: u64,
}

impl Entropy {
    /// Begins a stream. A seed must be random, and used for one stream only.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seed: Zeroizing::new(seed),
            next: 0,
        }
    }

    /// The next 32 bytes.
    pub(super) fn bytes(&mut self) -> Zeroizing<[u8; 32]> {
        let block = hmac(&*self.seed, &[&self.next.to_be_bytes()]);
        self.next = self.next.wrapping_add(1);
        block
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entropy({} blocks used)", self.next)
    }
}
