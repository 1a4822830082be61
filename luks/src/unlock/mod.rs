//! Volumes opened by the kernel: dm-crypt, above dm-integrity where the data is authenticated.
//!
//! The volume key goes to the kernel through the keyring of the calling thread, under the name that
//! cryptsetup uses, and is taken off it again; only where the kernel takes no keys of this kind is
//! it part of the table, which is erased on both sides. Devices come and go as
//! [`blockdev::mapped`] has it; the lower one of two always goes with the upper one.

mod table;

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;

use blockdev::dm::{BadName, DeviceMapper, DmError, DmName, Target};
use blockdev::io::ReadAt;
use blockdev::keyring::ThreadKey;
use blockdev::mapped::{self, Active, DeviceNumber, Existing, Lifetime, MakeError, Making};
use image_specs::integrity::{Superblock, SuperblockError};
use image_specs::units::Bytes;
use zeroize::Zeroize as _;

pub use table::{Flags, TableError};

use crate::{Header, VolumeKey};
use table::{Base, Tables};

/// A volume to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Volume<'a> {
    /// Its header.
    pub header: &'a Header,
    /// Its key.
    pub key: &'a VolumeKey,
    /// The block device with the data (and the header, where it is not detached).
    pub device: &'a File,
    /// Whether writing is refused.
    pub read_only: bool,
    /// How it is opened; [`Flags::of`] is what the header wants.
    pub flags: Flags,
    /// How long the device stays.
    pub lifetime: Lifetime,
}

