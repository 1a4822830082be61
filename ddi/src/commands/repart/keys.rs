//! The keys of `ddi repart`: `--key-file=`, `KeyFile=` of each definition, and what TPMs seal.

use std::collections::BTreeMap;
use std::path::Path;

use image_specs::tpm2::PcrList;
use luks::Secret;
use luks::key::{KeyFile, RecoveryKey};
use repart::build::encrypt::{Keys, Sealing};
use repart::build::recovery::Recovery;
use repart::definition::{Definition, DefinitionSet, Encrypt, Key};

use super::args::RepartArgs;
use crate::exit::Failure;
use crate::surroundings;
use crate::ui::Ui;
use crate::values::SeedArg;

/// Reads every key file that is named, so that a wrong one is found before anything is built.
pub(crate) fn keys(args: &RepartArgs, wanted: &DefinitionSet, ui: &Ui) -> Result<Keys, Failure> {
    let common = args.encryption.key_file.as_deref();
    let common = common.map(|path| read(path, ui)).transpose()?;
    let mut keys = Keys {
        seed: match args.operation.seed {
            Some(SeedArg::Fixed(seed)) => Some(Secret::new(seed.as_bytes().to_vec())),
            Some(SeedArg::Random) | None => None,
        },
        passphrases: BTreeMap::new(),
        integrity: integrity_keys(wanted, ui)?,
        recovery: recovery_keys(wanted)?,
        sealings: sealings(args, wanted)?,
    };
    for (at, definition) in wanted.definitions.iter().enumerate() {
        let own = definition.encryption.key_file.as_deref();
        let own = own.map(|path| {
            read(path, ui).map_err(|failure| placed(definition, Key::KeyFile, failure))
        });
        let own = own.transpose()?;
        if let Some(secret) = common.clone().or(own) {
            keys.passphrases.insert(at, secret);
        } else if takes_passphrase(definition) {
            let file = definition.origin.path.as_deref().unwrap_or(Path::new(""));
            ui.note(&format!(
                "warning: {} names no KeyFile=, so the empty passphrase will unlock its partition",
                file.display()
            ));
        }
    }
    check_seed(wanted, &keys)?;
    Ok(keys)
}

/// New keys for `EncryptRecoveryKey=`.
fn recovery_keys(wanted: &DefinitionSet) -> Result<BTreeMap<usize, Recovery>, Failure> {
    let mut keys: BTreeMap<usize, Recovery> = BTreeMap::new();
    for (at, definition) in wanted.definitions.iter().enumerate() {
        let Some(path) = definition.encryption.recovery_key.clone() else {
            continue;
        };
        if keys.values().any(|other| other.path == path) {
            let text = format!("{} is named for another partition, too", path.display());
            let failure = Failure::message(text);
            return Err(placed(definition, Key::EncryptRecoveryKey, failure));
        }
        let key = RecoveryKey::generate()?;
        keys.insert(at, Recovery { key, path });
    }
    Ok(keys)
}

/// The keys of `IntegrityKeyFile=`.
fn integrity_keys(wanted: &DefinitionSet, ui: &Ui) -> Result<BTreeMap<usize, Secret>, Failure> {
    const LARGEST: usize = 4096;
    let mut keys = BTreeMap::new();
    for (at, definition) in wanted.definitions.iter().enumerate() {
        let Some(path) = &definition.tags.key_file else {
            continue;
        };
        let failed = |failure| placed(definition, Key::IntegrityKeyFile, failure);
        let key = read(path, ui).map_err(failed)?;
        if !(1..=LARGEST).contains(&key.len()) {
            let text = format!(
                "the integrity key in {} has {} bytes; 1 to {LARGEST} are possible",
                path.display(),
                key.len()
            );
            return Err(failed(Failure::message(text)));
        }
        keys.insert(at, key);
    }
    Ok(keys)
}

fn check_seed(wanted: &DefinitionSet, keys: &Keys) -> Result<(), Failure> {
    let mut seeded = wanted
        .definitions
        .iter()
        .filter(|one| one.encryption.seeded);
    let Some(definition) = seeded.next().filter(|_| keys.seed.is_none()) else {
        return Ok(());
    };
    let failure = Failure::message(
        "EncryptVolumeKey=seed makes the key of a seed, and none was given on the command line",
    );
    let failure = failure.with_hint("pass --seed=UUID, and keep it as secret as a key");
    Err(placed(definition, Key::EncryptVolumeKey, failure))
}

/// What is sealed for each definition that wants a TPM.
fn sealings(
    args: &RepartArgs,
    wanted: &DefinitionSet,
) -> Result<BTreeMap<usize, Sealing>, Failure> {
    let mut sealings = BTreeMap::new();
    for (at, definition) in wanted.definitions.iter().enumerate() {
        let mode = definition.encryption.mode;
        if !matches!(mode, Encrypt::Tpm2 | Encrypt::KeyFileAndTpm2) {
            continue;
        }
        let pcrs =
            pcrs(definition).map_err(|failure| placed(definition, Key::TPM2PCRs, failure))?;
        let sealing = args.encryption.tpm2.sealing(&pcrs)?;
        let mut entropy = [0; 32];
        for half in entropy.chunks_exact_mut(16) {
            half.copy_from_slice(&surroundings::random()?);
        }
        sealings.insert(
            at,
            Sealing {
                enrollment: sealing.enrollment,
                sealer: sealing.sealer,
                entropy,
            },
        );
    }
    Ok(sealings)
}

/// All lines of `TPM2PCRs=` together.
fn pcrs(definition: &Definition) -> Result<PcrList, Failure> {
    let mut all = PcrList::default();
    for line in &definition.encryption.tpm2_pcrs {
        all = all.and(&line.parse()?)?;
    }
    Ok(all)
}

fn takes_passphrase(definition: &Definition) -> bool {
    let mode = definition.encryption.mode;
    matches!(mode, Encrypt::KeyFile | Encrypt::KeyFileAndTpm2)
}

fn read(path: &Path, ui: &Ui) -> Result<Secret, Failure> {
    let key = KeyFile::new(path).read()?;
    if key.world_readable {
        let path = path.display();
        ui.note(&format!(
            "warning: the key file {path} can be used by everybody; chmod 0600 it"
        ));
    }
    Ok(key.secret)
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
