//! Reads what an image is: a partition table with its partitions, or one file system.
//!
//! Nothing here decides what a partition is good for. Entries that lie outside of what the table
//! lets partitions use are left out, as blkid does.

use std::io;
use std::path::PathBuf;

use blockdev::io::ReadAt;
use blockdev::table::{self, FoundTable, Label, ReadTableError};
use blockdev::{BlockDevice, DeviceError};
use image_specs::arch::Architecture;
use image_specs::gpt::{Entry, Table};
use image_specs::guid;
use image_specs::luks_header::{self, Cipher, LuksError, LuksHeader};
use image_specs::magic;
use image_specs::partition::Designator;
use image_specs::policy::{Flags, ImagePolicy};
use image_specs::units::{Bytes, Extent, SectorSize};
use luks::{Header, Strictness};
use uuid::Uuid;
use veritysetup::RootHash;

use crate::assign::{Dissected, Partition};
use crate::open::Image;
use crate::options::{FileSystems, Options};
use crate::policy::{self, Encryption, Refused};

mod mbr;

/// Bytes of the binary part of a LUKS header.
const LUKS_HEADER: u64 = 4096;

/// File-system types that cannot be written to, whatever the table says.
const READ_ONLY: [&str; 4] = ["cramfs", "erofs", "iso9660", "squashfs"];

/// What was read of an image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Probed {
    /// The path that the image was opened by.
    pub path: PathBuf,
    /// The image's size.
    pub size: Bytes,
    /// The sectors that its table counts in.
    pub sector_size: SectorSize,
    /// The UUID of the table or of the only file system.
    pub uuid: Option<Uuid>,
    /// What is in it.
    pub content: Content,
    /// The GPT, where there is one.
    pub table: Option<Table>,
}

/// What an image holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Partitions.
    Partitions(Vec<Found>),
    /// One file system (or LUKS volume) and no table.
    FileSystem {
        /// Its type, as blkid names it.
        kind: String,
        /// How it is encrypted, where it is.
        encryption: Option<Encryption>,
    },
}

/// A partition as the table describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Counted from 1.
    pub number: u32,
    /// What its type says.
    pub kind: Kind,
    /// Its own UUID, which MBR partitions lack.
    pub uuid: Option<Uuid>,
    /// Its label; `None` where it is empty.
    pub label: Option<String>,
    /// The GPT attribute bits.
    pub attributes: u64,
    /// Where it lies.
    pub extent: Extent,
    /// The root hash that a signature partition is of, where somebody asked for it.
    pub signs: Option<RootHash>,
}

/// What a partition type means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its purpose, where the type is known.
    pub designator: Option<Designator>,
    /// The architecture that it is bound to.
    pub architecture: Option<Architecture>,
}

