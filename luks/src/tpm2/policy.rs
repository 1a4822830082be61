//! The policies of a token: calculated for sealing, and lived through in a session for unsealing.
//!
//! The order is systemd's: the signed policy, then the pcrlock policy, each of which replaces what was
//! before; then PCR values, then the PIN. A signed and a pcrlock policy cannot be in one session, so the
//! secret is cut in two, and each half has its own.

use image_specs::tpm2::pcrlock::Step;
use image_specs::tpm2::policy::{reference_bytes, signed_message};
use image_specs::tpm2::signature::Wanted;
use image_specs::tpm2::token::SignedPcrs;
use image_specs::tpm2::{Bank, PcrSet, PcrSignatures, Pcrlock, PolicyDigest};

use super::Tpm2Error;
use super::crypto::sha256;
use super::response::ResponseCode;
use super::session::Session;
use super::signer::Signer;
use super::tpm::{Entity, Tpm};

/// What one blob is sealed to.
#[derive(Clone, Copy)]
pub(super) struct Conditions<'a> {
    pub(super) signed: Option<&'a SignedPcrs>,
    pub(super) pcrlock: Option<&'a Pcrlock>,
    pub(super) pcrs: PcrSet,
    pub(super) pin: bool,
}

impl<'a> Conditions<'a> {
    /// The conditions of each blob.
    pub(super) fn shards(self) -> Vec<Self> {
        match (self.signed, self.pcrlock) {
            (Some(_), Some(_)) => vec![
                Self {
                    pcrlock: None,
                    ..self
                },
                Self {
                    signed: None,
                    ..self
                },
            ],
            _ => vec![self],
        }
    }

    /// The digest to seal to, for these PCR values.
    pub(super) fn digest(
        &self,
        bank: Bank,
        values: &[(u8, Vec<u8>)],
    ) -> Result<PolicyDigest, Tpm2Error> {
        let mut digest = PolicyDigest::default();
        if let Some(signed) = self.signed {
            let key = Signer::parse(&signed.public_key)?.public.name()?;
            digest = PolicyDigest::authorize(&key, &signed.reference);
        }
        if let Some(lock) = self.pcrlock {
            digest = digest.authorize_nv(&lock.nv_name());
        }
        if !self.pcrs.is_empty() {
            let values = values.iter().map(|(_, value)| &value[..]);
            digest = digest.pcrs(bank, self.pcrs, values);
        }
        Ok(if self.pin {
            digest.auth_value()
        } else {
            digest
        })
    }
}

/// What is needed to live through a policy.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    pub(super) bank: Bank,
    pub(super) signatures: Option<&'a PcrSignatures>,
    /// Whether the signer is told to the TPM as older versions of systemd did.
    pub(super) older: bool,
}

/// Brings a session to the digest of the conditions.
pub(super) fn satisfy(
    tpm: &mut Tpm,
    session: &Session,
    conditions: &Conditions<'_>,
    means: &Means<'_>,
) -> Result<PolicyDigest, Tpm2Error> {
    if let Some(signed) = conditions.signed {
        authorize(tpm, session, signed, means)?;
    }
    if let Some(lock) = conditions.pcrlock {
        authorize_nv(tpm, session, lock)?;
    }
    if !conditions.pcrs.is_empty() {
        tpm.policy_pcr(session, means.bank, conditions.pcrs)?;
    }
    if conditions.pin {
        tpm.policy_auth_value(session)?;
    }
    Ok(tpm.policy_digest(session)?)
}

fn authorize(
    tpm: &mut Tpm,
    session: &Session,
    signed: &SignedPcrs,
    means: &Means<'_>,
) -> Result<(), Tpm2Error> {
    let signatures = means.signatures.ok_or(Tpm2Error::SignatureNeeded)?;
    let signer = Signer::parse(&signed.public_key)?;
    tpm.policy_pcr(session, means.bank, signed.pcrs)?;
    let policy = tpm.policy_digest(session)?;
    let found = signatures.find(&Wanted {
        bank: means.bank,
        pcrs: signed.pcrs,
        key: &signer.fingerprint,
        policy: &policy.0,
        reference: &signed.reference,
    })?;
    let digest = sha256(&[&signed_message(&policy, &signed.reference)]);
    let mark = tpm.mark();
    let public = if means.older {
        &signer.older
    } else {
        &signer.public
    };
    let key = tpm.load_external(public)?;
    let ticket = tpm.verify_signature(&key, &digest, &found.signature);
    tpm.forget(mark);
    let ticket = ticket.map_err(|error| match error.code() {
        Some(ResponseCode::SIGNATURE) => Tpm2Error::BadSignature,
        _ => error.into(),
    })?;
    let reference = reference_bytes(&signed.reference);
    Ok(tpm.policy_authorize(session, [&policy.0, &reference, &key.name], &ticket)?)
}

fn authorize_nv(tpm: &mut Tpm, session: &Session, lock: &Pcrlock) -> Result<(), Tpm2Error> {
    let index = index(tpm, lock)?;
    for step in lock.steps() {
        match step {
            Step::Pcrs(set) => tpm.policy_pcr(session, lock.bank, set)?,
            Step::Or(branches) => match tpm.policy_or(session, &branches) {
                Err(error) if error.code() == Some(ResponseCode::VALUE) => {
                    return Err(unpredicted(tpm, lock)?);
                }
                other => other?,
            },
        }
    }
    tpm.policy_authorize_nv(session, &index)
        .or_else(|error| match error.code() {
            Some(ResponseCode::VALUE | ResponseCode::POLICY_FAIL) => Err(unpredicted(tpm, lock)?),
            _ => Err(error.into()),
        })
}

/// The index that holds the policy; its name must be the one that keys are sealed to.
fn index(tpm: &mut Tpm, lock: &Pcrlock) -> Result<Entity, Tpm2Error> {
    let area = tpm.nv_read_public(lock.nv_index)?;
    let area = area.ok_or(Tpm2Error::NoIndex(lock.nv_index))?;
    let name = image_specs::tpm2::public::name(&area);
    if name != lock.nv_name() {
        return Err(Tpm2Error::OldPcrlock(lock.nv_index));
    }
    Ok(Entity {
        handle: lock.nv_index,
        name,
    })
}

/// Which PCRs are not as predicted; if all are, the index holds another policy.
fn unpredicted(tpm: &mut Tpm, lock: &Pcrlock) -> Result<Tpm2Error, Tpm2Error> {
    let mut differing = PcrSet::EMPTY;
    for (pcr, value) in tpm.pcr_read(lock.bank, lock.pcrs())? {
        let predicted = lock
            .predictions
            .iter()
            .any(|one| one.pcr == pcr && one.values.contains(&value));
        if !predicted {
            differing = differing.with(pcr);
        }
    }
    Ok(if differing.is_empty() {
        Tpm2Error::OldPcrlock(lock.nv_index)
    } else {
        Tpm2Error::Predictions(differing)
    })
}
