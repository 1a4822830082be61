//! Lists of PCRs as options and definition files write them: `7+11:sha256=hex`. Pure.

use std::fmt;
use std::str::FromStr;

use super::{Bank, UnknownBank};

/// How many PCRs a TPM of a PC has.
pub const PCRS: u8 = 24;

const NAMES: &[(&str, u8)] = &[
    ("platform-code", 0),
    ("platform-config", 1),
    ("external-code", 2),
    ("external-config", 3),
    ("boot-loader-code", 4),
    ("boot-loader-config", 5),
    ("host-platform", 6),
    ("secure-boot-policy", 7),
    ("kernel-initrd", 9),
    ("ima", 10),
    ("kernel-boot", 11),
    ("kernel-config", 12),
    ("sysexts", 13),
    ("shim-policy", 14),
    ("system-identity", 15),
    ("debug", 16),
    ("application-support", 23),
];

/// A set of PCR numbers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PcrSet(u32);

impl PcrSet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it has this PCR.
    pub const fn contains(self, pcr: u8) -> bool {
        pcr < PCRS && self.0 & (1 << pcr) != 0
    }

    /// With one more; numbers that no PCR has change nothing.
    #[must_use]
    pub const fn with(self, pcr: u8) -> Self {
        if pcr < PCRS {
            Self(self.0 | (1 << pcr))
        } else {
            self
        }
    }

    /// The numbers, in order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..PCRS).filter(move |pcr| self.contains(*pcr))
    }

    /// As a selection's three bytes.
    pub const fn bytes(self) -> [u8; 3] {
        let [first, second, third, _] = self.0.to_le_bytes();
        [first, second, third]
    }
}

impl FromIterator<u8> for PcrSet {
    fn from_iter<I: IntoIterator<Item = u8>>(pcrs: I) -> Self {
        pcrs.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Display for PcrSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pcr) in self.iter().enumerate() {
            let plus = if index == 0 { "" } else { "+" };
            write!(f, "{plus}{pcr}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for PcrSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PcrSet({self})")
    }
}

/// One PCR of a list, with the value that it must have if that is not the present one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrValue {
    /// Its number.
    pub pcr: u8,
    /// The bank, if the list tells one.
    pub bank: Option<Bank>,
    /// The value: as long as the bank's hashes.
    pub value: Option<Vec<u8>>,
}

/// PCRs of one bank, each once, sorted by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PcrList(Vec<PcrValue>);

/// The text is no list of PCRs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum PcrError {
    #[error("there is no PCR {0:?}; write a number below 24 or a name such as secure-boot-policy")]
    Unknown(String),
    #[error(transparent)]
    Bank(#[from] UnknownBank),
    #[error("the value of PCR {0} is no hexadecimal number of {1} bytes")]
    Value(u8, usize),
    #[error("PCR {0} is there twice")]
    Twice(u8),
    #[error("PCRs of the banks {0} and {1} are mixed; a policy can have one bank only")]
    Banks(Bank, Bank),
}

impl PcrList {
    /// Checks a list: each PCR once, one bank for all. An entry without a bank gets that of the others.
    pub fn new(mut values: Vec<PcrValue>) -> Result<Self, PcrError> {
        let bank = values.iter().find_map(|value| value.bank);
        for value in &mut values {
            match (value.bank, bank) {
                (None, bank) => value.bank = bank,
                (Some(one), Some(other)) if one != other => {
                    return Err(PcrError::Banks(other, one));
                }
                _ => {}
            }
        }
        values.sort_by_key(|value| value.pcr);
        match values.windows(2).find(|pair| pair[0].pcr == pair[1].pcr) {
            Some(pair) => Err(PcrError::Twice(pair[0].pcr)),
            None => Ok(Self(values)),
        }
    }

    /// This list and the entries of another; where both name a PCR, the other's entry counts.
    pub fn and(&self, other: &Self) -> Result<Self, PcrError> {
        let mine = self
            .0
            .iter()
            .filter(|value| !other.set().contains(value.pcr));
        Self::new(mine.chain(&other.0).cloned().collect())
    }

    /// The numbers.
    pub fn set(&self) -> PcrSet {
        self.0.iter().map(|value| value.pcr).collect()
    }

