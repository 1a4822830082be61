//! The TCG's ways to derive keys and to agree on secrets (TPM 2.0 Library part 1, 11.4 and annexes B, C).
//!
//! SHA-256 only: the name algorithm of all keys that are used here. Pure but for the random numbers that
//! OpenSSL takes for itself.

use image_specs::tpm2::Public;
use image_specs::tpm2::public::{CURVE_P256, Kind};
use image_specs::tpm2::wire::put_sized;
use openssl::bn::{BigNum, BigNumContext};
use openssl::derive::Deriver;
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::error::ErrorStack;
use openssl::md::Md;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private, Public as PublicPart};
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::{Padding, Rsa};
use openssl::sha::Sha256;
use openssl::symm::{self, Cipher};
use zeroize::Zeroizing;

use super::Entropy;

const HASH_BITS: u32 = 256;
const P256_SIZE: i32 = 32;
const DEFAULT_EXPONENT: u32 = 65537;
const BLOCK: usize = 64;

/// A key that no secret can be agreed on with.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum AgreeError {
    #[error("the TPM's key is neither an RSA key nor one on NIST P-256")]
    Kind,
    #[error("OpenSSL refuses the TPM's key")]
    OpenSsl(#[from] ErrorStack),
}

/// SHA-256 over parts.
pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finish()
}

/// HMAC-SHA256 over parts; the key may be empty.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut padded = Zeroizing::new([0; BLOCK]);
    if key.len() > BLOCK {
        padded[..32].copy_from_slice(&sha256(&[key]));
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let inner_key = Zeroizing::new(padded.map(|byte| byte ^ 0x36));
    let outer_key = Zeroizing::new(padded.map(|byte| byte ^ 0x5c));
    let mut inner = Sha256::new();
    inner.update(&*inner_key);
    parts.iter().for_each(|part| inner.update(part));
    Zeroizing::new(sha256(&[&*outer_key, &inner.finish()]))
}

/// HKDF-SHA256 with 32 bytes out (RFC 5869).
pub(super) fn hkdf(key: &[u8], salt: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let extracted = hmac(salt, &[key]);
    hmac(&*extracted, &[info, &[1]])
}

/// `KDFa`: `bits` of key material.
pub(super) fn kdfa(key: &[u8], label: &str, contexts: [&[u8]; 2], bits: u32) -> Zeroizing<Vec<u8>> {
    let size = usize::try_from(bits.div_ceil(8)).unwrap_or_default();
    let mut out = Zeroizing::new(Vec::with_capacity(size + 32));
    for counter in 1_u32.. {
        if out.len() >= size {
            break;
        }
        let [first, second] = contexts;
        let parts = [
            &counter.to_be_bytes()[..],
            label.as_bytes(),
            &[0],
            first,
            second,
            &bits.to_be_bytes(),
        ];
        out.extend(&*hmac(key, &parts));
    }
    out.truncate(size);
    out
}

/// `KDFe` for 256 bits: what two points have in common becomes a key.
fn kdfe(shared: &[u8], label: &str, ours: &[u8], theirs: &[u8]) -> Zeroizing<[u8; 32]> {
    let one = 1_u32.to_be_bytes();
    Zeroizing::new(sha256(&[
        &one,
        shared,
        label.as_bytes(),
        &[0],
        ours,
        theirs,
    ]))
}

