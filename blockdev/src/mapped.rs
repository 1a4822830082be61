//! Devices made of tables, in use: made so that a killed process leaves none behind.
//!
//! A device is opened before it goes into force and is then set to go away with its last user;
//! [`Lifetime::UntilRemoved`] is for those that are to stay.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::dm::{DeviceMapper, DmError, DmFailure, DmInfo, DmName, Target};

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

/// The kernel's number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNumber {
    /// Of which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A device to be made.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// Its UUID.
    pub uuid: &'a str,
    /// Its table.
    pub table: &'a [Target],
    /// Whether writing is refused.
    pub read_only: bool,
    /// How long it stays.
    pub lifetime: Lifetime,
}

/// A device in use. Dropping it ends the use.
#[derive(Debug)]
pub struct Active {
    name: DmName,
    info: DmInfo,
    device: File,
    shared: bool,
}

/// What stands under a name.
#[derive(Debug)]
pub enum Existing {
    /// Nothing.
    None,
    /// A device without a table, or one that comes or goes this moment.
    Unfinished,
    /// A device, which cannot go while this is held.
    Used(Active),
}

/// A device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The name is taken.
    #[error("there is a device {0} already")]
    Exists(DmName),
    /// Device-mapper failed.
    #[error(transparent)]
    Kernel(#[from] DmError),
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
pub fn make(
    mapper: &DeviceMapper,
    name: &DmName,
    making: &Making<'_>,
) -> Result<Active, MakeError> {
    match mapper.create(name, making.uuid) {
        Ok(_) => {}
        Err(error) if matches!(error.why, DmFailure::Exists | DmFailure::Busy) => {
            return Err(MakeError::Exists(name.clone()));
        }
        Err(error) => return Err(error.into()),
    }
    let started = start(mapper, name, making);
    if started.is_err()
        && let Err(error) = mapper.remove(name)
    {
        tracing::debug!(%error, "cannot undo a half-made device");
    }
    started
}

fn start(mapper: &DeviceMapper, name: &DmName, making: &Making<'_>) -> Result<Active, MakeError> {
    mapper.load(name, making.table, making.read_only)?;
    if making.lifetime == Lifetime::UntilRemoved {
        let info = mapper.resume(name)?;
        let device = wait_for(&info)?;
        return Ok(Active::new(name, info, device, false));
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
    Ok(Active::new(name, info, device, false))
}

/// Uses the device of this name, made by whomever, where it is in force.
pub fn existing(mapper: &DeviceMapper, name: &DmName) -> Result<Existing, DmError> {
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
        Some(now) if now.minor == info.minor && now.active => {
            Ok(Existing::Used(Active::new(name, info, device, true)))
        }
        _ => Ok(Existing::Unfinished),
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

fn wait_for(info: &DmInfo) -> Result<File, MakeError> {
    let end = Instant::now() + NODE_PATIENCE;
    loop {
        match info.open_node() {
            Ok(device) => return Ok(device),
            Err(_) if Instant::now() < end => thread::sleep(PAUSE),
            Err(source) => {
                return Err(MakeError::Node {
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

impl Active {
    fn new(name: &DmName, info: DmInfo, device: File, shared: bool) -> Self {
        Self {
            name: name.clone(),
            info,
            device,
            shared,
        }
    }

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
