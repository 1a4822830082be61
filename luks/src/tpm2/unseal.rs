//! Getting a sealed secret back.

use image_specs::tpm2::wire::{Reader, Short};
use image_specs::tpm2::{Bank, PcrSet, PcrSignatures, Pcrlock, Token};
use zeroize::Zeroizing;

use super::commands::{Bound, Purpose};
use super::keys::{self, Parent};
use super::pin::Stretched;
use super::policy::{Conditions, Means, satisfy};
use super::response::ResponseCode;
use super::session::{CONTINUE, Session};
use super::tpm::{Entity, Tpm, TpmError, Use};
use super::{Device, Entropy, Tpm2Error};
use crate::Secret;

/// What there is to satisfy a token's policy.
#[derive(Clone, Debug, Default)]
pub struct Unsealing<'a> {
    /// The TPM.
    pub device: Device,
    /// The PIN, if somebody has typed one.
    pub pin: Option<&'a Secret>,
    /// Signatures of PCR policies.
    pub signatures: Option<&'a PcrSignatures>,
    /// The file of systemd-pcrlock.
    pub pcrlock: Option<&'a Pcrlock>,
}

/// How often a policy is begun anew because a PCR changed meanwhile.
const TRIES: usize = 30;
const PERMANENT: u32 = 0x200;
const IN_LOCKOUT: u32 = 1 << 9;
const LOCKOUT_COUNTER: u32 = 0x20e;
const MAX_AUTH_FAIL: u32 = 0x20f;
const LOCKOUT_INTERVAL: u32 = 0x210;

/// The passphrase of a token's key slot, from the TPM that sealed it.
pub fn unseal(
    token: &Token,
    unsealing: &Unsealing<'_>,
    entropy: Entropy,
) -> Result<Secret, Tpm2Error> {
    // All that can be known without the TPM comes first: each try with a wrong PIN counts there.
    let conditions = conditions(token, unsealing)?;
    let pin = match (token.pin, unsealing.pin) {
        (true, None) => return Err(Tpm2Error::PinNeeded),
        (true, Some(pin)) => Stretched::by_token(pin, token)?,
        (false, _) => Stretched::none(),
    };
    let mut tpm = Tpm::open(&unsealing.device, entropy)?;
    if token.pin {
        refuse_lockout(&mut tpm)?;
    }
    let bank = match token.bank {
        Some(bank) => bank,
        None => best_bank(&mut tpm, all_pcrs(token))?,
    };
    let released = Release {
        token,
        means: Means {
            bank,
            signatures: unsealing.signatures,
            older: false,
        },
        auth: &pin.auth,
    }
    .run(&mut tpm, &conditions)?;
    Ok(pin.passphrase(&released))
}

fn conditions<'a>(
    token: &'a Token,
    unsealing: &Unsealing<'a>,
) -> Result<Vec<Conditions<'a>>, Tpm2Error> {
    let pcrlock = unsealing.pcrlock.filter(|_| token.pcrlock);
    if token.pcrlock && pcrlock.is_none() {
        return Err(Tpm2Error::PcrlockNeeded);
    }
    if let (Some(lock), Some(nv)) = (pcrlock, &token.pcrlock_nv)
        && lock.nv_handle != *nv
    {
        return Err(Tpm2Error::OtherPcrlock);
    }
    if token.signed.is_some() && unsealing.signatures.is_none() {
        return Err(Tpm2Error::SignatureNeeded);
    }
    let shards = Conditions {
        signed: token.signed.as_ref(),
        pcrlock,
        pcrs: token.pcrs,
        pin: token.pin,
    }
    .shards();
    if shards.len() != token.blobs.len() {
        return Err(Tpm2Error::Policy);
    }
    Ok(shards)
}

fn all_pcrs(token: &Token) -> PcrSet {
    let signed = token
        .signed
        .as_ref()
        .map_or(PcrSet::EMPTY, |signed| signed.pcrs);
    token.pcrs.iter().chain(signed.iter()).collect()
}

/// The bank that has these PCRs: SHA-256 where it can be.
pub(super) fn best_bank(tpm: &mut Tpm, pcrs: PcrSet) -> Result<Bank, Tpm2Error> {
    let banks = tpm.banks()?;
    let has = |bank: Bank| {
        banks
            .iter()
            .any(|(one, set)| *one == bank && pcrs.iter().all(|pcr| set.contains(pcr)))
    };
    let mut usable = Vec::new();
    for bank in [Bank::Sha256, Bank::Sha1, Bank::Sha384, Bank::Sha512] {
        if !has(bank) {
            continue;
        }
        if pcrs.is_empty() || measured(&tpm.pcr_read(bank, pcrs)?) {
            return Ok(bank);
        }
        usable.push(bank);
    }
    usable.first().copied().ok_or(Tpm2Error::NoBank(pcrs))
}

/// Whether something was measured into any of these.
pub(super) fn measured(values: &[(u8, Vec<u8>)]) -> bool {
    let same = |value: &[u8], byte| value.iter().all(|other| *other == byte);
    values
        .iter()
        .any(|(_, value)| !same(value, 0) && !same(value, 0xff))
}

/// Does not try where no try can succeed.
fn refuse_lockout(tpm: &mut Tpm) -> Result<(), Tpm2Error> {
    match tpm.property(PERMANENT)? {
        Some(bits) if bits & IN_LOCKOUT != 0 => Err(lockout(tpm)),
        _ => Ok(()),
    }
}

fn lockout(tpm: &mut Tpm) -> Tpm2Error {
    Tpm2Error::Lockout(tpm.property(LOCKOUT_INTERVAL).ok().flatten())
}

