//! Which way a verity partition is opened: by a signature that the kernel accepts, by one that we
//! accept, or by the root hash alone, as far as the policy allows each.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use blockdev::dm::{BadName, DeviceMapper, DmError, DmName};
use blockdev::loopdev::LoopDevice;
use image_specs::partition::{Designator, VerityRole};
use image_specs::policy::Flags;
use image_specs::units::{Bytes, SectorSize};
use image_specs::verity::{SUPERBLOCK_SIZE, Superblock, SuperblockError};
use veritysetup::Params;
use veritysetup::activate::{
    self, Active, DeviceNumber, ErrorCorrection, Lifetime, Request, VerityTable,
};
use veritysetup::params::ParamsError;
use veritysetup::signature::{Signature, SignatureError};

use super::attach::attach_plain;
use super::parity::{self, FoundParity, ParityError};
use super::{ActivateOptions, AttachError, Attached, Node};
use crate::verity::Verity;

/// How a partition is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// By its root hash, which nobody has signed.
    RootHash,
    /// By a signature that the kernel accepts.
    SignedKernel,
    /// By a signature of one of the certificates that were given.
    SignedHere,
}

/// An open verity device, and what is held for it.
#[derive(Debug)]
pub(super) struct Protected {
    pub(super) designator: Designator,
    pub(super) active: Active,
    pub(super) protection: Protection,
    /// The devices of hash tree and parity that are in files of their own.
    pub(super) files: Vec<LoopDevice>,
    /// What became of parity that only a footer tells of.
    pub(super) found: FoundParity,
}

