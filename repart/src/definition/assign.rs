//! One assignment after the other into a [`Draft`]. Pure.

use std::path::PathBuf;

use image_specs::conf::{self, Words, absolute_path, fields, is_file_name};
use image_specs::guid;
use image_specs::partition::PartitionType;
use image_specs::specifier::SPLIT_LETTERS;
use image_specs::units::Bytes;
use uuid::Uuid;

use super::kind;
use super::read::Settings;
use super::value::{self, Notes};
use super::{
    CopyBlocks, Definition, Encrypt, EncryptedVolume, Kdf, Key, Minimize, MountPoint, Problem,
    Reason, Share, SplitName, UuidChoice, VerityMode, tags,
};

/// A definition as far as its files have been read; nothing has been derived or compared.
#[derive(Debug)]
pub(super) struct Draft {
    /// What needs no later decision; the type is in `kind`.
    pub(super) definition: Definition,
    pub(super) kind: Option<PartitionType>,
    pub(super) format: Option<String>,
    pub(super) add_validate_fs: Option<bool>,
    pub(super) no_auto: Option<bool>,
    pub(super) read_only: Option<bool>,
    pub(super) grow_file_system: Option<bool>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            definition: Definition::new(PartitionType::new(Uuid::nil())),
            kind: None,
            format: None,
            add_validate_fs: None,
            no_auto: None,
            read_only: None,
            grow_file_system: None,
        }
    }
}

/// Whether a value that the key cannot have stops the run.
fn is_strict(key: Key) -> bool {
    matches!(
        key,
        Key::Type
            | Key::SizeMinBytes
            | Key::SizeMaxBytes
            | Key::PaddingMinBytes
            | Key::PaddingMaxBytes
            | Key::FileSystemSectorSize
            | Key::VerityDataBlockSizeBytes
            | Key::VerityHashBlockSizeBytes
            | Key::VerityHashAlgorithm
            | Key::VeritySalt
            | Key::VerityHashType
            | Key::VerityFEC
            | Key::EncryptVolumeKey
            | Key::EncryptFreeSpace
            | Key::EncryptRecoveryKey
            | Key::IntegrityKeyFile
            | Key::IfExists
            | Key::IfMissing
            | Key::IfOutOfBounds
            | Key::Grow
            | Key::CopyFiles
            | Key::TPM2PCRs
    )
}

