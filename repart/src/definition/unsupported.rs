//! What is parsed but cannot be applied yet. Pure.

use super::{DefinitionSet, Diagnostic, Encrypt, Key, Problem};

/// The first key of the set that cannot be applied: keys in a TPM, inline integrity, moving a mounted
/// file system, copying fs-verity along. `None` where all can be.
pub fn unsupported(set: &DefinitionSet) -> Option<Diagnostic> {
    set.definitions.iter().find_map(|definition| {
        let encryption = &definition.encryption;
        if encryption.inline_integrity {
            return Some(definition.diagnostic(Key::Integrity, Problem::InlineIntegrity));
        }
        let with_tpm2 = matches!(encryption.mode, Encrypt::Tpm2 | Encrypt::KeyFileAndTpm2);
        let keys = [
            (Key::Encrypt, with_tpm2),
            (
                Key::BlockDeviceReplace,
                definition.block_device_replace.is_some(),
            ),
        ];
        if let Some((key, _)) = keys.into_iter().find(|(_, is_set)| *is_set) {
            return Some(definition.diagnostic(key, Problem::NotSupportedYet { key }));
        }
        let copies = &mut definition.populate.copy_files.iter();
        let copy = copies.find(|copy| copy.fsverity)?;
        let problem = Problem::FsVerityNotSupportedYet {
            path: copy.source.clone(),
        };
        Some(definition.diagnostic(Key::CopyFiles, problem))
    })
}
