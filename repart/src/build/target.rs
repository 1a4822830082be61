//! The disk that is worked on: an image file that is there, or one that is being made.

use std::path::{Path, PathBuf};

use blockdev::create::CreateError;
use blockdev::file::OpenError;
use blockdev::table::{self, FoundTable, Label, ReadTableError};
use blockdev::{Access, BlockDevice, DeviceError, FileDevice, NewImage};
use image_specs::gpt::Table;
use image_specs::units::{Bytes, SectorSize};

use crate::plan::EmptyMode;
use crate::survey::FoundLabel;

/// The disk, locked until this is dropped.
#[derive(Debug)]
pub struct Target {
    disk: Disk,
    path: PathBuf,
    found: Option<FoundTable>,
    label: FoundLabel,
}

#[derive(Debug)]
enum Disk {
    New(NewImage),
    Existing(FileDevice),
    Given(Box<dyn BlockDevice>),
}

/// Why a target cannot be worked on.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum TargetError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Table(#[from] ReadTableError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(
        "{} has a partition table that counts in sectors of {found} bytes, not {asked}; leave out --sector-size=",
        path.display()
    )]
    OtherSectors {
        path: PathBuf,
        found: u64,
        asked: u64,
    },
    #[error("{} is not there; --empty=create makes a new image", .0.display())]
    Missing(PathBuf),
}

impl Target {
    /// Opens what is at `path`, or begins a new image there, and reads its partition table.
    ///
    /// Nothing is written to what exists already; for `changing` it is locked against others.
    pub fn open(
        path: &Path,
        empty: EmptyMode,
        changing: bool,
        sector: Option<SectorSize>,
    ) -> Result<Self, TargetError> {
        let disk = if empty == EmptyMode::Create {
            Disk::New(NewImage::create(
                path,
                Bytes::ZERO,
                sector.unwrap_or(SectorSize::S512),
            )?)
        } else {
            if matches!(path.try_exists(), Ok(false)) {
                return Err(TargetError::Missing(path.to_owned()));
            }
            let access = if changing {
                Access::ReadWrite
            } else {
                Access::ReadOnly
            };
            Disk::Existing(FileDevice::open(path, access, sector)?)
        };
        let mut target = Self {
            disk,
            path: path.to_owned(),
            found: None,
            label: FoundLabel::None,
        };
        if empty != EmptyMode::Create {
            target.look(empty, sector.is_some())?;
        }
        Ok(target)
    }

    /// Takes a disk that is open already, with the sectors it says it has, and reads its partition
    /// table. `path` is where files beside it go.
    pub fn on(
        device: Box<dyn BlockDevice>,
        path: &Path,
        empty: EmptyMode,
    ) -> Result<Self, TargetError> {
        let mut target = Self {
            disk: Disk::Given(device),
            path: path.to_owned(),
            found: None,
            label: FoundLabel::None,
        };
        target.look(empty, true)?;
        Ok(target)
    }

    fn look(&mut self, empty: EmptyMode, sector_is_given: bool) -> Result<(), TargetError> {
        let fresh = matches!(empty, EmptyMode::Force | EmptyMode::Require);
        if !sector_is_given && !fresh {
            let probed = table::probe_sector_size(self.device())?;
            if let (Some(sector), Disk::Existing(device)) = (probed, &mut self.disk) {
                device.set_sector_size(sector);
            }
        }
        if sector_is_given && !fresh {
            self.refuse_other_sectors()?;
        }
        match table::read(self.device()) {
            Ok(Label::None) => {}
            Ok(Label::Foreign(_)) => self.label = FoundLabel::Other,
            Ok(Label::Gpt(found)) => {
                self.label = FoundLabel::Gpt(super::table::found(&found.table));
                self.found = Some(found);
            }
            // What is thrown away need not be sound.
            Err(_) if empty == EmptyMode::Force => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// In the wrong sectors a GPT looks like a foreign table, which somebody might replace.
    fn refuse_other_sectors(&self) -> Result<(), TargetError> {
        let asked = self.device().sector_size();
        match table::probe_sector_size(self.device())? {
            Some(found) if found != asked => Err(TargetError::OtherSectors {
                path: self.path.clone(),
                found: found.get(),
                asked: asked.get(),
            }),
            _ => Ok(()),
        }
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The partition table that was found.
    pub fn old(&self) -> Option<&Table> {
        self.found.as_ref().map(|found| &found.table)
    }

    /// What stands where a partition table would.
    pub fn label(&self) -> &FoundLabel {
        &self.label
    }

    /// The table that was found, with what is said of its two copies.
    pub fn found(&self) -> Option<&FoundTable> {
        self.found.as_ref()
    }

    /// Whether it is a new image, which holds nothing yet.
    pub fn is_new(&self) -> bool {
        matches!(self.disk, Disk::New(_))
    }

    /// Switches copy-on-write of a new image on or off, where its file system knows such a thing.
    pub fn set_copy_on_write(&mut self, on: bool) {
        if let Disk::New(image) = &self.disk {
            image.device_ref().set_copy_on_write(on);
        }
    }

    /// The disk.
    pub fn device(&self) -> &dyn BlockDevice {
        match &self.disk {
            Disk::New(image) => image.device_ref(),
            Disk::Existing(device) => device,
            Disk::Given(device) => device.as_ref(),
        }
    }

    /// The disk, to be changed.
    pub fn device_mut(&mut self) -> &mut dyn BlockDevice {
        match &mut self.disk {
            Disk::New(image) => image.device(),
            Disk::Existing(device) => device,
            Disk::Given(device) => device.as_mut(),
        }
    }

    /// Gives a new image its name. Without this it is gone when the target is dropped.
    pub fn finish(self) -> Result<(), TargetError> {
        if let Disk::New(image) = self.disk {
            image.finish()?;
        }
        Ok(())
    }
}
