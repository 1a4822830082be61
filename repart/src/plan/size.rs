//! How large a partition must and may be. Pure.

use image_specs::partition::{Designator, VerityRole};
use image_specs::units::Bytes;

use veritysetup::HashAlgorithm;
use veritysetup::fec;

use super::layout::{Entry, Layout, UNLIMITED, Wanted, limit};
use crate::definition::{Encrypt, Format, Verity, VerityMode};
use crate::integrity;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// No new partition is smaller than this.
const HARD_MIN: u64 = 4 * KIB;
/// Every signature partition has this size.
const SIGNATURE_SIZE: u64 = 16 * KIB;
/// What stays free for LUKS2 metadata.
const LUKS_RESERVE: u64 = 32 * MIB;
/// What a table and the space before the first partition take on a disk that is sized for us.
const TABLE_ROOM: u64 = MIB;

impl Layout<'_> {
    /// The least size of entry `index`.
    pub(super) fn min_size(&self, index: usize) -> u64 {
        let entry = &self.entries[index];
        let Some(wanted) = &entry.wanted else {
            return entry.found_size();
        };
        if entry.stays() {
            return entry.found_size();
        }
        if is_signature(entry) {
            return SIGNATURE_SIZE;
        }
        let floor = match entry.exists() {
            true => entry.found_size(),
            false => HARD_MIN.max(self.content_size(wanted)),
        };
        let asked = match (wanted.size_min, self.supplement(index).map(|s| s.size_min)) {
            (own, None) => own,
            (None, Some(theirs)) => theirs,
            // What only the target says is lost: to systemd-repart, unset is the largest number.
            (Some(own), Some(theirs)) => theirs.map(|theirs| theirs.max(own)),
        };
        self.up(asked.unwrap_or_else(|| default_min(wanted)))
            .max(floor)
    }

    /// The greatest size of entry `index`.
    pub(super) fn max_size(&self, index: usize) -> u64 {
        let entry = &self.entries[index];
        let Some(wanted) = &entry.wanted else {
            return entry.found_size();
        };
        if entry.stays() {
            return entry.found_size();
        }
        if is_signature(entry) {
            return SIGNATURE_SIZE;
        }
        let supplement = self.supplement(index);
        let asked = limit(wanted.definition.size_max)
            .min(supplement.map_or(UNLIMITED, |s| limit(s.definition.size_max)));
        match asked {
            UNLIMITED => UNLIMITED,
            _ => self
                .down(asked)
                .max(entry.found_size())
                .max(self.min_size(index)),
        }
    }

    /// What `SizeMinBytes=` and `SizeMaxBytes=` of entry `index` let an existing partition have: nothing
    /// that a new one could get is out of these bounds.
    pub(super) fn bounds(&self, index: usize) -> (u64, u64) {
        let entry = &self.entries[index];
        let Some(wanted) = entry.wanted.as_ref().filter(|_| !is_signature(entry)) else {
            return (0, UNLIMITED);
        };
        let definition = wanted.definition;
        let least = definition.size_min.map_or(0, |size| self.up(size.get()));
        let new = self.up(definition
            .size_min
            .map_or_else(|| default_min(wanted), Bytes::get));
        let new = new.max(HARD_MIN).max(self.content_size(wanted));
        let most = definition
            .size_max
            .map_or(UNLIMITED, |size| self.down(size.get()).max(new));
        (least, most)
    }

    /// The least free space behind entry `index`.
    pub(super) fn min_padding(&self, index: usize) -> u64 {
        let Some(wanted) = &self.entries[index].wanted else {
            return 0;
        };
        let own = wanted.definition.padding_min;
        let asked = match self.supplement(index) {
            None => own,
            // Where only one of the two says one, neither counts.
            Some(supplement) => (own.zip(supplement.definition.padding_min)).map(|(a, b)| a.max(b)),
        };
        asked.map_or(0, Bytes::get)
    }

    /// The greatest free space behind entry `index`.
    pub(super) fn max_padding(&self, index: usize) -> u64 {
        let Some(wanted) = &self.entries[index].wanted else {
            return UNLIMITED;
        };
        let supplement = self.supplement(index);
        let asked = limit(wanted.definition.padding_max)
            .min(supplement.map_or(UNLIMITED, |s| limit(s.definition.padding_max)));
        asked.max(self.min_padding(index))
    }

    /// What entry `index` takes of the disk at least, up to the next aligned position.
    pub(super) fn min_with_padding(&self, index: usize) -> u64 {
        let size = self.min_size(index).saturating_add(self.min_padding(index));
        let entry = &self.entries[index];
        match entry.exists() {
            true => {
                let start = entry.found_start();
                match self.up(start.saturating_add(size)) {
                    UNLIMITED => UNLIMITED,
                    end => end - start,
                }
            }
            false => self.up(size),
        }
    }

    /// The share of free space that entry `index` asks for: for itself, and behind itself.
    pub(super) fn weights(&self, index: usize) -> (u64, u64) {
        match (&self.entries[index].wanted, self.supplement(index)) {
            (None, _) => (1000, 0),
            (Some(_), Some(from)) | (Some(from), None) => (
                from.definition.weight.into(),
                from.definition.padding_weight.into(),
            ),
        }
    }

    /// What a disk must have to hold everything that is kept.
    pub(super) fn minimal_disk(&self, sector: u64) -> u64 {
        let metadata = self.up(TABLE_ROOM).saturating_add(16 * KIB + sector);
        let metadata = metadata.saturating_add(self.records_size());
        (0..self.entries.len())
            .filter(|index| self.is_kept(*index))
            .map(|index| self.min_with_padding(index))
            .fold(metadata, u64::saturating_add)
    }

    /// What the content of a new partition needs.
    fn content_size(&self, wanted: &Wanted<'_>) -> u64 {
        let definition = wanted.definition;
        let encrypted = definition.encryption.mode != Encrypt::Off;
        let reserve = if encrypted { self.up(LUKS_RESERVE) } else { 0 };
        let inner = if let Some(blocks) = wanted.content.blocks {
            self.up(blocks.get())
        } else if let Some(replaced) = wanted.content.replaced {
            self.up(replaced.get())
        } else if definition.format.is_some() || encrypted {
            self.up(fs_min(wanted).unwrap_or(self.grain))
        } else {
            0
        };
        if definition.tags.standalone {
            let size = integrity::size_for(definition, wanted.fs_sector, inner);
            return size.map_or(UNLIMITED, |size| self.up(size));
        }
        reserve.saturating_add(inner)
    }
}

