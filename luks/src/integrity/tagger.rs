//! Tags calculated in this process, as the kernel calculates them: over the salt (if there is one), the
//! number of the sector, and its bytes. Pure.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use openssl::sha::Sha1;
use sha2::{Digest, Sha256, Sha512};
use std::hash::Hasher as _;
use twox_hash::XxHash64;

use super::Algorithm;
use crate::Secret;

/// Calculates tags.
#[derive(Clone)]
pub struct Tagger {
    hash: Hash,
    salt: Option<[u8; 16]>,
}

#[derive(Clone)]
enum Hash {
    Crc32,
    Crc32c,
    XxHash64,
    Sha1,
    Sha256,
    Sha512,
    HmacSha256(Box<Hmac<Sha256>>),
    HmacSha512(Box<Hmac<Sha512>>),
}

/// Tags of this kind cannot be calculated here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum TaggerError {
    #[error("tags of {0} can only be calculated by the kernel")]
    Unknown(Algorithm),
    #[error("{0} needs a key")]
    NoKey(Algorithm),
    #[error("{0} takes no key")]
    Key(Algorithm),
}

impl fmt::Debug for Tagger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let salted = self.salt.is_some();
        f.debug_struct("Tagger")
            .field("salted", &salted)
            .finish_non_exhaustive()
    }
}

impl Tagger {
    /// Prepares tags of an algorithm; `salt` is that of the superblock where it is part of tags.
    pub fn new(
        algorithm: &Algorithm,
        key: Option<&Secret>,
        salt: Option<[u8; 16]>,
    ) -> Result<Self, TaggerError> {
        if key.is_some() && !algorithm.is_keyed() {
            return Err(TaggerError::Key(algorithm.clone()));
        }
        let unknown = || TaggerError::Unknown(algorithm.clone());
        let keyed = || {
            let key = key.map(Secret::expose);
            key.ok_or_else(|| TaggerError::NoKey(algorithm.clone()))
        };
        let hash = match algorithm.kernel_name() {
            "crc32" => Hash::Crc32,
            "crc32c" => Hash::Crc32c,
            "xxhash64" => Hash::XxHash64,
            "sha1" => Hash::Sha1,
            "sha256" => Hash::Sha256,
            "sha512" => Hash::Sha512,
            "hmac(sha256)" => Hash::HmacSha256(mac(keyed()?).ok_or_else(unknown)?),
            "hmac(sha512)" => Hash::HmacSha512(mac(keyed()?).ok_or_else(unknown)?),
            _ => return Err(unknown()),
        };
        Ok(Self { hash, salt })
    }

    /// Fills `tag` for the block that begins at `sector` (of 512 bytes): what is longer than it is cut,
    /// what is shorter is followed by zeros.
    pub fn tag(&self, sector: u64, block: &[u8], tag: &mut [u8]) {
        let sector = sector.to_le_bytes();
        let salt = self.salt.as_ref().map_or(&[][..], |salt| salt);
        let parts = [salt, &sector, block];
        match &self.hash {
            Hash::Crc32 => put(tag, &crc32(&parts).to_le_bytes()),
            Hash::Crc32c => {
                let sum = parts
                    .iter()
                    .fold(0, |sum, part| crc32c::crc32c_append(sum, part));
                put(tag, &sum.to_le_bytes());
            }
            Hash::XxHash64 => {
                let mut hash = XxHash64::with_seed(0);
                parts.iter().for_each(|part| hash.write(part));
                put(tag, &hash.finish().to_le_bytes());
            }
            Hash::Sha1 => {
                let mut hash = Sha1::new();
                parts.iter().for_each(|part| hash.update(part));
                put(tag, &hash.finish());
            }
            Hash::Sha256 => put(tag, &digest::<Sha256>(&parts)),
            Hash::Sha512 => put(tag, &digest::<Sha512>(&parts)),
            Hash::HmacSha256(mac) => put(tag, &finish((**mac).clone(), &parts)),
            Hash::HmacSha512(mac) => put(tag, &finish((**mac).clone(), &parts)),
        }
    }
}

fn mac<M: KeyInit>(key: &[u8]) -> Option<Box<M>> {
    M::new_from_slice(key).ok().map(Box::new)
}

fn finish<M: Mac>(mut mac: M, parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn digest<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = D::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().to_vec()
}

/// The kernel's `crc32`: it begins at zero and is not inverted at its end.
fn crc32(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(u32::MAX);
    parts.iter().for_each(|part| hasher.update(part));
    !hasher.finalize()
}

fn put(tag: &mut [u8], digest: &[u8]) {
    let filled = tag.len().min(digest.len());
    let (head, tail) = tag.split_at_mut(filled);
    head.iter_mut()
        .zip(digest)
        .for_each(|(to, from)| *to = *from);
    tail.fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagger(name: &str, key: Option<&[u8]>) -> Result<Tagger, TaggerError> {
        let key = key.map(|key| Secret::new(key.to_vec()));
        Tagger::new(&name.parse().unwrap(), key.as_ref(), None)
    }

    /// `openssl mac` and `openssl dgst` of eight zero bytes and `abc`.
    #[test]
    fn tags_are_those_of_openssl() {
        for (name, key, expected) in [
            ("sha1", None, "fc1a8893"),
            ("sha256", None, "f3652e4c"),
            ("hmac-sha256", Some(&b"key"[..]), "ca303488"),
        ] {
            let mut tag = [0; 4];
            tagger(name, key).unwrap().tag(0, b"abc", &mut tag);
            assert_eq!(hex::encode(tag), expected, "{name}");
        }
    }

    #[test]
    fn tags_are_cut_or_padded() {
        let tagger = tagger("crc32c", None).unwrap();
        let (mut short, mut long) = ([1; 2], [1; 6]);
        tagger.tag(7, b"abc", &mut short);
        tagger.tag(7, b"abc", &mut long);
        assert_eq!(short, long[..2]);
        assert_eq!(long[4..], [0, 0]);
    }

    #[test]
    fn the_sector_and_the_salt_count() {
        let plain = tagger("sha256", None).unwrap();
        let salted = Tagger {
            salt: Some([1; 16]),
            ..plain.clone()
        };
        let tag = |tagger: &Tagger, sector| {
            let mut tag = [0; 8];
            tagger.tag(sector, b"abc", &mut tag);
            tag
        };
        assert_ne!(tag(&plain, 0), tag(&plain, 1));
        assert_ne!(tag(&plain, 0), tag(&salted, 0));
    }

    #[test]
    fn keys_are_where_they_belong() {
        let key = Some(&b"key"[..]);
        assert!(matches!(tagger("crc32c", key), Err(TaggerError::Key(_))));
        assert!(matches!(
            tagger("hmac-sha256", None),
            Err(TaggerError::NoKey(_))
        ));
        assert!(matches!(
            tagger("phmac-sha256", key),
            Err(TaggerError::Unknown(_))
        ));
        let shown = format!("{:?}", tagger("hmac-sha256", key).unwrap());
        assert_eq!(shown, "Tagger { salted: false, .. }");
    }
}