impl Draft {
    /// Takes one assignment; what is ignored of it goes to `notes`.
    pub(super) fn assign(
        &mut self,
        key: Key,
        value: &str,
        settings: &Settings,
        notes: &mut Vec<Problem>,
    ) -> Result<(), Problem> {
        let mut notes = Notes::new(key, value, notes);
        let assigned = match key {
            Key::Type
            | Key::Label
            | Key::UUID
            | Key::Priority
            | Key::FactoryReset
            | Key::SupplementFor
            | Key::SplitName
            | Key::MountPoint => self.identity(key, value, settings),
            Key::Weight
            | Key::PaddingWeight
            | Key::SizeMinBytes
            | Key::SizeMaxBytes
            | Key::PaddingMinBytes
            | Key::PaddingMaxBytes
            | Key::Minimize => self.size(key, value, &mut notes),
            Key::Verity
            | Key::VerityMatchKey
            | Key::VerityDataBlockSizeBytes
            | Key::VerityHashBlockSizeBytes
            | Key::VerityHashAlgorithm
            | Key::VeritySalt
            | Key::VerityHashType
            | Key::VerityFEC => self.verity(key, value),
            Key::Flags | Key::NoAuto | Key::ReadOnly | Key::GrowFileSystem => {
                self.attribute(key, value)
            }
            Key::IfExists | Key::IfMissing | Key::IfOutOfBounds | Key::Grow => {
                self.definition.existing.assign(key, value)
            }
            Key::CopyFiles
            | Key::ExcludeFiles
            | Key::ExcludeFilesTarget
            | Key::MakeDirectories
            | Key::MakeSymlinks
            | Key::Subvolumes
            | Key::DefaultSubvolume => self.populate(key, value, settings, &mut notes),
            Key::CopyBlocks
            | Key::Format
            | Key::Compression
            | Key::CompressionLevel
            | Key::AddValidateFS
            | Key::FileSystemSectorSize
            | Key::BlockDeviceReplace => self.content(key, value, settings, &mut notes),
            Key::VolumeLabel
            | Key::Encrypt
            | Key::KeyFile
            | Key::TPM2PCRs
            | Key::EncryptKDF
            | Key::Discard
            | Key::VolumeName
            | Key::EncryptedVolume
            | Key::EncryptVolumeKey
            | Key::EncryptRecoveryKey
            | Key::EncryptFreeSpace => self.encryption(key, value, settings, &mut notes),
            Key::Integrity | Key::IntegrityAlgorithm | Key::IntegrityKeyFile => {
                tags::assign(&mut self.definition, key, value, settings)
            }
        };
        match assigned {
            Err(reason) if is_strict(key) => Err(notes.refused(reason)),
            Err(reason) => {
                notes.ignore(reason);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn identity(&mut self, key: Key, value: &str, settings: &Settings) -> Result<(), Reason> {
        let definition = &mut self.definition;
        match key {
            Key::Type => {
                let (kind, mbr) = kind::parse(value, settings)?;
                self.kind = Some(settings.rewrite(kind));
                definition.mbr = mbr;
            }
            Key::Label => definition.label = Some(value::label(value, settings)?),
            Key::UUID => {
                definition.uuid = match value {
                    "" => UuidChoice::Derived,
                    "null" => UuidChoice::Fixed(Uuid::nil()),
                    text => UuidChoice::Fixed(guid::parse(text).map_err(|_| Reason::Uuid)?),
                }
            }
            Key::Priority => definition.priority = conf::int32(value)?,
            Key::FactoryReset => {
                let removes = value == "remove";
                definition.factory_reset = removes || conf::boolean(value)?;
                definition.existing.only_on_new_disks = removes;
            }
            Key::SupplementFor => definition.supplement_for = value::text(value),
            Key::SplitName => {
                definition.split_name = match value {
                    "" => SplitName::Default,
                    "-" => SplitName::None,
                    text => {
                        let template = settings.values.expand_except(text, SPLIT_LETTERS)?;
                        SplitName::Template(template)
                    }
                }
            }
            _ if value.is_empty() => definition.mount_points.clear(),
            _ => definition.mount_points.push(mount_point(value)?),
        }
        Ok(())
    }

    fn size(&mut self, key: Key, value: &str, notes: &mut Notes<'_>) -> Result<(), Reason> {
        const MOST: u64 = 1_000_000;
        let weight = |value| {
            let weight = conf::unsigned(value, MOST)?;
            u32::try_from(weight).map_err(|_| conf::ValueError::Range)
        };
        let definition = &mut self.definition;
        match key {
            Key::Weight => definition.weight = weight(value)?,
            Key::PaddingWeight => definition.padding_weight = weight(value)?,
            Key::SizeMinBytes => {
                (definition.size_min, definition.shares.size_min) = notes.at_least(value)?;
            }
            Key::SizeMaxBytes => {
                (definition.size_max, definition.shares.size_max) = notes.at_most(value)?;
            }
            Key::PaddingMinBytes => {
                (definition.padding_min, definition.shares.padding_min) = notes.at_least(value)?;
            }
            Key::PaddingMaxBytes => {
                (definition.padding_max, definition.shares.padding_max) = notes.at_most(value)?;
            }
            _ => {
                definition.minimize = match (value, conf::boolean(value)) {
                    ("", _) | (_, Ok(false)) => Minimize::Off,
                    ("best", _) | (_, Ok(true)) => Minimize::Best,
                    ("guess", _) => Minimize::Guess,
                    _ => return Err(Reason::Choice("off, best and guess")),
                }
            }
        }
        Ok(())
    }

    fn verity(&mut self, key: Key, value: &str) -> Result<(), Reason> {
        let verity = &mut self.definition.verity;
        match key {
            Key::Verity => {
                verity.mode = match value {
                    "" | "off" => VerityMode::Off,
                    "data" => VerityMode::Data,
                    "hash" => VerityMode::Hash,
                    "signature" => VerityMode::Signature,
                    _ => return Err(Reason::Choice("off, data, hash and signature")),
                }
            }
            Key::VerityMatchKey => verity.match_key = value::text(value),
            Key::VerityDataBlockSizeBytes => verity.data_block_size = Some(value::block(value)?),
            Key::VerityHashAlgorithm => verity.algorithm = value::hash_algorithm(value)?,
            Key::VeritySalt => verity.salt = value::salt(value)?,
            Key::VerityHashType => verity.hash_type = value::hash_type(value)?,
            Key::VerityFEC => verity.fec = value::roots(value)?,
            _ => verity.hash_block_size = Some(value::block(value)?),
        }
        Ok(())
    }

    fn attribute(&mut self, key: Key, value: &str) -> Result<(), Reason> {
        match key {
            Key::Flags => self.definition.flags = conf::unsigned(value, u64::MAX)?,
            Key::NoAuto => self.no_auto = conf::tristate(value)?,
            Key::ReadOnly => self.read_only = conf::tristate(value)?,
            _ => self.grow_file_system = conf::tristate(value)?,
        }
        Ok(())
    }

    fn populate(
        &mut self,
        key: Key,
        value: &str,
        settings: &Settings,
        notes: &mut Notes<'_>,
    ) -> Result<(), Reason> {
        let populate = &mut self.definition.populate;
        match key {
            Key::CopyFiles => {
                let files = value::copy_files(value, settings, notes)?;
                populate.copy_files.extend(files);
            }
            Key::ExcludeFiles => {
                value::excludes(value, &mut populate.exclude_sources, settings, notes)?;
            }
            Key::ExcludeFilesTarget => {
                value::excludes(value, &mut populate.exclude_targets, settings, notes)?;
            }
            Key::MakeDirectories => value::directories(value, populate, settings, notes)?,
            Key::MakeSymlinks => value::symlinks(value, populate, settings, notes)?,
            Key::Subvolumes => value::subvolumes(value, populate, settings, notes)?,
            _ if value.is_empty() => populate.default_subvolume = None,
            _ => populate.default_subvolume = Some(value::path(value, settings)?),
        }
        Ok(())
    }

    fn content(
        &mut self,
        key: Key,
        value: &str,
        settings: &Settings,
        notes: &mut Notes<'_>,
    ) -> Result<(), Reason> {
        let definition = &mut self.definition;
        match key {
            Key::CopyBlocks => {
                definition.copy_blocks = match value {
                    "" => None,
                    "auto" => Some(CopyBlocks::Auto),
                    path => Some(CopyBlocks::Path(value::path(path, settings)?.into())),
                }
            }
            Key::Format => {
                let name = value::overridden_format(value, settings, notes);
                if !is_file_name(&name) {
                    return Err(Reason::FileName);
                }
                self.format = Some(name);
            }
            Key::Compression => definition.compression = value::text(value),
            Key::CompressionLevel => definition.compression_level = value::text(value),
            Key::AddValidateFS => self.add_validate_fs = conf::tristate(value)?,
            Key::FileSystemSectorSize => definition.fs_sector_size = value::sector(value)?,
            _ if value.is_empty() => definition.block_device_replace = None,
            _ => definition.block_device_replace = Some(absolute_path(value, false)?.into()),
        }
        Ok(())
    }

    fn encryption(
        &mut self,
        key: Key,
        value: &str,
        settings: &Settings,
        notes: &mut Notes<'_>,
    ) -> Result<(), Reason> {
        let encryption = &mut self.definition.encryption;
        match key {
            Key::VolumeLabel => encryption.volume_label = Some(value::label(value, settings)?),
            Key::Encrypt => encryption.mode = encrypt(value)?,
            Key::KeyFile => encryption.key_file = value::text(value).map(PathBuf::from),
            Key::TPM2PCRs if value.is_empty() => encryption.tpm2_pcrs.clear(),
            Key::TPM2PCRs => encryption.tpm2_pcrs.push(value::pcrs(value)?),
            Key::EncryptKDF => encryption.kdf = kdf(value)?,
            Key::Discard => encryption.discard = conf::tristate(value)?,
            Key::VolumeName => encryption.volume_name = value::text(value),
            Key::EncryptVolumeKey => {
                encryption.seeded = match value {
                    "" | "random" => false,
                    "seed" => true,
                    _ => return Err(Reason::Choice("random and seed")),
                }
            }
            Key::EncryptFreeSpace => encryption.free_space = conf::tristate(value)?,
            Key::EncryptRecoveryKey if value.is_empty() => encryption.recovery_key = None,
            Key::EncryptRecoveryKey => {
                encryption.recovery_key = Some(value::path(value, settings)?.into());
            }
            _ if value.is_empty() => encryption.volume = None,
            _ => encryption.volume = Some(encrypted_volume(value, notes)?),
        }
        Ok(())
    }
}

fn encrypt(value: &str) -> Result<Encrypt, Reason> {
    match (value, conf::boolean(value)) {
        ("", _) | (_, Ok(false)) => Ok(Encrypt::Off),
        ("key-file", _) | (_, Ok(true)) => Ok(Encrypt::KeyFile),
        ("tpm2", _) => Ok(Encrypt::Tpm2),
        ("key-file+tpm2", _) => Ok(Encrypt::KeyFileAndTpm2),
        _ => Err(Reason::Choice("off, key-file, tpm2 and key-file+tpm2")),
    }
}

fn kdf(value: &str) -> Result<Option<Kdf>, Reason> {
    match value {
        "" => Ok(None),
        "argon2id" => Ok(Some(Kdf::Argon2id)),
        "pbkdf2" => Ok(Some(Kdf::Pbkdf2)),
        "minimal" => Ok(Some(Kdf::Minimal)),
        _ => Err(Reason::Choice("argon2id, pbkdf2 and minimal")),
    }
}

fn mount_point(value: &str) -> Result<MountPoint, Reason> {
    let mut fields = fields(value, Words::QUOTED_ESCAPED_FIELDS)?.into_iter();
    let path = absolute_path(&fields.next().unwrap_or_default(), false)?;
    let options = fields.next().filter(|options| !options.is_empty());
    if fields.next().is_some() {
        return Err(Reason::Fields("PATH:OPTIONS"));
    }
    Ok(MountPoint { path, options })
}

fn encrypted_volume(value: &str, notes: &mut Notes<'_>) -> Result<EncryptedVolume, Reason> {
    let mut fields = fields(value, Words::QUOTED_ESCAPED_FIELDS)?.into_iter();
    let mut field = || fields.next();
    let (name, key_file, options, extra) = (field(), field(), field(), field());
    if field().is_some() {
        return Err(Reason::Fields("NAME:KEYFILE:OPTIONS:EXTRA"));
    }
    let set = |field: Option<String>| field.filter(|text| !text.is_empty());
    let (name, key_file, options) = (set(name), set(key_file), set(options));
    let parts = [&name, &key_file, &options].into_iter().flatten();
    if parts.flat_map(|part| part.chars()).any(char::is_whitespace) {
        return Err(Reason::WhiteSpace);
    }
    if name.as_ref().is_some_and(|name| !is_file_name(name)) {
        return Err(Reason::FileName);
    }
    let mut fixate_volume_key = false;
    for option in extra.iter().flat_map(|extra| extra.split(',')) {
        match option {
            "fixate-volume-key" => fixate_volume_key = true,
            other => notes.ignore(Reason::Option(other.to_owned())),
        }
    }
    Ok(EncryptedVolume {
        name,
        key_file,
        options,
        fixate_volume_key,
    })
}

/// A size in bytes, or as a share: at most one of them.
type Size = (Option<Bytes>, Option<Share>);

impl Notes<'_> {
    /// A least size, rounded up.
    fn at_least(&mut self, value: &str) -> Result<Size, Reason> {
        self.size(value, |size, unit| size.checked_next_multiple_of(unit))
    }

    /// A greatest size, rounded down.
    fn at_most(&mut self, value: &str) -> Result<Size, Reason> {
        self.size(value, |size, unit| Some(size - size % unit))
    }

    fn size(
        &mut self,
        value: &str,
        round: impl Fn(u64, u64) -> Option<u64>,
    ) -> Result<Size, Reason> {
        match Share::parse(value)? {
            Some(share) => Ok((None, Some(share))),
            None => Ok((self.rounded(value, round)?, None)),
        }
    }
}
