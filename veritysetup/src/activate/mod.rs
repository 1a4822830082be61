//! Verity devices: the kernel checks each block as it is read.
//!
//! How they come and go is [`blockdev::mapped`]'s. A device that others have made of the same root hash is shared ([`open_shared`]), never one
//! that checks less.

mod shown;
mod table;

use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use blockdev::dm::{BadName, DeviceMapper, DmError, DmFailure, DmName};
use blockdev::keyring::{KeyError, ThreadKey};
use blockdev::mapped::{self, Existing, MakeError, Making};
use rustix::io::Errno;
use uuid::Uuid;

pub use blockdev::mapped::{Active, DeviceNumber, Lifetime, close};
pub use shown::{Shown, ShownCorrection};
pub use table::{ErrorCorrection, OnCorruption, Strictness, VerityTable};

use crate::params::{ParamsError, RootHash};
use crate::signature::Signature;
use table::Essence;

/// How long another process may take from making a device to its table.
const SETUP_PATIENCE: Duration = Duration::from_millis(200);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// A verity device to be made.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its table.
    pub table: VerityTable<'a>,
    /// The signature of the root hash, for the kernel to check against its keyrings.
    pub signature: Option<&'a Signature>,
    /// How long it stays.
    pub lifetime: Lifetime,
}

/// A verity device cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActivateError {
    /// The name is taken.
    #[error("there is a device {0} already")]
    Exists(DmName),
    /// The root hash is too long to be part of a name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// No hash tree has these parameters.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The kernel does not take the signature as a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The kernel does not accept the signature, or knows no signatures.
    #[error(
        "the kernel does not accept the signature of root hash {root}: {}",
        reason(source)
    )]
    Signature {
        /// The root hash.
        root: RootHash,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Device-mapper failed.
    #[error(transparent)]
    Kernel(#[from] DmError),
    /// The data or the tree is not of this root hash.
    #[error(
        "the first block does not fit root hash {root}: data, hash tree or root hash are wrong"
    )]
    Corrupted {
        /// The root hash.
        root: RootHash,
        /// What reading gave.
        #[source]
        source: io::Error,
    },
    /// Its node cannot be opened.
    #[error("cannot open {}", node.display())]
    Node {
        /// The node.
        node: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ActivateError {
    /// Whether the kernel refuses what the table says, as it does with options that it does not know.
    pub const fn is_refused_table(&self) -> bool {
        match self {
            Self::Signature { .. } => true,
            Self::Kernel(error) => matches!(error.why, DmFailure::Table(_)),
            _ => false,
        }
    }
}

/// Makes a device of this name.
pub fn open(
    mapper: &DeviceMapper,
    name: &DmName,
    request: &Request<'_>,
) -> Result<Active, ActivateError> {
    let key = request
        .signature
        .map(|signature| {
            let description = format!("ddi:{name}");
            let key = ThreadKey::add(&description, signature.as_der());
            key.map(|key| (description, key))
        })
        .transpose()?;
    let description = key.as_ref().map(|(description, _)| description.as_str());
    let target = request.table.target(description)?;
    let making = Making {
        uuid: &uuid(request, name),
        table: &[target],
        read_only: true,
        lifetime: request.lifetime,
    };
    let active = mapped::make(mapper, name, &making);
    let active = active.map_err(|error| making_failed(error, request))?;
    checked(mapper, active, request)
}

/// Uses the device that stands for this root hash (`HASH-verity`), made by whomever, or makes it;
/// where one of that name is not as strict as asked, makes one named after `other`.
pub fn open_shared(
    mapper: &DeviceMapper,
    other: &DmName,
    request: &Request<'_>,
) -> Result<Active, ActivateError> {
    let name = DmName::new(&format!("{}-verity", request.table.root))?;
    let wanted = request.table.essence(request.signature.is_some());
    let mut end = Instant::now() + SETUP_PATIENCE;
    loop {
        match mapped::existing(mapper, &name)? {
            Existing::Used(active) => match fits(mapper, &active, &wanted)? {
                true => return Ok(active),
                false => return open(mapper, other, request),
            },
            Existing::None => match open(mapper, &name, request) {
                Err(ActivateError::Exists(_)) => {}
                // Somebody took our device for a forgotten one.
                Err(ActivateError::Kernel(error)) if matches!(error.why, DmFailure::Missing) => {}
                done => return done,
            },
            Existing::Unfinished if Instant::now() > end => {
                // Its maker is gone.
                let _ = mapper.remove(&name);
                end = Instant::now() + SETUP_PATIENCE;
            }
            Existing::Unfinished => {}
        }
        thread::sleep(PAUSE);
    }
}

/// Whether a device gives the same data as strictly.
fn fits(mapper: &DeviceMapper, active: &Active, wanted: &Essence) -> Result<bool, DmError> {
    let verity = active.info().uuid.starts_with("CRYPT-VERITY-");
    Ok(verity && Essence::of(&mapper.table(active.name())?).as_ref() == Some(wanted))
}

/// An error of making the device, where the signature may be to blame.
fn making_failed(error: MakeError, request: &Request<'_>) -> ActivateError {
    match (error, request.signature) {
        (MakeError::Exists(name), _) => ActivateError::Exists(name),
        (MakeError::Node { node, source }, _) => ActivateError::Node { node, source },
        (
            MakeError::Kernel(DmError {
                why: DmFailure::Table(source),
                ..
            }),
            Some(_),
        ) => ActivateError::Signature {
            root: request.table.root.clone(),
            source,
        },
        (MakeError::Kernel(error), _) => error.into(),
    }
}

/// Reads the first block, through all levels of the tree: a wrong root hash shows here, and not
/// later as a damaged file system.
fn checked(
    mapper: &DeviceMapper,
    active: Active,
    request: &Request<'_>,
) -> Result<Active, ActivateError> {
    let mut block = vec![0; request.table.params.data_block.in_memory()];
    match active.file().read_exact_at(&mut block, 0) {
        Ok(()) => Ok(active),
        Err(source) => {
            let name = active.name().clone();
            drop(active);
            if let Err(error) = close(mapper, &name, false) {
                tracing::debug!(%error, "cannot undo a half-made device");
            }
            Err(ActivateError::Corrupted {
                root: request.table.root.clone(),
                source,
            })
        }
    }
}

fn uuid(request: &Request<'_>, name: &DmName) -> String {
    let own = request.table.params.superblock.unwrap_or(Uuid::nil());
    match own.is_nil() {
        true => format!("CRYPT-VERITY-{name}"),
        false => format!("CRYPT-VERITY-{}-{name}", own.simple()),
    }
}

/// What an error of the kernel means where it is about a signature.
fn reason(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NOKEY) => "no certificate of its signer is in the kernel's keyrings",
        Some(Errno::KEYREJECTED | Errno::BADMSG) => "it is of another root hash, or damaged",
        Some(Errno::KEYEXPIRED | Errno::KEYREVOKED) => "its key is no longer valid",
        Some(Errno::INVAL) => "this kernel checks no signatures",
        _ => "it fails",
    }
}
