//! Sessions: what proves to each side that the other's bytes are unchanged, and hides secrets on the way
//! (TPM 2.0 Library part 1, 19 and 21).
//!
//! Each command and each answer carries an HMAC over a hash of its contents and both sides' newest
//! nonces. The key of a session is derived from a salt that only the TPM can decrypt; so somebody on the
//! bus between processor and TPM can neither read nor change anything.

use openssl::error::ErrorStack;
use zeroize::Zeroizing;

use super::Entropy;
use super::crypto::{cfb, hmac, kdfa};

/// The session goes on after the command.
pub(super) const CONTINUE: u8 = 1;
/// The command's first parameter is encrypted.
pub(super) const DECRYPT: u8 = 1 << 5;
/// The answer's first parameter is encrypted.
pub(super) const ENCRYPT: u8 = 1 << 6;

const KEY: usize = 16;
const CFB_BITS: u32 = 256;

/// A session that the TPM has begun.
pub(super) struct Session {
    pub(super) handle: u32,
    key: Zeroizing<Vec<u8>>,
    ours: Zeroizing<[u8; 32]>,
    theirs: Vec<u8>,
}

/// The first nonces of a session.
pub(super) struct Nonces {
    pub(super) ours: Zeroizing<[u8; 32]>,
    pub(super) theirs: Vec<u8>,
}

impl Session {
    /// The salt is agreed on with a key of the TPM; the authorization value is that of the object that
    /// the session is bound to, if any.
    pub(super) fn new(handle: u32, auth: &[u8], salt: &[u8], nonces: Nonces) -> Self {
        let secret = Zeroizing::new([auth, salt].concat());
        let key = kdfa(&secret, "ATH", [&nonces.theirs, &*nonces.ours], 256);
        Self {
            handle,
            key,
            ours: nonces.ours,
            theirs: nonces.theirs,
        }
    }

    pub(super) fn renew(&mut self, entropy: &mut Entropy) {
        self.ours = entropy.bytes();
    }

    pub(super) fn ours(&self) -> &[u8] {
        &*self.ours
    }

    pub(super) fn theirs(&self) -> &[u8] {
        &self.theirs
    }

    pub(super) fn answered(&mut self, nonce: &[u8]) {
        self.theirs = nonce.to_vec();
    }

    /// What goes along with a command. `others` are the nonces of sessions that hide parameters.
    pub(super) fn command_hmac(
        &self,
        hash: &[u8],
        auth: &[u8],
        others: &[u8],
        attributes: u8,
    ) -> Zeroizing<[u8; 32]> {
        let parts = [hash, &*self.ours, &self.theirs, others, &[attributes]];
        hmac(&self.auth_key(auth), &parts)
    }

    /// What must have come along with an answer, after [`Session::answered`].
    pub(super) fn answer_hmac(
        &self,
        hash: &[u8],
        auth: &[u8],
        attributes: u8,
    ) -> Zeroizing<[u8; 32]> {
        let parts = [hash, &self.theirs[..], &*self.ours, &[attributes]];
        hmac(&self.auth_key(auth), &parts)
    }

    /// Hides a parameter of a command.
    pub(super) fn hide(&self, auth: &[u8], data: &[u8]) -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
        self.crypt(true, auth, [&*self.ours, &self.theirs], data)
    }

    /// Shows a parameter of an answer, after [`Session::answered`].
    pub(super) fn show(&self, auth: &[u8], data: &[u8]) -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
        self.crypt(false, auth, [&self.theirs, &*self.ours], data)
    }

    fn crypt(
        &self,
        encrypt: bool,
        auth: &[u8],
        nonces: [&[u8]; 2],
        data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
        let material = kdfa(&self.auth_key(auth), "CFB", nonces, CFB_BITS);
        let (key, iv) = material.split_at(KEY);
        cfb(encrypt, key, iv, data)
    }

    fn auth_key(&self, auth: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&self.key[..], auth].concat())
    }
}
