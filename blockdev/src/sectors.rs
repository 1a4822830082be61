//! The GPT of an image in sectors of another size, for the same partitions in the same bytes.
//!
//! The two tables overlap on the disk, so no order of writing keeps both. What is guaranteed: until
//! the new backup is flushed, the old primary copy is whole; from then on, one of the new copies is.
//! So at every moment the table is read either in the old sectors or in the new ones, and converting
//! again completes what was cut short. Between the two, somebody who goes by the header of the old
//! primary copy alone finds its entries overwritten; it is cleared last.

use image_specs::gpt::{SectorsError, Table};
use image_specs::units::SectorSize;

use crate::device::BlockDevice;
use crate::file::FileDevice;
use crate::table::{self, Commit, CommitError, FoundTable, Label, ReadTableError};

/// What is left to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// Nothing: the table counts in these sectors.
    Done,
    /// This table is to be written.
    Write(Box<Table>),
}

/// An image whose table cannot be converted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum ConvertError {
    #[error("{device} has no GUID partition table, so there is nothing to convert")]
    NoTable { device: String },
    #[error("{device} has a hybrid boot record, which counts in the old sectors; it is left alone")]
    Hybrid { device: String },
    #[error("the partition table of {device} cannot be converted: {source}")]
    Table {
        device: String,
        source: SectorsError,
    },
    #[error(transparent)]
    Read(#[from] ReadTableError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Finds out what is to be written for sectors of `to` bytes. Sets the device to such sectors.
pub fn plan(device: &mut FileDevice, to: SectorSize) -> Result<Conversion, ConvertError> {
    let others = SectorSize::ALL.into_iter().filter(|size| *size != to);
    let found = others.into_iter().find_map(|from| {
        device.set_sector_size(from);
        whole(device)
    });
    device.set_sector_size(to);
    let name = || device.name();
    let Some(found) = found else {
        let found = whole(device).ok_or_else(|| ConvertError::NoTable { device: name() })?;
        let single = table::probe_sector_size(device).is_ok_and(|probed| probed == Some(to));
        return Ok(match single && found.other.is_none() {
            true => Conversion::Done,
            // An earlier conversion was cut short.
            false => Conversion::Write(Box::new(found.table)),
        });
    };
    if found.hybrid {
        return Err(ConvertError::Hybrid { device: name() });
    }
    match found.table.in_sectors(to, device.size()) {
        Ok(table) => Ok(Conversion::Write(Box::new(table))),
        Err(source) => Err(ConvertError::Table {
            device: name(),
            source,
        }),
    }
}

/// Writes the table in its sectors, which the device must be set to.
pub fn apply(device: &mut dyn BlockDevice, table: &Table) -> Result<(), ConvertError> {
    Ok(table::commit(device, table, Commit::Create)?)
}

/// The table in the sectors that the device is set to, where a whole copy is there.
fn whole(device: &dyn BlockDevice) -> Option<FoundTable> {
    match table::read(device) {
        Ok(Label::Gpt(found)) => Some(found),
        _ => None,
    }
}
