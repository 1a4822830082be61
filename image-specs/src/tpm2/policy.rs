//! Policy digests, calculated without a TPM (TCG TPM 2.0 Library part 3, "Enhanced authorization").
//!
//! A policy session of a TPM begins with zeros, and each policy command replaces its digest by a hash
//! over it. An object is released when the session's digest is the one stored in it. SHA-256 always,
//! whichever bank the PCRs are of. Pure.

use sha2::{Digest, Sha256};

use super::{Bank, PcrSet};

const POLICY_AUTH_VALUE: u32 = 0x0000_016b;
const POLICY_AUTHORIZE: u32 = 0x0000_016a;
const POLICY_AUTHORIZE_NV: u32 = 0x0000_0192;
const POLICY_OR: u32 = 0x0000_0171;
const POLICY_PCR: u32 = 0x0000_017f;

/// The most alternatives of one `PolicyOR`.
pub const MAX_BRANCHES: usize = 8;

/// The digest of a policy session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyDigest(pub [u8; 32]);

impl PolicyDigest {
    /// The PCRs must have these values; one for each PCR of the set, in order.
    #[must_use]
    pub fn pcrs<'a>(
        self,
        bank: Bank,
        set: PcrSet,
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        let mut hash = Sha256::new();
        values.into_iter().for_each(|value| hash.update(value));
        let selection = selection(bank, set);
        self.extended(POLICY_PCR, &[&selection, &hash.finalize()])
    }

    /// A policy that the key with this name has signed, together with a reference.
    #[must_use]
    pub fn authorize(key_name: &[u8], reference: &str) -> Self {
        let first = Self::default().extended(POLICY_AUTHORIZE, &[key_name]);
        let mut hash = Sha256::new();
        hash.update(first.0);
        hash.update(reference_bytes(reference));
        Self(hash.finalize().into())
    }

    /// The policy that the non-volatile index with this name holds.
    #[must_use]
    pub fn authorize_nv(self, index_name: &[u8]) -> Self {
        Self::default().extended(POLICY_AUTHORIZE_NV, &[index_name])
    }

    /// The object's authorization value must be known, too: a PIN.
    #[must_use]
    pub fn auth_value(self) -> Self {
        self.extended(POLICY_AUTH_VALUE, &[])
    }

    /// Any of these.
    #[must_use]
    pub fn or(branches: &[Self]) -> Self {
        let branches: Vec<&[u8]> = branches.iter().map(|branch| &branch.0[..]).collect();
        Self::default().extended(POLICY_OR, &branches)
    }

    fn extended(self, command: u32, data: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(command.to_be_bytes());
        data.iter().for_each(|data| hash.update(data));
        Self(hash.finalize().into())
    }
}

/// A list of PCR selections with one entry (`TPML_PCR_SELECTION`).
pub fn selection(bank: Bank, set: PcrSet) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 1];
    out.extend(bank.algorithm().to_be_bytes());
    out.push(3);
    out.extend(set.bytes());
    out
}

/// A policy reference as TPMs have it: nothing for the empty text, else its SHA-256.
pub fn reference_bytes(reference: &str) -> Vec<u8> {
    if reference.is_empty() {
        return Vec::new();
    }
    Sha256::digest(reference).to_vec()
}

/// What a signer of PCR policies signs with RSA and SHA-256: the policy, then the reference.
pub fn signed_message(policy: &PolicyDigest, reference: &str) -> Vec<u8> {
    [&policy.0[..], &reference_bytes(reference)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digest: PolicyDigest) -> String {
        hex::encode(digest.0)
    }

    /// Tokens that systemd-cryptenroll 262 made on a fresh TPM, all of whose PCRs are zero.
    #[test]
    fn pcr_policies_are_those_of_cryptenroll() {
        let zero = [0; 32];
        let set = PcrSet::from_iter([7, 11]);
        let policy = PolicyDigest::default().pcrs(Bank::Sha256, set, [&zero[..]; 2]);
        assert_eq!(
            hex(policy),
            "384378caeddc9690b2ac9589827a756a5c46c8b33178b2fe468c80531b97a53e"
        );
        let set = PcrSet::from_iter([7]);
        let policy = PolicyDigest::default().pcrs(Bank::Sha256, set, [&zero[..]]);
        assert_eq!(
            hex(policy.auth_value()),
            "b8db92fae7c1e0c588e7352d2fc10f27c7b384e32f706a520cb10bf7ffee8970"
        );
    }

    /// The same, with a signed policy for the reference "foo" and PCR 7.
    #[test]
    fn signed_policies_are_those_of_cryptenroll() {
        let token = serde_json::from_str(include_str!("token/signed.json")).unwrap();
        let token = super::super::Token::from_json(&token).unwrap().unwrap();
        let name = hex::decode(include_str!("token/signed.name").trim()).unwrap();
        let policy = PolicyDigest::authorize(&name, &token.signed.unwrap().reference);
        let zero = [0; 32];
        let policy = policy.pcrs(Bank::Sha256, token.pcrs, [&zero[..]]);
        assert_eq!(policy.0, token.policies[0]);
    }
}
