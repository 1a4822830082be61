//! Big-endian numbers at fixed places, which lie within: the callers' bytes have the sizes of the
//! structures.

pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}

pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

/// Whether the checksum at `at`, which is CRC-32C over everything but itself, is right.
pub(super) fn is_sound(bytes: &[u8], at: usize) -> bool {
    let Some((before, rest)) = bytes.split_at_checked(at) else {
        return false;
    };
    let Some((stored, behind)) = rest.split_first_chunk::<4>() else {
        return false;
    };
    let sum = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
    crc32c::crc32c_append(sum, behind) == u32::from_le_bytes(*stored)
}

/// Sizes of blocks and places within them are small.
pub(super) fn wide(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}
