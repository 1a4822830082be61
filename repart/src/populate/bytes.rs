//! Big-endian blocks of metadata with CRC32C. Pure.

/// A block being put together; numbers that do not fit their field are a bug and saturate.
#[derive(Clone, Debug)]
pub(super) struct Block(pub(super) Vec<u8>);

impl Block {
    pub(super) fn new(size: u64) -> Self {
        Self(vec![0; usize::try_from(size).unwrap_or(0)])
    }

    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, at: usize, value: impl TryInto<u8>) {
        self.put(at, &[value.try_into().unwrap_or(u8::MAX)]);
    }

    pub(super) fn u16(&mut self, at: usize, value: impl TryInto<u16>) {
        self.put(at, &value.try_into().unwrap_or(u16::MAX).to_be_bytes());
    }

    pub(super) fn u32(&mut self, at: usize, value: impl TryInto<u32>) {
        self.put(at, &value.try_into().unwrap_or(u32::MAX).to_be_bytes());
    }

    pub(super) fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_be_bytes());
    }

    /// Stores the CRC32C of the whole, little-endian, where the field counts as zero.
    pub(super) fn crc(&mut self, at: usize) {
        self.put(at, &[0; 4]);
        let crc = crc32c::crc32c(&self.0);
        self.put(at, &crc.to_le_bytes());
    }
}
