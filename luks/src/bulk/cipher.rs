//! The ciphers of dm-crypt that OpenSSL has: `aes-xts-plain64`, and what older volumes use.
//!
//! Each sector is encrypted on its own; its initial vector is its number, which counts 512 bytes
//! whatever the size of a sector.

use image_specs::luks_header::Segment;
use image_specs::units::SectorSize;
use openssl::cipher::{Cipher as Algorithm, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};

use crate::{Secret, VolumeKey};

/// Bytes of an initial vector.
const IV: usize = 16;

/// A key, and how a segment's sectors are encrypted by it.
#[derive(Clone, Debug)]
pub struct Cipher {
    mode: Mode,
    vector: Vector,
    key: Secret,
    sector: usize,
    tweak: u64,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Xts256,
    Xts128,
    Cbc256,
    Cbc192,
    Cbc128,
}

/// How the number of a sector becomes an initial vector.
#[derive(Clone, Debug)]
enum Vector {
    /// 32 bits of it.
    Plain,
    /// 64 bits of it.
    Plain64,
    /// 64 bits, encrypted with the hash of the key.
    Essiv(Secret),
}

/// Sectors cannot be encrypted or decrypted here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BulkError {
    /// A cipher that is not here.
    #[error("the cipher {0:?} is not available in this process; the kernel may have it")]
    Cipher(String),
    /// Tags lie between the data.
    #[error("authenticated encryption ({0}) is not available in this process; the kernel has it")]
    Authenticated(String),
    /// The key does not fit.
    #[error("a key of {given} bytes does not fit the cipher {cipher:?}")]
    KeySize {
        /// The cipher.
        cipher: String,
        /// The key's bytes.
        given: usize,
    },
    /// Only the kernel has the key.
    #[error("only the kernel has the volume key that the token gave: mount the volume instead")]
    KernelKey,
    /// Not a number of whole sectors.
    #[error("{0} bytes are no whole sectors")]
    Unaligned(usize),
    /// OpenSSL refuses.
    #[error("OpenSSL cannot encrypt")]
    OpenSsl(#[from] ErrorStack),
}

impl Cipher {
    /// How `segment` is encrypted, with its key.
    pub fn new(key: &VolumeKey, segment: &Segment) -> Result<Self, BulkError> {
        if let Some(integrity) = &segment.integrity {
            return Err(BulkError::Authenticated(integrity.algorithm.clone()));
        }
        if key.is_in_kernel() {
            return Err(BulkError::KernelKey);
        }
        let unknown = || BulkError::Cipher(segment.cipher.clone());
        let (name, vector) = segment.cipher.rsplit_once('-').ok_or_else(unknown)?;
        let mode = match (name, key.len()) {
            ("aes-xts", 64) => Mode::Xts256,
            ("aes-xts", 32) => Mode::Xts128,
            ("aes-cbc", 32) => Mode::Cbc256,
            ("aes-cbc", 24) => Mode::Cbc192,
            ("aes-cbc", 16) => Mode::Cbc128,
            ("aes-xts" | "aes-cbc", given) => {
                return Err(BulkError::KeySize {
                    cipher: segment.cipher.clone(),
                    given,
                });
            }
            _ => return Err(unknown()),
        };
        let vector = match vector {
            "plain" => Vector::Plain,
            "plain64" => Vector::Plain64,
            "essiv:sha256" => {
                let salt = hash(MessageDigest::sha256(), key.expose())?;
                Vector::Essiv(Secret::new(salt.to_vec()))
            }
            _ => return Err(unknown()),
        };
        Ok(Self {
            mode,
            vector,
            key: Secret::new(key.expose().to_vec()),
            sector: usize::try_from(segment.sector_size.get()).unwrap_or(512),
            tweak: segment.iv_tweak,
        })
    }

    /// Bytes that are encrypted at a time.
    pub fn sector_size(&self) -> SectorSize {
        u64::try_from(self.sector)
            .ok()
            .and_then(SectorSize::new)
            .unwrap_or(SectorSize::S512)
    }

