//! The 512 bytes in front of a tree.

use crate::params::Params;
use uuid::Uuid;

/// The superblock as stored, padded with zeros to a hash block.
pub(crate) fn encode(params: &Params, uuid: Uuid) -> Vec<u8> {
    let salt = params.salt.as_bytes();
    let name = params.algorithm.name().as_bytes();
    let salt_size = u16::try_from(salt.len()).unwrap_or_else(|_| unreachable!("at most 256"));
    let mut block = vec![0; params.hash_block.in_memory()];
    for (offset, bytes) in [
        (0, &b"verity\0\0"[..]),
        (8, &1_u32.to_le_bytes()),
        (12, &params.hash_type.number().to_le_bytes()),
        (16, uuid.as_bytes()),
        (32, name),
        (64, &params.data_block.as_u32().to_le_bytes()),
        (68, &params.hash_block.as_u32().to_le_bytes()),
        (72, &params.data_blocks.to_le_bytes()),
        (80, &salt_size.to_le_bytes()),
        (88, salt),
    ] {
        block[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    block
}
