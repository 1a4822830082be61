//! mkfs.vfat's options, from `SYSTEMD_REPART_MKFS_OPTIONS_VFAT`: each is honoured or refused by its
//! name, none ignored. Pure.

use super::parameters::{Label, Parameters, SectorSize, Width};

/// An option that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// The option exists, but not here.
    #[error(
        "mkfs.vfat's option {0} is not supported when the file system is written in-process; leave it out of SYSTEMD_REPART_MKFS_OPTIONS_VFAT"
    )]
    Unsupported(String),
    /// There is no such option.
    #[error("{0:?} in SYSTEMD_REPART_MKFS_OPTIONS_VFAT is no option of mkfs.vfat")]
    Unknown(String),
    /// The option lacks its value.
    #[error("the option {0} in SYSTEMD_REPART_MKFS_OPTIONS_VFAT lacks its value")]
    NoValue(String),
    /// The value is out of range or no number.
    #[error(
        "the option {option} in SYSTEMD_REPART_MKFS_OPTIONS_VFAT has the value {value:?}; it takes {allowed}"
    )]
    Value {
        /// The option.
        option: String,
        /// What was given.
        value: String,
        /// What it takes.
        allowed: &'static str,
    },
}

/// Options with a value.
const VALUED: &str = "bDfFghimMnrRsS";

/// Options with a value, or without one, that only make sense for mkfs.vfat as a program.
const REFUSED: &str = "ACclm";

impl Parameters {
    /// Follows mkfs.vfat's options, given as words of its command line.
    pub fn with_mkfs_options(mut self, words: &[String]) -> Result<Self, OptionError> {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                return Err(OptionError::Unknown(word.clone()));
            };
            if let Some(long) = letters.strip_prefix('-') {
                self.long(word, long)?;
                continue;
            }
            for (at, letter) in letters.char_indices() {
                let rest = &letters[at + letter.len_utf8()..];
                if VALUED.contains(letter) && !REFUSED.contains(letter) {
                    let value = match rest {
                        "" => words.next().map(String::as_str),
                        rest => Some(rest),
                    };
                    let missing = || OptionError::NoValue(format!("-{letter}"));
                    self.set(letter, value.ok_or_else(missing)?)?;
                    break;
                }
                self.flag(letter, word)?;
            }
        }
        Ok(self)
    }

    fn long(&mut self, word: &str, long: &str) -> Result<(), OptionError> {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        match (name, value) {
            // Everything here is invariant already; no table of partitions is what there is.
            ("invariant", None) | ("mbr", Some("n" | "no")) => Ok(()),
            ("codepage" | "help" | "mbr" | "offset" | "variant", _) => {
                Err(OptionError::Unsupported(format!("--{name}")))
            }
            _ => Err(OptionError::Unknown(word.to_owned())),
        }
    }

    fn flag(&mut self, letter: char, word: &str) -> Result<(), OptionError> {
        match letter {
            'a' => self.align = Some(false),
            // To write to a whole device is not for us to refuse, nor are we asked to talk.
            'I' | 'v' => {}
            _ if REFUSED.contains(letter) => {
                return Err(OptionError::Unsupported(format!("-{letter}")));
            }
            _ => return Err(OptionError::Unknown(word.to_owned())),
        }
        Ok(())
    }

    fn set(&mut self, letter: char, value: &str) -> Result<(), OptionError> {
        let value = Value { letter, value };
        match letter {
            'b' => self.backup = Some(value.number(0..=0xffff, "a sector number")?),
            'D' => self.drive = Some(value.number(0..=0xff, "a BIOS drive number")?),
            'f' => self.tables = value.number(1..=4, "1 to 4 tables")?,
            'F' => {
                self.width = match value.number::<u8>(0..=32, "12, 16 or 32")? {
                    12 => Width::Fat12,
                    16 => Width::Fat16,
                    32 => Width::Fat32,
                    _ => return Err(value.error("12, 16 or 32")),
                }
            }
            'g' => self.geometry = Some(value.geometry()?),
            'h' => self.hidden = value.number(0..=u64::from(u32::MAX), "a count of sectors")?,
            'i' => {
                let allowed = "up to 8 hexadecimal digits";
                let digits = value.value.strip_prefix("0x").unwrap_or(value.value);
                self.volume_id =
                    u32::from_str_radix(digits, 16).map_err(|_| value.error(allowed))?;
            }
            'M' => {
                let media: u8 = value.number(0xf0..=0xff, "0xf0 or 0xf8 to 0xff")?;
                if matches!(media, 0xf1..=0xf7) {
                    return Err(value.error("0xf0 or 0xf8 to 0xff"));
                }
                self.media = Some(media);
            }
            'n' => {
                let allowed = "a label of at most 11 ASCII characters without *?.,;:/\\|+=<>[]\"";
                self.label = Label::parse(value.value).map_err(|_| value.error(allowed))?;
            }
            'r' => self.root_entries = Some(value.number(1..=32_767, "1 to 32767 entries")?),
            'R' => self.reserved = Some(value.number(1..=0xffff, "1 to 65535 sectors")?),
            's' => {
                let allowed = "a power of two from 1 to 128";
                let sectors: u8 = value.number(1..=128, allowed)?;
                if !sectors.is_power_of_two() {
                    return Err(value.error(allowed));
                }
                self.cluster = Some(sectors);
            }
            _ => {
                let allowed = "512, 1024, 2048 or 4096";
                let bytes = value.number(512..=4096, allowed)?;
                self.sector_size = SectorSize::new(bytes).map_err(|_| value.error(allowed))?;
            }
        }
        Ok(())
    }
}

