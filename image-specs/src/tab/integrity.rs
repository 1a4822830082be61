//! Options of integritytab(5).

use super::options::{Found, OptionError, Unknown, expected, split};

/// What a volume's options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntegrityOptions {
    /// `allow-discards`
    pub allow_discards: bool,
    /// `mode=`
    pub mode: IntegrityMode,
    /// `journal-watermark=`, in percent; `None` for the kernel's.
    pub journal_watermark: Option<u8>,
    /// `journal-commit-time=`, in milliseconds.
    pub journal_commit_time: Option<u32>,
    /// `data-device=`: the data are there, and the volume's device has the tags.
    pub data_device: Option<String>,
    /// `integrity-algorithm=`
    pub algorithm: Option<Algorithm>,
    /// For the generator.
    pub units: Units,
}

/// What only the generator looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// `noauto`
    pub no_auto: bool,
    /// `nofail`
    pub no_fail: bool,
    /// `_netdev`
    pub network: bool,
    /// `x-initrd.attach`
    pub initrd: bool,
}

/// How tags are kept in step with data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntegrityMode {
    /// Both go through a journal.
    #[default]
    Journal,
    /// A bitmap tells where they may be out of step.
    Bitmap,
    /// Nothing does.
    Direct,
}

/// What tags are calculated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Algorithm {
    Crc32,
    Crc32c,
    XxHash64,
    Sha1,
    Sha256,
    HmacSha256,
    HmacSha512,
    PhmacSha256,
    PhmacSha512,
}

impl Algorithm {
    const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::Crc32, "crc32", "crc32"),
        (Self::Crc32c, "crc32c", "crc32c"),
        (Self::XxHash64, "xxhash64", "xxhash64"),
        (Self::Sha1, "sha1", "sha1"),
        (Self::Sha256, "sha256", "sha256"),
        (Self::HmacSha256, "hmac-sha256", "hmac(sha256)"),
        (Self::HmacSha512, "hmac-sha512", "hmac(sha512)"),
        (Self::PhmacSha256, "phmac-sha256", "phmac(sha256)"),
        (Self::PhmacSha512, "phmac-sha512", "phmac(sha512)"),
    ];

    /// The one of this name.
    pub fn new(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|(_, known, _)| *known == name)
            .map(|(algorithm, ..)| *algorithm)
    }

    /// Its name in tables of volumes.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(one, ..)| *one == self);
        found.map_or("", |(_, name, _)| name)
    }

    /// The kernel's name for it.
    pub fn kernel_name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(one, ..)| *one == self);
        found.map_or("", |(.., name)| name)
    }

    /// Whether it takes a key.
    pub fn is_keyed(self) -> bool {
        self.kernel_name().contains('(')
    }

    /// Bytes of its result.
    pub const fn tag_size(self) -> u16 {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::XxHash64 => 8,
            Self::Sha1 => 20,
            Self::Sha256 | Self::HmacSha256 | Self::PhmacSha256 => 32,
            Self::HmacSha512 | Self::PhmacSha512 => 64,
        }
    }
}

impl IntegrityOptions {
    /// Reads a list of options.
    pub fn parse(text: &str) -> Result<Found<Self>, OptionError> {
        let mut options = Self::default();
        let mut unknown = Vec::new();
        for (_, word) in split(text)? {
            if !options.units.take(&word) && !options.take(&word)? {
                unknown.push(Unknown(word));
            }
        }
        Ok(Found { options, unknown })
    }

