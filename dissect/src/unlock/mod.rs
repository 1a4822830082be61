//! Unlocking LUKS partitions of an image.
//!
//! [`attempts()`] decides (purely) which means are tried, [`Keys`] is what the caller has, [`unlock`]
//! reads the header and finds the volume key. What it is then used for is the same for both ways to
//! the files: [`crate::contents`] decrypts in this process, [`crate::activate`] has the kernel do it.
//!
//! A header is untrusted: it is read on a private copy, what it may cost is bounded, and it is not
//! looked at before the hash tree below it, where there is one, has been checked.

mod attempts;
mod candidate;
mod inside;
mod keys;

use std::fmt;

use blockdev::io::ReadAt;
use image_specs::partition::Designator;
use image_specs::policy::{ImagePolicy, Means};
use image_specs::units::Bytes;
use luks::{Header, HeaderError, Strictness, VolumeKey};

use crate::assign::Partition;
use crate::policy::Encryption;

pub use attempts::{Attempt, NoWay, Offer, Token, attempts};
pub use candidate::Why;
pub use inside::InsideError;
pub(crate) use inside::look;
pub use keys::{Ask, Chip, Keys, Question};

use attempts::{Missing, lack, names};
use candidate::Candidate;

/// A LUKS partition whose volume key is known.
#[derive(Debug)]
pub struct Unlocked {
    /// Its header.
    pub header: Header,
    /// Its key.
    pub key: VolumeKey,
    /// What has unlocked it.
    pub by: Attempt,
}

/// A LUKS partition stays locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnlockError {
    /// Its header cannot be used.
    #[error("the LUKS header of partition {designator} cannot be used")]
    Header {
        /// The partition.
        designator: Designator,
        /// Why.
        #[source]
        source: HeaderError,
    },
    /// It has no header any more.
    #[error("partition {0} has no LUKS header; it had one when the image was opened")]
    NoHeader(Designator),
    /// The header says otherwise than when the image was held against its policy.
    #[error(
        "the copies of the LUKS header of partition {0} contradict each other about authentication"
    )]
    Contradiction(Designator),
    /// Nothing may be tried.
    #[error(transparent)]
    NoWay(#[from] NoWay),
    /// What was tried has not unlocked it.
    #[error("partition {designator} cannot be unlocked: {}", Reasons(.refused, .forbidden, .missing))]
    Refused {
        /// The partition.
        designator: Designator,
        /// What was tried, and why it does not do.
        refused: Vec<Refused>,
        /// What was offered, and the policy forbids.
        forbidden: Vec<Means>,
        /// What has a token in the header and was not offered.
        missing: Vec<Means>,
    },
    /// Whoever was asked did not answer.
    #[error("partition {0} stays locked: no passphrase was given")]
    Cancelled(Designator),
}

/// Something that was tried in vain.
#[derive(Debug)]
pub struct Refused {
    /// What.
    pub attempt: Attempt,
    /// Why.
    pub why: Why,
}

/// Finds the volume key of a partition, which holds `data` of `size` bytes.
pub fn unlock(
    data: &dyn ReadAt,
    size: Bytes,
    partition: &Partition,
    policy: &ImagePolicy,
    keys: &Keys,
) -> Result<Unlocked, UnlockError> {
    let designator = partition.designator;
    let strictness = Strictness::with_memory(keys.memory);
    let header = Header::load(data, size, &strictness)
        .map_err(|source| UnlockError::Header { designator, source })?
        .ok_or(UnlockError::NoHeader(designator))?;
    if partition.encryption != Some(Encryption::of(&header)) {
        return Err(UnlockError::Contradiction(designator));
    }
    for notice in header.notices() {
        tracing::warn!(%designator, "{notice}");
    }
    let (offers, tokens) = (keys.offers(), tokens(&header));
    let mut refused = Vec::new();
    for attempt in attempts(designator, policy, &offers, &tokens)? {
        let candidate = Candidate {
            header: &header,
            designator,
            keys,
        };
        match candidate.try_one(attempt) {
            Ok(key) => {
                return Ok(Unlocked {
                    header,
                    key,
                    by: attempt,
                });
            }
            Err(Why::NoAnswer) if refused.is_empty() => {
                return Err(UnlockError::Cancelled(designator));
            }
            Err(why) => refused.push(Refused { attempt, why }),
        }
    }
    let lack = lack(designator, policy, &offers, &tokens);
    Err(UnlockError::Refused {
        designator,
        refused,
        forbidden: lack.forbidden,
        missing: lack.missing,
    })
}

fn tokens(header: &Header) -> Vec<Token> {
    let tokens = header.metadata().into_iter();
    let tokens = tokens.flat_map(|metadata| &metadata.tokens);
    let known = tokens.filter_map(|(number, token)| Token::of(*number, &token.kind));
    known.collect()
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempt = self.attempt;
        match &self.why {
            Why::Header(HeaderError::WrongKey) => write!(f, "{attempt} opens no key slot"),
            why => write!(f, "{attempt}: {why}"),
        }
    }
}

/// Why nothing has helped.
struct Reasons<'a>(&'a [Refused], &'a [Means], &'a [Means]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(refused, forbidden, missing) = self;
        let reasons: Vec<String> = refused.iter().map(Refused::to_string).collect();
        f.write_str(&reasons.join("; "))?;
        if !forbidden.is_empty() {
            write!(f, "; the image policy forbids {}", names(forbidden))?;
        }
        write!(f, "{}", Missing(missing))
    }
}

#[cfg(test)]
mod tests;