    /// Encrypts whole sectors in place. `first` counts 512 bytes from the segment's start.
    pub fn encrypt(&self, data: &mut [u8], first: u64) -> Result<(), BulkError> {
        self.encryptor()?.run(data, first)
    }

    /// Decrypts whole sectors in place.
    pub fn decrypt(&self, data: &mut [u8], first: u64) -> Result<(), BulkError> {
        self.decryptor()?.run(data, first)
    }

    /// What one thread needs to encrypt much.
    pub fn encryptor(&self) -> Result<Worker, BulkError> {
        self.worker(true)
    }

    /// What one thread needs to decrypt much.
    pub fn decryptor(&self) -> Result<Worker, BulkError> {
        self.worker(false)
    }

    fn worker(&self, encrypt: bool) -> Result<Worker, BulkError> {
        let mut context = CipherCtx::new()?;
        let (algorithm, key) = (self.mode.algorithm(), self.key.expose());
        // The key is prepared once; each sector then only sets its vector.
        match encrypt {
            true => context.encrypt_init(Some(algorithm), Some(key), Some(&[0; IV]))?,
            false => context.decrypt_init(Some(algorithm), Some(key), Some(&[0; IV]))?,
        }
        context.set_padding(false);
        let vectors = match &self.vector {
            Vector::Plain => Vectors::Plain,
            Vector::Plain64 => Vectors::Plain64,
            Vector::Essiv(salt) => {
                let mut context = CipherCtx::new()?;
                context.encrypt_init(Some(Algorithm::aes_256_ecb()), Some(salt.expose()), None)?;
                context.set_padding(false);
                Vectors::Essiv(context)
            }
        };
        Ok(Worker {
            context,
            vectors,
            encrypt,
            sector: self.sector,
            tweak: self.tweak,
            block: match self.mode {
                Mode::Xts256 | Mode::Xts128 => None,
                Mode::Cbc256 | Mode::Cbc192 | Mode::Cbc128 => Some(vec![0; self.sector + IV]),
            },
        })
    }
}

impl Mode {
    fn algorithm(self) -> &'static CipherRef {
        match self {
            Self::Xts256 => Algorithm::aes_256_xts(),
            Self::Xts128 => Algorithm::aes_128_xts(),
            Self::Cbc256 => Algorithm::aes_256_cbc(),
            Self::Cbc192 => Algorithm::aes_192_cbc(),
            Self::Cbc128 => Algorithm::aes_128_cbc(),
        }
    }
}

/// One direction of a [`Cipher`], for one thread.
pub struct Worker {
    context: CipherCtx,
    vectors: Vectors,
    encrypt: bool,
    sector: usize,
    tweak: u64,
    /// Where a sector goes first if the mode does not work in place.
    block: Option<Vec<u8>>,
}

enum Vectors {
    Plain,
    Plain64,
    Essiv(CipherCtx),
}

impl Worker {
    /// Bytes of a sector.
    pub(super) const fn sector(&self) -> usize {
        self.sector
    }

    /// Encrypts or decrypts whole sectors in place. `first` counts 512 bytes from the segment's
    /// start.
    pub fn run(&mut self, data: &mut [u8], first: u64) -> Result<(), BulkError> {
        if !data.len().is_multiple_of(self.sector) {
            return Err(BulkError::Unaligned(data.len()));
        }
        let step = u64::try_from(self.sector / 512).unwrap_or(1);
        let mut number = first.wrapping_add(self.tweak);
        for sector in data.chunks_exact_mut(self.sector) {
            let vector = self.vectors.of(number)?;
            self.run_with(&vector, sector)?;
            number = number.wrapping_add(step);
        }
        Ok(())
    }

    /// The initial vector of a sector.
    pub(super) fn vector(&mut self, number: u64) -> Result<[u8; IV], BulkError> {
        self.vectors.of(number.wrapping_add(self.tweak))
    }