    fn take(&mut self, word: &str) -> Result<bool, OptionError> {
        match word.split_once('=') {
            None if word == "allow-discards" => self.allow_discards = true,
            Some(("mode", text)) => match text {
                "journal" => self.mode = IntegrityMode::Journal,
                "bitmap" => self.mode = IntegrityMode::Bitmap,
                "direct" => self.mode = IntegrityMode::Direct,
                _ => return Ok(false),
            },
            Some(("journal-watermark", text)) => {
                let wrong = || expected(word, "write a whole number from 0% to 100%");
                let number = percent(text).ok_or_else(wrong)?;
                self.journal_watermark = (number > 0).then_some(number);
            }
            Some(("journal-commit-time", text)) => {
                let wrong = || expected(word, "write milliseconds, or a number with ms, s or min");
                self.journal_commit_time = Some(milliseconds(text).ok_or_else(wrong)?);
            }
            Some(("data-device", text)) => self.data_device = Some(text.to_owned()),
            Some(("integrity-algorithm", text)) => {
                let wrong = || {
                    let known = "write crc32, crc32c, xxhash64, sha1, sha256, hmac-sha256, hmac-sha512, \
                                 phmac-sha256 or phmac-sha512";
                    expected(word, known)
                };
                self.algorithm = Some(Algorithm::new(text).ok_or_else(wrong)?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Units {
    /// Takes a word that is for the generator; `false` for others.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let place = match word {
            "noauto" => &mut self.no_auto,
            "nofail" => &mut self.no_fail,
            "_netdev" => &mut self.network,
            "x-initrd.attach" => &mut self.initrd,
            _ => return false,
        };
        *place = true;
        true
    }

    /// Those of a list of options, whatever else is in it.
    pub fn parse(text: &str) -> Self {
        let mut units = Self::default();
        for (_, word) in split(text).unwrap_or_default() {
            let word = word.split('=').next().unwrap_or_default();
            units.take(word);
        }
        units
    }
}

fn percent(text: &str) -> Option<u8> {
    let digits = text.strip_suffix('%')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u8 = digits.parse().ok().filter(|_| plain)?;
    (number <= 100).then_some(number)
}

fn milliseconds(text: &str) -> Option<u32> {
    let end = text.find(|letter: char| !letter.is_ascii_digit());
    let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: u32 = digits.parse().ok()?;
    let factor = match unit.trim_start() {
        "" | "ms" | "msec" => 1,
        "s" | "sec" | "second" | "seconds" => 1000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken() {
        let text = "mode=bitmap,allow-discards,noauto,journal-watermark=50%,journal-commit-time=2s,\
                    data-device=/dev/d,integrity-algorithm=hmac-sha512,mode=x,foo";
        let found = IntegrityOptions::parse(text).unwrap();
        let units = Units {
            no_auto: true,
            ..Units::default()
        };
        assert_eq!(
            found.options,
            IntegrityOptions {
                allow_discards: true,
                mode: IntegrityMode::Bitmap,
                journal_watermark: Some(50),
                journal_commit_time: Some(2000),
                data_device: Some("/dev/d".to_owned()),
                algorithm: Some(Algorithm::HmacSha512),
                units,
            }
        );
        assert_eq!(
            found.unknown,
            ["mode=x", "foo"].map(|word| Unknown(word.to_owned()))
        );
        assert_eq!(
            IntegrityOptions::parse("").unwrap().options,
            IntegrityOptions::default()
        );
        assert!(Units::parse("nofail=yes,a\\,_netdev").no_fail);
        assert!(!Units::parse("a\\,_netdev").network);
    }

    #[test]
    fn numbers_are_checked() {
        for (text, watermark) in [("0%", None), ("1%", Some(1)), ("100%", Some(100))] {
            let found = IntegrityOptions::parse(&format!("journal-watermark={text}")).unwrap();
            assert_eq!(found.options.journal_watermark, watermark);
        }
        for (text, time) in [("10", 10), ("10ms", 10), ("3 s", 3000), ("1min", 60_000)] {
            let found = IntegrityOptions::parse(&format!("journal-commit-time={text}")).unwrap();
            assert_eq!(found.options.journal_commit_time, Some(time));
        }
        for bad in [
            "journal-watermark=50",
            "journal-watermark=101%",
            "journal-watermark=5.5%",
            "journal-watermark=+5%",
            "journal-watermark=%",
            "journal-commit-time=",
            "journal-commit-time=x",
            "journal-commit-time=99999999min",
            "integrity-algorithm=",
            "integrity-algorithm=hmac(sha256)",
            "a\\b",
        ] {
            assert!(IntegrityOptions::parse(bad).is_err(), "{bad}");
        }
    }
}
