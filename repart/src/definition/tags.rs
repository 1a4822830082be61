//! `Integrity=` and its companions: tags of encrypted data, or of a partition without encryption. Pure.

use std::path::PathBuf;

use image_specs::conf;

use super::read::Settings;
use super::resolve::needs;
use super::value;
use super::{
    Combination, Definition, Diagnostic, Encrypt, Key, Problem, Reason, Refusal, VerityMode,
};

/// `Integrity=standalone` and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// `Integrity=standalone`: the partition is a dm-integrity device.
    pub standalone: bool,
    /// `IntegrityKeyFile=`.
    pub key_file: Option<PathBuf>,
}

/// Algorithms with a key that are possible without encryption.
const KEYED: [&str; 2] = ["hmac-sha256", "hmac-sha512"];
/// Those without.
const PLAIN: [&str; 2] = ["crc32c", "sha256"];

/// Takes one assignment.
pub(super) fn assign(
    definition: &mut Definition,
    key: Key,
    value: &str,
    settings: &Settings,
) -> Result<(), Reason> {
    match key {
        Key::Integrity => {
            let (inline, standalone) = match (value, conf::boolean(value)) {
                ("" | "off", _) | (_, Ok(false)) => (false, false),
                ("inline", _) | (_, Ok(true)) => (true, false),
                ("standalone", _) => (false, true),
                _ => return Err(Reason::Choice("off, inline and standalone")),
            };
            definition.encryption.inline_integrity = inline;
            definition.tags.standalone = standalone;
        }
        Key::IntegrityAlgorithm => {
            let known = ["", "hmac-sha1"].iter().chain(&KEYED).chain(&PLAIN);
            if !known.copied().any(|name| name == value) {
                return Err(Reason::Choice(
                    "hmac-sha1, hmac-sha256, hmac-sha512, crc32c and sha256",
                ));
            }
            definition.encryption.integrity_algorithm = value::text(value);
        }
        _ if value.is_empty() => definition.tags.key_file = None,
        _ => definition.tags.key_file = Some(value::path(value, settings)?.into()),
    }
    Ok(())
}

/// Refuses what does not go together.
pub(super) fn check(
    definition: &Definition,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Refusal> {
    let tags = &definition.tags;
    if tags.key_file.is_some() && !tags.standalone {
        return Err(needs(Key::IntegrityKeyFile, "Integrity=standalone"));
    }
    if tags.standalone {
        check_standalone(definition)?;
        return check_algorithm(definition);
    }
    check_inline(definition)?;
    let encryption = &definition.encryption;
    if encryption.integrity_algorithm.is_some() && !encryption.inline_integrity {
        let key = Key::IntegrityAlgorithm;
        let needs = "Integrity=inline or Integrity=standalone";
        let problem = Problem::Combination(Combination::NoEffect { key, needs });
        warnings.push(definition.diagnostic(key, problem));
    }
    Ok(())
}

fn check_inline(definition: &Definition) -> Result<(), Refusal> {
    let encryption = &definition.encryption;
    if !encryption.inline_integrity {
        return Ok(());
    }
    if encryption.mode == Encrypt::Off {
        return Err(needs(Key::Integrity, "Encrypt="));
    }
    if encryption.discard == Some(true) {
        let both = Combination::Excludes(Key::Integrity, Key::Discard);
        return Err((Key::Integrity, both));
    }
    match encryption.integrity_algorithm.as_deref() {
        Some(name) if PLAIN.contains(&name) => Err(needs(
            Key::IntegrityAlgorithm,
            "an hmac- algorithm with Integrity=inline",
        )),
        _ => Ok(()),
    }
}

fn check_standalone(definition: &Definition) -> Result<(), Refusal> {
    let others = [
        (Key::Encrypt, definition.encryption.mode != Encrypt::Off),
        (Key::Verity, definition.verity.mode != VerityMode::Off),
        (
            Key::BlockDeviceReplace,
            definition.block_device_replace.is_some(),
        ),
    ];
    if let Some((key, _)) = others.into_iter().find(|(_, is_set)| *is_set) {
        return Err((Key::Integrity, Combination::Standalone(key)));
    }
    match (&definition.format, &definition.copy_blocks) {
        (None, None) => Err(needs(
            Key::Integrity,
            "a file system or CopyBlocks= with Integrity=standalone",
        )),
        _ => Ok(()),
    }
}

fn check_algorithm(definition: &Definition) -> Result<(), Refusal> {
    let has_key = definition.tags.key_file.is_some();
    let named = definition.encryption.integrity_algorithm.as_deref();
    match named {
        Some(name) if KEYED.contains(&name) && !has_key => Err(needs(
            Key::IntegrityAlgorithm,
            "IntegrityKeyFile= for an hmac- algorithm",
        )),
        Some(name) if PLAIN.contains(&name) && has_key => Err(needs(
            Key::IntegrityKeyFile,
            "an hmac- algorithm in IntegrityAlgorithm=, or none",
        )),
        Some(name) if !KEYED.contains(&name) && !PLAIN.contains(&name) => Err(needs(
            Key::IntegrityAlgorithm,
            "crc32c, sha256, hmac-sha256 or hmac-sha512 with Integrity=standalone",
        )),
        _ => Ok(()),
    }
}