/// An image cannot be read, or is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The partition table is damaged.
    #[error(transparent)]
    Table(#[from] ReadTableError),
    /// Reading failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Reading what is inside a partition failed.
    #[error("cannot read what was decrypted")]
    Inside(#[from] io::Error),
    /// There is nothing known in it.
    #[error("{0} has no partition table and no file system that is known; it is no disk image")]
    Nothing(String),
    /// Several things claim the same bytes.
    #[error("the contents of {place} cannot be told")]
    Ambiguous {
        /// The partition or image.
        place: String,
        /// What is there.
        source: magic::Ambiguous,
    },
    /// What says that it is LUKS is no sound LUKS header.
    #[error("cannot tell how {place} is encrypted")]
    Luks {
        /// The partition or image.
        place: String,
        /// Why.
        source: luks_header::LuksError,
    },
}

/// What probing ends with that looks at policy, too.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentsError {
    /// A partition cannot be told.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The policy does not allow what it holds.
    #[error(transparent)]
    Policy(#[from] Refused),
}

/// Reads the partition table, or else the type of the only file system.
pub fn probe(image: &Image, file_systems: &FileSystems) -> Result<Probed, ProbeError> {
    let device = image.device();
    let mut probed = Probed {
        path: image.path().to_owned(),
        size: device.size(),
        sector_size: device.sector_size(),
        uuid: None,
        content: Content::Partitions(Vec::new()),
        table: None,
    };
    let label = table::read(device)?;
    if let Label::Gpt(FoundTable { table, .. }) = label {
        probed.uuid = Some(table.disk_guid);
        probed.content = Content::Partitions(gpt_partitions(&table, device.size()));
        probed.table = Some(table);
        return Ok(probed);
    }
    let whole = Extent::new(Bytes::ZERO, device.size());
    let found = identify(device, whole, file_systems, &device.name())?;
    probed.content = match found {
        Some(found) if is_volume(found.kind) => {
            let encryption = encryption(device, whole, found.kind, &device.name())?;
            probed.uuid = found.uuid.and_then(|text| guid::parse(&text).ok());
            Content::FileSystem {
                kind: found.kind.name().to_owned(),
                encryption,
            }
        }
        Some(found) if found.kind == magic::Kind::Dos => Content::Partitions(mbr::read(device)?),
        _ => return Err(ProbeError::Nothing(device.name())),
    };
    Ok(probed)
}

/// Looks into the partitions whose type is not yet told by the table, holds what is found against
/// the policy, and makes those read-only that cannot be written.
pub fn file_systems(
    image: &Image,
    dissected: &mut Dissected,
    options: &Options,
) -> Result<(), ContentsError> {
    let mut partitions = std::mem::take(&mut dissected.partitions);
    for partition in partitions.values_mut() {
        if !dissected.single_file_system {
            look_into(image.device(), partition, options)?;
        }
        partition.respect_file_system();
    }
    dissected.partitions = partitions;
    if dissected.single_file_system {
        return Ok(());
    }
    for partition in dissected.partitions.values() {
        policy::check_contents(dissected, &options.policy, partition)?;
    }
    Ok(())
}

/// Looks into the partitions that are passed over, too, to show them.
pub fn passed_over(
    image: &Image,
    dissected: &mut Dissected,
    options: &Options,
) -> Result<(), ProbeError> {
    for partition in &mut dissected.passed_over {
        look_into(image.device(), partition, options)?;
        partition.respect_file_system();
    }
    Ok(())
}

impl Partition {
    /// What cannot be written does not grow either.
    fn respect_file_system(&mut self) {
        let kind = self.file_system.as_deref();
        self.writable &= !kind.is_some_and(is_read_only);
        self.grow &= self.writable;
    }
}

/// Whether a file system of this type cannot be written to.
pub(crate) fn is_read_only(kind: &str) -> bool {
    READ_ONLY.contains(&kind)
}

/// What one partition holds: as the policy or the caller says, or as its first bytes do.
fn look_into(
    device: &dyn BlockDevice,
    partition: &mut Partition,
    options: &Options,
) -> Result<(), ProbeError> {
    let designator = partition.designator;
    if partition.file_system.is_some() {
        return Ok(());
    }
    let said = options.policy.file_system(designator);
    let said = said.filter(|_| !wants_encryption(&options.policy, designator));
    let forced = options.file_systems.forced.get(&designator);
    if let Some(said) = said.or(forced.map(String::as_str)) {
        partition.file_system = Some(said.to_owned());
        return Ok(());
    }
    let place = format!("partition {designator}");
    let Some(found) = identify(device, partition.extent, &options.file_systems, &place)? else {
        return Ok(());
    };
    partition.encryption = encryption(device, partition.extent, found.kind, &place)?;
    partition.file_system = Some(found.kind.name().to_owned());
    Ok(())
}

/// Whether a policy permits a partition only as an encrypted one. The file system that it names is
/// then what is to be inside.
fn wants_encryption(policy: &ImagePolicy, designator: Designator) -> bool {
    let allowed = policy.effective(designator);
    let others = Flags::UNPROTECTED | Flags::VERITY | Flags::SIGNED;
    allowed.intersects(Flags::USED) && !allowed.intersects(others)
}

/// How a LUKS volume is encrypted; `None` where it is none.
fn encryption(
    device: &dyn BlockDevice,
    part: Extent,
    kind: magic::Kind,
    place: &str,
) -> Result<Option<Encryption>, ProbeError> {
    if !matches!(kind, magic::Kind::Luks1 | magic::Kind::Luks2) {
        return Ok(None);
    }
    let damaged = |source| ProbeError::Luks {
        place: place.to_owned(),
        source,
    };
    let binary = read(device, part, Bytes::new(LUKS_HEADER))?;
    let header = LuksHeader::parse(&binary).map_err(damaged)?;
    let area = match &header {
        // At most 4 MiB: anything else is no header.
        Some(LuksHeader::V2(header)) => read(device, part, header.header_size)?,
        _ => binary,
    };
    match Cipher::parse(&area) {
        Ok(Some(cipher)) if cipher.authenticated => Ok(Some(Encryption::WithIntegrity)),
        Ok(Some(_)) => Ok(Some(Encryption::Luks)),
        Ok(None) => Ok(None),
        Err(error @ (LuksError::NullCipher | LuksError::Version(_))) => Err(damaged(error)),
        Err(error) => match second_copy(device, part) {
            None => Err(damaged(error)),
            second => Ok(second),
        },
    }
}

/// What the second copy of a header says whose first is damaged; `None` where it is no better.
///
/// Whoever unlocks the volume looks at both copies anew.
fn second_copy(device: &dyn BlockDevice, part: Extent) -> Option<Encryption> {
    let source = Part { device, part };
    let limits = Strictness::with_memory(Bytes::new(u64::MAX));
    let header = Header::load(&source, part.size, &limits).ok()??;
    Some(Encryption::of(&header))
}

/// A part of a device.
struct Part<'a> {
    device: &'a dyn BlockDevice,
    part: Extent,
}