/// The bytes of a hash partition over at most `data` bytes: tree with superblock and, where that is
/// wanted, parity with footer.
pub(super) fn hash_size(data: u64, keys: &Verity, sector: u64) -> u64 {
    let block = |set: Option<u32>| set.map_or(sector, u64::from);
    let hash_block = block(keys.hash_block_size);
    let algorithm = keys.algorithm.unwrap_or_default();
    let tree = hash_tree_size(data, block(keys.data_block_size), hash_block, algorithm);
    match keys.fec {
        None => tree,
        Some(roots) => fec::device_size_at_most(data, tree, hash_block, roots),
    }
}

/// The bytes of a hash tree with its superblock over `data` bytes.
fn hash_tree_size(data: u64, data_block: u64, hash_block: u64, algorithm: HashAlgorithm) -> u64 {
    let digest = u64::try_from(algorithm.digest_size()).unwrap_or(u64::MAX);
    let most = (hash_block / digest).checked_ilog2().unwrap_or(0);
    let per_block = (1 << most).max(2);
    let mut blocks = data.div_ceil(data_block.max(1));
    let mut total = 2_u64;
    while blocks > per_block {
        blocks = blocks.div_ceil(per_block);
        total = total.saturating_add(blocks);
    }
    total.saturating_mul(hash_block)
}

fn is_signature(entry: &Entry<'_>) -> bool {
    let role = entry.kind().designator().and_then(Designator::verity_role);
    role == Some(VerityRole::Signature)
}

/// The least size where `SizeMinBytes=` is unset.
fn default_min(wanted: &Wanted<'_>) -> u64 {
    let definition = wanted.definition;
    let fixed = definition.format.as_ref().is_some_and(Format::is_read_only);
    match fixed || definition.verity.mode != VerityMode::Off {
        true => 1,
        false => 10 * MIB,
    }
}

/// The least size that the tools make the file system in.
fn fs_min(wanted: &Wanted<'_>) -> Option<u64> {
    let boot = matches!(
        wanted.definition.kind.designator(),
        Some(Designator::Esp | Designator::Xbootldr)
    );
    match wanted.definition.format.as_ref()? {
        Format::Ext4 => Some(32 * MIB),
        Format::Btrfs => Some(256 * MIB),
        Format::Xfs => Some(300 * MIB),
        Format::Vfat if boot && wanted.fs_sector >= 4096 => Some(260 * MIB),
        Format::Vfat if boot => Some(100 * MIB),
        _ => None,
    }
}
