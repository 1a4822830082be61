//! Which means are tried to unlock a LUKS partition, and in which order: what the caller offers, as far
//! as the image policy permits it and the header has a use for it. Pure.
//!
//! As in systemd, what is given is tried before anybody is asked: the key file, the passphrase, the
//! credential; then devices, for which the header has a token each; then what somebody types.

use std::fmt;

use image_specs::partition::Designator;
use image_specs::policy::{ImagePolicy, Means};

/// Something that the caller has. The order is that of trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offer {
    /// The contents of a file.
    KeyFile,
    /// A passphrase, from the environment.
    Given,
    /// A passphrase, from the credential `dissect.passphrase`.
    Credential,
    /// A TPM2 chip.
    Tpm2,
    /// FIDO2 security tokens.
    Fido2,
    /// PKCS#11 tokens and smart cards.
    Pkcs11,
    /// Somebody at a terminal.
    Typed,
}

/// A token of a LUKS2 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its number.
    pub number: u32,
    /// The device that it is for.
    pub means: Means,
}

/// One thing to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// With what.
    pub offer: Offer,
    /// Which token says how, for a device.
    pub token: Option<u32>,
}

/// Nothing may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoWay {
    /// Which partition.
    pub designator: Designator,
    /// What was offered and the policy forbids.
    pub forbidden: Vec<Means>,
    /// What the policy permits.
    pub permitted: Vec<Means>,
    /// What was offered and the header has no token for.
    pub useless: Vec<Means>,
    /// Permitted devices that the header has a token for, and that were not offered.
    pub missing: Vec<Means>,
}

/// Decides what is tried, in order; never nothing.
pub fn attempts(
    designator: Designator,
    policy: &ImagePolicy,
    offers: &[Offer],
    tokens: &[Token],
) -> Result<Vec<Attempt>, NoWay> {
    let may = |means: Means| policy.may_unlock(designator, means);
    let mut offers = offers.to_vec();
    offers.sort_unstable();
    offers.dedup();
    let permitted = offers.iter().filter(|offer| may(offer.means()));
    let found: Vec<Attempt> = permitted.flat_map(|offer| offer.attempts(tokens)).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(lack(designator, policy, &offers, tokens)),
    }
}

/// What was not, or cannot be tried, for messages.
pub(super) fn lack(
    designator: Designator,
    policy: &ImagePolicy,
    offers: &[Offer],
    tokens: &[Token],
) -> NoWay {
    let may = |means: Means| policy.may_unlock(designator, means);
    let has = |means: Means| tokens.iter().any(|token| token.means == means);
    let offered = |means: Means| offers.iter().any(|offer| offer.means() == means);
    let all = |wanted: &dyn Fn(Means) -> bool| {
        let all = Means::ALL.into_iter();
        all.filter(|means| wanted(*means)).collect()
    };
    NoWay {
        designator,
        forbidden: all(&|means| offered(means) && !may(means)),
        permitted: all(&may),
        useless: all(&|means| offered(means) && may(means) && !has(means)),
        missing: all(&|means| has(means) && may(means) && !offered(means)),
    }
}

impl Offer {
    /// What the policy calls it.
    pub const fn means(self) -> Means {
        match self {
            Self::KeyFile => Means::KeyFile,
            Self::Given | Self::Credential | Self::Typed => Means::Passphrase,
            Self::Tpm2 => Means::Tpm2,
            Self::Fido2 => Means::Fido2,
            Self::Pkcs11 => Means::Pkcs11,
        }
    }

    /// A device is tried with each of its tokens, the rest once.
    fn attempts(self, tokens: &[Token]) -> Vec<Attempt> {
        let means = self.means();
        if matches!(means, Means::Passphrase | Means::KeyFile) {
            return vec![Attempt {
                offer: self,
                token: None,
            }];
        }
        let tokens = tokens.iter().filter(|token| token.means == means);
        let attempt = |token: &Token| Attempt {
            offer: self,
            token: Some(token.number),
        };
        tokens.map(attempt).collect()
    }
}

impl Token {
    /// A token by the name of its type; `None` where it is for no device.
    pub fn of(number: u32, kind: &str) -> Option<Self> {
        let means = match kind {
            "systemd-tpm2" => Means::Tpm2,
            "systemd-fido2" => Means::Fido2,
            "systemd-pkcs11" => Means::Pkcs11,
            _ => return None,
        };
        Some(Self { number, means })
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.offer {
            Offer::KeyFile => "the key file",
            Offer::Given => "the passphrase in PASSWORD",
            Offer::Credential => "the passphrase in the credential dissect.passphrase",
            Offer::Tpm2 | Offer::Fido2 | Offer::Pkcs11 => name(self.offer.means()),
            Offer::Typed => "the passphrase that was typed",
        })?;
        match self.token {
            None => Ok(()),
            Some(number) => write!(f, " (token {number})"),
        }
    }
}