fn wrong_pin(tpm: &mut Tpm) -> Tpm2Error {
    let mut number = |property| tpm.property(property).ok().flatten();
    let left = number(MAX_AUTH_FAIL).zip(number(LOCKOUT_COUNTER));
    Tpm2Error::WrongPin(left.map(|(most, now)| most.saturating_sub(now)))
}

/// Unsealing the blobs of a token.
pub(super) struct Release<'a> {
    pub(super) token: &'a Token,
    pub(super) means: Means<'a>,
    /// The objects' authorization value.
    pub(super) auth: &'a [u8],
}

/// A blob's parts.
struct Blob<'a> {
    private: &'a [u8],
    public: &'a [u8],
    seed: Option<&'a [u8]>,
}

impl<'a> Blob<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Tpm2Error> {
        let mut reader = Reader::new(bytes);
        let (private, public) = (reader.sized()?, reader.sized()?);
        let seed = if reader.is_empty() {
            None
        } else {
            Some(reader.sized()?).filter(|seed| !seed.is_empty())
        };
        match reader.is_empty() {
            true => Ok(Self {
                private,
                public,
                seed,
            }),
            false => Err(Short.into()),
        }
    }
}

impl Release<'_> {
    /// The secret: that of each blob, one after the other.
    pub(super) fn run(
        &self,
        tpm: &mut Tpm,
        conditions: &[Conditions<'_>],
    ) -> Result<Zeroizing<Vec<u8>>, Tpm2Error> {
        let parent = keys::of_token(tpm, self.token)?;
        let mut secret = Zeroizing::new(Vec::with_capacity(256));
        let blobs = self.token.blobs.iter().zip(&self.token.policies);
        for ((blob, policy), conditions) in blobs.zip(conditions) {
            let mark = tpm.mark();
            let object = load(tpm, &parent, &Blob::parse(blob)?)?;
            let part = self.one(tpm, (&parent, &object), conditions, *policy);
            tpm.forget(mark);
            secret.extend(&*part?);
        }
        Ok(secret)
    }

    fn one(
        &self,
        tpm: &mut Tpm,
        (parent, object): (&Parent, &Entity),
        conditions: &Conditions<'_>,
        policy: [u8; 32],
    ) -> Result<Zeroizing<Vec<u8>>, Tpm2Error> {
        let key = (&parent.entity, &parent.public);
        // Bound to the object: who does not know the PIN cannot play the TPM.
        let bound = Bound {
            object,
            value: self.auth,
        };
        let mut hide = tpm.start_session(Purpose::Hide, key, Some(&bound))?;
        for _ in 0..TRIES {
            let mark = tpm.mark();
            let mut session = tpm.start_session(Purpose::Policy, key, None)?;
            let result = self.attempt(tpm, object, (conditions, policy), [&mut session, &mut hide]);
            tpm.forget(mark);
            match result {
                Err(Tpm2Error::Tpm(error)) if error.code() == Some(ResponseCode::PCR_CHANGED) => {}
                other => return other,
            }
        }
        Err(Tpm2Error::Pcrs(conditions.pcrs, self.means.bank))
    }

    fn attempt(
        &self,
        tpm: &mut Tpm,
        object: &Entity,
        (conditions, policy): (&Conditions<'_>, [u8; 32]),
        [session, hide]: [&mut Session; 2],
    ) -> Result<Zeroizing<Vec<u8>>, Tpm2Error> {
        if !self.reaches(tpm, session, conditions, policy)? {
            return Err(match conditions.pcrs.is_empty() {
                true => Tpm2Error::Policy,
                false => Tpm2Error::Pcrs(conditions.pcrs, self.means.bank),
            });
        }
        let used = Use {
            session,
            attributes: CONTINUE,
            value: self.auth,
        };
        tpm.unseal(object, used, hide)
            .map_err(|error| self.refused(tpm, conditions, error))
    }

    /// Brings the session to the policy's digest, if that is possible.
    fn reaches(
        &self,
        tpm: &mut Tpm,
        session: &Session,
        conditions: &Conditions<'_>,
        policy: [u8; 32],
    ) -> Result<bool, Tpm2Error> {
        if satisfy(tpm, session, conditions, &self.means)?.0 == policy {
            return Ok(true);
        }
        if conditions.signed.is_none() {
            return Ok(false);
        }
        tpm.policy_restart(session)?;
        let older = Means {
            older: true,
            ..self.means
        };
        Ok(satisfy(tpm, session, conditions, &older)?.0 == policy)
    }

    fn refused(&self, tpm: &mut Tpm, conditions: &Conditions<'_>, error: TpmError) -> Tpm2Error {
        match error.code() {
            Some(ResponseCode::LOCKOUT) => lockout(tpm),
            Some(ResponseCode::AUTH_FAIL | ResponseCode::BAD_AUTH) if conditions.pin => {
                wrong_pin(tpm)
            }
            Some(ResponseCode::POLICY_FAIL) => Tpm2Error::Policy,
            _ => error.into(),
        }
    }
}

fn load(tpm: &mut Tpm, parent: &Parent, blob: &Blob<'_>) -> Result<Entity, Tpm2Error> {
    let foreign = |error: TpmError| match error.code() {
        Some(ResponseCode::INTEGRITY) => Tpm2Error::OtherTpm,
        _ => error.into(),
    };
    let imported = match blob.seed {
        None => None,
        Some(seed) => {
            let parts = [blob.private, blob.public, seed];
            Some(tpm.import(&parent.entity, parts).map_err(foreign)?)
        }
    };
    let private = imported.as_deref().unwrap_or(blob.private);
    tpm.load(&parent.entity, [private, blob.public])
        .map_err(foreign)
}
