//! Any segment of a volume, read in this process.

use std::io;

use blockdev::io::ReadAt;
use image_specs::luks_header::Segment;
use image_specs::units::Bytes;

use super::{
    Authenticated, AuthenticatedError, AuthenticatedReader, BulkError, Cipher, Decrypting,
};
use crate::VolumeKey;

/// What a segment holds. Offset 0 is its first byte.
#[derive(Debug)]
pub struct SegmentReader<R> {
    kind: Kind<R>,
    size: Bytes,
}

#[derive(Debug)]
enum Kind<R> {
    Plain(Decrypting<R>),
    Authenticated(Box<AuthenticatedReader<R>>),
}

/// A segment cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// Its cipher is not here, or the key does not fit.
    #[error(transparent)]
    Cipher(#[from] BulkError),
    /// What authenticates it is not as it should be.
    #[error(transparent)]
    Authenticated(#[from] AuthenticatedError),
}

impl<R: ReadAt> SegmentReader<R> {
    /// Reads `segment`: `inner` begins where it begins, and goes on for `room` bytes.
    pub fn new(
        inner: R,
        room: Bytes,
        key: &VolumeKey,
        segment: &Segment,
    ) -> Result<Self, SegmentError> {
        let size = segment.size.unwrap_or(room).min(room);
        if segment.integrity.is_some() {
            let how = Authenticated::new(key, segment)?;
            let reader = AuthenticatedReader::new(inner, size, how)?;
            return Ok(Self {
                size: reader.size(),
                kind: Kind::Authenticated(Box::new(reader)),
            });
        }
        let cipher = Cipher::new(key, segment)?;
        Ok(Self {
            size: size.round_down(segment.sector_size.grain()),
            kind: Kind::Plain(Decrypting::new(inner, cipher)),
        })
    }

    /// How many bytes it holds.
    pub fn size(&self) -> Bytes {
        self.size
    }
}

impl<R: ReadAt> ReadAt for SegmentReader<R> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > self.size.get()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &self.kind {
            Kind::Plain(reader) => reader.read_exact_at(buffer, offset),
            Kind::Authenticated(reader) => reader.read_exact_at(buffer, offset),
        }
    }
}
