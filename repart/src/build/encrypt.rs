//! Encrypted partitions: the header with its key slots, and what is written through the encryption.
//!
//! The data go to the disk as ciphertext in the pass that makes them; the header follows. Neither root
//! nor device-mapper is needed. The sizes are those of systemd-repart: 16 MiB of header, the contents,
//! and 16 MiB that stay unused.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::thread;

use blockdev::io::DeviceWindow;
use blockdev::{BlockDevice, DeviceError};
use image_specs::units::{Bytes, Extent, SectorSize};
use luks::bulk::{BulkError, Cipher, CopyError, Encrypting};
use luks::tpm2::{self, Enrollment, Entropy, Sealer, Tpm2Error};
use luks::{DATA_OFFSET, Format, Header, HeaderError, Secret, VolumeKey};
use serde_json::json;

use super::apply::StepError;
use super::fill::Filling;
use super::recovery::Recovery;
use crate::crypttab;
use crate::definition::{self, Definition, Encrypt, Encryption};
use crate::populate;
use crate::ranges::Ranges;

/// What encrypts the data.
const CIPHER: &str = "aes-xts-plain64";
/// Bytes of a volume key: two keys of AES-256.
const KEY_SIZE: usize = 64;
/// What stays unused behind the contents, as much as the header before them.
const RESERVE: Bytes = Bytes::mib(32);

/// The secrets of a run.
#[derive(Debug, Default)]
pub struct Keys {
    /// What unlocks the partition of each definition that has a key file, by its place in the list.
    pub passphrases: BTreeMap<usize, Secret>,
    /// What the keys of partitions are sealed to, by the same place.
    pub sealings: BTreeMap<usize, Sealing>,
    /// What `EncryptRecoveryKey=` asks for, by the same place.
    pub recovery: BTreeMap<usize, Recovery>,
    /// Keys of `IntegrityKeyFile=`, by the same place.
    pub integrity: BTreeMap<usize, Secret>,
    /// The seed, where it was given: for `EncryptVolumeKey=seed`.
    pub seed: Option<Secret>,
}

/// A key that a TPM is to keep.
#[derive(Debug)]
pub struct Sealing {
    /// What it is sealed to.
    pub enrollment: Enrollment,
    /// Who seals it.
    pub sealer: Sealer,
    /// Random bytes for this key alone.
    pub entropy: [u8; 32],
}

/// What is known of a partition once it is encrypted.
#[derive(Debug)]
pub(super) struct Encrypted {
    /// The hash by which crypttab knows the volume key.
    pub(super) key_hash: String,
    /// What a person should hear.
    pub(super) notice: Option<String>,
}

