//! Partitions with dm-integrity of their own (`Integrity=standalone`): how large they are for what is to
//! go into them, and how they are formatted. Pure.

use image_specs::units::{Bytes, Grain, SectorSize};
use luks::Secret;
use luks::integrity::Algorithm;
use luks::integrity::offline::{Format, OfflineError};

use crate::definition::Definition;

/// What contents are rounded down to, whatever the device's sectors are.
const UNIT: Grain = Grain::DEFAULT;

/// How the partition of a definition is formatted; sectors are those of its file system.
pub fn format(definition: &Definition, fs_sector: u64, key: Option<Secret>) -> Format {
    let sector = SectorSize::new(fs_sector.min(4096)).unwrap_or(SectorSize::S512);
    Format {
        sector,
        ..Format::new(algorithm(definition), key)
    }
}

/// `IntegrityAlgorithm=`, or what stands for it.
fn algorithm(definition: &Definition) -> Algorithm {
    let named = definition.encryption.integrity_algorithm.as_deref();
    match named.and_then(|name| name.parse().ok()) {
        Some(algorithm) => algorithm,
        None if definition.tags.key_file.is_some() => Algorithm::hmac_sha256(),
        None => Algorithm::crc32c(),
    }
}

/// The least size of a partition that offers `content` bytes; `None` where there is none.
pub fn size_for(definition: &Definition, fs_sector: u64, content: u64) -> Option<u64> {
    let size = format(definition, fs_sector, None).size_for(Bytes::new(content));
    size.ok().map(Bytes::get)
}

/// What a partition of `size` offers to its contents.
pub fn inner_size(
    definition: &Definition,
    fs_sector: u64,
    size: Bytes,
) -> Result<Bytes, OfflineError> {
    let room = format(definition, fs_sector, None).room(size)?;
    Ok(room.round_down(UNIT))
}
