//! Keys from files.

use std::path::{Path, PathBuf};

use luks::Secret;
use luks::integrity::Algorithm;
use luks::integrity::table::Keyed;
use luks::key::KeyFile;

use super::IntegrityArgs;
use crate::exit::Failure;
use crate::ui::Ui;

/// Bytes that a key can have.
const MOST: u64 = 4096;

/// All keys that the options name.
pub(super) struct Keys {
    pub(super) hash: Keyed,
    pub(super) journal_mac: Option<Keyed>,
    pub(super) journal_crypt: Option<Keyed>,
}

impl Keys {
    pub(super) fn read(args: &IntegrityArgs, ui: &Ui) -> Result<Self, Failure> {
        let key = file(
            "integrity",
            args.integrity_key_file.as_ref(),
            args.integrity_key_size,
            ui,
        )?;
        let algorithm = args.integrity.clone().unwrap_or_else(Algorithm::crc32c);
        let journal_mac = keyed(
            "journal-integrity",
            args.journal_integrity.as_ref(),
            file(
                "journal-integrity",
                args.journal_integrity_key_file.as_ref(),
                args.journal_integrity_key_size,
                ui,
            )?,
        )?;
        let journal_crypt = keyed(
            "journal-crypt",
            args.journal_crypt.as_ref(),
            file(
                "journal-crypt",
                args.journal_crypt_key_file.as_ref(),
                args.journal_crypt_key_size,
                ui,
            )?,
        )?;
        check(&algorithm, key.as_ref())?;
        Ok(Self {
            hash: Keyed { algorithm, key },
            journal_mac,
            journal_crypt,
        })
    }
}

/// Whether a key is there if, and only if, the algorithm takes one.
pub(super) fn check(algorithm: &Algorithm, key: Option<&Secret>) -> Result<(), Failure> {
    match (algorithm.is_keyed(), key.is_some()) {
        (true, false) => Err(Failure::message(format!("{algorithm} needs a key"))
            .with_hint("name it with --integrity-key-file and --integrity-key-size")),
        (false, true) => Err(Failure::message(format!(
            "{algorithm} takes no key, so that anybody could write valid tags"
        ))
        .with_hint("write --integrity=hmac-sha256")),
        _ => Ok(()),
    }
}

fn keyed(
    option: &str,
    algorithm: Option<&Algorithm>,
    key: Option<Secret>,
) -> Result<Option<Keyed>, Failure> {
    match (algorithm, key) {
        (Some(algorithm), key) => Ok(Some(Keyed {
            algorithm: algorithm.clone(),
            key,
        })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Failure::message(format!(
            "--{option}-key-file is of no use without --{option}"
        ))),
    }
}

fn file(
    option: &str,
    path: Option<&PathBuf>,
    size: Option<u64>,
    ui: &Ui,
) -> Result<Option<Secret>, Failure> {
    let (path, size) = match (path, size) {
        (None, None) => return Ok(None),
        (Some(path), Some(size)) => (path, size),
        _ => {
            return Err(Failure::message(format!(
                "--{option}-key-file and --{option}-key-size belong together; one of them is missing"
            )));
        }
    };
    if !(1..=MOST).contains(&size) {
        return Err(Failure::message(format!(
            "--{option}-key-size is {size}; a key has 1 to {MOST} bytes"
        )));
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    read(path, Some(size), ui).map(Some)
}

/// A key file as a whole.
pub(crate) fn whole_file(path: &Path, ui: &Ui) -> Result<Secret, Failure> {
    let key = read(path, None, ui)?;
    let complaint = match u64::try_from(key.len()).unwrap_or(u64::MAX) {
        0 => "is empty".to_owned(),
        size if size > MOST => format!("has more than {MOST} bytes, which no key has"),
        _ => return Ok(key),
    };
    Err(Failure::message(format!(
        "the key file {} {complaint}",
        path.display()
    )))
}

/// So many bytes of a key file, or all; says where everybody can read them, too.
fn read(path: &Path, size: Option<usize>, ui: &Ui) -> Result<Secret, Failure> {
    let file = KeyFile {
        size,
        ..KeyFile::new(path)
    };
    let read = file.read()?;
    if read.world_readable {
        ui.note(&format!(
            "warning: every user can read or write the key file {}; set its mode to 0600",
            path.display()
        ));
    }
    Ok(read.secret)
}
