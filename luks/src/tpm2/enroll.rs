//! Sealing a new secret.

use image_specs::tpm2::public::{Kind, Public, attributes};
use image_specs::tpm2::token::{Primary, SignedPcrs};
use image_specs::tpm2::wire::put_sized;
use image_specs::tpm2::{Bank, PcrList, PcrSet, Pcrlock, PolicyDigest, SRK_HANDLE, Token};
use serde_json::Value;
use zeroize::Zeroizing;

use super::commands::Purpose;
use super::keys::{self, Parent};
use super::offline::{self, Contents, DeviceKey};
use super::pin::{Pin, PinCost, Stretched};
use super::policy::{Conditions, Means};
use super::tpm::Tpm;
use super::unseal::{Release, best_bank, measured};
use super::{Device, Entropy, Tpm2Error};
use crate::Secret;

/// What a new secret is sealed to. Nothing at all is possible, too: then the TPM alone releases it.
#[derive(Clone, Debug, Default)]
pub struct Enrollment {
    /// PCRs, with the values that they must have, or those that they have now.
    pub pcrs: PcrList,
    /// PCR values that somebody signs.
    pub signed: Option<SignedPcrs>,
    /// PCR values that systemd-pcrlock predicts.
    pub pcrlock: Option<Pcrlock>,
    /// A PIN.
    pub pin: Option<Pin>,
    /// The key of the TPM that seals; none for the storage root key.
    pub key_handle: Option<u32>,
}

/// Who seals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealer {
    /// A TPM that can be reached.
    Tpm(Device),
    /// One that cannot, by its public key: the contents of a file with it.
    PublicKey(Vec<u8>),
}

/// A sealed secret.
#[derive(Debug)]
pub struct Enrolled {
    /// The passphrase for the key slot: base64 text.
    pub secret: Secret,
    /// The token, without its key slots.
    pub token: Value,
    /// Whether nothing was ever measured into the PCRs: then they protect nothing.
    pub unmeasured: bool,
}

/// Makes a secret, and has it sealed.
pub fn enroll(
    enrollment: &Enrollment,
    sealer: &Sealer,
    mut entropy: Entropy,
) -> Result<Enrolled, Tpm2Error> {
    let salt = *entropy.bytes();
    let pin = match &enrollment.pin {
        None => Stretched::none(),
        Some(pin) => Stretched::new(&pin.pin, &salt, pin.cost)?,
    };
    let salt = enrollment.pin.as_ref().map(|_| salt.to_vec());
    let enrollment = Work {
        enrollment,
        pin: &pin,
        salt,
    };
    match sealer {
        Sealer::Tpm(device) => enrollment.online(&mut Tpm::open(device, entropy)?),
        Sealer::PublicKey(file) => enrollment.offline(&DeviceKey::parse(file)?, entropy),
    }
}

struct Work<'a> {
    enrollment: &'a Enrollment,
    pin: &'a Stretched,
    salt: Option<Vec<u8>>,
}

