//! What is parsed but cannot be applied yet. Pure.

use super::{DefinitionSet, Diagnostic, Key, Problem};

/// The first key of the set that cannot be applied: inline integrity, moving a mounted file system,
/// copying fs-verity along. `None` where all can be.
pub fn unsupported(set: &DefinitionSet) -> Option<Diagnostic> {
    set.definitions.iter().find_map(|definition| {
        let encryption = &definition.encryption;
        if encryption.inline_integrity {
            return Some(definition.diagnostic(Key::Integrity, Problem::InlineIntegrity));
        }
        if definition.block_device_replace.is_some() {
            let key = Key::BlockDeviceReplace;
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
