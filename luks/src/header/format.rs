//! New headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use image_specs::luks_header::MetadataError;
use image_specs::units::{Bytes, SectorSize};
use libcryptsetup_rs::consts::flags::{CryptActivate, CryptPbkdf};
use libcryptsetup_rs::consts::vals::{CryptKdf, EncryptionFormat};
use libcryptsetup_rs::{
    CryptParamsLuks2, CryptPbkdfType, CryptSettingsHandle, Either, LibcryptErr,
};
use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Header, HeaderError, load};
use crate::Secret;
use crate::clib;
use crate::volume_key::{HashError, VolumeKey};

/// Where the data begins in what [`Header::format`] makes, as cryptsetup has it.
pub const DATA_OFFSET: Bytes = Bytes::mib(16);

/// Bytes of the key of an HMAC.
const HMAC_KEY: usize = 32;

/// What a new header is to say.
#[derive(Clone, Debug)]
pub struct Format {
    /// The whole partition's size.
    pub size: Bytes,
    /// Its label, or nothing.
    pub label: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// What encrypts the data, as dm-crypt spells it.
    pub cipher: String,
    /// The volume key; [`VolumeKey::generate`] makes one.
    pub volume_key: VolumeKey,
    /// What is encrypted at a time.
    pub sector_size: SectorSize,
    /// Whether the volume is to pass discards on whenever it is opened.
    pub allow_discards: bool,
}

/// How a key slot makes its key of a passphrase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kdf {
    /// As libcryptsetup has it by default: Argon2id that takes two seconds here.
    #[default]
    Default,
    /// Argon2id that takes two seconds here.
    Argon2id,
    /// PBKDF2 that takes two seconds here.
    Pbkdf2,
    /// As cheap as can be, for keys that nobody could guess.
    Minimal,
}

impl Kdf {
    pub(super) fn parameters(self) -> Result<CryptPbkdfType, LibcryptErr> {
        let defaults = |kdf| CryptSettingsHandle::get_pbkdf_type_params(&kdf);
        match self {
            Self::Default => CryptSettingsHandle::get_pbkdf_default(
                &libcryptsetup_rs::consts::vals::LuksType::Luks2,
            ),
            Self::Argon2id => defaults(CryptKdf::Argon2Id),
            Self::Pbkdf2 => defaults(CryptKdf::Pbkdf2),
            Self::Minimal => Ok(CryptPbkdfType {
                type_: CryptKdf::Pbkdf2,
                hash: Some("sha512".to_owned()),
                time_ms: 0,
                iterations: 1000,
                max_memory_kb: 0,
                parallel_threads: 0,
                flags: CryptPbkdf::NO_BENCHMARK,
            }),
        }
    }
}

/// The sizes that a cipher's key can have.
fn key_sizes(cipher: &str) -> &'static [usize] {
    match cipher.contains("xts") {
        true => &[32, 64],
        false => &[16, 24, 32],
    }
}

impl Header {
    /// Makes a header without key slots.
    pub fn format(format: &Format) -> Result<Self, HeaderError> {
        check(format, 0)?;
        Self::make(format)
    }

    /// Makes a header of a volume whose data is authenticated by an HMAC of 32 bytes; its key's last
    /// 32 bytes are the HMAC's. What lies below is
    /// [`Formatted::below`](crate::integrity::offline::Formatted::below).
    pub fn format_authenticated(format: &Format) -> Result<Self, HeaderError> {
        check(format, HMAC_KEY)?;
        if format.allow_discards {
            return Err(HeaderError::Discards);
        }
        // libcryptsetup would have the kernel format the device at once. It makes a header for the
        // cipher's key, and what is missing is put in afterwards.
        let cipher_key = format.volume_key.expose().split_last_chunk::<HMAC_KEY>();
        let cipher_key = cipher_key.map(|(key, _)| key).unwrap_or_default();
        let plain = Format {
            volume_key: VolumeKey::new(Secret::new(cipher_key.to_vec())),
            ..format.clone()
        };
        let mut header = Self::make(&plain)?;
        header.volume_key = Some(format.volume_key.clone());
        let mut first = load::first(&header.copy, format.size)?;
        authenticate(&mut first.json, &format.volume_key)?;
        load::store(&header.copy, &first.binary, &first.json)?;
        header.refresh()?;
        Ok(header)
    }

