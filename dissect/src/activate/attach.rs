//! The image as a block device of the kernel, with the partitions that are used.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use blockdev::loopdev::{LoopDevice, LoopError, LoopOptions, LoopReference};
use blockdev::partitions::{self, PartitionError, Wanted};
use image_specs::partition::Designator;
use image_specs::units::SectorSize;
use rustix::fs::OFlags;
use rustix::io::Errno;
use veritysetup::activate::DeviceNumber;

use crate::assign::Dissected;
use crate::open::Image;

/// How the image becomes a block device.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// Whether nothing may be written to it.
    pub read_only: bool,
    /// Whether the loop device passes by the page cache of the file, where it can.
    pub direct_io: bool,
    /// The name that the loop device carries.
    pub reference: Option<LoopReference>,
}

/// The image's block device. A loop device goes away with its last user once this is dropped.
#[derive(Debug)]
pub struct Attached {
    disk: Disk,
    node: PathBuf,
    read_only: bool,
    partitions: BTreeMap<Designator, Node>,
}

/// A block device that is held open, so that its node stays what it is.
#[derive(Debug)]
pub struct Node {
    path: PathBuf,
    file: File,
}

#[derive(Debug)]
enum Disk {
    Loop(LoopDevice),
    /// The image is a block device itself.
    Own,
}

/// The image cannot be made a block device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// No loop device.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// A partition that the kernel does not take.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// A node cannot be opened.
    #[error("cannot open {}", node.display())]
    Node {
        /// Which.
        node: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl AttachOptions {
    /// Writable where the image is, with direct I/O, without a name.
    pub fn new() -> Self {
        Self {
            read_only: false,
            direct_io: true,
            reference: None,
        }
    }
}

impl Default for AttachOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes the image a block device, with a node for every partition that is used. An image file that
/// cannot be written makes a read-only device.
pub fn attach(
    image: &Image,
    dissected: &Dissected,
    options: &AttachOptions,
) -> Result<Attached, AttachError> {
    let (backing, read_only) = reopen(image, options.read_only)?;
    let (disk, node) = match image.is_block_device() {
        true => (Disk::Own, image.path().to_owned()),
        false => {
            let mut loop_options = LoopOptions::new(dissected.sector_size);
            loop_options.read_only = read_only;
            loop_options.scan_partitions = !dissected.single_file_system;
            loop_options.direct_io = options.direct_io;
            loop_options.reference = options.reference.clone();
            let device = LoopDevice::attach(&backing, &loop_options)?;
            let node = device.node().to_owned();
            (Disk::Loop(device), node)
        }
    };
    let mut attached = Attached {
        disk,
        node,
        read_only,
        partitions: BTreeMap::new(),
    };
    attached.pin(dissected, &backing)?;
    if let Disk::Loop(device) = &attached.disk {
        device.unlock()?;
    }
    Ok(attached)
}

/// The image's file once more, for writing where that is wanted and possible; whether it is not.
fn reopen(image: &Image, read_only: bool) -> Result<(File, bool), AttachError> {
    let same = PathBuf::from(format!("/proc/self/fd/{}", image.file().as_raw_fd()));
    let open = |write| {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
            .open(&same)
    };
    let failed = |source| AttachError::Node {
        node: image.path().to_owned(),
        source,
    };
    if read_only {
        return open(false).map(|file| (file, true)).map_err(failed);
    }
    match open(true) {
        Ok(file) => Ok((file, false)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY) => {
                open(false).map(|file| (file, true)).map_err(failed)
            }
            _ => Err(failed(error)),
        },
    }
}

/// Attaches a file that has no partitions, to be read.
pub(super) fn attach_plain(file: &File, sector: SectorSize) -> Result<LoopDevice, AttachError> {
    let mut options = LoopOptions::new(sector);
    options.read_only = true;
    options.scan_partitions = false;
    let device = LoopDevice::attach(file, &options)?;
    device.unlock()?;
    Ok(device)
}

impl Attached {
    /// Opens every partition that is used.
    fn pin(&mut self, dissected: &Dissected, backing: &File) -> Result<(), AttachError> {
        let disk = match &self.disk {
            Disk::Loop(device) => device.file(),
            Disk::Own => backing,
        };
        for partition in dissected.partitions.values() {
            let path = match partition.number {
                None => self.node.clone(),
                Some(number) => {
                    let extent = partition.extent;
                    let wanted = [Wanted { number, extent }];
                    let nodes = partitions::ensure(disk, &self.node, &wanted)?;
                    nodes.into_iter().next().unwrap_or_default()
                }
            };
            let node = Node::open(&path)?;
            self.partitions.insert(partition.designator, node);
        }
        Ok(())
    }

    /// The node of the whole image.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Whether nothing can be written to it.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether it is a loop device made here.
    pub fn is_loop(&self) -> bool {
        matches!(self.disk, Disk::Loop(_))
    }

    /// The node of a partition.
    pub fn partition(&self, designator: Designator) -> Option<&Node> {
        self.partitions.get(&designator)
    }

    /// Lets a loop device stay when nobody uses it, and gives its node.
    pub fn release(self) -> Result<PathBuf, AttachError> {
        match self.disk {
            Disk::Loop(device) => Ok(device.release()?),
            Disk::Own => Ok(self.node),
        }
    }

    /// Ends the use; a loop device is unbound now, or with its last other user.
    pub fn close(self) -> Result<(), AttachError> {
        drop(self.partitions);
        match self.disk {
            Disk::Loop(device) => Ok(device.close()?),
            Disk::Own => Ok(()),
        }
    }
}

impl Node {
    pub(super) fn open(path: &Path) -> Result<Self, AttachError> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
            .open(path);
        match file {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file,
            }),
            Err(source) => Err(AttachError::Node {
                node: path.to_owned(),
                source,
            }),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open device.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its number.
    pub fn number(&self) -> io::Result<DeviceNumber> {
        let number = self.file.metadata()?.rdev();
        Ok(DeviceNumber {
            major: rustix::fs::major(number),
            minor: rustix::fs::minor(number),
        })
    }
}
