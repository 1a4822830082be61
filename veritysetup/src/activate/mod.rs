//! Verity devices: the kernel checks each block as it is read.
//!
//! A device is opened before it goes into force and is then set to go away with its last user, so
//! that a killed process leaves none behind; [`Lifetime::UntilRemoved`] is for those that are to
//! stay. A device that others have made of the same root hash is shared ([`open_shared`]), never one
//! that checks less.

mod table;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use blockdev::dm::{BadName, DeviceMapper, DmError, DmFailure, DmInfo, DmName};
use blockdev::keyring::{KeyError, ThreadKey};
use rustix::io::Errno;
use uuid::Uuid;

pub use table::{DeviceNumber, ErrorCorrection, OnCorruption, Strictness, VerityTable};

use crate::params::{ParamsError, RootHash};
use crate::signature::Signature;
use table::Essence;

/// How long another process may take from making a device to its table.
const SETUP_PATIENCE: Duration = Duration::from_millis(200);
/// How long a device may take to appear or to go.
const NODE_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// How long a device stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until nobody uses it.
    UntilUnused,
    /// Until somebody removes it.
    UntilRemoved,
}

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

/// A verity device in use. Dropping it ends the use.
#[derive(Debug)]
pub struct Active {
    name: DmName,
    info: DmInfo,
    device: File,
    shared: bool,
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
    match mapper.create(name, &uuid(request, name)) {
        Ok(_) => {}
        Err(error) if matches!(error.why, DmFailure::Exists | DmFailure::Busy) => {
            return Err(ActivateError::Exists(name.clone()));
        }
        Err(error) => return Err(error.into()),
    }
    let started = start(mapper, name, request, target);
    if started.is_err()
        && let Err(error) = mapper.remove(name)
    {
        tracing::debug!(%error, "cannot undo a half-made device");
    }
    started
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
        match existing(mapper, &name, &wanted)? {
            Existing::Usable(active) => return Ok(active),
            Existing::Other => return open(mapper, other, request),
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

/// Removes the device of this name, at once or with its last user; `false` where there is none.
pub fn close(mapper: &DeviceMapper, name: &DmName, later: bool) -> Result<bool, DmError> {
    let removed = match later {
        true => mapper.remove_later(name),
        false => mapper.remove(name),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.why, DmFailure::Missing) => Ok(false),
        Err(error) => Err(error),
    }
}

enum Existing {
    None,
    Usable(Active),
    Unfinished,
    Other,
}

fn existing(
    mapper: &DeviceMapper,
    name: &DmName,
    wanted: &Essence,
) -> Result<Existing, ActivateError> {
    let Some(info) = mapper.info(name)? else {
        return Ok(Existing::None);
    };
    if !info.active {
        return Ok(Existing::Unfinished);
    }
    let Ok(device) = info.open_node() else {
        return Ok(Existing::Unfinished); // its node comes, or the device goes
    };
    // From here on it cannot go; it is another one if it went before.
    match mapper.info(name)? {
        Some(now) if now.minor == info.minor && now.active => {}
        _ => return Ok(Existing::Unfinished),
    }
    let fits = info.uuid.starts_with("CRYPT-VERITY-")
        && Essence::of(&mapper.table(name)?).as_ref() == Some(wanted);
    Ok(match fits {
        false => Existing::Other,
        true => Existing::Usable(Active {
            name: name.clone(),
            info,
            device,
            shared: true,
        }),
    })
}

fn start(
    mapper: &DeviceMapper,
    name: &DmName,
    request: &Request<'_>,
    target: blockdev::dm::Target,
) -> Result<Active, ActivateError> {
    let root = request.table.root;
    let loaded = mapper.load(name, &[target], true);
    loaded.map_err(|error| match (error.why, request.signature) {
        (DmFailure::Table(source), Some(_)) => ActivateError::Signature {
            root: root.clone(),
            source,
        },
        (why, _) => DmError { why, ..error }.into(),
    })?;
    if request.lifetime == Lifetime::UntilRemoved {
        let info = mapper.resume(name)?;
        let device = wait_for(&info)?;
        return checked(name, info, device, request);
    }
    // In use before it is in force: from then on a kill removes it.
    let device = match mapper.info(name)? {
        Some(info) => wait_for(&info)?,
        None => return Err(missing(name).into()),
    };
    mapper.remove_later(name).or_else(|error| match error.why {
        DmFailure::Busy => Ok(()),
        _ => Err(error),
    })?;
    let info = mapper.resume(name)?;
    checked(name, info, device, request)
}

/// Reads the first block, through all levels of the tree: a wrong root hash shows here, and not
/// later as a damaged file system.
fn checked(
    name: &DmName,
    info: DmInfo,
    device: File,
    request: &Request<'_>,
) -> Result<Active, ActivateError> {
    let mut block = vec![0; request.table.params.data_block.in_memory()];
    let root = request.table.root;
    match device.read_exact_at(&mut block, 0) {
        Ok(()) => Ok(Active {
            name: name.clone(),
            info,
            device,
            shared: false,
        }),
        Err(source) => Err(ActivateError::Corrupted {
            root: root.clone(),
            source,
        }),
    }
}

fn wait_for(info: &DmInfo) -> Result<File, ActivateError> {
    let end = Instant::now() + NODE_PATIENCE;
    loop {
        match info.open_node() {
            Ok(device) => return Ok(device),
            Err(_) if Instant::now() < end => thread::sleep(PAUSE),
            Err(source) => {
                return Err(ActivateError::Node {
                    node: info.node(),
                    source,
                });
            }
        }
    }
}

fn missing(name: &DmName) -> DmError {
    DmError {
        action: "look at",
        device: name.to_string(),
        why: DmFailure::Missing,
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

impl Active {
    /// Its name.
    pub fn name(&self) -> &DmName {
        &self.name
    }

    /// Its node, `/dev/dm-N`.
    pub fn node(&self) -> PathBuf {
        self.info.node()
    }

    /// The open device.
    pub fn file(&self) -> &File {
        &self.device
    }

    /// The kernel's view of it when it was opened.
    pub fn info(&self) -> &DmInfo {
        &self.info
    }

    /// Whether another process had made it.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Ends the use, and waits until the device is gone; where others use it, that is all.
    pub fn close(self, mapper: &DeviceMapper) -> Result<(), DmError> {
        drop(self.device);
        let end = Instant::now() + NODE_PATIENCE;
        loop {
            match mapper.info(&self.name)? {
                Some(now) if now.minor == self.info.minor && now.open_count == 0 => {
                    if !now.deferred_remove || Instant::now() > end {
                        return close(mapper, &self.name, false).map(|_| ());
                    }
                    thread::sleep(PAUSE);
                }
                _ => return Ok(()),
            }
        }
    }
}