/// A volume cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name of the device below would be too long.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The kernel could not be told of it.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The device cannot be looked at.
    #[error("cannot look at the device with the encrypted data")]
    Device(#[source] io::Error),
    /// What should authenticate the data is not there.
    #[error("the volume's data is to be authenticated, but there is no integrity superblock")]
    NoIntegrity,
    /// It is damaged.
    #[error(transparent)]
    Integrity(#[from] SuperblockError),
    /// The device cannot be made.
    #[error("{}", explain(.0))]
    Make(#[from] MakeError),
    /// Device-mapper failed.
    #[error(transparent)]
    Kernel(#[from] DmError),
}

fn explain(error: &MakeError) -> String {
    let refused = matches!(
        error,
        MakeError::Kernel(DmError {
            why: blockdev::dm::DmFailure::Table(_),
            ..
        })
    );
    match refused {
        true => format!("{error}: it may lack dm-crypt, or the volume's cipher"),
        false => error.to_string(),
    }
}

/// Opens a volume under this name.
pub fn open(
    mapper: &DeviceMapper,
    name: &DmName,
    volume: &Volume<'_>,
) -> Result<Active, OpenError> {
    let tables = tables(volume)?;
    let below = match &tables.integrity {
        None => None,
        Some(target) => Some(open_integrity(mapper, name, volume, target)?),
    };
    let base = match &below {
        None => number(volume.device)?,
        Some(active) => number(active.file())?,
    };
    let uuid = uuid(volume.header, name);
    let active = with_key(volume, &tables, base, |table| {
        let making = Making {
            uuid: &uuid,
            table,
            read_only: volume.read_only,
            lifetime: volume.lifetime,
        };
        mapped::make(mapper, name, &making)
    })?;
    Ok(active)
}

/// Uses the device of this name where it is the same volume on the same device, opened by whomever
/// and at least as writable; opens it otherwise.
pub fn open_shared(
    mapper: &DeviceMapper,
    name: &DmName,
    volume: &Volume<'_>,
) -> Result<Active, OpenError> {
    if let Existing::Used(active) = mapped::existing(mapper, name)? {
        let same = active.info().uuid == uuid(volume.header, name);
        let writable = volume.read_only || !active.info().read_only;
        let place = format!(" {} ", number(volume.device)?);
        let mut table = mapper.table(name)?;
        let here = table
            .iter()
            .any(|target| target.parameters.contains(&place));
        table
            .iter_mut()
            .for_each(|target| target.parameters.zeroize());
        // With a device between, that one was made of this one.
        let between = tables(volume)?.integrity.is_some();
        if same && writable && (here || between) {
            return Ok(active);
        }
    }
    open(mapper, name, volume)
}

/// Gives an open volume the size that its device now has; the new size in sectors of 512 bytes.
pub fn resize(mapper: &DeviceMapper, name: &DmName, volume: &Volume<'_>) -> Result<u64, OpenError> {
    let tables = tables(volume)?;
    if tables.integrity.is_some() {
        return Err(TableError::FixedSize.into());
    }
    let base = number(volume.device)?;
    let sectors = tables.sectors();
    with_key(volume, &tables, base, |table| {
        mapper.replace(name, table, volume.read_only)
    })?;
    Ok(sectors)
}

/// Closes a volume, at once or with its last user; `false` where there is none.
pub fn close(mapper: &DeviceMapper, name: &DmName, later: bool) -> Result<bool, DmError> {
    // A device below is marked for removal since it was made.
    mapped::close(mapper, name, later)
}

fn tables(volume: &Volume<'_>) -> Result<Tables, OpenError> {
    let size = volume
        .device
        .try_clone()
        .and_then(|mut device| device.seek(SeekFrom::End(0)))
        .map_err(OpenError::Device)?;
    let superblock = match volume.header.segments().first() {
        Some((segment, _)) if segment.integrity.is_some() => {
            Some(superblock(volume.device, segment.offset)?)
        }
        _ => None,
    };
    let base = Base {
        device: number(volume.device)?,
        size: Bytes::new(size),
        superblock,
    };
    Ok(Tables::new(volume.header, volume.key, &base, volume.flags)?)
}

fn superblock(device: &File, offset: Bytes) -> Result<Superblock, OpenError> {
    let mut start = [0; 512];
    ReadAt::read_exact_at(device, &mut start, offset.get()).map_err(OpenError::Device)?;
    Superblock::parse(&start)?.ok_or(OpenError::NoIntegrity)
}

fn open_integrity(
    mapper: &DeviceMapper,
    name: &DmName,
    volume: &Volume<'_>,
    target: &Target,
) -> Result<Active, OpenError> {
    let below = DmName::new(&format!("{name}_dif"))?;
    let making = Making {
        uuid: &format!("CRYPT-INTEGRITY-{}-{below}", plain_uuid(volume.header)),
        table: std::slice::from_ref(target),
        read_only: volume.read_only,
        // It is held until the volume above holds it.
        lifetime: Lifetime::UntilUnused,
    };
    Ok(mapped::make(mapper, &below, &making)?)
}

/// Calls `work` with the table, while the kernel can find the key.
fn with_key<T, E>(
    volume: &Volume<'_>,
    tables: &Tables,
    base: DeviceNumber,
    work: impl FnOnce(&[Target]) -> Result<T, E>,
) -> Result<T, E> {
    if let Some(key) = volume.key.kernel() {
        return work(&tables.crypt(base, &format!(":{}:logon:{}", key.size, key.description)));
    }
    let description = tables.key_description(volume.header.uuid());
    let key = ThreadKey::add_logon(&description, volume.key.expose());
    let mut table = match &key {
        Ok(_) => tables.crypt(base, &format!(":{}:logon:{description}", volume.key.len())),
        Err(error) => {
            tracing::debug!(%error, "the key goes to the kernel within the table");
            let mut text = hex::encode(volume.key.expose());
            let table = tables.crypt(base, &text);
            text.zeroize();
            table
        }
    };
    let done = work(&table);
    table
        .iter_mut()
        .for_each(|target| target.parameters.zeroize());
    done
}

fn number(device: &File) -> Result<DeviceNumber, OpenError> {
    let number = device.metadata().map_err(OpenError::Device)?.rdev();
    Ok(DeviceNumber {
        major: rustix::fs::major(number),
        minor: rustix::fs::minor(number),
    })
}

fn uuid(header: &Header, name: &DmName) -> String {
    format!(
        "CRYPT-LUKS{}-{}-{name}",
        header.version(),
        plain_uuid(header)
    )
}

fn plain_uuid(header: &Header) -> String {
    header.uuid().replace('-', "")
}
