//! What encrypted partitions are unlocked with: options, the environment, a credential, a TPM, somebody
//! at the terminal.

use std::error::Error;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use dissect::unlock::{Ask, Chip, Keys, Question, UnlockError};
use image_specs::tpm2::{PcrSignatures, Pcrlock, pcrlock, signature};

use luks::Secret;
use luks::key::{self, KeyFile};
use luks::tpm2::Device;

use super::kernel::measuring;
use crate::commands::tpm2_args::{self, PCRLOCK, PCRLOCK_FOLDERS};
use crate::exit::Failure;
use crate::surroundings;
use crate::ui::Ui;
use crate::ui::prompt::Terminal;

/// The variable of systemd-dissect.
const PASSPHRASE: &str = "PASSWORD";
/// The variable of systemd-cryptenroll.
const PIN: &str = "PIN";
/// The credential of systemd-dissect.
const CREDENTIAL: &str = "dissect.passphrase";
/// By what name a socket is told that the key is for an image.
const VOLUME: &str = "dissect";
const SIGNATURES: &str = "tpm2-pcr-signature.json";
const SIGNATURE_FOLDERS: &[&str] = &["/etc/systemd", "/run/systemd", "/usr/lib/systemd"];

/// How encrypted partitions are unlocked.
#[derive(Debug, Args)]
pub(crate) struct Unlocking {
    /// File with the key of encrypted partitions, or socket that gives it
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,
    /// TPM2 device to unlock encrypted partitions with
    #[arg(long, value_name = "PATH|auto|swtpm:…")]
    tpm2_device: Option<Device>,
    /// File with signatures of PCR values; empty for none
    #[arg(long, value_name = "PATH", requires = "tpm2_device",
        value_parser = OsStringValueParser::new().map(PathBuf::from))]
    tpm2_signature: Option<PathBuf>,
    /// File of systemd-pcrlock with predicted PCR values; empty for none
    #[arg(long, value_name = "PATH", requires = "tpm2_device",
        value_parser = OsStringValueParser::new().map(PathBuf::from))]
    tpm2_pcrlock: Option<PathBuf>,
    /// FIDO2 token to mount encrypted partitions with, through the plug-in of libcryptsetup
    #[arg(long, value_name = "auto", value_enum)]
    fido2_device: Option<Plugged>,
    /// PKCS#11 token or smart card to mount encrypted partitions with, in the same way
    #[arg(long, value_name = "auto", value_enum)]
    pkcs11_uri: Option<Plugged>,
}

/// The only device that a plug-in of libcryptsetup can be told to use: whichever is there.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Plugged {
    /// Whichever is there
    Auto,
}

impl Unlocking {
    /// What there is without asking anybody.
    pub(super) fn given(&self, ui: &Ui) -> Result<Keys, Failure> {
        let mut keys = Keys::new(surroundings::memory());
        keys.key_file = match &self.key_file {
            None => None,
            Some(path) => Some(key_file(path, ui)?),
        };
        keys.given = variable(PASSPHRASE);
        keys.credential = match std::env::var_os("CREDENTIALS_DIRECTORY") {
            None => None,
            Some(folder) => key::credential(Path::new(&folder), CREDENTIAL)?,
        };
        keys.tpm2 = match &self.tpm2_device {
            None => None,
            Some(device) => Some(self.chip(device.clone())?),
        };
        keys.fido2 = self.fido2_device.is_some();
        keys.pkcs11 = self.pkcs11_uri.is_some();
        Ok(keys)
    }

    /// The TPM that is named, or the only one.
    pub(super) fn device(&self) -> Device {
        self.tpm2_device.clone().unwrap_or_default()
    }

    /// The same, and whoever sits at the terminal.
    pub(super) fn all(&self, ui: &Ui) -> Result<Keys, Failure> {
        let mut keys = self.given(ui)?;
        keys.ask = Terminal::open().map(|terminal| Box::new(terminal) as Box<dyn Ask>);
        Ok(keys)
    }

    /// The TPM, and what its policies may want.
    fn chip(&self, device: Device) -> Result<Chip, Failure> {
        let signatures = self.tpm2_signature.as_deref();
        let signatures = tpm2_args::found(signatures, SIGNATURE_FOLDERS, SIGNATURES);
        let lock = tpm2_args::found(self.tpm2_pcrlock.as_deref(), PCRLOCK_FOLDERS, PCRLOCK);
        Ok(Chip {
            device,
            pin: variable(PIN),
            signatures: load(signatures, signature::MAX_SIZE, PcrSignatures::parse)?,
            pcrlock: load(lock, pcrlock::MAX_SIZE, Pcrlock::parse)?,
            entropy: Box::new(measuring::entropy),
        })
    }
}

impl Ask for Terminal {
    fn ask(&self, question: &Question) -> io::Result<Option<Secret>> {
        Terminal::ask(self, &question.to_string())
    }
}

/// A failure with what to do next, where a partition stayed locked.
pub(super) fn explained<E: Error + Send + Sync + 'static>(error: E) -> Failure {
    let mut next: Option<&(dyn Error + 'static)> = Some(&error);
    let mut locked = false;
    while let Some(cause) = next {
        let unlock = cause.downcast_ref::<UnlockError>();
        locked |= matches!(
            unlock,
            Some(UnlockError::NoWay(_) | UnlockError::Refused { .. })
        );
        next = cause.source();
    }
    let failure = Failure::from(error);
    match locked {
        false => failure,
        true => failure.with_hint(
            "a key is given by PASSWORD=, --key-file= or --tpm2-device=, or typed at a terminal",
        ),
    }
}

fn load<T, E: std::fmt::Display>(
    path: Option<PathBuf>,
    most: usize,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    let bytes = tpm2_args::read(&path, most, "what the TPM's policy needs")?;
    let parsed = parse(&bytes);
    parsed
        .map(Some)
        .map_err(|error| Failure::message(format!("{}: {error}", path.display())))
}

fn variable(name: &str) -> Option<Secret> {
    let text = std::env::var_os(name)?;
    Some(Secret::new(text.into_vec()))
}

fn key_file(path: &Path, ui: &Ui) -> Result<Secret, Failure> {
    let unique = std::process::id().to_string();
    let caller = key::socket_name(&unique, VOLUME);
    let file = KeyFile {
        caller: Some(&caller),
        ..KeyFile::new(path)
    };
    let read = file.read()?;
    if read.world_readable {
        ui.note(&format!(
            "warning: every user of this machine may read the key file {}",
            path.display()
        ));
    }
    Ok(read.secret)
}
