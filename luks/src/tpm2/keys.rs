//! The primary key that seals: the storage root key, another key that stays in the TPM, or one that is
//! made anew from a template each time.

use image_specs::tpm2::public::{self, Public};
use image_specs::tpm2::token::Primary;
use image_specs::tpm2::wire::{Reader, put_sized};
use image_specs::tpm2::{SRK_HANDLE, Token};

use super::Tpm2Error;
use super::tpm::{Entity, Tpm, TpmError};

const KEY_RESOURCE: u32 = 1;
const PERSISTENT: u8 = 0x81;

/// A key that seals, in the TPM.
pub(super) struct Parent {
    pub(super) entity: Entity,
    pub(super) public: Public,
    /// What a token tells about it: handle, name, public area.
    pub(super) told: Option<Vec<u8>>,
}

/// What tokens tell about a key: the form in which the TSS writes its handles down.
pub(super) fn told(handle: u32, area: &[u8]) -> Result<Vec<u8>, Tpm2Error> {
    let mut out = handle.to_be_bytes().to_vec();
    put_sized(&mut out, &public::name(area))?;
    out.extend(KEY_RESOURCE.to_be_bytes());
    put_sized(&mut out, area)?;
    Ok(out)
}

/// The key to seal with; the storage root key is made where there is none.
pub(super) fn for_sealing(tpm: &mut Tpm, handle: Option<u32>) -> Result<Parent, Tpm2Error> {
    let handle = handle.filter(|handle| *handle != 0).unwrap_or(SRK_HANDLE);
    let [kind, ..] = handle.to_be_bytes();
    if kind != PERSISTENT {
        return Err(Tpm2Error::Handle(handle));
    }
    if let Some((entity, area)) = tpm.read_public(handle)? {
        return persistent(entity, &area);
    }
    if handle != SRK_HANDLE {
        return Err(Tpm2Error::NoKey(handle));
    }
    let mark = tpm.mark();
    let (key, _) = primary(tpm, [Primary::Ecc, Primary::Rsa].map(Public::srk))?;
    tpm.keep(&key, SRK_HANDLE)?;
    tpm.forget(mark);
    match tpm.read_public(SRK_HANDLE)? {
        Some((entity, area)) => persistent(entity, &area),
        None => Err(Tpm2Error::NoKey(SRK_HANDLE)),
    }
}

/// The key that a token's blobs were sealed with.
pub(super) fn of_token(tpm: &mut Tpm, token: &Token) -> Result<Parent, Tpm2Error> {
    let Some(told) = &token.srk else {
        let (entity, area) = primary(tpm, [Public::legacy(token.primary)])?;
        return Ok(Parent {
            entity,
            public: Public::parse(&area)?,
            told: None,
        });
    };
    let mut reader = Reader::new(told);
    let (handle, name) = (reader.u32()?, reader.sized()?);
    match tpm.read_public(handle)? {
        None => Err(Tpm2Error::NoKey(handle)),
        Some((entity, _)) if entity.name != name => Err(Tpm2Error::OtherTpm),
        Some((entity, area)) => persistent(entity, &area),
    }
}

fn persistent(entity: Entity, area: &[u8]) -> Result<Parent, Tpm2Error> {
    let public = Public::parse(area)?;
    if !public.can_seal() {
        return Err(Tpm2Error::CannotSeal(entity.handle));
    }
    Ok(Parent {
        told: Some(told(entity.handle, area)?),
        entity,
        public,
    })
}

/// A key by the first template that the TPM can do.
fn primary<const N: usize>(
    tpm: &mut Tpm,
    templates: [Public; N],
) -> Result<(Entity, Vec<u8>), TpmError> {
    let mut last = None;
    for template in templates {
        match tpm.create_primary(&template) {
            Err(error @ TpmError::Refused(..)) => {
                tracing::debug!("{error}");
                last = Some(error);
            }
            other => return other,
        }
    }
    Err(last.unwrap_or(TpmError::Answer("make a primary key")))
}
