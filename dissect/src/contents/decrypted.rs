//! What is inside an encrypted partition, decrypted as it is read: as by dm-crypt, but without the
//! kernel.

use std::io;
use std::sync::Arc;

use filetree::ReadAt;
use image_specs::partition::Designator;
use image_specs::units::Bytes;
use luks::bulk::{SegmentError, SegmentReader};

use super::Access;
use super::part::Volume;
use crate::assign::{Inside, Partition};
use crate::unlock::{self, InsideError, UnlockError};

/// An encrypted partition cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockedError {
    /// Nobody said that it may be unlocked.
    #[error("partition {0} is encrypted")]
    Locked(Designator),
    /// It cannot be unlocked.
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    /// Its encryption is not one that we know.
    #[error("cannot decrypt partition {designator}")]
    Cipher {
        /// The partition.
        designator: Designator,
        /// Why.
        #[source]
        source: SegmentError,
    },
    /// Its data are not in one piece.
    #[error("partition {0} is encrypted in several pieces; mount it to read it")]
    Pieces(Designator),
    /// What is inside must not be there.
    #[error(transparent)]
    Inside(#[from] InsideError),
}

/// Unlocks a partition, and says what is inside.
pub(super) fn open(
    volume: Volume,
    partition: &Partition,
    access: Access<'_>,
) -> Result<(Volume, Inside), LockedError> {
    let designator = partition.designator;
    let keys = access.keys.ok_or(LockedError::Locked(designator))?;
    let policy = access.verification.policy;
    let below = Below {
        data: volume.data,
        start: 0,
    };
    let size = Bytes::new(volume.size);
    let unlocked = unlock::unlock(&below, size, partition, policy, keys)?;
    let segments = unlocked.header.segments();
    let [(segment, _)] = segments[..] else {
        return Err(LockedError::Pieces(designator));
    };
    let start = segment.offset.get();
    let below = Below { start, ..below };
    let room = size.saturating_sub(segment.offset);
    let clear = SegmentReader::new(below, room, &unlocked.key, segment)
        .map_err(|source| LockedError::Cipher { designator, source })?;
    let size = clear.size().get();
    let data: Arc<dyn ReadAt> = Arc::new(Clear(clear));
    let mut read = |offset, buffer: &mut [u8]| data.read_exact_at(buffer, offset);
    let held = (policy, access.file_systems);
    let inside = unlock::look(&mut read, Bytes::new(size), designator, held)?;
    Ok((Volume { data, size }, inside))
}

/// What is encrypted, from a place on.
#[derive(Debug)]
struct Below {
    data: Arc<dyn ReadAt>,
    start: u64,
}

impl blockdev::io::ReadAt for Below {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let at = self.start.checked_add(offset);
        let at = at.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.data.read_exact_at(buffer, at)
    }
}

/// What is inside.
#[derive(Debug)]
struct Clear(SegmentReader<Below>);

impl ReadAt for Clear {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        blockdev::io::ReadAt::read_exact_at(&self.0, buffer, offset)
    }
}