/// A verity partition is not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerityFailure {
    /// No device-mapper.
    #[error(
        "the kernel's device-mapper is needed to check what is read, and cannot be used; the image \
         can still be listed and copied from, which needs none, or be mounted unchecked with \
         --image-policy={0}=unprotected"
    )]
    NoDeviceMapper(Designator, #[source] DmError),
    /// Data or hash partition is not among the devices.
    #[error("there is no {0} partition")]
    Missing(Designator),
    /// The hash tree cannot be read.
    #[error("cannot read the hash tree {}", place.display())]
    Tree {
        /// Its file or device.
        place: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The hash tree begins with no superblock.
    #[error("{} holds no hash tree", .0.display())]
    NoTree(PathBuf),
    /// The superblock is wrong.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// It describes no tree.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The tree's file cannot be made a device.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The parity cannot be used.
    #[error(transparent)]
    Parity(#[from] ParityError),
    /// The device cannot be named.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The policy wants a signature, and there is none.
    #[error("the policy wants it to be signed, but there is no signature of root hash {0}")]
    Unsigned(veritysetup::RootHash),
    /// The policy wants a signature, and nobody accepts the one that is there.
    #[error("the policy wants it to be signed, and its signature is not accepted: {kernel}{here}")]
    Refused {
        /// What the kernel says.
        kernel: String,
        /// What our own check says.
        here: String,
    },
    /// The kernel.
    #[error(transparent)]
    Activate(#[from] activate::ActivateError),
}

impl VerityFailure {
    /// Whether it may be that the kernel knows no parity, or not this.
    const fn may_be_of_parity(&self) -> bool {
        match self {
            Self::Activate(error) => error.is_refused_table(),
            // Among what the kernel said may be that it does not take the table.
            Self::Refused { .. } => true,
            _ => false,
        }
    }
}

/// Opens the verity device; `None` where the policy allows no protection by verity, only its lack.
pub(super) fn open(
    verity: &Verity,
    attached: &Attached,
    options: &ActivateOptions,
) -> Result<Option<Protected>, VerityFailure> {
    let allowed = options.policy.effective(verity.designator);
    if !allowed.intersects(Flags::VERITY | Flags::SIGNED) {
        return Ok(None);
    }
    let signed = allowed.contains(Flags::SIGNED);
    if verity.signature.is_none() && !allowed.contains(Flags::VERITY) {
        return Err(VerityFailure::Unsigned(verity.root_hash.clone()));
    }
    let mapper = DeviceMapper::open();
    let mapper = mapper.map_err(|why| VerityFailure::NoDeviceMapper(verity.designator, why))?;
    let tree = Tree::open(verity, attached)?;
    let data = attached.partition(verity.designator);
    let data = data.ok_or(VerityFailure::Missing(verity.designator))?;
    let params = tree.params()?;
    let parity = match &options.parity {
        None => None,
        Some(parity) => Some(parity::open(parity, &params, tree.size()?)?),
    };
    let hash = tree.number()?;
    let (found, behind) = match &parity {
        Some(_) => (FoundParity::None, None),
        None => parity::find(tree.file(), &params, (tree.size()?, hash)),
    };
    let mut attempt = Attempt {
        mapper: &mapper,
        verity,
        params: &params,
        data: number(data)?,
        hash,
        correction: parity.as_ref().map(|parity| parity.correction).or(behind),
        other: own_name(data)?,
        options,
    };
    let (opened, found) = attempt.with_found(found, signed.then_some(allowed));
    let (active, protection) = opened?;
    Ok(Some(Protected {
        designator: verity.designator,
        active,
        protection,
        found,
        files: tree
            .device
            .into_iter()
            .chain(parity.and_then(|parity| parity.device))
            .collect(),
    }))
}

/// Everything that is the same by whichever way.
struct Attempt<'a> {
    mapper: &'a DeviceMapper,
    verity: &'a Verity,
    params: &'a Params,
    data: DeviceNumber,
    hash: DeviceNumber,
    correction: Option<ErrorCorrection>,
    other: DmName,
    options: &'a ActivateOptions,
}

/// A device and what protects it.
type Opened = Result<(Active, Protection), VerityFailure>;

impl Attempt<'_> {
    /// Opens it; where the kernel refuses it with parity that nobody asked for, without that.
    fn with_found(&mut self, found: FoundParity, signed: Option<Flags>) -> (Opened, FoundParity) {
        let opened = self.either(signed);
        let Some(failure) = opened.as_ref().err() else {
            return (opened, found);
        };
        if !matches!(found, FoundParity::Used) || !failure.may_be_of_parity() {
            return (opened, found);
        }
        tracing::debug!(%failure, "trying without the parity behind the tree");
        self.correction = None;
        (self.either(signed), FoundParity::Unsupported)
    }

    fn either(&self, signed: Option<Flags>) -> Opened {
        match signed {
            Some(allowed) => self.signed(allowed),
            None => Ok((self.open(None)?, Protection::RootHash)),
        }
    }

    /// By a signature, else by the root hash alone where that is allowed, too.
    fn signed(&self, allowed: Flags) -> Result<(Active, Protection), VerityFailure> {
        let trust = &self.options.trust;
        let mut kernel = "the kernel is not to be asked".to_owned();
        for signature in self.verity.signatures().filter(|_| trust.kernel) {
            match self.open(Some(signature)) {
                Ok(active) => return Ok((active, Protection::SignedKernel)),
                Err(error @ activate::ActivateError::Signature { .. }) => {
                    kernel = error.to_string();
                }
                Err(activate::ActivateError::Key(error)) => kernel = error.to_string(),
                Err(error) => return Err(error.into()),
            }
        }
        let here = self.checked_here();
        match here {
            Ok(()) => Ok((self.open(None)?, Protection::SignedHere)),
            Err(_) if allowed.contains(Flags::VERITY) => {
                Ok((self.open(None)?, Protection::RootHash))
            }
            Err(here) => Err(VerityFailure::Refused { kernel, here }),
        }
    }

    /// Whether a certificate that was given has signed the root hash; else why not.
    fn checked_here(&self) -> Result<(), String> {
        let trust = &self.options.trust;
        if !trust.userspace {
            return Err(String::new());
        }
        if trust.certificates.is_empty() {
            return Err("; there is no certificate in verity.d to check it against".to_owned());
        }
        let root = &self.verity.root_hash;
        let mut refused: Option<SignatureError> = None;
        for signature in self.verity.signatures() {
            match signature.verify(root, &trust.certificates) {
                Ok(()) => return Ok(()),
                Err(error) => refused = Some(error),
            }
        }
        let told = refused.map(|error| error.to_string());
        Err(told.map_or(String::new(), |told| format!("; {told}")))
    }

    fn open(&self, signature: Option<&Signature>) -> Result<Active, activate::ActivateError> {
        let request = Request {
            table: VerityTable {
                params: self.params,
                root: &self.verity.root_hash,
                data: self.data,
                hash: self.hash,
                strictness: self.options.strictness,
                correction: self.correction,
            },
            signature,
            lifetime: Lifetime::UntilUnused,
        };
        match self.options.sharing {
            true => activate::open_shared(self.mapper, &self.other, &request),
            false => activate::open(self.mapper, &self.other, &request),
        }
    }
}

/// The hash tree: a partition, or a file of its own.
enum Source<'a> {
    Partition(&'a Node),
    File(PathBuf, File),
}

struct Tree<'a> {
    source: Source<'a>,
    device: Option<LoopDevice>,
}

