//! Bytes that must not leave this process's memory: kept from swap and from core dumps where the
//! process may ask for it, and erased when they go.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

use crate::sys::locked::Pages;

/// A fixed number of such bytes.
#[derive(Default)]
pub struct LockedBytes(Option<Pages>);

impl LockedBytes {
    /// So many bytes of zero; fails where there is no memory for them.
    pub fn zeroed(length: usize) -> io::Result<Self> {
        match length {
            0 => Ok(Self(None)),
            _ => Pages::new(length).map(|pages| Self(Some(pages))),
        }
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let mut copy = Self::zeroed(bytes.len())?;
        copy.copy_from_slice(bytes);
        Ok(copy)
    }
}

impl Deref for LockedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_ref().map(Pages::bytes).unwrap_or_default()
    }
}

impl DerefMut for LockedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_mut().map(Pages::bytes_mut).unwrap_or_default()
    }
}

impl fmt::Debug for LockedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedBytes({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn bytes_are_kept_and_not_shown() {
        let mut bytes = LockedBytes::copy_of(b"secret").unwrap();
        bytes[0] = b'S';
        assert_eq!(&*bytes, b"Secret");
        assert_eq!(format!("{bytes:?}"), "LockedBytes(6)");
        assert!(LockedBytes::zeroed(0).unwrap().is_empty());
        assert_eq!(&*LockedBytes::zeroed(5000).unwrap(), &[0; 5000]);
    }

    /// What the kernel says of the mapping at an address.
    fn flags_at(address: usize) -> String {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let range = line
                .split_once(' ')
                .and_then(|(range, _)| range.split_once('-'));
            if let Some((start, end)) = range
                && let Ok(start) = usize::from_str_radix(start, 16)
                && let Ok(end) = usize::from_str_radix(end, 16)
            {
                inside = (start..end).contains(&address);
            }
            if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                return format!("{flags} ");
            }
        }
        panic!("no mapping at {address:x}");
    }

    #[test]
    fn the_kernel_leaves_them_out_of_core_dumps() {
        let bytes = LockedBytes::copy_of(&[7; 64]).unwrap();
        let flags = flags_at(bytes.as_ptr().addr());
        assert!(flags.contains(" dd "), "{flags}");
    }
}
