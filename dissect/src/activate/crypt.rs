//! LUKS partitions, decrypted by the kernel: on the verity device of the partition, where it has one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use blockdev::dm::{BadName, DeviceMapper, DmError, DmName};
use blockdev::mapped::{Active, Lifetime};
use image_specs::partition::Designator;
use luks::unlock::{Flags, OpenError, Volume};

use super::detach::DECRYPTED;
use super::measured::MeasuringError;
use super::{ActivateOptions, parity};
use crate::assign::{Inside, Partition};
use crate::unlock::{self, InsideError, Keys, UnlockError};

/// The partitions that are mounted: swap is none of them.
pub(super) const MOUNTED: [Designator; 8] = [
    Designator::Root,
    Designator::Usr,
    Designator::Home,
    Designator::Srv,
    Designator::Var,
    Designator::Tmp,
    Designator::Xbootldr,
    Designator::Esp,
];

/// A LUKS partition is not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CryptFailure {
    /// No device-mapper.
    #[error(
        "the kernel's device-mapper is needed to decrypt it, and cannot be used; the image can still \
         be listed and copied from, which needs none"
    )]
    NoDeviceMapper(#[source] DmError),
    /// The device cannot be looked at.
    #[error("cannot look at its device")]
    Device(#[source] io::Error),
    /// It stays locked.
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    /// The device cannot be named.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The kernel.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The volume key is to be measured, and cannot be.
    #[error("cannot measure its volume key")]
    Measure(#[from] MeasuringError),
    /// What is inside must not be there.
    #[error(transparent)]
    Inside(#[from] InsideError),
}

/// What a partition's encrypted data lie on.
pub(super) struct Below<'a> {
    /// The open device.
    pub(super) device: &'a File,
    /// What it is called, without anything that another image could be called, too.
    pub(super) name: String,
    /// Whether nothing may be written to it.
    pub(super) read_only: bool,
}

/// Unlocks a partition, and has the kernel decrypt it. It is shared with whoever has opened the same
/// volume on the same device.
pub(super) fn open(
    partition: &Partition,
    below: &Below<'_>,
    options: &ActivateOptions,
    keys: &Keys,
) -> Result<(Active, Inside), CryptFailure> {
    // Before anybody is asked for a passphrase in vain.
    let mapper = DeviceMapper::open().map_err(CryptFailure::NoDeviceMapper)?;
    let size = parity::size(below.device).map_err(CryptFailure::Device)?;
    let unlocked = unlock::unlock(below.device, size, partition, &options.policy, keys)?;
    if let Some(measuring) = &options.measuring {
        measuring.volume_key(partition.designator, &unlocked)?;
    }
    let mut flags = Flags::of(&unlocked.header);
    flags.discards |= options.crypt_discards;
    let name = DmName::new(&format!("{}{DECRYPTED}", below.name))?;
    let volume = Volume {
        header: &unlocked.header,
        key: &unlocked.key,
        device: below.device,
        read_only: below.read_only || !partition.writable,
        flags,
        lifetime: Lifetime::UntilUnused,
    };
    let active = luks::unlock::open_shared(&mapper, &name, &volume)?;
    let size = parity::size(active.file()).map_err(CryptFailure::Device)?;
    let mut read = |offset, buffer: &mut [u8]| active.file().read_exact_at(buffer, offset);
    let held = (&options.policy, &options.file_systems);
    let inside = unlock::look(&mut read, size, partition.designator, held)?;
    Ok((active, inside))
}
