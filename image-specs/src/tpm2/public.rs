//! Public areas of TPM objects (`TPMT_PUBLIC`): storage keys, sealed data, keys that sign.
//!
//! Only names by SHA-256 are read: the one that systemd uses, and that names of policies need. Pure.

use sha2::{Digest, Sha256};

use super::Bank;
use super::token::Primary;
use super::wire::{Reader, Short, TooLong, put_sized};

/// Attributes of objects, as bits.
pub mod attributes {
    /// The object never leaves its TPM.
    pub const FIXED_TPM: u32 = 1 << 1;
    /// The object never leaves its parent.
    pub const FIXED_PARENT: u32 = 1 << 4;
    /// The TPM has made the secret part.
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    /// The authorization value is enough to use it.
    pub const USER_WITH_AUTH: u32 = 1 << 6;
    /// Wrong authorization values do not count as an attack.
    pub const NO_DA: u32 = 1 << 10;
    /// Works on what the TPM has made only.
    pub const RESTRICTED: u32 = 1 << 16;
    /// Decrypts.
    pub const DECRYPT: u32 = 1 << 17;
    /// Signs or encrypts.
    pub const SIGN: u32 = 1 << 18;
}

use attributes::{
    DECRYPT, FIXED_PARENT, FIXED_TPM, NO_DA, RESTRICTED, SENSITIVE_DATA_ORIGIN, SIGN,
    USER_WITH_AUTH,
};

const RSA: u16 = 0x0001;
const KEYED_HASH: u16 = 0x0008;
const ECC: u16 = 0x0023;
const NULL: u16 = 0x0010;
const AES: u16 = 0x0006;
const CFB: u16 = 0x0043;
const P256: u16 = 0x0003;

/// The most bytes of an area.
pub const MAX_SIZE: usize = 2048;

/// A public area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// Bits of [`attributes`] and others.
    pub attributes: u32,
    /// The digest that a policy session must reach; empty for none.
    pub policy: Vec<u8>,
    /// What the object is.
    pub kind: Kind,
}

/// What an object is, with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// An RSA key.
    Rsa {
        /// The cipher that protects its children: AES-CFB with so many bits.
        aes: Option<u16>,
        /// The size of the modulus.
        bits: u16,
        /// The exponent; 0 stands for 65537.
        exponent: u32,
        /// The modulus; empty in a template.
        modulus: Vec<u8>,
    },
    /// A key on a curve.
    Ecc {
        /// The cipher that protects its children: AES-CFB with so many bits.
        aes: Option<u16>,
        /// The TCG's number of the curve.
        curve: u16,
        /// The point; empty in a template.
        x: Vec<u8>,
        /// The point; empty in a template.
        y: Vec<u8>,
    },
    /// Sealed data.
    Sealed {
        /// Binds the public to the secret part.
        unique: Vec<u8>,
    },
}

/// The bytes are no public area that can be used here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum PublicError {
    #[error(transparent)]
    Short(#[from] Short),
    #[error("the key area has {0} bytes too many")]
    Trailing(usize),
    #[error("a key of kind {0:#06x} is not supported")]
    Kind(u16),
    #[error("names by the hash algorithm {0:#06x} are not supported, only SHA-256")]
    NameAlgorithm(u16),
    #[error("the algorithm {0:#06x} is not supported in this place")]
    Algorithm(u16),
}

/// The TCG's number of NIST P-256.
pub const CURVE_P256: u16 = P256;

impl Public {
    /// The storage root key's template of the TCG's provisioning guidance.
    pub const fn srk(primary: Primary) -> Self {
        Self::storage(primary, NO_DA)
    }

    /// The template that systemd used before 254, for a key that lives while it is used.
    pub const fn legacy(primary: Primary) -> Self {
        Self::storage(primary, 0)
    }

    const fn storage(primary: Primary, more: u32) -> Self {
        let aes = Some(128);
        Self {
            attributes: RESTRICTED
                | DECRYPT
                | FIXED_TPM
                | FIXED_PARENT
                | SENSITIVE_DATA_ORIGIN
                | USER_WITH_AUTH
                | more,
            policy: Vec::new(),
            kind: match primary {
                Primary::Ecc => Kind::Ecc {
                    aes,
                    curve: P256,
                    x: Vec::new(),
                    y: Vec::new(),
                },
                Primary::Rsa => Kind::Rsa {
                    aes,
                    bits: 2048,
                    exponent: 0,
                    modulus: Vec::new(),
                },
            },
        }
    }

    /// A key from outside that signs policies, as systemd describes it to the TPM: the description is
    /// part of the key's name.
    pub const fn signer(kind: Kind) -> Self {
        Self {
            attributes: DECRYPT | SIGN | USER_WITH_AUTH,
            policy: Vec::new(),
            kind,
        }
    }

