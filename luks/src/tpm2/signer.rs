//! Public keys that sign PCR policies.

use image_specs::tpm2::Public;
use image_specs::tpm2::public::Kind;
use openssl::error::ErrorStack;
use openssl::pkey::PKey;

use super::crypto::sha256;

/// A public key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum SignerError {
    #[error("the public key for PCR signatures is no PEM text with a public key")]
    Pem(#[source] ErrorStack),
    #[error("the public key for PCR signatures is no RSA key of 1024 to 4096 bits")]
    NoRsa,
}

/// A key that signs PCR policies.
pub(super) struct Signer {
    /// As a TPM knows it.
    pub(super) public: Public,
    /// As systemd 255 told it to the TPM, which gives it another name: with the usual exponent as 0.
    pub(super) older: Public,
    /// SHA-256 of its PKCS#1 form.
    pub(super) fingerprint: [u8; 32],
}

impl Signer {
    pub(super) fn parse(pem: &[u8]) -> Result<Self, SignerError> {
        let key = PKey::public_key_from_pem(pem).map_err(SignerError::Pem)?;
        let rsa = key.rsa().map_err(|_| SignerError::NoRsa)?;
        let der = rsa.public_key_to_der_pkcs1().map_err(SignerError::Pem)?;
        let modulus = rsa.n().to_vec();
        let bits = u16::try_from(modulus.len() * 8).map_err(|_| SignerError::NoRsa)?;
        if !(1024..=4096).contains(&bits) {
            return Err(SignerError::NoRsa);
        }
        let exponent = exponent(&rsa.e().to_vec())?;
        let described = |exponent| {
            Public::signer(Kind::Rsa {
                aes: None,
                bits,
                exponent,
                modulus: modulus.clone(),
            })
        };
        Ok(Self {
            older: described(if exponent == USUAL { 0 } else { exponent }),
            public: described(exponent),
            fingerprint: sha256(&[&der]),
        })
    }
}

const USUAL: u32 = 65537;

fn exponent(bytes: &[u8]) -> Result<u32, SignerError> {
    if bytes.len() > 4 {
        return Err(SignerError::NoRsa);
    }
    Ok(bytes
        .iter()
        .fold(0, |all, byte| all << 8 | u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::rsa::Rsa;

    #[test]
    fn rsa_keys_sign_and_others_do_not() {
        let rsa = Rsa::generate(2048).unwrap().public_key_to_pem().unwrap();
        let signer = Signer::parse(&rsa).unwrap();
        for (public, wanted) in [(signer.public, 65537), (signer.older, 0)] {
            let Kind::Rsa { bits, exponent, .. } = public.kind else {
                panic!()
            };
            assert_eq!((bits, exponent), (2048, wanted));
        }
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let ec = EcKey::generate(&group)
            .unwrap()
            .public_key_to_pem()
            .unwrap();
        assert!(matches!(Signer::parse(&ec), Err(SignerError::NoRsa)));
        assert!(matches!(Signer::parse(b"x"), Err(SignerError::Pem(_))));
    }
}
