//! Bytes that nobody else may see: kept out of swap and core dumps where the kernel allows it,
//! erased when they go, never shown in a message.

use std::fmt;
use std::sync::Arc;

use blockdev::locked::LockedBytes;
use openssl::memcmp;
use zeroize::Zeroizing;

/// A key, a passphrase, a PIN. Clones share the bytes.
#[derive(Clone)]
pub struct Secret(Arc<Store>);

enum Store {
    Locked(LockedBytes),
    /// Where there are no pages to be had.
    Heap(Zeroizing<Vec<u8>>),
}

impl Secret {
    /// Takes the bytes over, and erases the place where they were.
    pub fn new(bytes: Vec<u8>) -> Self {
        let bytes = Zeroizing::new(bytes);
        let store = match LockedBytes::copy_of(&bytes) {
            Ok(locked) => Store::Locked(locked),
            Err(_) => Store::Heap(bytes),
        };
        Self(Arc::new(store))
    }

    /// The bytes, for whoever must have them.
    pub fn expose(&self) -> &[u8] {
        match &*self.0 {
            Store::Locked(bytes) => bytes,
            Store::Heap(bytes) => bytes,
        }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.expose().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

/// Takes the same time wherever the difference is.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && memcmp::eq(self.expose(), other.expose())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_tells_the_length_only() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(7 bytes)");
        assert_eq!(
            (secret.expose(), secret.is_empty()),
            (&b"hunter2"[..], false)
        );
    }

    #[test]
    fn secrets_are_the_same_where_their_bytes_are() {
        let secret = Secret::new(vec![1, 2]);
        assert_eq!(secret, secret.clone());
        assert_ne!(secret, Secret::new(vec![1, 3]));
        assert_ne!(secret, Secret::new(vec![1]));
        assert_eq!(Secret::new(Vec::new()), Secret::new(Vec::new()));
    }
}
