//! The commands of a TPM that are used here, one function each (TPM 2.0 Library part 3).

use image_specs::tpm2::policy::selection;
use image_specs::tpm2::wire::{Reader, Short, put_sized};
use image_specs::tpm2::{Bank, PcrSet, Public};
use zeroize::Zeroizing;

use super::crypto::agree;
use super::response::ResponseCode;
use super::session::{CONTINUE, DECRYPT, ENCRYPT, Nonces, Session};
use super::tpm::{Auth, Command, Entity, Tpm, TpmError, Use};

pub(super) const OWNER: u32 = 0x4000_0001;
const NULL_HIERARCHY: u32 = 0x4000_0007;
const SHA256: u16 = 0x000b;
const VERIFIED: u16 = 0x8022;
const RSASSA: u16 = 0x0014;
const NONE: u16 = 0x0010;
const MAX_PCRS_AT_ONCE: usize = 8;
const HASHCHECK_TICKET: usize = 8;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To hide and to check parameters.
    Hide,
    /// To reach the digest of a policy.
    Policy,
}

/// What an object's authorization value is, where a session is bound to it.
pub(super) struct Bound<'a> {
    pub(super) object: &'a Entity,
    pub(super) value: &'a [u8],
}

/// A ticket by which the TPM knows later that it has checked a signature.
pub(super) struct Ticket(pub(super) Vec<u8>);

pub(super) fn plain<'a>(
    what: &'static str,
    code: u32,
    handles: &'a [&'a Entity],
    parameters: Vec<u8>,
) -> Command<'a> {
    Command {
        what,
        code,
        handles,
        parameters: Zeroizing::new(parameters),
        creates: false,
    }
}

/// Room for what is put behind sized parts: bytes that grow are copied, and the copy is not erased.
const MORE: usize = 64;

pub(super) fn sized(parts: &[&[u8]]) -> Result<Vec<u8>, TpmError> {
    let size = parts.iter().map(|part| part.len() + 2).sum::<usize>();
    let mut out = Vec::with_capacity(size + MORE);
    for part in parts {
        put_sized(&mut out, part)?;
    }
    Ok(out)
}

