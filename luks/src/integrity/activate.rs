//! Integrity devices of the kernel: made, grown, looked at.

use std::io;

use blockdev::dm::{DeviceMapper, DmError, DmFailure, DmInfo, DmName, Target};
use zeroize::Zeroize;

use super::table::{IntegrityTable, Shown};

/// What the UUIDs of our devices begin with.
const UUID: &str = "CRYPT-INTEGRITY-";

/// A device cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActivateError {
    /// The name is taken.
    #[error("there is a device {0} already")]
    Exists(DmName),
    /// There is no such device.
    #[error("there is no device {0}")]
    Missing(DmName),
    /// It is a device of another kind.
    #[error("the device {0} is no integrity device")]
    Other(DmName),
    /// The kernel does not take it.
    #[error(
        "the kernel does not take the integrity device {name}: algorithm, key or parameters are not those it was \
         formatted with, or the kernel lacks the algorithm"
    )]
    Refused {
        /// Its name.
        name: DmName,
        /// What it says.
        source: io::Error,
    },
    /// Device-mapper failed.
    #[error(transparent)]
    Kernel(#[from] DmError),
}

/// Makes a device of this name.
pub fn open(
    mapper: &DeviceMapper,
    name: &DmName,
    table: &IntegrityTable,
) -> Result<DmInfo, ActivateError> {
    match mapper.create(name, &format!("{UUID}{name}")) {
        Ok(_) => {}
        Err(error) if matches!(error.why, DmFailure::Exists | DmFailure::Busy) => {
            return Err(ActivateError::Exists(name.clone()));
        }
        Err(error) => return Err(error.into()),
    }
    let loaded = with_target(table, |target| mapper.load(name, target, false));
    let started = loaded.and_then(|()| mapper.resume(name));
    if started.is_err()
        && let Err(error) = mapper.remove(name)
    {
        tracing::debug!(%error, "cannot undo a half-made device");
    }
    started.map_err(|error| refused(name, error))
}

/// Gives a device that runs another size, or other parameters.
pub fn change(
    mapper: &DeviceMapper,
    name: &DmName,
    table: &IntegrityTable,
) -> Result<DmInfo, ActivateError> {
    let changed = with_target(table, |target| mapper.replace(name, target, false));
    changed.map_err(|error| refused(name, error))
}

/// The device of this name with what its table says and how many sectors it has.
pub fn find(
    mapper: &DeviceMapper,
    name: &DmName,
) -> Result<Option<(DmInfo, Shown, u64)>, ActivateError> {
    let Some(info) = mapper.info(name)?.filter(|info| info.active) else {
        return Ok(None);
    };
    let mut table = mapper.table(name)?;
    let sectors = table.iter().map(|target| target.sectors).sum();
    let shown = Shown::parse(&table);
    table
        .iter_mut()
        .for_each(|target| target.parameters.zeroize());
    match shown {
        Some(shown) => Ok(Some((info, shown, sectors))),
        None => Err(ActivateError::Other(name.clone())),
    }
}

/// How many sectors of a device that runs were not what they should be.
pub fn mismatches(mapper: &DeviceMapper, name: &DmName) -> Result<u64, DmError> {
    let status = mapper.status(name)?;
    let first = status.first().and_then(|target| {
        let word = target.parameters.split(' ').next()?;
        word.parse().ok()
    });
    Ok(first.unwrap_or(0))
}

/// Keys are erased when the kernel has them.
fn with_target<T>(table: &IntegrityTable, work: impl FnOnce(&[Target]) -> T) -> T {
    let mut target = table.target();
    let done = work(std::slice::from_ref(&target));
    target.parameters.zeroize();
    done
}

fn refused(name: &DmName, error: DmError) -> ActivateError {
    match error.why {
        DmFailure::Table(source) => ActivateError::Refused {
            name: name.clone(),
            source,
        },
        DmFailure::Missing => ActivateError::Missing(name.clone()),
        why => DmError { why, ..error }.into(),
    }
}
