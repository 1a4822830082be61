//! Values of command-line options: booleans and sizes as systemd spells them.

use std::str::FromStr;

use image_specs::guid;
use uuid::Uuid;

/// `--offline=`, `--cow=`: a boolean, or left to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tristate {
    Auto,
    Yes,
    No,
}

/// `--seed=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeedArg {
    Random,
    Fixed(Uuid),
}

/// `--size=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SizeArg {
    Auto,
    Bytes(u64),
}

impl Tristate {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match boolean(text) {
            Ok(true) => Ok(Self::Yes),
            Ok(false) => Ok(Self::No),
            Err(_) => Err("write yes, no or auto".to_owned()),
        }
    }
}

/// A boolean: 1, yes, y, true, t, on or 0, no, n, false, f, off, in any case.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err("write yes or no".to_owned()),
    }
}

/// A size in bytes: a number with an optional fraction and K, M, G, T, P or E (base 1024) or B.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const HELP: &str = "write a number of bytes, or one with K, M, G, T, P or E (base 1024)";
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        "E" => 60,
        _ => return Err(HELP.to_owned()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = u64::from_str(whole).map_err(|_| HELP.to_owned())?;
    let scaled = u128::from(whole) << shift;
    let part = if fraction.is_empty() {
        0
    } else {
        let tenths = u128::from(u32::from_str(fraction).map_err(|_| HELP.to_owned())?);
        let digits = u32::try_from(fraction.len()).map_err(|_| HELP.to_owned())?;
        (tenths << shift) / 10u128.pow(digits)
    };
    u64::try_from(scaled + part).map_err(|_| "the size passes 16 EiB".to_owned())
}

/// `--size=`.
pub(crate) fn size_or_auto(text: &str) -> Result<SizeArg, String> {
    match text {
        "auto" => Ok(SizeArg::Auto),
        _ => size(text).map(SizeArg::Bytes),
    }
}

/// `--seed=`.
pub(crate) fn seed(text: &str) -> Result<SeedArg, String> {
    match text {
        "random" => Ok(SeedArg::Random),
        _ => guid::parse(text)
            .map(SeedArg::Fixed)
            .map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1K", 1024),
            ("1.5M", 1_572_864),
            ("2G", 2 << 30),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "K", "-1", "1X", "1.5.2M", "17E", "1e3"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn booleans_are_those_of_systemd() {
        for text in ["1", "yes", "Y", "TRUE", "t", "on"] {
            assert_eq!(boolean(text), Ok(true));
        }
        for text in ["0", "no", "N", "False", "f", "off"] {
            assert_eq!(boolean(text), Ok(false));
        }
        assert!(boolean("").is_err());
        assert_eq!(Tristate::parse("auto"), Ok(Tristate::Auto));
    }
}
