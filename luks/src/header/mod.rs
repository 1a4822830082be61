//! LUKS headers, on a private copy.
//!
//! Our own parser reads the bytes first; what it finds sound goes, written anew, into a file in
//! memory, and libcryptsetup works on that. So reading never repairs the image, needs no privileges,
//! works at any offset of an image, and no byte reaches the library unchecked. What is changed is
//! changed in the copy, until somebody writes [`Header::bytes`] to the partition.

mod error;
mod format;
mod load;
mod plugin;
mod version1;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use blockdev::io::WriteAt;
use image_specs::luks_header::{Metadata, Segment};
use image_specs::units::Bytes;
use libcryptsetup_rs::Either;
use libcryptsetup_rs::TokenInput;
use libcryptsetup_rs::consts::flags::CryptVolumeKey;
use libcryptsetup_rs::consts::vals::EncryptionFormat;
use rustix::io::Errno;
use serde_json::Value;
use zeroize::Zeroizing;

pub use error::HeaderError;
pub use format::{DATA_OFFSET, Format, Kdf};
pub use load::Strictness;
pub use plugin::PluginError;

use crate::Secret;
use crate::clib::{self, LibraryError};
use crate::volume_key::VolumeKey;

/// Bytes that are copied at once.
const CHUNK: usize = 1 << 20;

/// A header, and the volume key where it is known.
#[derive(Debug)]
pub struct Header {
    copy: File,
    version: Version,
    uuid: String,
    label: String,
    /// What is written at the partition's start.
    size: Bytes,
    volume_key: Option<VolumeKey>,
    notices: Vec<Notice>,
}

#[derive(Debug)]
enum Version {
    One(Segment),
    Two(Box<Metadata>),
}