impl Tpm {
    pub(super) fn startup(&mut self) -> Result<(), TpmError> {
        let command = plain("start", 0x144, &[], vec![0, 0]);
        match self.run(&command, &mut []) {
            Err(error) if error.code() == Some(ResponseCode::INITIALIZED) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The PCRs of each bank.
    pub(super) fn banks(&mut self) -> Result<Vec<(Bank, PcrSet)>, TpmError> {
        const WHAT: &str = "list its PCRs";
        let bytes = self.capability(WHAT, 5, 0, 1)?;
        let mut reader = Reader::new(&bytes);
        parse_banks(&mut reader).map_err(|Short| TpmError::Answer(WHAT))
    }

    /// A number that the TPM tells about itself.
    pub(super) fn property(&mut self, property: u32) -> Result<Option<u32>, TpmError> {
        const WHAT: &str = "tell a property";
        let bytes = self.capability(WHAT, 6, property, 1)?;
        let mut reader = Reader::new(&bytes);
        let mut read = || -> Result<Option<u32>, Short> {
            let found = reader.u32()? > 0 && reader.u32()? == property;
            found.then(|| reader.u32()).transpose()
        };
        read().map_err(|Short| TpmError::Answer(WHAT))
    }

    fn capability(
        &mut self,
        what: &'static str,
        capability: u32,
        property: u32,
        count: u32,
    ) -> Result<Vec<u8>, TpmError> {
        let parameters = [capability, property, count].map(u32::to_be_bytes).concat();
        let answer = self.run(&plain(what, 0x17a, &[], parameters), &mut [])?;
        // "More follows", and the capability again.
        let rest = answer.parameters.get(5..);
        rest.map(<[u8]>::to_vec).ok_or(TpmError::Answer(what))
    }

    /// The key at a handle, if there is one.
    pub(super) fn read_public(
        &mut self,
        handle: u32,
    ) -> Result<Option<(Entity, Vec<u8>)>, TpmError> {
        const WHAT: &str = "show a key";
        let entity = Entity::plain(handle);
        let answer = match self.run(&plain(WHAT, 0x173, &[&entity], Vec::new()), &mut []) {
            Err(error) if error.code() == Some(ResponseCode::HANDLE) => return Ok(None),
            other => other?,
        };
        let mut reader = Reader::new(&answer.parameters);
        let mut read = || -> Result<_, Short> { Ok((reader.sized()?, reader.sized()?)) };
        let (area, name) = read().map_err(|Short| TpmError::Answer(WHAT))?;
        if image_specs::tpm2::public::name(area) != name {
            return Err(TpmError::Answer(WHAT));
        }
        let entity = Entity {
            handle,
            name: name.to_vec(),
        };
        Ok(Some((entity, area.to_vec())))
    }

    /// Makes a primary key from a template.
    pub(super) fn create_primary(
        &mut self,
        template: &Public,
    ) -> Result<(Entity, Vec<u8>), TpmError> {
        const WHAT: &str = "make a primary key";
        let owner = Entity::plain(OWNER);
        let mut parameters = sized(&[&[0; 4], &template.encode()?, &[]])?;
        parameters.extend([0; 4]);
        let mut command = plain(WHAT, 0x131, &[], parameters);
        let handles = [&owner];
        command.handles = &handles;
        command.creates = true;
        let answer = self.run(&command, &mut [Auth::Empty])?;
        let mut reader = Reader::new(&answer.parameters);
        let area = reader.sized().map_err(|Short| TpmError::Answer(WHAT))?;
        let entity = Entity {
            handle: answer.handle,
            name: image_specs::tpm2::public::name(area),
        };
        Ok((entity, area.to_vec()))
    }

    /// Keeps a key beyond a reset, at a handle.
    pub(super) fn keep(&mut self, key: &Entity, handle: u32) -> Result<(), TpmError> {
        let owner = Entity::plain(OWNER);
        let handles = [&owner, key];
        let parameters = handle.to_be_bytes().to_vec();
        let command = plain("keep a key", 0x120, &handles, parameters);
        match self.run(&command, &mut [Auth::Empty]) {
            Err(error) if error.code() == Some(ResponseCode::NV_DEFINED) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Seals data below a key: the private and the public area.
    pub(super) fn create(
        &mut self,
        parent: &Entity,
        hide: &mut Session,
        sealed: &Public,
        [auth, data]: [&[u8]; 2],
    ) -> Result<[Vec<u8>; 2], TpmError> {
        const WHAT: &str = "seal";
        let sensitive = Zeroizing::new(sized(&[auth, data])?);
        let mut parameters = Zeroizing::new(sized(&[&sensitive, &sealed.encode()?, &[]])?);
        parameters.extend([0; 4]);
        let handles = [parent];
        let command = Command {
            what: WHAT,
            code: 0x153,
            handles: &handles,
            parameters,
            creates: false,
        };
        let used = Use::of(hide, CONTINUE | DECRYPT | ENCRYPT);
        let answer = self.run(&command, &mut [Auth::Session(used)])?;
        let mut reader = Reader::new(&answer.parameters);
        let mut read = || -> Result<_, Short> { Ok((reader.sized()?, reader.sized()?)) };
        let (private, public) = read().map_err(|Short| TpmError::Answer(WHAT))?;
        Ok([private.to_vec(), public.to_vec()])
    }

    /// Makes an object that was encrypted to a key one that the key's TPM has made: its private area.
    pub(super) fn import(
        &mut self,
        parent: &Entity,
        [private, public, seed]: [&[u8]; 3],
    ) -> Result<Vec<u8>, TpmError> {
        const WHAT: &str = "import a sealed object";
        let mut parameters = sized(&[&[], public, private, seed])?;
        parameters.extend(NONE.to_be_bytes());
        let handles = [parent];
        let command = plain(WHAT, 0x156, &handles, parameters);
        let answer = self.run(&command, &mut [Auth::Empty])?;
        let private = Reader::new(&answer.parameters).sized().map(<[u8]>::to_vec);
        private.map_err(|Short| TpmError::Answer(WHAT))
    }

    /// Loads an object below a key.
    pub(super) fn load(
        &mut self,
        parent: &Entity,
        [private, public]: [&[u8]; 2],
    ) -> Result<Entity, TpmError> {
        let handles = [parent];
        let mut command = plain("load", 0x157, &handles, sized(&[private, public])?);
        command.creates = true;
        let answer = self.run(&command, &mut [Auth::Empty])?;
        Ok(Entity {
            handle: answer.handle,
            name: image_specs::tpm2::public::name(public),
        })
    }

    /// Loads a key from outside that signatures are checked with.
    pub(super) fn load_external(&mut self, key: &Public) -> Result<Entity, TpmError> {
        let mut parameters = sized(&[&[], &key.encode()?])?;
        parameters.extend(OWNER.to_be_bytes());
        let mut command = plain("load a public key", 0x167, &[], parameters);
        command.creates = true;
        let answer = self.run(&command, &mut [])?;
        Ok(Entity {
            handle: answer.handle,
            name: key.name()?,
        })
    }

    /// Begins a session whose key only the owner of `salting` can know.
    pub(super) fn start_session(
        &mut self,
        purpose: Purpose,
        (salting, key): (&Entity, &Public),
        bound: Option<&Bound<'_>>,
    ) -> Result<Session, TpmError> {
        const WHAT: &str = "begin a session";
        let salt = agree(key, "SECRET", &mut self.entropy)?;
        let ours = self.entropy.bytes();
        let nobody = Entity::plain(NULL_HIERARCHY);
        let handles = [salting, bound.map_or(&nobody, |bound| bound.object)];
        let mut parameters = sized(&[&*ours, &salt.encrypted])?;
        parameters.push(match purpose {
            Purpose::Hide => 0,
            Purpose::Policy => 1,
        });
        for number in [0x0006, 128, 0x0043, SHA256] {
            parameters.extend(number.to_be_bytes());
        }
        let mut command = plain(WHAT, 0x176, &handles, parameters);
        command.creates = true;
        let answer = self.run(&command, &mut [])?;
        let theirs = Reader::new(&answer.parameters).sized().map(<[u8]>::to_vec);
        let theirs = theirs.map_err(|Short| TpmError::Answer(WHAT))?;
        let value = bound.map_or(&[][..], |bound| bound.value);
        let nonces = Nonces { ours, theirs };
        Ok(Session::new(answer.handle, value, &*salt.secret, nonces))
    }

    /// The values of PCRs, in order.
    pub(super) fn pcr_read(
        &mut self,
        bank: Bank,
        set: PcrSet,
    ) -> Result<Vec<(u8, Vec<u8>)>, TpmError> {
        const WHAT: &str = "read PCRs";
        let wanted: Vec<u8> = set.iter().collect();
        let mut values = Vec::new();
        for part in wanted.chunks(MAX_PCRS_AT_ONCE) {
            let some = selection(bank, part.iter().copied().collect());
            let answer = self.run(&plain(WHAT, 0x17e, &[], some), &mut [])?;
            let read = parse_pcrs(&answer.parameters).map_err(|Short| TpmError::Answer(WHAT))?;
            if read.len() != part.len() || read.iter().any(|value| value.len() != bank.size()) {
                return Err(TpmError::Answer(WHAT));
            }
            values.extend(part.iter().copied().zip(read));
        }
        Ok(values)
    }

    /// The public area of a non-volatile index, if it is there.
    pub(super) fn nv_read_public(&mut self, index: u32) -> Result<Option<Vec<u8>>, TpmError> {
        const WHAT: &str = "show an index";
        let entity = Entity::plain(index);
        let handles = [&entity];
        let answer = match self.run(&plain(WHAT, 0x169, &handles, Vec::new()), &mut []) {
            Err(error) if error.code() == Some(ResponseCode::HANDLE) => return Ok(None),
            other => other?,
        };
        let area = Reader::new(&answer.parameters).sized().map(<[u8]>::to_vec);
        area.map(Some).map_err(|Short| TpmError::Answer(WHAT))
    }

    /// Checks a signature by RSA with SHA-256.
    pub(super) fn verify_signature(
        &mut self,
        key: &Entity,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<Ticket, TpmError> {
        let mut parameters = sized(&[digest])?;
        parameters.extend(RSASSA.to_be_bytes());
        parameters.extend(SHA256.to_be_bytes());
        put_sized(&mut parameters, signature)?;
        let handles = [key];
        let command = plain("accept a signature", 0x177, &handles, parameters);
        let answer = self.run(&command, &mut [])?;
        match answer.parameters.get(..2) {
            Some(tag)
                if tag == VERIFIED.to_be_bytes() && answer.parameters.len() >= HASHCHECK_TICKET =>
            {
                Ok(Ticket(answer.parameters.to_vec()))
            }
            _ => Err(TpmError::Answer("accept a signature")),
        }
    }

    /// Unseals an object.
    pub(super) fn unseal(
        &mut self,
        object: &Entity,
        policy: Use<'_>,
        hide: &mut Session,
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        const WHAT: &str = "unseal";
        let handles = [object];
        let mut auths = [
            Auth::Session(policy),
            Auth::Session(Use::of(hide, CONTINUE | ENCRYPT)),
        ];
        let answer = self.run(&plain(WHAT, 0x15e, &handles, Vec::new()), &mut auths)?;
        let data = Reader::new(&answer.parameters).sized();
        data.map(|data| Zeroizing::new(data.to_vec()))
            .map_err(|Short| TpmError::Answer(WHAT))
    }
}

fn parse_banks(reader: &mut Reader<'_>) -> Result<Vec<(Bank, PcrSet)>, Short> {
    let mut banks = Vec::new();
    for _ in 0..reader.u32()?.min(16) {
        let algorithm = reader.u16()?;
        let size = reader.u8()?;
        let bits = reader.take(usize::from(size))?;
        let set: PcrSet = (0..24_u8)
            .filter(|pcr| {
                bits.get(usize::from(pcr / 8))
                    .is_some_and(|byte| byte >> (pcr % 8) & 1 == 1)
            })
            .collect();
        if let Some(bank) = Bank::from_algorithm(algorithm).filter(|_| !set.is_empty()) {
            banks.push((bank, set));
        }
    }
    Ok(banks)
}

fn parse_pcrs(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Short> {
    let mut reader = Reader::new(bytes);
    reader.u32()?;
    for _ in 0..reader.u32()?.min(16) {
        reader.u16()?;
        let size = reader.u8()?;
        reader.take(usize::from(size))?;
    }
    let count = reader.u32()?.min(24);
    (0..count).map(|_| Ok(reader.sized()?.to_vec())).collect()
}