    /// Encrypts or decrypts one sector with this initial vector.
    pub(super) fn run_with(
        &mut self,
        vector: &[u8; IV],
        sector: &mut [u8],
    ) -> Result<(), BulkError> {
        match self.encrypt {
            true => self.context.encrypt_init(None, None, Some(vector))?,
            false => self.context.decrypt_init(None, None, Some(vector))?,
        }
        match &mut self.block {
            None => {
                let length = sector.len();
                self.context.cipher_update_inplace(sector, length)?;
            }
            Some(block) => {
                self.context.cipher_update(sector, Some(block))?;
                sector.copy_from_slice(&block[..sector.len()]);
            }
        }
        Ok(())
    }
}

impl Vectors {
    fn of(&mut self, number: u64) -> Result<[u8; IV], BulkError> {
        let mut vector = [0; IV];
        match self {
            Self::Plain => vector[..4].copy_from_slice(&number.to_le_bytes()[..4]),
            Self::Plain64 => vector[..8].copy_from_slice(&number.to_le_bytes()),
            Self::Essiv(context) => {
                vector[..8].copy_from_slice(&number.to_le_bytes());
                let mut encrypted = [0; 2 * IV];
                context.cipher_update(&vector, Some(&mut encrypted))?;
                vector.copy_from_slice(&encrypted[..IV]);
            }
        }
        Ok(vector)
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use image_specs::units::Bytes;

    use super::*;

    pub(crate) fn segment(cipher: &str, sector: u64) -> Segment {
        Segment {
            kind: "crypt".to_owned(),
            offset: Bytes::mib(16),
            size: None,
            cipher: cipher.to_owned(),
            sector_size: SectorSize::new(sector).unwrap(),
            iv_tweak: 0,
            integrity: None,
            flags: Vec::new(),
        }
    }

    fn key(bytes: u8) -> VolumeKey {
        VolumeKey::new(Secret::new((0..bytes).collect()))
    }

    #[test]
    fn what_is_encrypted_is_decrypted() {
        for (name, bytes) in [
            ("aes-xts-plain64", 64),
            ("aes-xts-plain64", 32),
            ("aes-xts-plain", 64),
            ("aes-cbc-essiv:sha256", 32),
            ("aes-cbc-plain64", 24),
            ("aes-cbc-plain", 16),
        ] {
            for sector in [512, 1024, 2048, 4096] {
                let cipher = Cipher::new(&key(bytes), &segment(name, sector)).unwrap();
                let plain: Vec<u8> = (0..8192_u32).map(|at| at.to_le_bytes()[0]).collect();
                let mut data = plain.clone();
                cipher.encrypt(&mut data, 8).unwrap();
                assert_ne!(data, plain);
                let mut parts = plain.clone();
                let half = parts.len() / 2;
                cipher.encrypt(&mut parts[..half], 8).unwrap();
                cipher.encrypt(&mut parts[half..], 16).unwrap();
                assert_eq!(parts, data, "{name} {sector}: parts");
                cipher.decrypt(&mut data, 8).unwrap();
                assert_eq!(data, plain, "{name} {sector}");
                let mut half = plain[..256].to_vec();
                assert!(matches!(
                    cipher.encrypt(&mut half, 0),
                    Err(BulkError::Unaligned(256))
                ));
            }
        }
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let fails = |segment: &Segment, bytes| Cipher::new(&key(bytes), segment).unwrap_err();
        let mut tagged = segment("aes-xts-plain64", 512);
        tagged.integrity = Some(image_specs::luks_header::Integrity {
            algorithm: "hmac(sha256)".to_owned(),
            journal_encryption: "none".to_owned(),
            journal_integrity: "none".to_owned(),
            key_size: None,
        });
        for (segment, bytes, message) in [
            (
                segment("serpent-xts-plain64", 512),
                64,
                "\"serpent-xts-plain64\" is not available",
            ),
            (segment("aes", 512), 64, "\"aes\" is not available"),
            (
                segment("aes-xts-benbi", 512),
                64,
                "\"aes-xts-benbi\" is not available",
            ),
            (segment("aes-xts-plain64", 512), 33, "a key of 33 bytes"),
            (tagged, 96, "(hmac(sha256)) is not available"),
        ] {
            let error = fails(&segment, bytes).to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