    /// Parses an area; all bytes must belong to it.
    pub fn parse(bytes: &[u8]) -> Result<Self, PublicError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u16()?;
        let name = reader.u16()?;
        if name != Bank::Sha256.algorithm() {
            return Err(PublicError::NameAlgorithm(name));
        }
        let attributes = reader.u32()?;
        let policy = reader.sized()?.to_vec();
        let kind = match kind {
            RSA => rsa(&mut reader)?,
            ECC => ecc(&mut reader)?,
            KEYED_HASH => sealed(&mut reader)?,
            other => return Err(PublicError::Kind(other)),
        };
        match reader.rest().len() {
            0 => Ok(Self {
                attributes,
                policy,
                kind,
            }),
            more => Err(PublicError::Trailing(more)),
        }
    }

    /// The area's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = Vec::new();
        let kind = match &self.kind {
            Kind::Rsa { .. } => RSA,
            Kind::Ecc { .. } => ECC,
            Kind::Sealed { .. } => KEYED_HASH,
        };
        out.extend(kind.to_be_bytes());
        out.extend(Bank::Sha256.algorithm().to_be_bytes());
        out.extend(self.attributes.to_be_bytes());
        put_sized(&mut out, &self.policy)?;
        self.kind.encode(&mut out)?;
        Ok(out)
    }

    /// The object's name: the algorithm and the hash of the area.
    pub fn name(&self) -> Result<Vec<u8>, TooLong> {
        Ok(name(&self.encode()?))
    }

    /// The kind of a storage key.
    pub const fn primary(&self) -> Option<Primary> {
        match self.kind {
            Kind::Rsa { .. } => Some(Primary::Rsa),
            Kind::Ecc { .. } => Some(Primary::Ecc),
            Kind::Sealed { .. } => None,
        }
    }

    /// Whether it is a key that other objects can be sealed with.
    pub fn can_seal(&self) -> bool {
        let storage = RESTRICTED | DECRYPT;
        let aes = match self.kind {
            Kind::Rsa { aes, .. } | Kind::Ecc { aes, .. } => aes,
            Kind::Sealed { .. } => None,
        };
        self.attributes & (storage | SIGN) == storage && aes.is_some()
    }
}

impl Kind {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        match self {
            Self::Rsa {
                aes,
                bits,
                exponent,
                modulus,
            } => {
                put_cipher(out, *aes);
                out.extend(NULL.to_be_bytes());
                out.extend(bits.to_be_bytes());
                out.extend(exponent.to_be_bytes());
                put_sized(out, modulus)
            }
            Self::Ecc { aes, curve, x, y } => {
                put_cipher(out, *aes);
                out.extend(NULL.to_be_bytes());
                out.extend(curve.to_be_bytes());
                out.extend(NULL.to_be_bytes());
                put_sized(out, x)?;
                put_sized(out, y)
            }
            Self::Sealed { unique } => {
                out.extend(NULL.to_be_bytes());
                put_sized(out, unique)
            }
        }
    }
}

/// The name of an object or index with this area.
pub fn name(area: &[u8]) -> Vec<u8> {
    let mut name = Bank::Sha256.algorithm().to_be_bytes().to_vec();
    name.extend(Sha256::digest(area));
    name
}

fn rsa(reader: &mut Reader<'_>) -> Result<Kind, PublicError> {
    let aes = cipher(reader)?;
    null(reader)?;
    Ok(Kind::Rsa {
        aes,
        bits: reader.u16()?,
        exponent: reader.u32()?,
        modulus: reader.sized()?.to_vec(),
    })
}

fn ecc(reader: &mut Reader<'_>) -> Result<Kind, PublicError> {
    let aes = cipher(reader)?;
    null(reader)?;
    let curve = reader.u16()?;
    null(reader)?;
    Ok(Kind::Ecc {
        aes,
        curve,
        x: reader.sized()?.to_vec(),
        y: reader.sized()?.to_vec(),
    })
}

fn sealed(reader: &mut Reader<'_>) -> Result<Kind, PublicError> {
    null(reader)?;
    Ok(Kind::Sealed {
        unique: reader.sized()?.to_vec(),
    })
}

fn cipher(reader: &mut Reader<'_>) -> Result<Option<u16>, PublicError> {
    match reader.u16()? {
        NULL => Ok(None),
        AES => {
            let bits = reader.u16()?;
            match reader.u16()? {
                CFB if bits == 128 || bits == 256 => Ok(Some(bits)),
                other => Err(PublicError::Algorithm(other)),
            }
        }
        other => Err(PublicError::Algorithm(other)),
    }
}

fn null(reader: &mut Reader<'_>) -> Result<(), PublicError> {
    match reader.u16()? {
        NULL => Ok(()),
        other => Err(PublicError::Algorithm(other)),
    }
}

fn put_cipher(out: &mut Vec<u8>, aes: Option<u16>) {
    match aes {
        None => out.extend(NULL.to_be_bytes()),
        Some(bits) => {
            for number in [AES, bits, CFB] {
                out.extend(number.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_real_storage_key_is_read_written_and_named() {
        // Handle, name, kind of handle, public area.
        let token = serde_json::from_str(include_str!("token/pcrs.json")).unwrap();
        let token = super::super::Token::from_json(&token).unwrap().unwrap();
        let bytes = token.srk.unwrap();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u32(), Ok(super::super::SRK_HANDLE));
        let named = reader.sized().unwrap();
        assert_eq!(reader.u32(), Ok(1));
        let area = reader.sized().unwrap();
        let public = Public::parse(area).unwrap();
        assert_eq!(public.encode().unwrap(), area);
        assert_eq!(public.name().unwrap(), named);
        assert!(public.can_seal());
        let template = Public::srk(Primary::Ecc);
        assert_eq!(public.attributes, template.attributes);
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        let area = Public::srk(Primary::Rsa).encode().unwrap();
        for (at, value, wanted) in [
            (1, 0x25, PublicError::Kind(0x25)),
            (3, 0x0c, PublicError::NameAlgorithm(0x0c)),
            (11, 0x13, PublicError::Algorithm(0x13)),
            (15, 0x42, PublicError::Algorithm(0x42)),
        ] {
            let mut area = area.clone();
            area[at] = value;
            assert_eq!(Public::parse(&area), Err(wanted));
        }
        let longer = [&area[..], &[0]].concat();
        assert_eq!(Public::parse(&longer), Err(PublicError::Trailing(1)));
        assert!(!Public::signer(Public::srk(Primary::Ecc).kind).can_seal());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Public::parse(&bytes);
        }
    }
}
