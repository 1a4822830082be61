//! Authenticated volumes in this process: each sector is encrypted, then its number, its initial vector
//! and its cipher text are authenticated (`authenc` of the kernel, Documentation/admin-guide/
//! device-mapper/dm-crypt.rst), and the tag lies where dm-integrity keeps it.
//!
//! The volume key is the cipher's key with the key of the HMAC behind it.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use blockdev::io::ReadAt;
use image_specs::integrity::{Layout, LayoutError, Superblock, SuperblockError};
use image_specs::luks_header::Segment;
use image_specs::units::Bytes;

use super::reader::other;
use super::{BulkError, Cipher, Worker};
use crate::integrity::{Algorithm, Tagger};
use crate::{Secret, VolumeKey};

/// Bytes of an initial vector.
const IV: usize = 16;
/// Bytes of data that are read at once.
const CHUNK: u64 = 256 * 1024;

/// How a segment's sectors are encrypted and authenticated.
#[derive(Clone, Debug)]
pub struct Authenticated {
    cipher: Cipher,
    tagger: Tagger,
    /// Bytes of the HMAC.
    mac: usize,
    /// Whether a vector is kept behind it.
    kept: bool,
}

/// One direction of it, for one thread.
#[derive(Debug)]
pub(crate) struct Sealer<'a> {
    how: &'a Authenticated,
    worker: Worker,
    /// What is authenticated besides the number: vector and cipher text.
    scratch: Vec<u8>,
}

/// An authenticated volume cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticatedError {
    /// The superblock cannot be read.
    #[error("cannot read the integrity superblock of the volume")]
    Read(#[source] io::Error),
    /// There is none.
    #[error("the volume's data is to be authenticated, but there is no integrity superblock")]
    Missing,
    /// It is damaged.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// It does not fit the volume.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// It has other tags than the header wants.
    #[error("the integrity superblock tells of other tags or sectors than the LUKS header")]
    Tags,
}

impl Authenticated {
    /// How `segment`, which is authenticated by an HMAC, is encrypted by the volume key.
    pub fn new(key: &VolumeKey, segment: &Segment) -> Result<Self, BulkError> {
        let Some(integrity) = &segment.integrity else {
            return Err(BulkError::Cipher(segment.cipher.clone()));
        };
        let unknown = || BulkError::Authenticated(integrity.algorithm.clone());
        let (algorithm, mac) = match integrity.algorithm.as_str() {
            "hmac(sha256)" => ("hmac-sha256", 32),
            "hmac(sha512)" => ("hmac-sha512", 64),
            _ => return Err(unknown()),
        };
        let algorithm: Algorithm = algorithm.parse().map_err(|_| unknown())?;
        let size = key.len().checked_sub(mac);
        let parts = size.and_then(|size| key.expose().split_at_checked(size));
        let (cipher_key, mac_key) = parts.ok_or_else(|| BulkError::KeySize {
            cipher: segment.cipher.clone(),
            given: key.len(),
        })?;
        let mut plain = segment.clone();
        plain.integrity = None;
        let kept = segment.cipher.ends_with("-random");
        if kept {
            plain.cipher = segment.cipher.replace("-random", "-plain64");
        }
        let cipher_key = VolumeKey::new(Secret::new(cipher_key.to_vec()));
        let mac_key = Secret::new(mac_key.to_vec());
        Ok(Self {
            cipher: Cipher::new(&cipher_key, &plain)?,
            tagger: Tagger::new(&algorithm, Some(&mac_key), None).map_err(|_| unknown())?,
            mac,
            kept,
        })
    }

    /// Bytes that are kept beside each sector.
    pub fn tag_size(&self) -> u16 {
        let kept = if self.kept { IV } else { 0 };
        u16::try_from(self.mac + kept).unwrap_or(u16::MAX)
    }

    pub(crate) fn sealer(&self) -> Result<Sealer<'_>, BulkError> {
        if self.kept {
            // Vectors would have to be random.
            return Err(BulkError::Cipher("with random vectors".to_owned()));
        }
        self.side(self.cipher.encryptor()?)
    }

    fn opener(&self) -> Result<Sealer<'_>, BulkError> {
        self.side(self.cipher.decryptor()?)
    }

    fn side(&self, worker: Worker) -> Result<Sealer<'_>, BulkError> {
        Ok(Sealer {
            how: self,
            worker,
            scratch: Vec::new(),
        })
    }
}

