//! All files of an image as one tree, each file system where systemd would mount it, read in this
//! process.
//!
//! The order is that of systemd.image(7) and systemd-dissect: root, usr, home, srv, var, tmp, then the
//! extended boot loader partition and the ESP where there is room for them. Where a directory to mount
//! on is missing it is taken as made, in memory only; nothing is written. Data with a hash tree are
//! checked against it as they are read, unless the policy does not ask for it; encrypted ones are decrypted.

mod decrypted;
mod part;
mod shared;
mod verified;

use std::io;
use std::sync::Arc;

use filetree::reader::{Grafted, ResolveError};
use filetree::{ReadError, Reader};
use image_specs::magic::Kind;
use image_specs::partition::Designator;

use crate::assign::{Dissected, Partition};
use crate::open::Image;
use crate::options::FileSystems;
use crate::reader;
use crate::unlock::Keys;
use part::{Part, Volume};
use shared::Shared;

pub use decrypted::LockedError;
pub use verified::{UnverifiedError, Verification};

/// How partitions are read.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// What data with a hash tree are held against.
    pub verification: Verification<'a>,
    /// What unlocks encrypted partitions; without, they are not read.
    pub keys: Option<&'a Keys>,
    /// Which file systems are looked for inside of them.
    pub file_systems: &'a FileSystems,
}

/// Where file systems are put besides root: what, and the path.
const MOUNTS: [(Designator, &[u8]); 5] = [
    (Designator::Usr, b"/usr"),
    (Designator::Home, b"/home"),
    (Designator::Srv, b"/srv"),
    (Designator::Var, b"/var"),
    (Designator::Tmp, b"/var/tmp"),
];

/// The files of an image cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentsError {
    /// There is nothing to begin with.
    #[error("the image has neither a root nor a usr partition, so it has no files to show")]
    NoRoot,
    /// The image cannot be read a second time.
    #[error("cannot read the image")]
    Io(#[from] io::Error),
    /// No known file system is in a partition.
    #[error(
        "the {0} partition holds no file system that is known; \
         leave it out with --image-policy={0}=unused+absent:=open"
    )]
    Unknown(Designator),
    /// A file system cannot be opened.
    #[error("cannot read the files of the {partition} partition")]
    Read {
        /// The partition.
        partition: Designator,
        /// Why.
        source: ReadError,
    },
    /// Its data cannot be held against its hash tree.
    #[error("cannot verify the {partition} partition")]
    Unverified {
        /// The partition.
        partition: Designator,
        /// Why.
        source: UnverifiedError,
    },
    /// It is encrypted, and cannot be decrypted.
    #[error(transparent)]
    Locked(#[from] LockedError),
    /// It cannot be put into its place.
    #[error("cannot put the {partition} partition where it belongs")]
    Place {
        /// The partition.
        partition: Designator,
        /// Why.
        source: ResolveError,
    },
}

/// Opens all file systems of an image that are mounted when the image is.
pub fn open(
    image: &Image,
    dissected: &Dissected,
    access: Access<'_>,
) -> Result<Grafted, ContentsError> {
    let volumes = Volumes {
        image,
        dissected,
        access,
    };
    let mut tree = volumes.begin()?;
    for (designator, path) in MOUNTS {
        volumes.graft(&mut tree, designator, path)?;
    }
    volumes.graft_boot(&mut tree)?;
    Ok(tree)
}

/// Opens root and usr alone, which hold the files that say what an image is.
pub(crate) fn open_system(
    image: &Image,
    dissected: &Dissected,
    access: Access<'_>,
) -> Result<Grafted, ContentsError> {
    let volumes = Volumes {
        image,
        dissected,
        access,
    };
    let mut tree = volumes.begin()?;
    volumes.graft(&mut tree, Designator::Usr, b"/usr")?;
    Ok(tree)
}

/// The file systems of an image.
struct Volumes<'a> {
    image: &'a Image,
    dissected: &'a Dissected,
    access: Access<'a>,
}

impl Volumes<'_> {
    /// Root alone, or an empty directory for usr.
    fn begin(&self) -> Result<Grafted, ContentsError> {
        let root = self.open(Designator::Root)?;
        if root.is_none() && !self.dissected.partitions.contains_key(&Designator::Usr) {
            return Err(ContentsError::NoRoot);
        }
        Ok(Grafted::new(root))
    }

    /// The file system of a partition; `None` where there is no such partition.
    fn open(&self, designator: Designator) -> Result<Option<Arc<dyn Reader>>, ContentsError> {
        let Some(partition) = self.dissected.partitions.get(&designator) else {
            return Ok(None);
        };
        let volume = self.volume(partition)?;
        let (volume, kind) = match partition.encryption {
            None => (volume, kind(partition.file_system.as_deref(), designator)?),
            Some(_) => {
                let (volume, inside) = decrypted::open(volume, partition, self.access)?;
                let kind = kind(inside.file_system.as_deref(), designator)?;
                (volume, kind)
            }
        };
        let reader = reader::open(volume.data, volume.size, &kind);
        let reader = reader.map_err(|source| ContentsError::Read {
            partition: designator,
            source,
        })?;
        let private = matches!(designator, Designator::Esp | Designator::Xbootldr);
        Ok(Some(match kind == Kind::Vfat && !private {
            true => Arc::new(Shared(reader)),
            false => reader,
        }))
    }

    /// The bytes of a partition, checked as far as that is asked for.
    fn volume(&self, partition: &Partition) -> Result<Volume, ContentsError> {
        let verification = self.access.verification;
        let verified = verified::open(self.image, self.dissected, partition, verification);
        let verified = verified.map_err(|source| ContentsError::Unverified {
            partition: partition.designator,
            source,
        })?;
        match verified {
            Some(verified) => Ok(verified),
            None => Ok(Volume {
                data: Arc::new(Part::new(self.image, partition.extent)?),
                size: partition.extent.size.get(),
            }),
        }
    }

    fn graft(
        &self,
        tree: &mut Grafted,
        designator: Designator,
        path: &[u8],
    ) -> Result<bool, ContentsError> {
        let Some(reader) = self.open(designator)? else {
            return Ok(false);
        };
        tree.graft(path, reader)
            .map_err(|source| place(designator, source))?;
        Ok(true)
    }

    /// The extended boot loader partition and the ESP share `/boot` and `/efi`.
    fn graft_boot(&self, tree: &mut Grafted) -> Result<(), ContentsError> {
        let populated = |tree: &Grafted, designator, path: &[u8]| {
            tree.is_populated(path)
                .map_err(|source| place(designator, source))
        };
        let has = |designator| self.dissected.partitions.contains_key(&designator);
        let (boot_loader, esp) = (Designator::Xbootldr, Designator::Esp);
        let mut taken = false;
        if has(boot_loader) && populated(tree, boot_loader, b"/boot")? != Some(true) {
            taken = self.graft(tree, boot_loader, b"/boot")?;
        }
        if !has(esp) {
            return Ok(());
        }
        if !taken && populated(tree, esp, b"/boot")? == Some(false) {
            self.graft(tree, esp, b"/boot")?;
        } else if populated(tree, esp, b"/efi")? != Some(true) {
            self.graft(tree, esp, b"/efi")?;
        }
        Ok(())
    }
}

fn kind(name: Option<&str>, designator: Designator) -> Result<Kind, ContentsError> {
    name.and_then(Kind::of_volume)
        .ok_or(ContentsError::Unknown(designator))
}

fn place(partition: Designator, source: ResolveError) -> ContentsError {
    ContentsError::Place { partition, source }
}
