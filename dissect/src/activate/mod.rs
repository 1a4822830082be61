//! From a dissected image to block devices of the kernel that can be mounted: loop device and
//! partitions ([`attach()`]), the verity device on them, and what decrypts them ([`activate`]).
//!
//! Everything made here is held, and goes away with its last user: at the latest when whoever mounted
//! it unmounts, also after a kill. [`detach`] clears what a kill between two calls to the kernel, or
//! another tool, has left.
//!
//! A partition with a hash tree is either checked by the kernel or refused: without device-mapper
//! nothing is mounted unchecked, unless the policy says that it may be unprotected and nothing else.

mod attach;
mod crypt;
pub mod detach;
mod measured;
mod parity;
mod verity;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockdev::dm::{DeviceMapper, DmError};
use blockdev::mapped;
use image_specs::partition::Designator;
use image_specs::policy::ImagePolicy;
use image_specs::units::Bytes;
use veritysetup::activate::{Active, Strictness};
use veritysetup::fec::Roots;
use veritysetup::signature::Certificate;

pub use attach::{AttachError, AttachOptions, Attached, Node, attach};
pub use crypt::CryptFailure;
pub use measured::{Measuring, MeasuringError};
pub use parity::{FoundParity, ParityError};
pub use verity::{Protection, VerityFailure};

use crate::assign::{Dissected, Inside, Partition};
use crate::open::Image;
use crate::options::FileSystems;
use crate::unlock::Keys;
use crypt::Below;
use verity::Protected;

/// How an image is activated.
#[derive(Clone, Debug)]
pub struct ActivateOptions {
    /// The block device.
    pub attach: AttachOptions,
    /// What each partition may be protected by.
    pub policy: ImagePolicy,
    /// Who may say that a root hash is signed.
    pub trust: Trust,
    /// Whether a verity device of the same root hash is shared with others.
    pub sharing: bool,
    /// How strict the verity device is.
    pub strictness: Strictness,
    /// Parity by which the kernel repairs what does not fit the hash tree; `None` for what a footer
    /// behind the tree tells of.
    pub parity: Option<Parity>,
    /// Which file systems are looked for inside of encrypted partitions.
    pub file_systems: FileSystems,
    /// Whether encrypted partitions pass discards on, which shows what is free.
    pub crypt_discards: bool,
    /// Where root hash and volume keys are measured into.
    pub measuring: Option<Arc<Measuring>>,
}

/// Where parity of data and hash tree lies (forward error correction).
#[derive(Clone, Debug)]
pub struct Parity {
    /// The file or block device.
    pub place: PathBuf,
    /// Where it begins there.
    pub offset: Bytes,
    /// Parity bytes in a code word.
    pub roots: Roots,
}

/// Who checks the signature of a root hash.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The kernel, against its keyrings.
    pub kernel: bool,
    /// We, against [`Self::certificates`], where the kernel does not accept it.
    pub userspace: bool,
    /// The certificates of `verity.d`.
    pub certificates: Vec<Certificate>,
}

/// Block devices that are ready to be mounted.
#[derive(Debug)]
pub struct Activated {
    attached: Attached,
    verity: Option<Protected>,
    decrypted: BTreeMap<Designator, mapped::Active>,
}

