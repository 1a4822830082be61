//! Volume keys: what the data is encrypted with. Where they come from, and by which hash they are
//! recognised.

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use uuid::Uuid;

use crate::Secret;

/// Separates keys derived from a seed from all else that is.
const SEED_DOMAIN: &[u8] = b"ddi LUKS2 volume key, version 1\0";

/// A volume key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeKey {
    /// Its bytes; none where only the kernel has them.
    secret: Secret,
    kernel: Option<InKernel>,
}

/// A volume key in the keyring of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InKernel {
    /// Its name.
    pub(crate) description: String,
    /// How many bytes it has.
    pub(crate) size: usize,
}

/// A volume key cannot be hashed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// Only the kernel has it.
    #[error("only the kernel has the volume key that the token gave: it cannot be hashed")]
    InKernel,
    /// OpenSSL fails.
    #[error("OpenSSL cannot compute a hash")]
    OpenSsl(#[from] ErrorStack),
}

impl VolumeKey {
    /// Takes its bytes over.
    pub fn new(secret: Secret) -> Self {
        Self {
            secret,
            kernel: None,
        }
    }

    /// One that only the kernel has.
    pub(crate) fn in_kernel(description: String, size: usize) -> Self {
        Self {
            secret: Secret::new(Vec::new()),
            kernel: Some(InKernel { description, size }),
        }
    }

    /// Where the kernel has it, if nobody else does: then [`Self::expose`] gives nothing.
    pub(crate) fn kernel(&self) -> Option<&InKernel> {
        self.kernel.as_ref()
    }

    /// Whether only the kernel has its bytes: then it opens devices, from the thread that has found
    /// it, and is of no use for anything else.
    pub fn is_in_kernel(&self) -> bool {
        self.kernel.is_some()
    }

    /// A new one of so many bytes, from OpenSSL's generator for secrets.
    pub fn generate(bytes: usize) -> Result<Self, ErrorStack> {
        let mut key = vec![0; bytes];
        openssl::rand::rand_priv_bytes(&mut key)?;
        Ok(Self::new(Secret::new(key)))
    }

    /// The same one whenever the seed and the partition's UUID are the same: for images that are
    /// to be the same to the byte. Whoever has the seed can read the data.
    ///
    /// The key's bytes are HMAC-SHA256 blocks, each over a fixed text, the UUID's 16 bytes and the
    /// number of the block (one byte, from 1 on), with the seed as the key.
    pub fn from_seed(seed: &Secret, partition: Uuid, bytes: usize) -> Result<Self, ErrorStack> {
        let mut key = zeroize::Zeroizing::new(Vec::with_capacity(bytes + 32));
        for block in 1..=u8::MAX {
            if key.len() >= bytes {
                break;
            }
            let parts = [SEED_DOMAIN, partition.as_bytes(), &[block]];
            key.extend_from_slice(&hmac(seed, &parts)?);
        }
        let exact = key.get(..bytes).unwrap_or(&key).to_vec();
        Ok(Self::new(Secret::new(exact)))
    }

    /// The bytes, for whoever must have them.
    pub fn expose(&self) -> &[u8] {
        self.secret.expose()
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        let kernel = self.kernel.as_ref().map(|kernel| kernel.size);
        kernel.unwrap_or(self.secret.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What stands for the key of the volume `uuid` that is opened under `name`.
    pub(crate) fn measured_text(name: &str, uuid: &str) -> String {
        format!("cryptsetup:{}:{uuid}", escaped(name))
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// What `fixate-volume-key=` in crypttab wants of the volume `uuid` that is opened under `name`;
    /// also what is measured of a volume key.
    pub fn fixate_hash(&self, name: &str, uuid: &str) -> Result<String, HashError> {
        if self.is_in_kernel() {
            return Err(HashError::InKernel);
        }
        let text = Self::measured_text(name, uuid);
        Ok(hex::encode(hmac(&self.secret, &[text.as_bytes()])?))
    }
}

/// A name without the colons that separate it, nor anything that is not printable ASCII.
pub(crate) fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b':' | b'\\' | 0..b' ' | 127.. => format!("\\x{byte:02x}"),
        _ => char::from(byte).to_string(),
    };
    name.bytes().map(escape).collect()
}

fn hmac(key: &Secret, parts: &[&[u8]]) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::hmac(key.expose())?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    for part in parts {
        signer.update(part)?;
    }
    signer.sign_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_keys_depend_on_all_they_are_derived_from() {
        let seed = |byte| Secret::new(vec![byte; 16]);
        let derive = |byte, uuid, bytes| {
            let key = VolumeKey::from_seed(&seed(byte), Uuid::from_u128(uuid), bytes).unwrap();
            assert_eq!(key.len(), bytes);
            key
        };
        let key = derive(1, 1, 64);
        assert_eq!(key, derive(1, 1, 64));
        assert_ne!(key, derive(2, 1, 64));
        assert_ne!(key, derive(1, 2, 64));
        assert_ne!(key.expose()[..32], key.expose()[32..]);
        assert_eq!(derive(1, 1, 32).expose(), &key.expose()[..32]);
    }

    /// Computed with openssl dgst -mac HMAC over the text, for 64 bytes of 0x11.
    #[test]
    fn fixation_hashes_are_hmacs_of_name_and_uuid() {
        let key = VolumeKey::new(Secret::new(vec![0x11; 64]));
        let uuid = "11111111-2222-3333-4444-555555555555";
        assert_eq!(key.fixate_hash("root", uuid).unwrap(), ROOT);
        for (name, text) in [
            ("a:b", r"a\x3ab"),
            (r"a\b", r"a\x5cb"),
            ("ä\n", r"\xc3\xa4\x0a"),
            ("luks-x_1", "luks-x_1"),
        ] {
            assert_eq!(escaped(name), text);
        }
    }

    const ROOT: &str = "315ceb6f76490decccbb00029dc3f0d4f8f4e2722e894a93cc5f1ba2cd501313";
}
