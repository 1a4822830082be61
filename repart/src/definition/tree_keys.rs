//! The keys that say what a hash tree is like, which only its partition has. Pure.

use super::resolve::needs;
use super::{Combination, Definition, Key, Refusal, VerityMode};

/// Refuses keys of trees elsewhere, and those that contradict each other.
pub(super) fn check(definition: &Definition) -> Result<(), Refusal> {
    let verity = &definition.verity;
    let keys = [
        (Key::VerityHashAlgorithm, verity.algorithm.is_some()),
        (Key::VeritySalt, verity.salt.is_some()),
        (Key::VerityHashType, verity.hash_type.is_some()),
        (Key::VerityFEC, verity.fec.is_some()),
    ];
    if let Some((key, _)) = keys.into_iter().find(|(_, is_set)| *is_set)
        && verity.mode != VerityMode::Hash
    {
        return Err(needs(key, "Verity=hash"));
    }
    if verity.fec.is_none() {
        return Ok(());
    }
    if definition.copy_blocks.is_some() {
        let both = Combination::Excludes(Key::VerityFEC, Key::CopyBlocks);
        return Err((Key::VerityFEC, both));
    }
    match (verity.data_block_size, verity.hash_block_size) {
        (Some(data), Some(hash)) if data != hash => {
            let blocks = "VerityDataBlockSizeBytes= and VerityHashBlockSizeBytes= of one size";
            Err(needs(Key::VerityFEC, blocks))
        }
        _ => Ok(()),
    }
}
