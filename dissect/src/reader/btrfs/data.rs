//! The data of extents, verified: each sector has a checksum in a tree of its own (btrfs
//! documentation, "On-disk Format": "EXTENT_CSUM").

use std::sync::Arc;

use filetree::ReadError;

use super::Volume;
use super::extent::Packed;
use super::field::{narrow, wide};
use super::key::{Key, Pointer, kind};
use super::superblock::OFFSET;

/// The object of all keys of checksums.
const CHECKSUMS: u64 = u64::MAX - 9;
/// Bytes that are read and verified at once.
const CHUNK: u64 = 128 << 10;

/// Whether the data of a file has checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sums {
    Verified,
    None,
}

impl Volume {
    /// Fills `buffer` with the data from `address` on.
    pub(super) fn data(
        &self,
        address: u64,
        buffer: &mut [u8],
        sums: Sums,
    ) -> Result<(), ReadError> {
        let sector = self.superblock.sector_size;
        let (mut at, mut rest) = (address, buffer);
        while !rest.is_empty() {
            let within = at % sector;
            let length = wide(rest.len()).min(CHUNK - within);
            let (part, behind) = rest.split_at_mut(narrow(length));
            let mut sectors = vec![0; narrow((within + length).next_multiple_of(sector))];
            self.sectors(at - within, &mut sectors, sums)?;
            let from = narrow(within);
            part.copy_from_slice(&sectors[from..from + part.len()]);
            (at, rest) = (at + length, behind);
        }
        Ok(())
    }

    /// The decompressed data of an extent.
    pub(super) fn unpacked(&self, extent: Packed, sums: Sums) -> Result<Arc<[u8]>, ReadError> {
        self.unpacked.get_or((extent, sums), || {
            let mut packed = vec![0; extent.length];
            self.data(extent.address, &mut packed, sums)?;
            let sector = narrow(self.superblock.sector_size);
            let plain = extent.algorithm.unpack(&packed, extent.plain, sector);
            let plain = plain.ok_or_else(|| {
                let place = self.chunks.places(extent.address, 0);
                let offset = place.map_or(OFFSET, |(first, _)| first);
                self.source.damaged(offset, "compressed data is damaged")
            })?;
            Ok(plain.into())
        })
    }

    /// Reads whole sectors, from the copy where the first place has damaged ones.
    fn sectors(&self, address: u64, buffer: &mut [u8], sums: Sums) -> Result<(), ReadError> {
        let places = self.chunks.places(address, wide(buffer.len()));
        let (first, second) =
            places.ok_or_else(|| self.source.damaged(OFFSET, "data is in no chunk"))?;
        let sums = match sums {
            Sums::Verified if self.verify => Some(self.sums(address, wide(buffer.len()))?),
            _ => None,
        };
        let outcome = self.sectors_at(first, buffer, sums.as_deref());
        match (outcome, second) {
            (Err(error), Some(second)) => self
                .sectors_at(second, buffer, sums.as_deref())
                .map_err(|_| error),
            (outcome, _) => outcome,
        }
    }

    fn sectors_at(
        &self,
        place: u64,
        buffer: &mut [u8],
        sums: Option<&[u8]>,
    ) -> Result<(), ReadError> {
        self.source.read(place, buffer)?;
        let Some(sums) = sums else {
            return Ok(());
        };
        let sector = narrow(self.superblock.sector_size);
        let checksum = self.superblock.checksum;
        let sectors = buffer.chunks_exact(sector);
        for (index, (bytes, sum)) in sectors.zip(sums.chunks_exact(checksum.size())).enumerate() {
            if !checksum.is(sum, bytes) {
                let offset = place + wide(index * sector);
                let what = "the checksum of a file's data is wrong";
                return Err(self.source.damaged(offset, what));
            }
        }
        Ok(())
    }

    /// The checksums of the sectors of `length` bytes from `address` on.
    fn sums(&self, address: u64, length: u64) -> Result<Vec<u8>, ReadError> {
        let missing = || {
            let what = "a file's data has no checksum";
            self.source.damaged(OFFSET, what)
        };
        let root: Pointer = self.checksums.ok_or_else(missing)?;
        let sector = self.superblock.sector_size;
        let size = self.superblock.checksum.size();
        let wanted = narrow(length / sector) * size;
        let mut sums = Vec::with_capacity(wanted);
        let mut items = self.before(&root, Key::new(CHECKSUMS, kind::CHECKSUMS, address))?;
        while sums.len() < wanted {
            let item = items.next()?;
            let item = item
                .filter(|item| item.key.kind == kind::CHECKSUMS)
                .ok_or_else(missing)?;
            let next = address + wide(sums.len() / size) * sector;
            let skip = next.checked_sub(item.key.offset).ok_or_else(missing)? / sector;
            let skip = usize::try_from(skip)
                .ok()
                .and_then(|skip| skip.checked_mul(size));
            // The item before may end where the data begins.
            let found = item
                .bytes()
                .get(skip.ok_or_else(missing)?..)
                .unwrap_or_default();
            let most = found.len().min(wanted - sums.len());
            sums.extend_from_slice(&found[..most / size * size]);
        }
        Ok(sums)
    }
}
