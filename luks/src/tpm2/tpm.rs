//! Commands to a TPM, written down and read back byte by byte (TPM 2.0 Library part 1, 18).
//!
//! Objects and sessions that a command leaves in the TPM are counted, and removed when the value goes.

use image_specs::tpm2::wire::{Reader, Short, TooLong, put_sized};
use openssl::error::ErrorStack;
use openssl::memcmp;
use zeroize::Zeroizing;

use super::channel::{Channel, ChannelError};
use super::crypto::{AgreeError, sha256};
use super::response::ResponseCode;
use super::session::{CONTINUE, DECRYPT, ENCRYPT, Session};
use super::{Device, Entropy};

/// A TPM did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum TpmError {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("the TPM refuses to {0}: {1}")]
    Refused(&'static str, ResponseCode),
    #[error("the TPM's answer to the command to {0} makes no sense")]
    Answer(&'static str),
    #[error("the TPM's answer to the command to {0} was changed on its way")]
    Changed(&'static str),
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error(transparent)]
    Agree(#[from] AgreeError),
    #[error("OpenSSL fails")]
    OpenSsl(#[from] ErrorStack),
}

impl TpmError {
    /// The kind of the refusal, if it is one.
    pub(super) fn code(&self) -> Option<ResponseCode> {
        match self {
            Self::Refused(_, code) => Some(code.kind()),
            _ => None,
        }
    }
}

const PLAIN: u16 = 0x8001;
const WITH_SESSIONS: u16 = 0x8002;
const PASSWORD: u32 = 0x4000_0009;
const FLUSH_CONTEXT: u32 = 0x0000_0165;
const TRIES: usize = 30;

/// A TPM that can be talked to.
pub struct Tpm {
    channel: Channel,
    pub(super) entropy: Entropy,
    left: Vec<u32>,
}

/// Something in the TPM, with the name that its contents give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entity {
    pub(super) handle: u32,
    pub(super) name: Vec<u8>,
}

impl Entity {
    /// What the handle itself is the name of: PCRs, sessions, hierarchies.
    pub(super) fn plain(handle: u32) -> Self {
        Self {
            handle,
            name: handle.to_be_bytes().to_vec(),
        }
    }
}

/// A command, without what authorizes it.
pub(super) struct Command<'a> {
    /// "refuses to …".
    pub(super) what: &'static str,
    pub(super) code: u32,
    pub(super) handles: &'a [&'a Entity],
    pub(super) parameters: Zeroizing<Vec<u8>>,
    /// Whether the answer begins with a handle, which is removed in the end.
    pub(super) creates: bool,
}

/// What authorizes a command, or goes along with it.
pub(super) enum Auth<'a> {
    /// An empty password.
    Empty,
    /// A session.
    Session(Use<'a>),
}

/// How a session is used.
pub(super) struct Use<'a> {
    pub(super) session: &'a mut Session,
    pub(super) attributes: u8,
    /// The authorization value that the session must prove to know.
    pub(super) value: &'a [u8],
}

impl<'a> Use<'a> {
    /// Nothing but what the attributes say.
    pub(super) fn of(session: &'a mut Session, attributes: u8) -> Self {
        Self {
            session,
            attributes,
            value: &[],
        }
    }
}

/// An answer: the handle if one was asked for, and the parameters.
pub(super) struct Answer {
    pub(super) handle: u32,
    pub(super) parameters: Zeroizing<Vec<u8>>,
}

impl Tpm {
    /// Opens a TPM, and starts it if nobody has.
    pub fn open(device: &Device, entropy: Entropy) -> Result<Self, TpmError> {
        let mut tpm = Self {
            channel: Channel::open(device)?,
            entropy,
            left: Vec::new(),
        };
        tpm.startup()?;
        Ok(tpm)
    }

    /// How many things are left in the TPM now, for [`Tpm::forget`].
    pub(super) fn mark(&self) -> usize {
        self.left.len()
    }