/// Why a partition cannot be encrypted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the causes say it")]
#[non_exhaustive]
pub enum EncryptError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Bulk(#[from] BulkError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("cannot seal the key with a TPM")]
    Tpm2(#[from] Tpm2Error),
    #[error("the TPM gave a token that is no JSON object; this is a bug in ddi")]
    Token,
    #[error("nothing was prepared to seal the key with; this is a bug in ddi")]
    NoSealing,
    #[error("cannot make a volume key, or a hash of it")]
    VolumeKey(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot find out what the file system leaves free")]
    FreeSpace(#[source] std::io::Error),
    #[error("the partition has {0} bytes, and encryption takes 32 MiB of it")]
    TooSmall(u64),
    #[error("the volume key is to follow from the seed, but none was given; pass --seed=UUID")]
    NoSeed,
    #[error("the sector size {0} is none that can be encrypted")]
    Sector(u64),
}

/// Bytes that the contents of an encrypted partition of `size` have.
pub fn inner_size(size: Bytes) -> Bytes {
    size.saturating_sub(RESERVE)
}

/// Whether what the file system leaves free stays a hole.
pub fn keeps_holes(encryption: &Encryption) -> bool {
    !encryption
        .free_space
        .unwrap_or(encryption.discard == Some(false))
}

/// Writes header and contents.
pub(super) fn write(
    filling: &Filling<'_>,
    keys: &Keys,
    device: &mut dyn BlockDevice,
) -> Result<Encrypted, StepError> {
    let extent = filling.partition.extent();
    let (header, notice) = header(filling, keys)?;
    let segments = header.segments();
    let (Some(volume_key), [(segment, _)]) = (header.volume_key(), &segments[..]) else {
        return Err(StepError::Unprepared);
    };
    let cipher = Cipher::new(volume_key, segment).map_err(EncryptError::from)?;
    let data = Extent::new(
        extent.start.saturating_add(DATA_OFFSET),
        extent.size.saturating_sub(DATA_OFFSET),
    );
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let mut volume = Encrypting::new(device, data, cipher, threads).map_err(EncryptError::from)?;
    let room = Extent::new(Bytes::ZERO, inner_size(extent.size));
    let covered = filling.write(&mut volume, room)?;
    let fill = to_fill(filling.definition, &mut volume, room, covered)?;
    volume.fill(&fill)?;
    drop(volume);
    let mut start = DeviceWindow::new(device, extent);
    header.write_to(&mut start).map_err(EncryptError::from)?;
    let name = crypttab::name(filling.definition, filling.partition.luks_uuid);
    let hash = volume_key.fixate_hash(&name, header.uuid());
    let key_hash = hash.map_err(|error| EncryptError::VolumeKey(error.into()))?;
    Ok(Encrypted { key_hash, notice })
}

/// A header with its key slots, and what a person should hear of them.
fn header(filling: &Filling<'_>, keys: &Keys) -> Result<(Header, Option<String>), EncryptError> {
    let (definition, partition) = (filling.definition, &filling.partition);
    let encryption = &definition.encryption;
    let size = partition.new_size;
    if size <= RESERVE {
        return Err(EncryptError::TooSmall(size.get()));
    }
    let sector = super::stage::fs_sector(definition, filling.job);
    let volume_key = match (encryption.seeded, &keys.seed) {
        (false, _) => VolumeKey::generate(KEY_SIZE),
        (true, Some(seed)) => VolumeKey::from_seed(seed, partition.luks_uuid, KEY_SIZE),
        (true, None) => return Err(EncryptError::NoSeed),
    };
    let volume_key = volume_key.map_err(|error| EncryptError::VolumeKey(error.into()))?;
    let mut header = Header::format(&Format {
        size,
        label: label(definition, &partition.label),
        uuid: partition.luks_uuid,
        cipher: CIPHER.to_owned(),
        volume_key,
        sector_size: SectorSize::new(sector.min(4096)).ok_or(EncryptError::Sector(sector))?,
        allow_discards: encryption.discard.unwrap_or(filling.job.discard),
    })?;
    if matches!(encryption.mode, Encrypt::KeyFile | Encrypt::KeyFileAndTpm2) {
        let passphrase = keys.passphrases.get(&filling.at).cloned();
        let passphrase = passphrase.unwrap_or_else(|| Secret::new(Vec::new()));
        header.add_passphrase(&passphrase, kdf(encryption))?;
    }
    let mut notice = None;
    if matches!(encryption.mode, Encrypt::Tpm2 | Encrypt::KeyFileAndTpm2) {
        let sealing = keys.sealings.get(&filling.at);
        let unmeasured = seal(&mut header, sealing.ok_or(EncryptError::NoSealing)?)?;
        notice = unmeasured.then(|| {
            let label = &partition.label;
            format!("warning: nothing was measured into the PCRs that the key of {label:?} is bound to, so they protect nothing")
        });
    }
    if let Some(recovery) = keys.recovery.get(&filling.at) {
        recovery.key.add_to(&mut header)?;
    }
    Ok((header, notice))
}

/// Adds a key slot that only a TPM can open, with its token. Says whether its PCRs are all unused.
fn seal(header: &mut Header, sealing: &Sealing) -> Result<bool, EncryptError> {
    let entropy = Entropy::new(sealing.entropy);
    let enrolled = tpm2::enroll(&sealing.enrollment, &sealing.sealer, entropy)?;
    // The secret has all the entropy there is, so its key slot needs no slow KDF.
    let slot = header.add_passphrase(&enrolled.secret, luks::Kdf::Minimal)?;
    let mut token = enrolled.token;
    let fields = token.as_object_mut().ok_or(EncryptError::Token)?;
    fields.insert("keyslots".to_owned(), json!([slot.to_string()]));
    header.add_token(&token)?;
    Ok(enrolled.unmeasured)
}

/// The label of the LUKS2 header, which has room for 47 bytes.
fn label(definition: &Definition, partition: &str) -> String {
    let label = definition.encryption.volume_label.clone();
    label.unwrap_or_else(|| format!("luks-{partition}"))
}

fn kdf(encryption: &Encryption) -> luks::Kdf {
    match encryption.kdf {
        None => luks::Kdf::Default,
        Some(definition::Kdf::Argon2id) => luks::Kdf::Argon2id,
        Some(definition::Kdf::Pbkdf2) => luks::Kdf::Pbkdf2,
        Some(definition::Kdf::Minimal) => luks::Kdf::Minimal,
    }
}

/// What must read as zeros though nothing was written there.
fn to_fill(
    definition: &Definition,
    volume: &mut Encrypting<'_>,
    room: Extent,
    covered: u64,
) -> Result<Vec<Extent>, EncryptError> {
    let encryption = &definition.encryption;
    if !keeps_holes(encryption) {
        return Ok(vec![Extent::new(Bytes::ZERO, volume.size())]);
    }
    let free = match &definition.format {
        Some(format) => populate::free::free(format, volume, room, covered),
        None => Ok(Ranges::default()),
    };
    let free = free.map_err(EncryptError::FreeSpace)?;
    let end = match definition.format {
        Some(_) => room.size.get(),
        None => covered,
    };
    let extent = |range: std::ops::Range<u64>| {
        Extent::new(Bytes::new(range.start), Bytes::new(range.end - range.start))
    };
    Ok(free.without(0..end).into_iter().map(extent).collect())
}
