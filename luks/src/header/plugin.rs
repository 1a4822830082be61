//! Tokens whose passphrase only a plug-in of libcryptsetup can get: FIDO2 devices, PKCS#11 cards, the
//! kernel's keyring.
//!
//! The library gives a volume key that it finds this way to the kernel only, as a key of the calling
//! thread. So the [`VolumeKey`] is a name: dm-crypt can use it from this thread, nothing else can.

use image_specs::luks_header::Token;
use libcryptsetup_rs::CryptTokenInfo;
use libcryptsetup_rs::consts::flags::CryptActivate;
use rustix::io::Errno;

use super::{Header, HeaderError, is};
use crate::clib::LibraryError;
use crate::{Secret, VolumeKey};

/// A token does not unlock a volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// There is no such token.
    #[error("the LUKS header has no token {0}")]
    Missing(u32),
    /// The plug-in is not installed.
    #[error(
        "the plug-in for tokens of type {kind:?} is not installed{}",
        package(.kind)
    )]
    NotInstalled {
        /// The token's type.
        kind: String,
    },
    /// It needs a PIN, or this one is wrong.
    #[error("token {token} of type {kind:?} {}", if *.wrong { "does not accept this PIN" } else { "needs a PIN" })]
    Pin {
        /// Which.
        token: u32,
        /// Its type.
        kind: String,
        /// Whether there was one.
        wrong: bool,
    },
    /// The device is not there.
    #[error("the device for token {token} of type {kind:?} is not there, or did not answer")]
    Device {
        /// Which.
        token: u32,
        /// Its type.
        kind: String,
    },
    /// What it gives opens no key slot.
    #[error("what token {0} gives opens no key slot")]
    WrongKey(u32),
    /// The kernel has no place for the key.
    #[error("the kernel takes no volume keys into its keyring, or has no dm-crypt")]
    NoKeyring(#[source] LibraryError),
    /// Anything else.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

fn package(kind: &str) -> &'static str {
    match kind {
        "systemd-fido2" | "systemd-pkcs11" | "systemd-tpm2" => {
            "; it is in the package systemd-cryptsetup (or systemd, in older distributions)"
        }
        "ssh" => "; it is in the package cryptsetup-ssh",
        _ => "",
    }
}

impl Header {
    /// Has a plug-in unlock the volume by a token. The key is in the keyring of this thread, and may
    /// only be used for [`crate::unlock`], from this thread.
    pub fn unlock_token(&self, token: u32, pin: Option<&Secret>) -> Result<VolumeKey, PluginError> {
        let metadata = self.metadata().ok_or(HeaderError::Version2Only)?;
        let known = metadata.tokens.get(&token);
        let known = known.ok_or(PluginError::Missing(token))?;
        let info = self.library("look for a plug-in", |device| {
            device.token_handle().status(token)
        });
        match info.map_err(HeaderError::from)? {
            CryptTokenInfo::Internal(_) | CryptTokenInfo::External(_) => {}
            _ => {
                return Err(PluginError::NotInstalled {
                    kind: known.kind.clone(),
                });
            }
        }
        let opened = self.library("unlock by a token", |device| {
            let flags = CryptActivate::KEYRING_KEY;
            let mut handle = device.token_handle();
            match pin {
                None => handle.activate_by_token::<()>(None, Some(token), None, flags),
                Some(pin) => handle.activate_by_token_pin::<()>(
                    None,
                    None,
                    Some(token),
                    pin.expose(),
                    None,
                    flags,
                ),
            }
        });
        let slot = opened.map_err(|error| failure(error, token, known, pin.is_some()))?;
        let digests = metadata.digests.iter();
        let digest = digests
            .filter(|(_, digest)| digest.keyslots.contains(&slot) && !digest.segments.is_empty())
            .map(|(number, _)| *number)
            .next();
        let size = metadata.keyslots.get(&slot).map(|slot| slot.key_size);
        match (digest, size) {
            (Some(digest), Some(size)) => Ok(VolumeKey::in_kernel(
                format!("cryptsetup:{}-d{digest}", self.uuid),
                usize::try_from(size).unwrap_or(0),
            )),
            _ => Err(PluginError::WrongKey(token)),
        }
    }
}

fn failure(error: LibraryError, token: u32, known: &Token, with_pin: bool) -> PluginError {
    let kind = known.kind.clone();
    let any = |errors: &[Errno]| errors.iter().any(|errno| is(&error, *errno));
    if any(&[Errno::NOANO]) {
        PluginError::Pin {
            token,
            kind,
            wrong: with_pin,
        }
    } else if any(&[Errno::PERM]) {
        PluginError::WrongKey(token)
    } else if any(&[Errno::AGAIN, Errno::NODEV, Errno::NXIO, Errno::TIMEDOUT]) {
        PluginError::Device { token, kind }
    } else if any(&[Errno::NOTSUP, Errno::OPNOTSUPP]) {
        PluginError::NoKeyring(error)
    } else {
        HeaderError::from(error).into()
    }
}
