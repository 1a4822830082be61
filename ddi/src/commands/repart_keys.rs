//! The key files of `ddi repart`: `--key-file=`, and `KeyFile=` of each definition.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use luks::Secret;
use repart::build::encrypt::Keys;
use repart::definition::{Definition, DefinitionSet, Encrypt, Key};

use super::repart_args::RepartArgs;
use crate::exit::Failure;
use crate::ui::Ui;
use crate::values::SeedArg;

/// The largest key file, as with cryptsetup.
const MAX_SIZE: u64 = 8 << 20;

/// Reads every key file that is named, so that a wrong one is found before anything is built.
pub(crate) fn keys(args: &RepartArgs, wanted: &DefinitionSet, ui: &Ui) -> Result<Keys, Failure> {
    let common = args.encryption.key_file.as_deref();
    let common = common.map(|path| read(path, ui)).transpose()?;
    let mut passphrases = BTreeMap::new();
    for (at, definition) in wanted.definitions.iter().enumerate() {
        let own = definition.encryption.key_file.as_deref();
        let own = own.map(|path| {
            read(path, ui).map_err(|failure| placed(definition, Key::KeyFile, failure))
        });
        let own = own.transpose()?;
        if let Some(secret) = common.clone().or(own) {
            passphrases.insert(at, secret);
        } else if takes_passphrase(definition) {
            let file = definition.origin.path.as_deref().unwrap_or(Path::new(""));
            ui.note(&format!(
                "warning: {} names no KeyFile=, so the empty passphrase will unlock its partition",
                file.display()
            ));
        }
    }
    let seed = match args.operation.seed {
        Some(SeedArg::Fixed(seed)) => Some(Secret::new(seed.as_bytes().to_vec())),
        Some(SeedArg::Random) | None => None,
    };
    let seeded = wanted.definitions.iter().find(|one| one.encryption.seeded);
    if let Some(definition) = seeded.filter(|_| seed.is_none()) {
        let failure = Failure::message(
            "EncryptVolumeKey=seed makes the key of a seed, and none was given on the command line",
        );
        let failure = failure.with_hint("pass --seed=UUID, and keep it as secret as a key");
        return Err(placed(definition, Key::EncryptVolumeKey, failure));
    }
    Ok(Keys { passphrases, seed })
}

fn takes_passphrase(definition: &Definition) -> bool {
    let mode = definition.encryption.mode;
    matches!(mode, Encrypt::KeyFile | Encrypt::KeyFileAndTpm2)
}

/// Reads a regular file, or what a socket says until it is closed.
fn read(path: &Path, ui: &Ui) -> Result<Secret, Failure> {
    let shown = path.display();
    let failed =
        |error: io::Error| Failure::message(format!("cannot read key file {shown}: {error}"));
    let metadata = path.metadata().map_err(failed)?;
    let kind = metadata.file_type();
    let source: Box<dyn Read> = if kind.is_socket() {
        Box::new(UnixStream::connect(path).map_err(failed)?)
    } else if kind.is_file() {
        if metadata.permissions().mode() & 0o007 != 0 {
            ui.note(&format!(
                "warning: key file {shown} can be used by everybody (mode {:04o}); chmod 0600 it",
                metadata.permissions().mode() & 0o7777
            ));
        }
        Box::new(File::open(path).map_err(failed)?)
    } else {
        let text = format!("key file {shown} is neither a regular file nor a socket");
        return Err(Failure::message(text));
    };
    let mut bytes = Vec::new();
    let read = source.take(MAX_SIZE + 1).read_to_end(&mut bytes);
    let secret = Secret::new(bytes);
    read.map_err(failed)?;
    match u64::try_from(secret.len()) {
        Ok(0..=MAX_SIZE) => Ok(secret),
        _ => Err(Failure::message(format!(
            "key file {shown} has more than 8 MiB"
        ))),
    }
}

/// The failure, with the place in the definition that leads to it.
fn placed(definition: &Definition, key: Key, failure: Failure) -> Failure {
    let Some(position) = definition.origin.keys.get(&key) else {
        return failure;
    };
    let text = format!("{position}: {}", failure.chain().join(": "));
    let said = Failure::message(text);
    match failure.hint {
        Some(hint) => said.with_hint(hint),
        None => said,
    }
}