impl Work<'_> {
    fn online(&self, tpm: &mut Tpm) -> Result<Enrolled, Tpm2Error> {
        let bank = self.bank(tpm)?;
        let values = self.values(tpm, bank)?;
        let parent = keys::for_sealing(tpm, self.enrollment.key_handle)?;
        let mut token = self.token(bank, &values)?;
        token.srk.clone_from(&parent.told);
        token.primary = parent.public.primary().unwrap_or_default();
        let mut secret = Zeroizing::new(Vec::with_capacity(64));
        for policy in token.policies.clone() {
            let part = tpm.entropy.bytes();
            token.blobs.push(self.seal(tpm, &parent, policy, &*part)?);
            secret.extend(&*part);
        }
        self.verify(tpm, &token, &secret)?;
        let unmeasured = !values.is_empty() && !measured(&values);
        Ok(self.enrolled(&token, &secret, unmeasured))
    }

    fn offline(&self, key: &DeviceKey, mut entropy: Entropy) -> Result<Enrolled, Tpm2Error> {
        let list = &self.enrollment.pcrs;
        if !list.without_value().is_empty() {
            return Err(Tpm2Error::Values(list.without_value()));
        }
        let bank = list.bank().unwrap_or(Bank::Sha256);
        let mut token = self.token(Some(bank), &given(list))?;
        let [policy] = token.policies[..] else {
            return Err(Tpm2Error::OfflineShards);
        };
        let handle = self.enrollment.key_handle.filter(|handle| *handle != 0);
        token.srk = Some(keys::told(handle.unwrap_or(SRK_HANDLE), &key.area)?);
        token.primary = key.public.primary().unwrap_or(Primary::Ecc);
        let secret = entropy.bytes();
        let contents = Contents {
            policy,
            auth: &self.pin.auth,
            secret: &*secret,
        };
        token
            .blobs
            .push(offline::seal(key, &contents, &mut entropy)?);
        Ok(self.enrolled(&token, &*secret, false))
    }

    fn enrolled(&self, token: &Token, secret: &[u8], unmeasured: bool) -> Enrolled {
        Enrolled {
            secret: self.pin.passphrase(secret),
            token: token.to_json(),
            unmeasured,
        }
    }

    /// The bank of the PCRs, if there are any.
    fn bank(&self, tpm: &mut Tpm) -> Result<Option<Bank>, Tpm2Error> {
        let list = &self.enrollment.pcrs;
        let signed = self.enrollment.signed.as_ref();
        match (list.bank(), list.is_empty(), signed) {
            (Some(bank), ..) => Ok(Some(bank)),
            (None, false, _) => best_bank(tpm, list.set()).map(Some),
            (None, true, Some(signed)) => best_bank(tpm, signed.pcrs).map(Some),
            (None, true, None) => Ok(None),
        }
    }

    /// The values that the PCRs must have.
    fn values(&self, tpm: &mut Tpm, bank: Option<Bank>) -> Result<Vec<(u8, Vec<u8>)>, Tpm2Error> {
        let list = &self.enrollment.pcrs;
        let (Some(bank), false) = (bank, list.is_empty()) else {
            return Ok(Vec::new());
        };
        let banks = tpm.banks()?;
        let there = banks.iter().find(|(one, _)| *one == bank);
        let there = there.map_or(PcrSet::EMPTY, |(_, set)| *set);
        let lacking: PcrSet = list
            .set()
            .iter()
            .filter(|pcr| !there.contains(*pcr))
            .collect();
        if !lacking.is_empty() {
            return Err(Tpm2Error::NoPcrs(lacking, bank));
        }
        let mut values = given(list);
        values.extend(tpm.pcr_read(bank, list.without_value())?);
        values.sort();
        Ok(values)
    }

    /// The token, still without blobs.
    fn token(&self, bank: Option<Bank>, values: &[(u8, Vec<u8>)]) -> Result<Token, Tpm2Error> {
        let enrollment = self.enrollment;
        let hash = bank.unwrap_or(Bank::Sha256);
        let digests = self
            .conditions()
            .into_iter()
            .map(|one| one.digest(hash, values));
        let digests: Vec<PolicyDigest> = digests.collect::<Result<_, _>>()?;
        let used = !enrollment.pcrs.is_empty() || enrollment.signed.is_some();
        Ok(Token {
            policies: digests.iter().map(|digest| digest.0).collect(),
            pcrs: enrollment.pcrs.set(),
            bank: bank.filter(|_| used),
            pin: enrollment.pin.is_some(),
            pcrlock: enrollment.pcrlock.is_some(),
            pcrlock_nv: enrollment
                .pcrlock
                .as_ref()
                .map(|lock| lock.nv_handle.clone()),
            signed: enrollment.signed.clone(),
            salt: self.salt.clone(),
            argon2id: enrollment.pin.as_ref().and_then(|pin| match pin.cost {
                PinCost::Argon2id(cost) => Some(cost),
                PinCost::Pbkdf2 => None,
            }),
            ..Token::default()
        })
    }

    fn conditions(&self) -> Vec<Conditions<'_>> {
        Conditions {
            signed: self.enrollment.signed.as_ref(),
            pcrlock: self.enrollment.pcrlock.as_ref(),
            pcrs: self.enrollment.pcrs.set(),
            pin: self.enrollment.pin.is_some(),
        }
        .shards()
    }

    fn seal(
        &self,
        tpm: &mut Tpm,
        parent: &Parent,
        policy: [u8; 32],
        secret: &[u8],
    ) -> Result<Vec<u8>, Tpm2Error> {
        let no_da = if self.pin.auth.is_empty() {
            attributes::NO_DA
        } else {
            0
        };
        let sealed = Public {
            attributes: attributes::FIXED_TPM | attributes::FIXED_PARENT | no_da,
            policy: policy.to_vec(),
            kind: Kind::Sealed { unique: Vec::new() },
        };
        let mark = tpm.mark();
        let key = (&parent.entity, &parent.public);
        let mut hide = tpm.start_session(Purpose::Hide, key, None)?;
        let parts = tpm.create(&parent.entity, &mut hide, &sealed, [&self.pin.auth, secret]);
        tpm.forget(mark);
        let mut blob = Vec::new();
        for part in parts? {
            put_sized(&mut blob, &part)?;
        }
        Ok(blob)
    }

    /// Unseals once, where the policy must hold now.
    fn verify(&self, tpm: &mut Tpm, token: &Token, secret: &[u8]) -> Result<(), Tpm2Error> {
        let given = !given(&self.enrollment.pcrs).is_empty();
        if given || self.enrollment.signed.is_some() || self.enrollment.pcrlock.is_some() {
            return Ok(());
        }
        let release = Release {
            token,
            means: Means {
                bank: token.bank.unwrap_or(Bank::Sha256),
                signatures: None,
                older: false,
            },
            auth: &self.pin.auth,
        };
        let released = release.run(tpm, &self.conditions())?;
        if released[..] == *secret {
            Ok(())
        } else {
            Err(Tpm2Error::Verify)
        }
    }
}

fn given(list: &PcrList) -> Vec<(u8, Vec<u8>)> {
    let values = list.values().iter();
    values
        .filter_map(|entry| Some((entry.pcr, entry.value.clone()?)))
        .collect()
}