impl fmt::Display for NoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} is encrypted, and ", self.designator)?;
        match (&self.forbidden[..], &self.useless[..]) {
            ([], []) => f.write_str("there is no key for it")?,
            ([], useless) => write!(f, "its header has no token for {}", names(useless))?,
            (forbidden, _) => {
                let permitted = names(&self.permitted);
                let forbidden = names(forbidden);
                write!(
                    f,
                    "the image policy permits to unlock it with {permitted}, not with {forbidden}"
                )?;
            }
        }
        write!(f, "{}", Missing(&self.missing))
    }
}

/// What else could unlock a partition, as the end of a sentence.
pub(super) struct Missing<'a>(pub(super) &'a [Means]);

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            missing => write!(f, "; {} could unlock it", names(missing)),
        }
    }
}

impl std::error::Error for NoWay {}

/// What a means is called in messages.
pub(super) const fn name(means: Means) -> &'static str {
    match means {
        Means::Passphrase => "a passphrase",
        Means::KeyFile => "a key file",
        Means::Tpm2 => "the TPM2 chip",
        Means::Fido2 => "a FIDO2 token",
        Means::Pkcs11 => "a PKCS#11 token",
    }
}

pub(super) fn names(all: &[Means]) -> String {
    let names: Vec<&str> = all.iter().map(|means| name(*means)).collect();
    match names[..] {
        [] => "nothing".to_owned(),
        _ => names.join(" or "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: [Offer; 7] = [
        Offer::Typed,
        Offer::Pkcs11,
        Offer::Fido2,
        Offer::Tpm2,
        Offer::Credential,
        Offer::Given,
        Offer::KeyFile,
    ];

    fn tokens() -> Vec<Token> {
        let kinds = [
            "luks2-keyring",
            "systemd-recovery",
            "systemd-tpm2",
            "systemd-fido2",
            "systemd-tpm2",
        ];
        let numbered = (0..).zip(kinds);
        numbered
            .filter_map(|(number, kind)| Token::of(number, kind))
            .collect()
    }

    fn tried(policy: &str, offers: &[Offer], tokens: &[Token]) -> Result<Vec<String>, String> {
        let policy = policy.parse().unwrap();
        match attempts(Designator::Root, &policy, offers, tokens) {
            Ok(found) => Ok(found.iter().map(Attempt::to_string).collect()),
            Err(no_way) => Err(no_way.to_string()),
        }
    }

    #[test]
    fn what_is_given_comes_before_devices_and_people() {
        assert_eq!(
            tried("*", &EVERYTHING, &tokens()).unwrap(),
            [
                "the key file",
                "the passphrase in PASSWORD",
                "the passphrase in the credential dissect.passphrase",
                "the TPM2 chip (token 2)",
                "the TPM2 chip (token 4)",
                "a FIDO2 token (token 3)",
                "the passphrase that was typed",
            ]
        );
        assert_eq!(
            tried("*", &[Offer::Typed, Offer::Typed], &[]).unwrap(),
            ["the passphrase that was typed"]
        );
    }

    #[test]
    fn policies_take_means_away() {
        for (policy, expected) in [
            (
                "root=encrypted-with-tpm2",
                &["the TPM2 chip (token 2)", "the TPM2 chip (token 4)"][..],
            ),
            (
                "root=encrypted-with-key-file+encrypted-with-fido2",
                &["the key file", "a FIDO2 token (token 3)"],
            ),
            (
                "root=encryptedwithintegrity+encrypted-with-passphrase",
                &[
                    "the passphrase in PASSWORD",
                    "the passphrase in the credential dissect.passphrase",
                    "the passphrase that was typed",
                ],
            ),
        ] {
            let found = tried(policy, &EVERYTHING, &tokens()).unwrap();
            assert_eq!(found, expected, "{policy}");
        }
    }

    #[test]
    fn that_nothing_may_be_tried_is_explained() {
        use Offer::{Given, KeyFile, Pkcs11, Tpm2};
        for (policy, offers, has_tokens, expected) in [
            ("*", &[][..], false, "there is no key for it"),
            (
                "*",
                &[],
                true,
                "there is no key for it; the TPM2 chip or a FIDO2 token could unlock it",
            ),
            (
                "*",
                &[Tpm2, Pkcs11],
                false,
                "its header has no token for the TPM2 chip or a PKCS#11 token",
            ),
            (
                "root=encrypted-with-tpm2",
                &[Given, KeyFile],
                true,
                "the image policy permits to unlock it with the TPM2 chip, not with a passphrase or \
                 a key file; the TPM2 chip could unlock it",
            ),
            (
                "root=encrypted-with-passphrase",
                &[KeyFile, Tpm2],
                true,
                "the image policy permits to unlock it with a passphrase, not with a key file or the \
                 TPM2 chip",
            ),
            (
                "root=unprotected",
                &[Given],
                false,
                "the image policy permits to unlock it with nothing, not with a passphrase",
            ),
        ] {
            let tokens = if has_tokens { tokens() } else { Vec::new() };
            let expected = format!("partition root is encrypted, and {expected}");
            assert_eq!(tried(policy, offers, &tokens), Err(expected), "{policy}");
        }
    }
}
