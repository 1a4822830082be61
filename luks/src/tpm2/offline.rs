//! Sealing to a TPM that is not there: by its public key alone, to be imported when it is opened
//! (TPM 2.0 Library part 1, 23.3, "Duplication").

use image_specs::tpm2::public::{Kind, Public, attributes};
use image_specs::tpm2::wire::{Reader, put_sized};
use openssl::error::ErrorStack;
use zeroize::Zeroizing;

use super::crypto::{NO_IV, Protection, agree, cfb, hmac, sha256};
use super::{AgreeError, Entropy, Tpm2Error};

const KEYED_HASH: u16 = 0x0008;
/// More than a sensitive area has.
const ROOM: usize = 512;

/// A TPM's public key: its handle is not part of it.
pub(super) struct DeviceKey {
    pub(super) area: Vec<u8>,
    pub(super) public: Public,
    bits: u16,
}

impl DeviceKey {
    /// Parses what `systemd-tpm2-setup` and `tpm2_readpublic` write: the area with its size before it.
    pub(super) fn parse(file: &[u8]) -> Result<Self, Tpm2Error> {
        let mut reader = Reader::new(file);
        let area = reader.sized().map_err(|_| Tpm2Error::DeviceKey)?;
        if !reader.is_empty() {
            return Err(Tpm2Error::DeviceKey);
        }
        let public = Public::parse(area)?;
        let bits = match public.kind {
            Kind::Rsa { aes, .. } | Kind::Ecc { aes, .. } if public.can_seal() => aes,
            _ => None,
        };
        Ok(Self {
            area: area.to_vec(),
            bits: bits.ok_or(Tpm2Error::DeviceKey)?,
            public,
        })
    }
}

/// What a blob is made of.
pub(super) struct Contents<'a> {
    pub(super) policy: [u8; 32],
    /// The object's authorization value; empty without a PIN.
    pub(super) auth: &'a [u8],
    pub(super) secret: &'a [u8],
}

/// A blob as tokens have it: private area, public area, encrypted seed.
pub(super) fn seal(
    key: &DeviceKey,
    contents: &Contents<'_>,
    entropy: &mut Entropy,
) -> Result<Vec<u8>, Tpm2Error> {
    let obfuscation = entropy.bytes();
    let no_da = if contents.auth.is_empty() {
        attributes::NO_DA
    } else {
        0
    };
    let sealed = Public {
        attributes: no_da,
        policy: contents.policy.to_vec(),
        kind: Kind::Sealed {
            unique: sha256(&[&*obfuscation, contents.secret]).to_vec(),
        },
    };
    let agreed = agree(&key.public, "DUPLICATE", entropy)?;
    let protection = Protection::new(&*agreed.secret, &sealed.name()?, key.bits);
    let private = private(contents, &*obfuscation, &protection, &sealed.name()?)?;
    let mut blob = Vec::new();
    for part in [&private, &sealed.encode()?, &agreed.encrypted] {
        put_sized(&mut blob, part)?;
    }
    Ok(blob)
}

fn private(
    contents: &Contents<'_>,
    obfuscation: &[u8],
    protection: &Protection,
    name: &[u8],
) -> Result<Vec<u8>, Tpm2Error> {
    // All the room at once: bytes that grow are copied, and the copy is not erased.
    let mut sensitive = Zeroizing::new(Vec::with_capacity(ROOM));
    sensitive.extend(KEYED_HASH.to_be_bytes());
    for part in [contents.auth, obfuscation, contents.secret] {
        put_sized(&mut sensitive, part)?;
    }
    let mut sized = Zeroizing::new(Vec::with_capacity(ROOM));
    put_sized(&mut sized, &sensitive)?;
    let failed = |error: ErrorStack| AgreeError::from(error);
    let hidden = cfb(true, &protection.cipher, &NO_IV, &sized).map_err(failed)?;
    let mut out = Vec::new();
    put_sized(&mut out, &*hmac(&protection.integrity, &[&hidden, name]))?;
    out.extend(&*hidden);
    Ok(out)
}