/// Something about a header that a user may want to know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// Only one of the two copies is sound.
    #[error("the {which} copy of the LUKS header is damaged ({why}); the other one serves")]
    CopyDamaged {
        /// `first` or `second`.
        which: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// An update was cut off between the two copies.
    #[error("the {0} copy of the LUKS header is older than the other one, which serves")]
    CopyOld(&'static str),
}

impl Header {
    /// 1 or 2.
    pub const fn version(&self) -> u8 {
        match self.version {
            Version::One(_) => 1,
            Version::Two(_) => 2,
        }
    }

    /// The text of the UUID.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The label; often empty.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What the JSON area says; version 1 has none.
    pub fn metadata(&self) -> Option<&Metadata> {
        match &self.version {
            Version::One(_) => None,
            Version::Two(metadata) => Some(metadata),
        }
    }

    /// The encrypted ranges, in their order, with the number of their digest.
    pub fn segments(&self) -> Vec<(&Segment, u32)> {
        match &self.version {
            Version::One(segment) => vec![(segment, 0)],
            Version::Two(metadata) => {
                let digest = |number| metadata.digest_of(number).map_or(0, |(digest, _)| digest);
                let all = metadata.data();
                all.map(|(number, segment)| (segment, digest(number)))
                    .collect()
            }
        }
    }

    /// What is remarkable about the header as it was read.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// How many bytes there are to write at the partition's start.
    pub fn size(&self) -> Bytes {
        self.size
    }

    /// What is to be written at the partition's start.
    pub fn bytes(&self) -> Result<Vec<u8>, HeaderError> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes it there, in pieces.
    pub fn write_to(&self, target: &mut dyn WriteAt) -> Result<(), HeaderError> {
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < self.size.get() {
            let left = usize::try_from(self.size.get() - at).unwrap_or(CHUNK);
            let part = &mut buffer[..left.min(CHUNK)];
            self.copy
                .read_exact_at(part, at)
                .map_err(HeaderError::Copy)?;
            target.write_all_at(part, at).map_err(HeaderError::Write)?;
            at += u64::try_from(part.len()).unwrap_or(u64::MAX);
        }
        Ok(())
    }

    /// The volume key, where the header was made here or has been unlocked.
    pub fn volume_key(&self) -> Option<&VolumeKey> {
        self.volume_key.as_ref()
    }

    /// Finds the volume key by a passphrase, trying all key slots that are meant for it.
    pub fn unlock(&self, passphrase: &Secret) -> Result<VolumeKey, HeaderError> {
        self.unlock_slot(passphrase, None)
    }

    /// The same with one key slot only, or all of them.
    pub fn unlock_slot(
        &self,
        passphrase: &Secret,
        slot: Option<u32>,
    ) -> Result<VolumeKey, HeaderError> {
        let slots = self.metadata().map(|metadata| &metadata.keyslots);
        match (slots, slot) {
            (Some(slots), _) if slots.is_empty() => return Err(HeaderError::NoKeyslot),
            (Some(slots), Some(slot)) if !slots.contains_key(&slot) => {
                return Err(HeaderError::NoSuchKeyslot(slot));
            }
            _ => {}
        }
        let mut key = Zeroizing::new(vec![0; 1024]);
        let got = self.library("open a key slot", |device| {
            let mut handle = device.volume_key_handle();
            handle.get(slot, &mut key, Some(passphrase.expose()))
        });
        match got {
            Ok((_, size)) => {
                let bytes = key.get(..size).unwrap_or_default().to_vec();
                Ok(VolumeKey::new(Secret::new(bytes)))
            }
            Err(error) if is(&error, Errno::PERM) => Err(HeaderError::WrongKey),
            Err(error) if is(&error, Errno::NOENT) => Err(HeaderError::NoKeyslot),
            Err(error) => Err(error.into()),
        }
    }

    /// Remembers the volume key, for new key slots.
    pub fn set_volume_key(&mut self, key: VolumeKey) {
        self.volume_key = Some(key);
    }

    /// Adds a key slot that a passphrase opens (any bytes, or none); gives its number.
    pub fn add_passphrase(&mut self, passphrase: &Secret, kdf: Kdf) -> Result<u32, HeaderError> {
        let key = self.volume_key.clone().ok_or(HeaderError::Locked)?;
        if self
            .metadata()
            .is_some_and(|metadata| metadata.keyslots.len() >= 32)
        {
            return Err(HeaderError::KeyslotsFull);
        }
        let added = self.library("add a key slot", |device| {
            let pbkdf = kdf.parameters()?;
            device.settings_handle().set_pbkdf_type(&pbkdf)?;
            device.keyslot_handle().add_by_key(
                None,
                Some(Either::Left(key.expose())),
                passphrase.expose(),
                CryptVolumeKey::empty(),
            )
        })?;
        self.refresh()?;
        Ok(added)
    }

    /// Adds a token, whose `keyslots` are there; gives its number.
    pub fn add_token(&mut self, token: &Value) -> Result<u32, HeaderError> {
        let metadata = self.metadata().ok_or(HeaderError::Version2Only)?;
        let slots = token.get("keyslots").and_then(Value::as_array);
        let exists = |slot: &Value| {
            let number = slot.as_str().and_then(|slot| slot.parse().ok());
            number.is_some_and(|number| metadata.keyslots.contains_key(&number))
        };
        let sound = slots.is_some_and(|slots| slots.iter().all(exists));
        if !sound || token.get("type").and_then(Value::as_str).is_none() {
            return Err(HeaderError::Token);
        }
        let added = self.library("add a token", |device| {
            device.token_handle().json_set(TokenInput::AddToken(token))
        })?;
        self.refresh()?;
        Ok(added)
    }

    /// Removes a token.
    pub fn remove_token(&mut self, token: u32) -> Result<(), HeaderError> {
        self.library("remove a token", |device| {
            device
                .token_handle()
                .json_set(TokenInput::RemoveToken(token))
        })?;
        self.refresh()
    }

    /// Destroys a key slot, but not the last one.
    pub fn kill_slot(&mut self, slot: u32) -> Result<(), HeaderError> {
        let metadata = self.metadata().ok_or(HeaderError::Version2Only)?;
        if !metadata.keyslots.contains_key(&slot) {
            return Err(HeaderError::NoSuchKeyslot(slot));
        }
        if metadata.keyslots.len() == 1 {
            return Err(HeaderError::LastKeyslot(slot));
        }
        self.library("destroy a key slot", |device| {
            device.keyslot_handle().destroy(slot)
        })?;
        self.refresh()
    }

    /// Takes away the slot that the empty passphrase opens, where there is one and another remains;
    /// gives its number.
    ///
    /// An image that came with it to be unlocked by anybody is locked so, once it has a real key.
    pub fn retire_empty_slot(&mut self) -> Result<Option<u32>, HeaderError> {
        let slots: Vec<u32> = match self.metadata() {
            Some(metadata) if metadata.keyslots.len() > 1 => {
                metadata.keyslots.keys().copied().collect()
            }
            _ => return Ok(None),
        };
        let empty = Secret::new(Vec::new());
        for slot in slots {
            match self.unlock_slot(&empty, Some(slot)) {
                Ok(_) => {
                    self.kill_slot(slot)?;
                    return Ok(Some(slot));
                }
                Err(HeaderError::WrongKey | HeaderError::NoKeyslot) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether a volume key is this volume's.
    pub fn verify(&self, key: &VolumeKey) -> Result<bool, HeaderError> {
        let verified = self.library("check a volume key", |device| {
            device.volume_key_handle().verify(key.expose())
        });
        match verified {
            Ok(()) => Ok(true),
            Err(error) if is(&error, Errno::PERM) || is(&error, Errno::INVAL) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What `fixate-volume-key=` in crypttab wants of a volume that is opened under `name`.
    pub fn fixate_hash(&self, key: &VolumeKey, name: &str) -> Result<String, HeaderError> {
        Ok(key.fixate_hash(name, &self.uuid)?)
    }

    pub(crate) fn library<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(
            &mut libcryptsetup_rs::CryptDevice,
        ) -> Result<T, libcryptsetup_rs::LibcryptErr>,
    ) -> Result<T, LibraryError> {
        let format = match self.version {
            Version::One(_) => EncryptionFormat::Luks1,
            Version::Two(_) => EncryptionFormat::Luks2,
        };
        clib::with(&self.copy, format, action, work)
    }

    /// Reads the copy again, after the library has changed it.
    fn refresh(&mut self) -> Result<(), HeaderError> {
        let size = self.copy.metadata().map_err(HeaderError::Copy)?.len();
        let (binary, metadata, _) = load::sound(&self.copy, Bytes::new(size))?;
        self.label = binary.label;
        self.uuid = binary.uuid;
        self.version = Version::Two(Box::new(metadata));
        Ok(())
    }
}

pub(crate) fn is(error: &LibraryError, errno: Errno) -> bool {
    error.source.raw_os_error() == Some(errno.raw_os_error())
}

/// Reads `size` bytes at `offset`.
fn read(source: &dyn blockdev::io::ReadAt, offset: u64, size: Bytes) -> io::Result<Vec<u8>> {
    let size = usize::try_from(size.get()).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = vec![0; size];
    source.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