impl Sealer<'_> {
    /// Encrypts a sector in place and gives its tag. `number` counts 512 bytes.
    pub(crate) fn seal(
        &mut self,
        number: u64,
        sector: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), BulkError> {
        let vector = self.worker.vector(number)?;
        self.worker.run_with(&vector, sector)?;
        self.authenticate(number, &vector, sector, tag);
        Ok(())
    }

    /// Decrypts a sector in place, where its tag fits; `false` where it does not.
    fn open(&mut self, number: u64, sector: &mut [u8], tag: &[u8]) -> Result<bool, BulkError> {
        let (mac, kept) = tag.split_at(self.how.mac.min(tag.len()));
        let vector = match (self.how.kept, kept.try_into()) {
            (true, Ok(kept)) => kept,
            (true, Err(_)) => return Ok(false),
            (false, _) => self.worker.vector(number)?,
        };
        let mut wanted = [0; 64];
        let wanted = &mut wanted[..self.how.mac.min(64)];
        self.authenticate(number, &vector, sector, wanted);
        if mac.len() != wanted.len() || !openssl::memcmp::eq(mac, wanted) {
            return Ok(false);
        }
        self.worker.run_with(&vector, sector)?;
        Ok(true)
    }

    fn authenticate(&mut self, number: u64, vector: &[u8; IV], sector: &[u8], tag: &mut [u8]) {
        self.scratch.clear();
        self.scratch.extend_from_slice(vector);
        self.scratch.extend_from_slice(sector);
        self.how.tagger.tag(number, &self.scratch, tag);
    }
}

/// What `R` holds, verified and decrypted. Offset 0 is the volume's first byte.
///
/// Changes that were cut off and wait in the journal are not seen.
#[derive(Debug)]
pub struct AuthenticatedReader<R> {
    inner: R,
    how: Authenticated,
    layout: Layout,
    sector: u64,
    idle: Mutex<Vec<Worker>>,
}

impl<R: ReadAt> AuthenticatedReader<R> {
    /// Reads a segment: `inner` begins where it begins, and has `size` bytes.
    pub fn new(inner: R, size: Bytes, how: Authenticated) -> Result<Self, AuthenticatedError> {
        let mut start = [0; 512];
        inner
            .read_exact_at(&mut start, 0)
            .map_err(AuthenticatedError::Read)?;
        let superblock = Superblock::parse(&start)?.ok_or(AuthenticatedError::Missing)?;
        let sector = how.cipher.sector_size().get();
        let same = superblock.tag_size == how.tag_size();
        if !same || u64::from(superblock.sector_size()) != sector {
            return Err(AuthenticatedError::Tags);
        }
        Ok(Self {
            layout: Layout::of(&superblock, size)?,
            inner,
            how,
            sector,
            idle: Mutex::default(),
        })
    }

    /// The volume's size.
    pub fn size(&self) -> Bytes {
        Bytes::new(self.layout.provided_sectors.saturating_mul(512))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads whole sectors of one area of tags.
    fn read_sectors(&self, opener: &mut Sealer<'_>, data: &mut [u8], first: u64) -> io::Result<()> {
        let sector = usize::try_from(self.sector).unwrap_or(512);
        let tag_size = usize::from(self.layout.tag_size);
        let (at, tags_at) = self.layout.find(first);
        let mut tags = vec![0; data.len() / sector * tag_size];
        self.inner.read_exact_at(&mut tags, tags_at)?;
        self.inner.read_exact_at(data, at.saturating_mul(512))?;
        let step = usize::try_from(self.sector / 512).unwrap_or(1);
        let numbers = (first..).step_by(step);
        let sectors = data
            .chunks_exact_mut(sector)
            .zip(tags.chunks_exact(tag_size));
        for (number, (data, tag)) in numbers.zip(sectors) {
            if !opener.open(number, data, tag).map_err(other)? {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("sector {number} of the volume is not authentic"),
                ));
            }
        }
        Ok(())
    }

    fn read(&self, opener: &mut Sealer<'_>, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= self.size().get())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let area = 512_u64 << self.layout.log2_interleave;
        let mut at = offset / self.sector * self.sector;
        let mut scratch = Vec::new();
        while at < end {
            let stop = (at / area + 1).saturating_mul(area).min(at + CHUNK);
            let stop = stop.min(end.next_multiple_of(self.sector));
            scratch.resize(usize::try_from(stop - at).unwrap_or(0), 0);
            self.read_sectors(opener, &mut scratch, at / 512)?;
            let (from, to) = (offset.max(at), end.min(stop));
            let target = index(from - offset)..index(to - offset);
            let source = index(from - at)..index(to - at);
            if let (Some(target), Some(source)) = (buffer.get_mut(target), scratch.get(source)) {
                target.copy_from_slice(source);
            }
            at = stop;
        }
        Ok(())
    }
}

impl<R: ReadAt> ReadAt for AuthenticatedReader<R> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let idle = self.idle().pop();
        let mut opener = match idle {
            Some(worker) => self.how.side(worker),
            None => self.how.opener(),
        }
        .map_err(other)?;
        let read = self.read(&mut opener, buffer, offset);
        self.idle().push(opener.worker);
        read
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
