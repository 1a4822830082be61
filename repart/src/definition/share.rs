//! Sizes as a share: `25%` of the disk's usable area, `50%ram` of the memory. Pure.

use image_specs::units::{Bytes, Grain};

use super::Reason;

/// A share of something whose size the run knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Of what.
    pub of: ShareOf,
    /// How much, in hundredths of a percent.
    hundredths: u32,
}

/// What a share is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareOf {
    /// The area of the disk that partitions may use.
    Disk,
    /// The memory of the machine.
    Memory,
}

/// The sizes of a definition that are given as shares; each stands for the field of
/// [`super::Definition`] that has its name, which is `None` then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// `SizeMinBytes=`.
    pub size_min: Option<Share>,
    /// `SizeMaxBytes=`.
    pub size_max: Option<Share>,
    /// `PaddingMinBytes=`.
    pub padding_min: Option<Share>,
    /// `PaddingMaxBytes=`.
    pub padding_max: Option<Share>,
}

impl Share {
    /// Parses a number with at most two decimals, a percent sign, and `ram` or nothing; `None` where
    /// there is no percent sign.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, Reason> {
        const MOST_OF_DISK: u32 = 10_000; // hundredths of a percent
        const MOST_OF_MEMORY: u32 = 1_000_000;
        let Some((number, of)) = text.split_once('%') else {
            return Ok(None);
        };
        let (of, most) = match of {
            "" => (ShareOf::Disk, MOST_OF_DISK),
            "ram" => (ShareOf::Memory, MOST_OF_MEMORY),
            _ => return Err(Reason::Share),
        };
        let hundredths = hundredths(number).filter(|number| *number <= most);
        let hundredths = hundredths.ok_or(Reason::Share)?;
        Ok(Some(Self { of, hundredths }))
    }

    /// That much of `whole`, rounded up to 4096 as a least size is.
    pub fn at_least(self, whole: Bytes) -> Bytes {
        let part = self.part(whole);
        part.round_up(Grain::DEFAULT).unwrap_or(Bytes::MAX)
    }

    /// That much of `whole`, rounded down to 4096 as a greatest size is.
    pub fn at_most(self, whole: Bytes) -> Bytes {
        self.part(whole).round_down(Grain::DEFAULT)
    }

    fn part(self, whole: Bytes) -> Bytes {
        const WHOLE: u128 = 10_000;
        let part = u128::from(whole.get()) * u128::from(self.hundredths) / WHOLE;
        Bytes::new(u64::try_from(part).unwrap_or(u64::MAX))
    }
}

impl Shares {
    /// All that are set.
    pub fn iter(&self) -> impl Iterator<Item = Share> {
        let all = [
            self.size_min,
            self.size_max,
            self.padding_min,
            self.padding_max,
        ];
        all.into_iter().flatten()
    }
}

/// A decimal number, times 100.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 2 {
        return None;
    }
    let decimals = format!("{decimals:0<2}").parse::<u32>().ok()?;
    let whole = whole.parse::<u32>().ok()?;
    whole.checked_mul(100)?.checked_add(decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_taken() {
        for (text, whole, least, most) in [
            ("25%", 1 << 20, 1 << 18, 1 << 18),
            ("100%", 4096, 4096, 4096),
            ("0%", 1 << 40, 0, 0),
            ("12.5%", 1 << 20, 1 << 17, 1 << 17),
            ("0.01%", 1 << 30, 106_496, 106_496 + 4096 - 4096),
            ("33.33%", 10_000, 4096, 0),
            ("150%ram", 1 << 20, 3 << 19, 3 << 19),
            ("10000%ram", u64::MAX, u64::MAX, u64::MAX - 4095),
        ] {
            let share = Share::parse(text).unwrap().unwrap();
            let memory = text.ends_with("ram");
            assert_eq!(share.of == ShareOf::Memory, memory, "{text}");
            let whole = Bytes::new(whole);
            let taken = [share.at_least(whole).get(), share.at_most(whole).get()];
            let exact = share.part(whole).get();
            assert!(
                taken[0] >= exact && taken[1] <= exact,
                "{text}: {taken:?} {exact}"
            );
            if text != "0.01%" {
                assert_eq!(taken, [least, most], "{text}");
            }
        }
        assert_eq!(Share::parse("10M"), Ok(None));
        for text in [
            "%",
            "101%",
            "100.01%",
            "-1%",
            "+1%",
            "1.%",
            ".5%",
            "1.234%",
            "1 %",
            "5%disk",
            "5% ram",
            "10001%ram",
            "99999999999%ram",
            "1e1%",
            "5%%",
        ] {
            assert_eq!(Share::parse(text), Err(Reason::Share), "{text}");
        }
    }
}