impl<'a> Tree<'a> {
    fn open(verity: &Verity, attached: &'a Attached) -> Result<Self, VerityFailure> {
        let Some(path) = &verity.tree else {
            let sibling = verity.designator.verity_sibling(VerityRole::Hash);
            let node = sibling.and_then(|sibling| attached.partition(sibling));
            let missing = VerityFailure::Missing(sibling.unwrap_or(verity.designator));
            return Ok(Self {
                source: Source::Partition(node.ok_or(missing)?),
                device: None,
            });
        };
        let file = File::open(path).map_err(|source| VerityFailure::Tree {
            place: path.clone(),
            source,
        })?;
        let device = attach_plain(&file, SectorSize::S512)?;
        Ok(Self {
            source: Source::File(path.clone(), file),
            device: Some(device),
        })
    }

    fn file(&self) -> &File {
        match &self.source {
            Source::Partition(node) => node.file(),
            Source::File(_, file) => file,
        }
    }

    fn place(&self) -> &Path {
        match &self.source {
            Source::Partition(node) => node.path(),
            Source::File(path, _) => path,
        }
    }

    fn params(&self) -> Result<Params, VerityFailure> {
        let (place, file) = (self.place(), self.file());
        let mut bytes = [0; SUPERBLOCK_SIZE];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|source| VerityFailure::Tree {
                place: place.to_owned(),
                source,
            })?;
        let superblock = Superblock::parse(&bytes)?;
        let superblock = superblock.ok_or_else(|| VerityFailure::NoTree(place.to_owned()))?;
        Ok(Params::from_superblock(&superblock)?)
    }

    /// Where the device with the tree ends, which parity covers as well.
    fn size(&self) -> Result<Bytes, VerityFailure> {
        let (place, file) = (self.place(), self.file());
        parity::size(file).map_err(|source| VerityFailure::Tree {
            place: place.to_owned(),
            source,
        })
    }

    fn number(&self) -> Result<DeviceNumber, VerityFailure> {
        match (&self.device, &self.source) {
            (Some(device), _) => number(&Node::open(device.node())?),
            (None, Source::Partition(node)) => number(node),
            (None, Source::File(path, _)) => Err(VerityFailure::NoTree(path.clone())),
        }
    }
}

fn number(node: &Node) -> Result<DeviceNumber, VerityFailure> {
    node.number().map_err(|source| VerityFailure::Tree {
        place: node.path().to_owned(),
        source,
    })
}

/// A name that no other image has at the same time.
fn own_name(data: &Node) -> Result<DmName, BadName> {
    DmName::new(&format!("{}-verity", unique_name(data)))
}

/// The name of a node, and what tells its device from others that had the same.
pub(super) fn unique_name(node: &Node) -> String {
    let name = node.path().file_name().unwrap_or_default();
    let name = name.to_string_lossy();
    match sequence_number(node) {
        Some(number) => format!("{name}-{number}"),
        None => name.into_owned(),
    }
}

/// Counts how often the kernel's device was bound to something.
fn sequence_number(node: &Node) -> Option<u64> {
    let number = node.number().ok()?;
    let device = format!("/sys/dev/block/{number}");
    let disk = std::fs::canonicalize(device).ok()?;
    let read = |folder: &Path| -> Option<u64> {
        let text = std::fs::read_to_string(folder.join("diskseq")).ok()?;
        text.trim().parse().ok()
    };
    read(&disk).or_else(|| read(disk.parent()?))
}