    /// Removes what was put into the TPM since the mark.
    pub(super) fn forget(&mut self, mark: usize) {
        for handle in self
            .left
            .split_off(mark.min(self.left.len()))
            .into_iter()
            .rev()
        {
            let command = Command {
                what: "remove an object",
                code: FLUSH_CONTEXT,
                handles: &[],
                parameters: Zeroizing::new(handle.to_be_bytes().to_vec()),
                creates: false,
            };
            if let Err(error) = self.run(&command, &mut []) {
                tracing::debug!("{handle:#010x} stays in the TPM: {error}");
            }
        }
    }

    /// Runs a command.
    pub(super) fn run(
        &mut self,
        command: &Command<'_>,
        auths: &mut [Auth<'_>],
    ) -> Result<Answer, TpmError> {
        for _ in 0..TRIES {
            match self.once(command, auths) {
                Err(TpmError::Refused(_, code)) if code.again() => {}
                other => return other,
            }
        }
        self.once(command, auths)
    }

    fn once(&mut self, command: &Command<'_>, auths: &mut [Auth<'_>]) -> Result<Answer, TpmError> {
        for auth in auths.iter_mut() {
            if let Auth::Session(used) = auth {
                used.session.renew(&mut self.entropy);
            }
        }
        let bytes = command.encode(auths)?;
        let answer = self.channel.exchange(&bytes)?;
        let answer = command.decode(&answer, auths)?;
        if command.creates {
            self.left.push(answer.handle);
        }
        Ok(answer)
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        self.forget(0);
    }
}

impl std::fmt::Debug for Tpm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tpm({} objects)", self.left.len())
    }
}