/// An image cannot be activated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActivateError {
    /// No block device.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A partition is not among the devices.
    #[error("there is no device of partition {0}")]
    Missing(Designator),
    /// No verity device.
    #[error("cannot open partition {designator} through verity")]
    Verity {
        /// Which partition.
        designator: Designator,
        /// Why.
        #[source]
        why: VerityFailure,
    },
    /// The root hash is to be measured, and cannot be.
    #[error("cannot measure the root hash")]
    Measure(#[from] MeasuringError),
    /// No decrypted device.
    #[error("cannot open encrypted partition {designator}")]
    Crypt {
        /// Which partition.
        designator: Designator,
        /// Why.
        #[source]
        why: CryptFailure,
    },
    /// Something made here does not go away.
    #[error(transparent)]
    Close(#[from] DmError),
}

impl ActivateOptions {
    /// Any protection, checked by the kernel or by nobody, devices shared.
    pub fn new() -> Self {
        Self {
            attach: AttachOptions::new(),
            policy: ImagePolicy::allow(),
            trust: Trust {
                kernel: true,
                userspace: true,
                certificates: Vec::new(),
            },
            sharing: true,
            strictness: Strictness::default(),
            parity: None,
            file_systems: FileSystems::default(),
            crypt_discards: false,
            measuring: None,
        }
    }
}

impl Default for ActivateOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes block devices of the image's partitions: verity first, decryption on top of it. Notes what is
/// inside the encrypted ones.
pub fn activate(
    image: &Image,
    dissected: &mut Dissected,
    options: &ActivateOptions,
    keys: &Keys,
) -> Result<Activated, ActivateError> {
    let attached = attach(image, dissected, &options.attach)?;
    let verity = match &dissected.verity {
        None => None,
        Some(verity) => {
            let opened = verity::open(verity, &attached, options);
            opened.map_err(|why| ActivateError::Verity {
                designator: verity.designator,
                why,
            })?
        }
    };
    if let (Some(measuring), Some(_), Some(known)) =
        (&options.measuring, &verity, &dissected.verity)
    {
        measuring.root_hash(known)?;
    }
    let mut activated = Activated {
        attached,
        verity,
        decrypted: BTreeMap::new(),
    };
    for designator in crypt::MOUNTED {
        let partition = dissected.partitions.get_mut(&designator);
        if let Some(partition) = partition.filter(|partition| partition.encryption.is_some()) {
            partition.inside = Some(activated.decrypt(partition, options, keys)?);
        }
    }
    Ok(activated)
}

impl Activated {
    /// The node of the whole image.
    pub fn disk(&self) -> &Path {
        self.attached.node()
    }

    /// The image's block device.
    pub fn attached(&self) -> &Attached {
        &self.attached
    }

    /// What is to be mounted for a partition: what decrypts it, else its verity device where it has
    /// one, else itself.
    pub fn node(&self, designator: Designator) -> Option<PathBuf> {
        if let Some(active) = self.decrypted.get(&designator) {
            return Some(active.node());
        }
        match &self.verity {
            Some(verity) if verity.designator == designator => Some(verity.active.node()),
            _ => Some(self.attached.partition(designator)?.path().to_owned()),
        }
    }

    /// Opens an encrypted partition.
    fn decrypt(
        &mut self,
        partition: &Partition,
        options: &ActivateOptions,
        keys: &Keys,
    ) -> Result<Inside, ActivateError> {
        let designator = partition.designator;
        let opened = self.below(designator).and_then(|below| {
            let opened = crypt::open(partition, &below, options, keys);
            opened.map_err(|why| ActivateError::Crypt { designator, why })
        });
        let (active, inside) = opened?;
        self.decrypted.insert(designator, active);
        Ok(inside)
    }

    /// What an encrypted partition lies on.
    fn below(&self, designator: Designator) -> Result<Below<'_>, ActivateError> {
        let verity = self.verity.as_ref();
        if let Some(verity) = verity.filter(|verity| verity.designator == designator) {
            return Ok(Below {
                device: verity.active.file(),
                name: verity.active.name().to_string(),
                read_only: true,
            });
        }
        let node = self.attached.partition(designator);
        let node = node.ok_or(ActivateError::Missing(designator))?;
        Ok(Below {
            device: node.file(),
            name: verity::unique_name(node),
            read_only: self.attached.is_read_only(),
        })
    }

    /// The device that decrypts a partition.
    pub fn decrypted(&self, designator: Designator) -> Option<&mapped::Active> {
        self.decrypted.get(&designator)
    }

    /// The verity device.
    pub fn verity(&self) -> Option<&Active> {
        self.verity.as_ref().map(|verity| &verity.active)
    }

    /// How the partition with the hash tree is protected; `None` where there is none, or the policy
    /// wants it unprotected.
    pub fn protection(&self) -> Option<Protection> {
        self.verity.as_ref().map(|verity| verity.protection)
    }

    /// What became of parity that only a footer tells of.
    pub fn found_parity(&self) -> &FoundParity {
        let verity = self.verity.as_ref();
        verity.map_or(&FoundParity::None, |verity| &verity.found)
    }

    /// Ends the use, and waits until what was made here is gone; what others use stays with them.
    pub fn close(self) -> Result<(), ActivateError> {
        for active in self.decrypted.into_values() {
            active.close(&DeviceMapper::open()?)?;
        }
        if let Some(verity) = self.verity {
            verity.active.close(&DeviceMapper::open()?)?;
            for file in verity.files {
                file.close().map_err(AttachError::from)?;
            }
        }
        Ok(self.attached.close()?)
    }
}
