//! The checksums of ext4: CRC-32C over metadata, CRC-16 over group descriptors of older file systems.
//! Pure.

/// CRC-32C without inversion, continued from `seed`.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// The CRC-32C of `bytes` with zeros in the place of its `length` bytes from `at` on, where the
/// checksum itself is stored.
pub(super) fn crc32c_without(seed: u32, bytes: &[u8], at: usize, length: usize) -> u32 {
    let end = at.saturating_add(length);
    let before = bytes.get(..at).unwrap_or(bytes);
    let behind = bytes.get(end..).unwrap_or_default();
    let zeros = [0; 4];
    let zeros = zeros.get(..length).unwrap_or(&zeros);
    crc32c(crc32c(crc32c(seed, before), zeros), behind)
}

/// CRC-16 (polynomial 0x8005, reflected), continued from `seed`.
pub(super) fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xa001 } else { 0 }
        })
    })
}

/// Bits 0 to 15.
pub(super) fn low16(value: u32) -> u16 {
    let [a, b, ..] = value.to_le_bytes();
    u16::from_le_bytes([a, b])
}