/// AES-CFB, both ways; the key tells the number of bits.
pub(super) fn cfb(
    encrypt: bool,
    key: &[u8],
    iv: &[u8],
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, ErrorStack> {
    let cipher = match key.len() {
        32 => Cipher::aes_256_cfb128(),
        _ => Cipher::aes_128_cfb128(),
    };
    let run = if encrypt {
        symm::encrypt
    } else {
        symm::decrypt
    };
    run(cipher, key, Some(iv), data).map(Zeroizing::new)
}

/// A secret that only the owner of a key can learn, and what tells it to them.
pub(super) struct Agreed {
    pub(super) secret: Zeroizing<[u8; 32]>,
    pub(super) encrypted: Vec<u8>,
}

/// Agrees on a secret with a key's owner. The label says what for.
pub(super) fn agree(
    key: &Public,
    label: &str,
    entropy: &mut Entropy,
) -> Result<Agreed, AgreeError> {
    match &key.kind {
        Kind::Rsa {
            modulus, exponent, ..
        } => agree_rsa(&rsa(modulus, *exponent)?, label, entropy),
        Kind::Ecc { curve, x, y, .. } if *curve == CURVE_P256 => {
            let other = point(x, y)?;
            agree_ecc(&other, x, label, entropy)
        }
        _ => Err(AgreeError::Kind),
    }
}

fn agree_rsa(
    key: &PKey<PublicPart>,
    label: &str,
    entropy: &mut Entropy,
) -> Result<Agreed, AgreeError> {
    let secret = entropy.bytes();
    let mut context = PkeyCtx::new(key)?;
    context.encrypt_init()?;
    context.set_rsa_padding(Padding::PKCS1_OAEP)?;
    context.set_rsa_oaep_md(Md::sha256())?;
    context.set_rsa_mgf1_md(Md::sha256())?;
    context.set_rsa_oaep_label(&[label.as_bytes(), &[0]].concat())?;
    let mut encrypted = Vec::new();
    context.encrypt_to_vec(&*secret, &mut encrypted)?;
    Ok(Agreed { secret, encrypted })
}

fn agree_ecc(
    other: &PKey<PublicPart>,
    other_x: &[u8],
    label: &str,
    entropy: &mut Entropy,
) -> Result<Agreed, AgreeError> {
    let ours = ephemeral(entropy)?;
    let mut deriver = Deriver::new(&ours.key)?;
    deriver.set_peer(other)?;
    let shared = Zeroizing::new(deriver.derive_to_vec()?);
    let mut encrypted = Vec::new();
    for coordinate in [&ours.x, &ours.y] {
        put_sized(&mut encrypted, coordinate).map_err(|_| AgreeError::Kind)?;
    }
    Ok(Agreed {
        secret: kdfe(&shared, label, &ours.x, other_x),
        encrypted,
    })
}

/// A key for one use, with its point.
struct Ephemeral {
    key: PKey<Private>,
    x: Vec<u8>,
    y: Vec<u8>,
}

fn ephemeral(entropy: &mut Entropy) -> Result<Ephemeral, ErrorStack> {
    let group = p256()?;
    let mut context = BigNumContext::new()?;
    let (mut order, mut range, mut private) =
        (BigNum::new()?, BigNum::new()?, BigNum::new_secure()?);
    group.order(&mut order, &mut context)?;
    range.checked_sub(&order, &*BigNum::from_u32(1)?)?;
    // 64 bytes for a number of 32: what the remainder prefers is not to be noticed.
    let wide = Zeroizing::new([*entropy.bytes(), *entropy.bytes()].concat());
    private.nnmod(&*BigNum::from_slice(&wide)?, &range, &mut context)?;
    private.add_word(1)?;
    let mut public = EcPoint::new(&group)?;
    public.mul_generator2(&group, &private, &mut context)?;
    let (mut x, mut y) = (BigNum::new()?, BigNum::new()?);
    public.affine_coordinates(&group, &mut x, &mut y, &mut context)?;
    let key = EcKey::from_private_components(&group, &private, &public)?;
    Ok(Ephemeral {
        key: PKey::from_ec_key(key)?,
        x: x.to_vec_padded(P256_SIZE)?,
        y: y.to_vec_padded(P256_SIZE)?,
    })
}

fn p256() -> Result<EcGroup, ErrorStack> {
    EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)
}

fn point(x: &[u8], y: &[u8]) -> Result<PKey<PublicPart>, ErrorStack> {
    let (x, y) = (BigNum::from_slice(x)?, BigNum::from_slice(y)?);
    PKey::from_ec_key(EcKey::from_public_key_affine_coordinates(
        &*p256()?,
        &x,
        &y,
    )?)
}

fn rsa(modulus: &[u8], exponent: u32) -> Result<PKey<PublicPart>, ErrorStack> {
    let exponent = if exponent == 0 {
        DEFAULT_EXPONENT
    } else {
        exponent
    };
    let key =
        Rsa::from_public_components(BigNum::from_slice(modulus)?, BigNum::from_u32(exponent)?)?;
    PKey::from_rsa(key)
}

/// 16 bytes of IV that are zero: for keys that are used once.
pub(super) const NO_IV: [u8; 16] = [0; 16];

/// The two keys that protect an object outside its TPM: for its secrets, and for its integrity.
pub(super) struct Protection {
    pub(super) cipher: Zeroizing<Vec<u8>>,
    pub(super) integrity: Zeroizing<Vec<u8>>,
}

impl Protection {
    /// From the seed that goes along with the object, for the object with this name.
    pub(super) fn new(seed: &[u8], name: &[u8], bits: u16) -> Self {
        Self {
            cipher: kdfa(seed, "STORAGE", [name, &[]], u32::from(bits)),
            integrity: kdfa(seed, "INTEGRITY", [&[], &[]], HASH_BITS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_the_standard() {
        // RFC 4231, cases 1, 2 and 6.
        for (key, text, wanted) in [
            (
                vec![0x0b; 20],
                &b"Hi There"[..],
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe".to_vec(),
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                vec![0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(hex::encode(*hmac(&key, &[text])), wanted);
        }
    }

    #[test]
    fn hkdf_is_that_of_the_standard() {
        // RFC 5869, case 1, the first 32 bytes.
        let info = hex::decode("f0f1f2f3f4f5f6f7f8f9").unwrap();
        let salt = hex::decode("000102030405060708090a0b0c").unwrap();
        assert_eq!(
            hex::encode(*hkdf(&[0x0b; 22], &salt, &info)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
        );
    }

    #[test]
    fn keys_have_the_wanted_size() {
        for bits in [128, 256, 384, 512] {
            let key = kdfa(b"key", "LABEL", [b"u", b"v"], bits);
            assert_eq!(key.len() * 8, usize::try_from(bits).unwrap());
        }
    }

    #[test]
    fn a_seed_gives_the_same_stream_and_no_block_twice() {
        let (mut one, mut other) = (Entropy::new([1; 32]), Entropy::new([1; 32]));
        let first = one.bytes();
        assert_eq!(first, other.bytes());
        assert_ne!(first, one.bytes());
    }
}