    /// The bank, if the list tells one.
    pub fn bank(&self) -> Option<Bank> {
        self.0.iter().find_map(|value| value.bank)
    }

    /// The entries.
    pub fn values(&self) -> &[PcrValue] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those without a value: they stand for what the TPM has now.
    pub fn without_value(&self) -> PcrSet {
        let open = self.0.iter().filter(|value| value.value.is_none());
        open.map(|value| value.pcr).collect()
    }
}

impl FromStr for PcrList {
    type Err = PcrError;

    /// Parses `PCR[:BANK[=DIGEST]]`, joined by `+` or `,`. The empty text is the empty list.
    fn from_str(text: &str) -> Result<Self, PcrError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let entries = text.split(['+', ',']).map(entry);
        Self::new(entries.collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for PcrList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.0.iter().enumerate() {
            let plus = if index == 0 { "" } else { "+" };
            write!(f, "{plus}{}", entry.pcr)?;
            if let Some(bank) = entry.bank {
                write!(f, ":{bank}")?;
            }
            if let Some(value) = &entry.value {
                write!(f, "={}", hex::encode(value))?;
            }
        }
        Ok(())
    }
}

fn entry(text: &str) -> Result<PcrValue, PcrError> {
    let (place, value) = match text.split_once('=') {
        Some((place, value)) => (place, Some(value)),
        None => (text, None),
    };
    let (pcr, bank) = match place.split_once(':') {
        Some((pcr, bank)) => (number(pcr)?, Some(bank.parse::<Bank>()?)),
        None => (number(place)?, None),
    };
    // A value without a bank is one of SHA-256, as systemd reads it.
    let bank = bank.or(value.map(|_| Bank::Sha256));
    let value = value.zip(bank).map(|(text, bank)| digest(pcr, bank, text));
    Ok(PcrValue {
        pcr,
        bank,
        value: value.transpose()?,
    })
}

fn number(text: &str) -> Result<u8, PcrError> {
    let named = NAMES.iter().find(|(name, _)| *name == text);
    let digits = || text.bytes().all(|byte| byte.is_ascii_digit());
    match named {
        Some((_, pcr)) => Some(*pcr),
        None if digits() => text.parse().ok().filter(|pcr| *pcr < PCRS),
        None => None,
    }
    .ok_or_else(|| PcrError::Unknown(text.to_owned()))
}

fn digest(pcr: u8, bank: Bank, text: &str) -> Result<Vec<u8>, PcrError> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    hex::decode(text)
        .ok()
        .filter(|value| value.len() == bank.size())
        .ok_or(PcrError::Value(pcr, bank.size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_cryptenroll_reads_them() {
        let zeros = "0".repeat(64);
        for (text, wanted) in [
            ("", ""),
            ("7", "7"),
            ("11+7", "7+11"),
            ("0,2", "0+2"),
            ("secure-boot-policy+kernel-boot", "7+11"),
            ("7+11:sha384", "7:sha384+11:sha384"),
            ("7:SHA1", "7:sha1"),
            (&format!("7=0x{zeros}"), &format!("7:sha256={zeros}")),
            (
                &format!("4:sha256={zeros}+7"),
                &format!("4:sha256={zeros}+7:sha256"),
            ),
        ] {
            let list: PcrList = text.parse().unwrap();
            assert_eq!(list.to_string(), wanted, "{text}");
        }
    }

    #[test]
    fn what_no_tpm_has_is_refused() {
        for text in [
            "24",
            "-1",
            "+7",
            "7+",
            "7++8",
            "seven",
            "7:md5",
            "7:",
            "7=",
            "7=00",
            "7:sha1=zz",
            "7+7",
            "7:sha1+8:sha256",
            "256",
            " 7",
            "99999999999999999999",
        ] {
            assert!(text.parse::<PcrList>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn later_entries_replace_earlier_ones() {
        let first: PcrList = "7+11".parse().unwrap();
        let second: PcrList = "4+7:sha256".parse().unwrap();
        let both = first.and(&second).unwrap();
        assert_eq!(both.to_string(), "4:sha256+7:sha256+11:sha256");
        assert_eq!(both.set().bytes(), [0x90, 0x08, 0]);
    }
}