    fn make(format: &Format) -> Result<Self, HeaderError> {
        let (cipher, mode) = split(&format.cipher);
        let copy = clib::private_file(format.size).map_err(HeaderError::Copy)?;
        clib::with_new(&copy, "make a LUKS2 header", |device| {
            // The key has all the entropy there is: its digest needs no slow KDF.
            let pbkdf = Kdf::Minimal.parameters()?;
            device.settings_handle().set_pbkdf_type(&pbkdf)?;
            device.set_data_offset(DATA_OFFSET.get() / 512)?;
            let wanted = CryptParamsLuks2 {
                pbkdf: Some(Kdf::Minimal.parameters()?),
                integrity: None,
                integrity_params: None,
                data_alignment: 0,
                data_device: None,
                sector_size: u32::try_from(format.sector_size.get()).unwrap_or(512),
                label: Some(format.label.clone()).filter(|label| !label.is_empty()),
                subsystem: None,
            };
            let mut reference = (&wanted).try_into()?;
            device
                .context_handle()
                .format::<libcryptsetup_rs::CryptParamsLuks2Ref<'_>>(
                    EncryptionFormat::Luks2,
                    (cipher, mode),
                    Some(format.uuid),
                    Either::Left(format.volume_key.expose()),
                    Some(&mut reference),
                )?;
            if format.allow_discards {
                let mut flags = device.luks2_flag_handle::<CryptActivate>();
                flags.persistent_flags_set(CryptActivate::ALLOW_DISCARDS)?;
            }
            Ok(())
        })?;
        let (binary, metadata, size) = load::sound(&copy, format.size)?;
        Ok(Self {
            copy,
            uuid: binary.uuid,
            label: binary.label,
            size,
            version: super::Version::Two(Box::new(metadata)),
            volume_key: Some(format.volume_key.clone()),
            notices: Vec::new(),
        })
    }
}

/// Says that segment 0 is authenticated, and makes digest 0 that of a longer key.
fn authenticate(json: &mut Value, key: &VolumeKey) -> Result<(), HeaderError> {
    json["segments"]["0"]["integrity"] = json!({
        "type": "hmac(sha256)",
        "journal_encryption": "none",
        "journal_integrity": "none",
    });
    let digest = &mut json["digests"]["0"];
    let decoded = |value: &Value| BASE64.decode(value.as_str().unwrap_or_default());
    let (Ok(salt), Ok(old)) = (decoded(&digest["salt"]), decoded(&digest["digest"])) else {
        return Err(MetadataError::Whole("has a digest that cannot be read").into());
    };
    let hash = MessageDigest::from_name(digest["hash"].as_str().unwrap_or_default());
    let iterations = digest["iterations"].as_u64().map(usize::try_from);
    let (Some(hash), Some(Ok(iterations))) = (hash, iterations) else {
        return Err(MetadataError::Whole("has a digest that cannot be read").into());
    };
    let mut new = vec![0; old.len()];
    pbkdf2_hmac(key.expose(), &salt, iterations, hash, &mut new).map_err(HashError::from)?;
    digest["digest"] = BASE64.encode(new).into();
    Ok(())
}

/// A cipher and its mode.
fn split(cipher: &str) -> (&str, &str) {
    cipher.split_once('-').unwrap_or((cipher, ""))
}

fn check(format: &Format, more: usize) -> Result<(), HeaderError> {
    if format.size <= DATA_OFFSET {
        return Err(HeaderError::TooSmall(format.size));
    }
    if format.label.len() > 47 || format.label.contains(char::is_control) {
        return Err(HeaderError::Label(format.label.clone()));
    }
    let (takes, given) = (key_sizes(&format.cipher), format.volume_key.len());
    match given
        .checked_sub(more)
        .is_some_and(|key| takes.contains(&key))
    {
        true => Ok(()),
        false => Err(HeaderError::KeySize {
            cipher: format.cipher.clone(),
            given,
            takes,
        }),
    }
}