impl Command<'_> {
    fn encode(&self, auths: &[Auth<'_>]) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let parameters = self.hidden(auths)?;
        let mut body = Vec::new();
        for entity in self.handles {
            body.extend(entity.handle.to_be_bytes());
        }
        if !auths.is_empty() {
            let area = self.auth_area(auths, &parameters)?;
            body.extend(size_of(&area)?.to_be_bytes());
            body.extend(area);
        }
        body.extend(&*parameters);
        let tag = if auths.is_empty() {
            PLAIN
        } else {
            WITH_SESSIONS
        };
        let mut out = Zeroizing::new(tag.to_be_bytes().to_vec());
        out.extend(size_of(&body)?.saturating_add(10).to_be_bytes());
        out.extend(self.code.to_be_bytes());
        out.append(&mut body);
        Ok(out)
    }

    /// The parameters, the first of them encrypted if a session says so.
    fn hidden(&self, auths: &[Auth<'_>]) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let Some(used) = with_attribute(auths, DECRYPT) else {
            return Ok(self.parameters.clone());
        };
        let mut reader = Reader::new(&self.parameters);
        let first = reader
            .sized()
            .map_err(|Short| TpmError::Answer(self.what))?;
        let mut out = Zeroizing::new(Vec::with_capacity(self.parameters.len()));
        put_sized(&mut out, &used.session.hide(used.value, first)?)?;
        out.extend(reader.rest());
        Ok(out)
    }

    fn auth_area(&self, auths: &[Auth<'_>], parameters: &[u8]) -> Result<Vec<u8>, TpmError> {
        let names: Vec<&[u8]> = self.handles.iter().map(|entity| &entity.name[..]).collect();
        let code = self.code.to_be_bytes();
        let parts: Vec<&[u8]> = [&code[..]]
            .into_iter()
            .chain(names)
            .chain([parameters])
            .collect();
        let hash = sha256(&parts);
        let mut out = Vec::new();
        for (index, auth) in auths.iter().enumerate() {
            match auth {
                Auth::Empty => {
                    out.extend(PASSWORD.to_be_bytes());
                    out.extend([0, 0, CONTINUE, 0, 0]);
                }
                Auth::Session(used) => {
                    let others = if index == 0 {
                        others(auths)
                    } else {
                        Vec::new()
                    };
                    let hmac =
                        used.session
                            .command_hmac(&hash, used.value, &others, used.attributes);
                    out.extend(used.session.handle.to_be_bytes());
                    put_sized(&mut out, used.session.ours())?;
                    out.push(used.attributes);
                    put_sized(&mut out, &*hmac)?;
                }
            }
        }
        Ok(out)
    }

    fn decode(&self, answer: &[u8], auths: &mut [Auth<'_>]) -> Result<Answer, TpmError> {
        let strange = |Short| TpmError::Answer(self.what);
        let mut reader = Reader::new(answer);
        let tag = reader.u16().map_err(strange)?;
        reader.u32().map_err(strange)?;
        match reader.u32().map_err(strange)? {
            0 => {}
            code => return Err(TpmError::Refused(self.what, ResponseCode(code))),
        }
        let handle = if self.creates {
            reader.u32().map_err(strange)?
        } else {
            0
        };
        if auths.is_empty() {
            return Ok(Answer {
                handle,
                parameters: Zeroizing::new(reader.rest().to_vec()),
            });
        }
        if tag != WITH_SESSIONS {
            return Err(TpmError::Answer(self.what));
        }
        let size = reader.u32().map_err(strange)?;
        let size = usize::try_from(size).map_err(|_| TpmError::Answer(self.what))?;
        let parameters = reader.take(size).map_err(strange)?;
        self.check(parameters, reader, auths)?;
        Ok(Answer {
            handle,
            parameters: self.shown(parameters, auths)?,
        })
    }

    /// Checks the sessions' HMACs of an answer.
    fn check(
        &self,
        parameters: &[u8],
        mut reader: Reader<'_>,
        auths: &mut [Auth<'_>],
    ) -> Result<(), TpmError> {
        let strange = |Short| TpmError::Answer(self.what);
        let hash = sha256(&[&[0; 4], &self.code.to_be_bytes(), parameters]);
        for auth in auths {
            let nonce = reader.sized().map_err(strange)?;
            let attributes = reader.u8().map_err(strange)?;
            let hmac = reader.sized().map_err(strange)?;
            let Auth::Session(used) = auth else {
                continue;
            };
            used.session.answered(nonce);
            let wanted = used.session.answer_hmac(&hash, used.value, attributes);
            if hmac.len() != wanted.len() || !memcmp::eq(hmac, &*wanted) {
                return Err(TpmError::Changed(self.what));
            }
        }
        Ok(())
    }

    /// The parameters of an answer, the first of them decrypted if a session says so.
    fn shown(&self, parameters: &[u8], auths: &[Auth<'_>]) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let Some(used) = with_attribute(auths, ENCRYPT) else {
            return Ok(Zeroizing::new(parameters.to_vec()));
        };
        let mut reader = Reader::new(parameters);
        let first = reader
            .sized()
            .map_err(|Short| TpmError::Answer(self.what))?;
        let mut out = Zeroizing::new(Vec::with_capacity(parameters.len()));
        put_sized(&mut out, &used.session.show(used.value, first)?)?;
        out.extend(reader.rest());
        Ok(out)
    }
}

fn size_of(bytes: &[u8]) -> Result<u32, TpmError> {
    // A command of more than 4 KiB is never made; the TPM refuses what is too large for it.
    let size = u16::try_from(bytes.len()).map_err(|_| TpmError::Answer("take so much"))?;
    Ok(size.into())
}

fn with_attribute<'a, 'b>(auths: &'a [Auth<'b>], attribute: u8) -> Option<&'a Use<'b>> {
    auths.iter().find_map(|auth| match auth {
        Auth::Session(used) if used.attributes & attribute != 0 => Some(used),
        _ => None,
    })
}

/// The nonces of other sessions that hide parameters, which the first session vouches for.
fn others(auths: &[Auth<'_>]) -> Vec<u8> {
    let mut handles = Vec::new();
    if let Some(Auth::Session(first)) = auths.first() {
        handles.push(first.session.handle);
    }
    let mut out = Vec::new();
    for attribute in [DECRYPT, ENCRYPT] {
        if let Some(used) = with_attribute(auths, attribute)
            && !handles.contains(&used.session.handle)
        {
            handles.push(used.session.handle);
            out.extend(used.session.theirs());
        }
    }
    out
}