impl ReadAt for Part<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > self.part.size.get()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let at = self.part.start.saturating_add(Bytes::new(offset));
        let read = self.device.read_exact_at(buffer, at);
        read.map_err(io::Error::other)
    }
}

/// The first `size` bytes of a part, or what there is of it.
fn read(device: &dyn BlockDevice, part: Extent, size: Bytes) -> Result<Vec<u8>, DeviceError> {
    let size = size.min(part.size).get();
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    device.read_exact_at(&mut bytes, part.start)?;
    Ok(bytes)
}

/// Whether a whole image can be this: a file system or LUKS volume.
fn is_volume(kind: magic::Kind) -> bool {
    use magic::Kind::{
        Bcachefs, Btrfs, Cramfs, Erofs, Exfat, Ext2, Ext3, Ext4, F2fs, Iso9660, Jfs, Luks1, Luks2,
        Ntfs, Squashfs, Vfat, Xfs,
    };
    matches!(
        kind,
        Bcachefs
            | Btrfs
            | Cramfs
            | Erofs
            | Exfat
            | Ext2
            | Ext3
            | Ext4
            | F2fs
            | Iso9660
            | Jfs
            | Luks1
            | Luks2
            | Ntfs
            | Squashfs
            | Vfat
            | Xfs
    )
}

fn gpt_partitions(table: &Table, size: Bytes) -> Vec<Found> {
    let fits = |entry: &Entry| {
        let extent = entry.extent(table.sector_size())?;
        let inside = entry.first >= table.first_usable()
            && entry.last <= table.last_usable()
            && extent.end()? <= size;
        inside.then_some(extent)
    };
    let found = |(slot, entry): (&u32, &Entry)| {
        let label = entry.label.text().filter(|text| !text.is_empty());
        Some(Found {
            number: slot.checked_add(1)?,
            kind: Kind {
                designator: entry.kind.designator(),
                architecture: entry.kind.architecture(),
            },
            uuid: Some(entry.uuid),
            label,
            attributes: entry.attributes,
            extent: fits(entry)?,
            signs: None,
        })
    };
    table.slots().iter().filter_map(found).collect()
}

/// The one thing that a range of the image holds; `None` where nothing is known.
fn identify(
    device: &dyn BlockDevice,
    part: Extent,
    file_systems: &FileSystems,
    place: &str,
) -> Result<Option<magic::Found>, ProbeError> {
    let mut read = |offset, buffer: &mut [u8]| {
        let at = part.start.saturating_add(Bytes::new(offset));
        device.read_exact_at(buffer, at)
    };
    identify_by(&mut read, part.size, file_systems, place)
}

/// The one thing that `size` bytes hold, wherever `read` has them from.
#[expect(clippy::type_complexity, reason = "a name would hide what to pass")]
pub(crate) fn identify_by<E>(
    read: &mut dyn FnMut(u64, &mut [u8]) -> Result<(), E>,
    size: Bytes,
    file_systems: &FileSystems,
    place: &str,
) -> Result<Option<magic::Found>, ProbeError>
where
    ProbeError: From<E>,
{
    let mut found = magic::probe(size, read)?;
    found.retain(|one| one.kind.is_table() || file_systems.looks_for(one.kind));
    match magic::identify(&found) {
        Ok(one) => Ok(one.cloned()),
        Err(source) => Err(ProbeError::Ambiguous {
            place: place.to_owned(),
            source,
        }),
    }
}
