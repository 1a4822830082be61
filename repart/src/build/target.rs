//! The disk that is worked on: an image file that is there, or one that is being made.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use blockdev::create::CreateError;
use blockdev::file::OpenError;
use blockdev::mbr::{self, ReadMbrError};
use blockdev::partitions::Wanted;
use blockdev::sysfs::{Number, Sysfs, SysfsError};
use blockdev::table::{self, FoundTable, Label, ReadTableError};
use blockdev::usage::Use;
use blockdev::{Access, BlockDevice, DeviceError, FileDevice, NewImage};
use image_specs::gpt::Table;
use image_specs::mbr::MbrTable;
use image_specs::units::{Bytes, SectorSize};

use crate::plan::EmptyMode;
use crate::survey::FoundLabel;

/// How long others may hold the lock on a disk: udev looks at each for a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// The disk, locked until this is dropped.
#[derive(Debug)]
pub struct Target {
    disk: Disk,
    path: PathBuf,
    found: Option<FoundTable>,
    mbr: Option<MbrTable>,
    label: FoundLabel,
    kernel: Option<Vec<Wanted>>,
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
    #[error(
        "{} is partition {number} of {disk}; name the disk, {disk}, to change its partitions",
        path.display(),
        disk = disk.display()
    )]
    Partition {
        path: PathBuf,
        number: u32,
        disk: PathBuf,
    },
    #[error(
        "{} has sectors of {own} bytes, but a partition table that counts in sectors of {found}, which the kernel cannot read; write an image for sectors of {own} bytes to it",
        path.display()
    )]
    ForeignSectors { path: PathBuf, own: u64, found: u64 },
    #[error("cannot ask the kernel about {}", path.display())]
    Kernel {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
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
            Disk::Existing(existing(path, changing, sector)?)
        };
        let kernel = match &disk {
            Disk::Existing(device) => device.known_partitions()?,
            _ => None,
        };
        let mut target = Self {
            disk,
            path: path.to_owned(),
            found: None,
            mbr: None,
            label: FoundLabel::None,
            kernel,
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
            mbr: None,
            label: FoundLabel::None,
            kernel: None,
        };
        target.look(empty, true)?;
        Ok(target)
    }

    fn look(&mut self, empty: EmptyMode, sector_is_given: bool) -> Result<(), TargetError> {
        let fresh = matches!(empty, EmptyMode::Force | EmptyMode::Require);
        if !sector_is_given && !fresh {
            let probed = table::probe_sector_size(self.device())?;
            if let (Some(found), Disk::Existing(device)) = (probed, &mut self.disk)
                && !device.set_sector_size(found)
            {
                return Err(TargetError::ForeignSectors {
                    path: self.path.clone(),
                    own: device.sector_size().get(),
                    found: found.get(),
                });
            }
        }
        if sector_is_given && !fresh {
            self.refuse_other_sectors()?;
        }
        match table::read(self.device()) {
            Ok(Label::None) => {}
            Ok(Label::Foreign(_)) => self.look_for_mbr()?,
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

    fn look_for_mbr(&mut self) -> Result<(), TargetError> {
        self.label = match mbr::read(self.device()) {
            Ok(Some(table)) => {
                let found = super::mbr::found(&table);
                self.mbr = Some(table);
                FoundLabel::Mbr(found)
            }
            Ok(None) => FoundLabel::Other,
            Err(ReadMbrError::Device(error)) => return Err(error.into()),
            Err(ReadMbrError::Damaged { source, .. }) => FoundLabel::DamagedMbr(source),
            Err(_) => FoundLabel::Other,
        };
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

    /// The master boot record that was found.
    pub fn old_mbr(&self) -> Option<&MbrTable> {
        self.mbr.as_ref()
    }

    /// What stands where a partition table would.
    pub fn label(&self) -> &FoundLabel {
        &self.label
    }

    /// The table that was found, with what is said of its two copies.
    pub fn found(&self) -> Option<&FoundTable> {
        self.found.as_ref()
    }

    /// The partitions that the kernel knew when the disk was opened; `None` where it makes none of it.
    pub fn kernel(&self) -> Option<&[Wanted]> {
        self.kernel.as_deref()
    }

    /// Who uses the disk or one of its partitions now.
    pub fn uses(&self) -> Result<Vec<Use>, TargetError> {
        let uses = match &self.disk {
            Disk::Existing(device) => device.uses(),
            Disk::New(_) | Disk::Given(_) => Ok(Vec::new()),
        };
        uses.map_err(|source| TargetError::Kernel {
            path: self.path.clone(),
            source,
        })
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        matches!(&self.disk, Disk::Existing(device) if device.is_block_device())
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

/// Opens what exists already. A disk may be in use in parts: what the plan ends must not be.
fn existing(
    path: &Path,
    changing: bool,
    sector: Option<SectorSize>,
) -> Result<FileDevice, TargetError> {
    let block = path.metadata();
    let block = block
        .ok()
        .filter(|found| found.file_type().is_block_device());
    if let Some(metadata) = &block {
        refuse_partition(path, metadata)?;
    }
    let access = match changing {
        true => Access::ReadWriteInUse,
        false => Access::ReadOnly,
    };
    let patience = block.map_or(Duration::ZERO, |_| PATIENCE);
    Ok(FileDevice::open_waiting(path, access, sector, patience)?)
}

fn refuse_partition(path: &Path, metadata: &Metadata) -> Result<(), TargetError> {
    let block = Sysfs::default().block(Number::from_dev(metadata.rdev()))?;
    match block.partition().zip(block.disk()) {
        Some((number, disk)) => Err(TargetError::Partition {
            path: path.to_owned(),
            number,
            disk: disk.node()?,
        }),
        None => Ok(()),
    }
}
