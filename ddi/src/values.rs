//! Values of command-line options that are a boolean, size or UUID, or a word of their own.

use image_specs::conf::{ValueError, boolean, size};
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

/// `--size=`.
pub(crate) fn size_or_auto(text: &str) -> Result<SizeArg, ValueError> {
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
    fn words_stand_beside_values() {
        assert_eq!(Tristate::parse("auto"), Ok(Tristate::Auto));
        assert_eq!(Tristate::parse("on"), Ok(Tristate::Yes));
        assert!(Tristate::parse("").is_err());
        assert_eq!(size_or_auto("auto"), Ok(SizeArg::Auto));
        assert_eq!(size_or_auto("1.5M"), Ok(SizeArg::Bytes(1_572_864)));
        assert_eq!(seed("random"), Ok(SeedArg::Random));
        assert!(seed("1").is_err());
    }
}