/// An option's value.
#[derive(Clone, Copy)]
struct Value<'a> {
    letter: char,
    value: &'a str,
}

impl Value<'_> {
    /// A number as C reads it: decimal, 0x hexadecimal, or octal after a 0.
    fn number<T: TryFrom<u64>>(
        self,
        range: std::ops::RangeInclusive<u64>,
        allowed: &'static str,
    ) -> Result<T, OptionError> {
        let (digits, radix) = match self.value {
            hex if hex.starts_with("0x") || hex.starts_with("0X") => (&hex[2..], 16),
            octal if octal.len() > 1 && octal.starts_with('0') => (&octal[1..], 8),
            decimal => (decimal, 10),
        };
        u64::from_str_radix(digits, radix)
            .ok()
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.error(allowed))
    }

    fn geometry(self) -> Result<(u16, u16), OptionError> {
        let allowed = "heads/sectors per track";
        let (heads, track) = self
            .value
            .split_once('/')
            .ok_or_else(|| self.error(allowed))?;
        let part = |value| Value { value, ..self }.number(1..=0xffff, allowed);
        Ok((part(heads)?, part(track)?))
    }

    fn error(self, allowed: &'static str) -> OptionError {
        OptionError::Value {
            option: format!("-{}", self.letter),
            value: self.value.to_owned(),
            allowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Parameters, OptionError> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let sector = SectorSize::new(512).unwrap();
        Parameters::new(1, Label::none(), sector, Default::default()).with_mkfs_options(&words)
    }

    #[test]
    fn options_are_followed() {
        let made = parse("-F16 -s 8 -aI -n TEST -i 0xCafe -f 1 -R 40 -r 224 -M 0xf0 -h 2048 -D 0x81 -g 64/32 -S 4096 --invariant").unwrap();
        assert_eq!(made.width, Width::Fat16);
        assert_eq!(made.cluster, Some(8));
        assert_eq!(made.align, Some(false));
        assert_eq!(made.label, Label::parse("TEST").unwrap());
        assert_eq!(made.volume_id, 0xcafe);
        assert_eq!((made.tables, made.reserved), (1, Some(40)));
        assert_eq!((made.root_entries, made.media), (Some(224), Some(0xf0)));
        assert_eq!((made.hidden, made.drive), (2048, Some(0x81)));
        assert_eq!(made.geometry, Some((64, 32)));
        assert_eq!(made.sector_size.bytes(), 4096);
    }

    #[test]
    fn options_are_refused() {
        for (line, expected) in [
            ("-F 24", "takes 12, 16 or 32"),
            ("-s 3", "power of two"),
            ("-s", "lacks its value"),
            ("-C", "not supported"),
            ("-c", "not supported"),
            ("-l list", "not supported"),
            ("-m text", "not supported"),
            ("-A", "not supported"),
            ("--codepage=437", "not supported"),
            ("--offset=1", "not supported"),
            ("-z", "no option"),
            ("--bogus", "no option"),
            ("file", "no option"),
            ("-M 0xf5", "0xf0 or"),
            ("-S 8192", "512, 1024"),
        ] {
            let message = parse(line).unwrap_err().to_string();
            assert!(message.contains(expected), "{line}: {message}");
        }
    }
}
