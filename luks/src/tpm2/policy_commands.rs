//! The commands of a TPM that build up a policy in a session (TPM 2.0 Library part 3, 23).

use image_specs::tpm2::policy::selection;
use image_specs::tpm2::wire::{Reader, put_sized};
use image_specs::tpm2::{Bank, PcrSet, PolicyDigest};

use super::commands::{OWNER, Ticket, plain, sized};
use super::session::Session;
use super::tpm::{Auth, Entity, Tpm, TpmError};

impl Tpm {
    pub(super) fn policy_pcr(
        &mut self,
        session: &Session,
        bank: Bank,
        set: PcrSet,
    ) -> Result<(), TpmError> {
        let mut parameters = sized(&[&[]])?;
        parameters.extend(selection(bank, set));
        self.policy("take PCRs into a policy", 0x17f, session, parameters)
    }

    pub(super) fn policy_or(
        &mut self,
        session: &Session,
        branches: &[PolicyDigest],
    ) -> Result<(), TpmError> {
        let count = u8::try_from(branches.len()).unwrap_or(u8::MAX);
        let mut parameters = vec![0, 0, 0, count];
        for branch in branches {
            put_sized(&mut parameters, &branch.0)?;
        }
        self.policy("take one of several policies", 0x171, session, parameters)
    }

    /// Forgets the policy of the session.
    pub(super) fn policy_restart(&mut self, session: &Session) -> Result<(), TpmError> {
        self.policy("begin a policy anew", 0x180, session, Vec::new())
    }

    pub(super) fn policy_auth_value(&mut self, session: &Session) -> Result<(), TpmError> {
        self.policy("take a PIN into a policy", 0x16b, session, Vec::new())
    }

    /// The session's policy so far is one that the key has signed.
    pub(super) fn policy_authorize(
        &mut self,
        session: &Session,
        [approved, reference, key]: [&[u8]; 3],
        ticket: &Ticket,
    ) -> Result<(), TpmError> {
        let mut parameters = sized(&[approved, reference, key])?;
        parameters.extend(&ticket.0);
        self.policy("take a signed policy", 0x16a, session, parameters)
    }

    /// The session's policy so far is the one that the index holds.
    pub(super) fn policy_authorize_nv(
        &mut self,
        session: &Session,
        index: &Entity,
    ) -> Result<(), TpmError> {
        let (owner, session) = (Entity::plain(OWNER), Entity::plain(session.handle));
        let handles = [&owner, index, &session];
        let command = plain("take an index's policy", 0x192, &handles, Vec::new());
        self.run(&command, &mut [Auth::Empty]).map(drop)
    }

    /// The digest that the session has reached.
    pub(super) fn policy_digest(&mut self, session: &Session) -> Result<PolicyDigest, TpmError> {
        const WHAT: &str = "tell a policy's digest";
        let session = Entity::plain(session.handle);
        let handles = [&session];
        let answer = self.run(&plain(WHAT, 0x189, &handles, Vec::new()), &mut [])?;
        let digest = Reader::new(&answer.parameters).sized();
        let digest = digest.ok().and_then(|digest| digest.try_into().ok());
        digest.map(PolicyDigest).ok_or(TpmError::Answer(WHAT))
    }

    fn policy(
        &mut self,
        what: &'static str,
        code: u32,
        session: &Session,
        parameters: Vec<u8>,
    ) -> Result<(), TpmError> {
        let session = Entity::plain(session.handle);
        let handles = [&session];
        self.run(&plain(what, code, &handles, parameters), &mut [])
            .map(drop)
    }
}
