//! From a [`Draft`] to a [`Definition`]: what is implied, and what does not go together. Pure.

use image_specs::conf::is_file_name;
use image_specs::partition::{
    Designator, FLAG_GROW_FILE_SYSTEM, FLAG_NO_AUTO, FLAG_READ_ONLY, PartitionType, VerityRole,
};

use super::assign::Draft;
use super::read::Settings;
use super::{
    Combination, Definition, Diagnostic, Encrypt, Format, Key, Minimize, Position, Problem,
    Refusal, VerityMode, existing, tags, tree_keys,
};

/// Fills in what is implied and refuses what does not go together.
pub(super) fn resolve(
    mut draft: Draft,
    settings: &Settings,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Definition, Box<Diagnostic>> {
    let refuse = |definition: &Definition, (key, what): Refusal| {
        Box::new(definition.diagnostic(key, Problem::Combination(what)))
    };
    let kind = check_basics(&draft).map_err(|refusal| refuse(&draft.definition, refusal))?;
    draft.definition.kind = kind;
    check_sources(&draft).map_err(|refusal| refuse(&draft.definition, refusal))?;
    draft.imply_format();
    draft
        .check_format(settings)
        .and_then(|()| check_encryption(&draft.definition, warnings))
        .and_then(|()| draft.check_verity())
        .and_then(|()| existing::check(&draft.definition))
        .map_err(|refusal| refuse(&draft.definition, refusal))?;
    draft.resolve_flags(warnings);
    draft.override_format(settings, warnings);
    warnings.extend(without_effect(&draft.definition));
    Ok(draft.definition)
}

/// What systemd-repart silently ignores with the definition's file system.
fn without_effect(definition: &Definition) -> Vec<Diagnostic> {
    let format = definition.format.as_ref();
    let is_btrfs = format == Some(&Format::Btrfs);
    let compresses = is_btrfs || matches!(format, Some(Format::Squashfs | Format::Erofs));
    let populate = &definition.populate;
    let place = format.map(|format| format!("for {}", format.name()));
    let place = place.unwrap_or_else(|| "without a file system".to_owned());
    let (algorithm, level) = (&definition.compression, &definition.compression_level);
    let mut idle = Vec::new();
    if !compresses {
        idle.extend(algorithm.as_ref().map(|_| (Key::Compression, &place)));
        idle.extend(level.as_ref().map(|_| (Key::CompressionLevel, &place)));
    }
    let alone = "without Compression=".to_owned();
    if compresses && algorithm.is_none() && level.is_some() {
        idle.push((Key::CompressionLevel, &alone));
    }
    if !is_btrfs {
        idle.extend(
            populate
                .subvolumes
                .first()
                .map(|_| (Key::Subvolumes, &place)),
        );
        let default = &populate.default_subvolume;
        idle.extend(default.as_ref().map(|_| (Key::DefaultSubvolume, &place)));
    }
    let warning = |(key, place): (Key, &String)| {
        let place = place.clone();
        definition.diagnostic(key, Problem::NoEffect { key, place })
    };
    idle.into_iter().map(warning).collect()
}

impl Definition {
    /// A problem at the place of `key`, or of the whole file where it is not set.
    pub(super) fn diagnostic(&self, key: Key, problem: Problem) -> Diagnostic {
        let position = self.position(key);
        Diagnostic { position, problem }
    }

    /// Where `key` is set, or else the whole file.
    pub(crate) fn position(&self, key: Key) -> Position {
        let set = self.origin.keys.get(&key).cloned();
        set.unwrap_or_else(|| Position {
            path: self.origin.path.clone().unwrap_or_default(),
            location: None,
        })
    }
}

fn check_basics(draft: &Draft) -> Result<PartitionType, Refusal> {
    let definition = &draft.definition;
    let limits = [
        (
            Key::SizeMinBytes,
            definition.size_min,
            Key::SizeMaxBytes,
            definition.size_max,
        ),
        (
            Key::PaddingMinBytes,
            definition.padding_min,
            Key::PaddingMaxBytes,
            definition.padding_max,
        ),
    ];
    for (min_key, min, max_key, max) in limits {
        let Some((min, max)) = min.zip(max).filter(|(min, max)| min > max) else {
            continue;
        };
        let limits = Combination::Limits {
            min_key,
            min,
            max_key,
            max,
        };
        return Err((min_key, limits));
    }
    draft.kind.ok_or((Key::Type, Combination::NoType))
}

/// Refuses several sources of the content.
fn check_sources(draft: &Draft) -> Result<(), Refusal> {
    let definition = &draft.definition;
    let sources = [
        (
            Key::CopyBlocks,
            "CopyBlocks=",
            definition.copy_blocks.is_some(),
        ),
        (
            Key::BlockDeviceReplace,
            "BlockDeviceReplace=",
            definition.block_device_replace.is_some(),
        ),
    ];
    for (key, name, is_set) in sources {
        if is_set && draft.format.is_some() {
            return Err((key, Combination::Excludes(key, Key::Format)));
        }
        if is_set && draft.populates() {
            return Err((key, Combination::ExcludesPopulate(name)));
        }
    }
    if sources.iter().all(|(_, _, is_set)| *is_set) {
        let keys = Combination::Excludes(Key::CopyBlocks, Key::BlockDeviceReplace);
        return Err((Key::BlockDeviceReplace, keys));
    }
    for (format, name) in [("swap", "Format=swap"), ("empty", "Format=empty")] {
        if draft.format.as_deref() == Some(format) && draft.populates() {
            return Err((Key::Format, Combination::ExcludesPopulate(name)));
        }
    }
    Ok(())
}

impl Draft {
    /// Whether keys ask for content; subvolumes alone do not.
    fn populates(&self) -> bool {
        let populate = &self.definition.populate;
        !populate.copy_files.is_empty()
            || !populate.directories.is_empty()
            || !populate.symlinks.is_empty()
            || self.add_validate_fs == Some(true)
    }

    fn imply_format(&mut self) {
        let populates = self.populates();
        let definition = &mut self.definition;
        let designator = definition.kind.designator();
        let copies = definition.copy_blocks.is_some() || definition.block_device_replace.is_some();
        let format = match self.format.take() {
            Some(format) => Some(Format::from_name(&format)),
            None if copies => None,
            None if designator == Some(Designator::Swap) => Some(Format::Swap),
            None if !populates
                && definition.encryption.mode == Encrypt::Off
                && !definition.tags.standalone =>
            {
                None
            }
            None if matches!(designator, Some(Designator::Esp | Designator::Xbootldr)) => {
                Some(Format::Vfat)
            }
            None => Some(Format::Ext4),
        };
        if format == Some(Format::Empty) {
            self.no_auto.get_or_insert(true);
            definition.label.get_or_insert_with(|| "_empty".to_owned());
        }
        definition.format = format.filter(|format| *format != Format::Empty);
        let validates = match &definition.format {
            Some(Format::Swap | Format::Vfat) | None => false,
            Some(_) => true,
        };
        definition.add_validate_fs = self.add_validate_fs.unwrap_or(validates);
    }

    fn check_format(&self, settings: &Settings) -> Result<(), Refusal> {
        let definition = &self.definition;
        let Some(format) = &definition.format else {
            if definition.minimize != Minimize::Off && definition.verity.mode != VerityMode::Hash {
                return Err(needs(Key::Minimize, "Format= or Verity=hash"));
            }
            return check_subvolume(definition);
        };
        let name = format.name().to_owned();
        let shrinks = format.is_read_only() || *format == Format::Btrfs;
        let minimizes = definition.minimize == Minimize::Best;
        if minimizes && !shrinks && definition.verity.mode != VerityMode::Hash {
            return Err((Key::Minimize, Combination::MinimizeBest(name)));
        }
        let populates = self.populates() || definition.add_validate_fs;
        if populates && *format != Format::Swap && !format.can_populate() && !settings.can_mount {
            return Err((Key::Format, Combination::CannotPopulate(name)));
        }
        if format.is_read_only() && !populates {
            return Err((Key::Format, Combination::Unpopulated(name)));
        }
        check_subvolume(definition)
    }

    fn check_verity(&self) -> Result<(), Refusal> {
        let definition = &self.definition;
        let mode = definition.verity.mode;
        tree_keys::check(definition)?;
        match (mode, &definition.verity.match_key) {
            (VerityMode::Off, Some(_)) => return Err(needs(Key::VerityMatchKey, "Verity=")),
            (VerityMode::Off | VerityMode::Data, None) if mode == VerityMode::Off => return Ok(()),
            (_, None) => return Err(needs(Key::Verity, "VerityMatchKey=")),
            _ => {}
        }
        if !matches!(mode, VerityMode::Hash | VerityMode::Signature) {
            return Ok(());
        }
        let refuse = |blamed, key| Err((blamed, Combination::Verity { key, mode }));
        if definition.encryption.mode != Encrypt::Off {
            return refuse(Key::Encrypt, "Encrypt=");
        }
        if definition.format.is_some() {
            return refuse(Key::Format, "Format=");
        }
        if self.populates() {
            return refuse(
                Key::Verity,
                "content (CopyFiles=, MakeDirectories=, MakeSymlinks=)",
            );
        }
        let sized = definition.size_min.is_some() || definition.size_max.is_some();
        if mode == VerityMode::Signature && sized {
            return refuse(Key::SizeMinBytes, "SizeMinBytes= or SizeMaxBytes=");
        }
        Ok(())
    }

    /// Decides the attribute bits that end up in the table: systemd-repart turns growing on wherever
    /// `ReadOnly=` is not yes, whatever `GrowFileSystem=` says, and libfdisk refuses the whole list
    /// of bits where one of them is below 48.
    fn resolve_flags(&mut self, warnings: &mut Vec<Diagnostic>) {
        const LOW: u64 = (1 << 48) - 1;
        let known = self.definition.kind.known_flags();
        if self.is_read_only_by_nature() {
            self.read_only.get_or_insert(true);
        }
        if known & FLAG_GROW_FILE_SYSTEM != 0 && self.read_only != Some(true) {
            self.grow_file_system = Some(true);
        }
        let definition = &mut self.definition;
        let mut flags = definition.flags;
        for (key, bit, wanted) in [
            (Key::NoAuto, FLAG_NO_AUTO, self.no_auto),
            (Key::ReadOnly, FLAG_READ_ONLY, self.read_only),
            (
                Key::GrowFileSystem,
                FLAG_GROW_FILE_SYSTEM,
                self.grow_file_system,
            ),
        ] {
            match wanted {
                None => {}
                Some(_) if known & bit == 0 => {
                    let kind = definition.kind;
                    warnings.push(definition.diagnostic(key, Problem::Attribute { key, kind }));
                }
                Some(true) => flags |= bit,
                Some(false) => flags &= !bit,
            }
        }
        if flags & LOW != 0 {
            warnings.push(definition.diagnostic(Key::Flags, Problem::LowFlags { flags }));
            flags = 0;
        }
        definition.flags = flags;
    }

    fn is_read_only_by_nature(&self) -> bool {
        let role = self
            .definition
            .kind
            .designator()
            .and_then(Designator::verity_role);
        matches!(role, Some(VerityRole::Hash | VerityRole::Signature))
            || matches!(
                self.definition.verity.mode,
                VerityMode::Data | VerityMode::Signature
            )
    }

    /// Puts the file system that the environment names for the designator in place, last of all.
    fn override_format(&mut self, settings: &Settings, warnings: &mut Vec<Diagnostic>) {
        let definition = &mut self.definition;
        let Some(designator) = definition
            .kind
            .designator()
            .filter(|d| !d.mount_points().is_empty())
        else {
            return;
        };
        let name = designator.name().to_ascii_uppercase().replace('-', "_");
        let variable = format!("SYSTEMD_REPART_OVERRIDE_FSTYPE_{name}");
        let Some(to) = settings.environment.get(&variable).cloned() else {
            return;
        };
        let format = Format::from_name(&to);
        if definition.format.as_ref() == Some(&format) {
            return;
        }
        let from = definition
            .format
            .as_ref()
            .map_or("", Format::name)
            .to_owned();
        let problem = Problem::Overridden { from, to, variable };
        warnings.push(definition.diagnostic(Key::Format, problem));
        definition.format = Some(format);
    }
}

pub(super) fn needs(key: Key, needs: &'static str) -> Refusal {
    (key, Combination::Needs { key, needs })
}

fn check_subvolume(definition: &Definition) -> Result<(), Refusal> {
    let populate = &definition.populate;
    let Some(default) = &populate.default_subvolume else {
        return Ok(());
    };
    if populate
        .subvolumes
        .iter()
        .any(|subvolume| subvolume.path == *default)
    {
        return Ok(());
    }
    let refusal = Combination::DefaultSubvolume(default.clone());
    Err((Key::DefaultSubvolume, refusal))
}

fn check_encryption(
    definition: &Definition,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Refusal> {
    const LONGEST_NAME: usize = 127;
    let encryption = &definition.encryption;
    let encrypts = encryption.mode != Encrypt::Off;
    tags::check(definition, warnings)?;
    let own = [
        (Key::EncryptVolumeKey, encryption.seeded),
        (Key::EncryptFreeSpace, encryption.free_space.is_some()),
        (Key::EncryptRecoveryKey, encryption.recovery_key.is_some()),
    ];
    if let Some((key, _)) = own.into_iter().find(|(_, is_set)| *is_set && !encrypts) {
        return Err(needs(key, "Encrypt="));
    }
    if let Some(name) = &encryption.volume_name {
        if !is_file_name(name) || name.len() > LONGEST_NAME {
            return Err((Key::VolumeName, Combination::VolumeName(name.clone())));
        }
        if !encrypts {
            return Err(needs(Key::VolumeName, "Encrypt="));
        }
        if definition.block_device_replace.is_none() {
            return Err(needs(Key::VolumeName, "BlockDeviceReplace="));
        }
    }
    let idle = [
        (Key::Discard, encryption.discard == Some(true)),
        (Key::EncryptKDF, encryption.kdf.is_some()),
    ];
    for (key, _) in idle.into_iter().filter(|(_, is_set)| *is_set && !encrypts) {
        let needs = "Encrypt=";
        let problem = Problem::Combination(Combination::NoEffect { key, needs });
        warnings.push(definition.diagnostic(key, problem));
    }
    Ok(())
}
