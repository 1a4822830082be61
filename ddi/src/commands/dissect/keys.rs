//! What encrypted partitions are unlocked with: options, the environment, a credential, somebody at the
//! terminal.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::Args;
use dissect::unlock::{Ask, Keys, Question};
use image_specs::units::Bytes;
use luks::Secret;

use crate::exit::Failure;
use crate::ui::prompt::Terminal;

/// The variable of systemd-dissect.
const VARIABLE: &str = "PASSWORD";
/// The credential of systemd-dissect.
const CREDENTIAL: &str = "dissect.passphrase";

/// How encrypted partitions are unlocked.
#[derive(Debug, Args)]
pub(crate) struct Unlocking {
    /// File with the key of encrypted partitions, or socket that gives it
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,
}

impl Unlocking {
    /// What there is without asking anybody.
    pub(super) fn given(&self) -> Result<Keys, Failure> {
        let mut keys = Keys::new(memory());
        keys.key_file = match &self.key_file {
            None => None,
            Some(path) => Some(key_file(path)?),
        };
        let variable = std::env::var_os(VARIABLE);
        keys.given = variable.map(|text| Secret::new(text.into_vec()));
        keys.credential = credential()?;
        Ok(keys)
    }

    /// The same, and whoever sits at the terminal.
    pub(super) fn all(&self) -> Result<Keys, Failure> {
        let mut keys = self.given()?;
        keys.ask = Terminal::open().map(|terminal| Box::new(terminal) as Box<dyn Ask>);
        Ok(keys)
    }
}

impl Ask for Terminal {
    fn ask(&self, question: &Question) -> io::Result<Option<Secret>> {
        Terminal::ask(self, &question.to_string())
    }
}

fn key_file(path: &Path) -> Result<Secret, Failure> {
    let read = fs::read(path);
    read.map(Secret::new).map_err(|error| {
        Failure::message(format!(
            "cannot read the key file {}: {error}",
            path.display()
        ))
    })
}

/// What the service manager has handed over.
fn credential() -> Result<Option<Secret>, Failure> {
    let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
        return Ok(None);
    };
    match fs::read(Path::new(&folder).join(CREDENTIAL)) {
        Ok(bytes) => Ok(Some(Secret::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::message(format!(
            "cannot read the credential {CREDENTIAL}: {error}"
        ))),
    }
}

/// How much a key may cost: what the machine has.
fn memory() -> Bytes {
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit.max(1));
    Bytes::new(info.totalram.saturating_mul(unit))
}
