//! Values: booleans, integers and sizes as systemd spells them.

/// A value that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not one of the spellings of a boolean.
    #[error("write yes or no")]
    Boolean,
    /// No integer.
    #[error("write a whole number, in decimal or with 0x, 0o or 0b in front")]
    Integer,
    /// No size.
    #[error("write a number of bytes, or one with K, M, G, T, P or E (base 1024) such as 64M")]
    Size,
    /// A number that is outside of what the key can hold.
    #[error("the number is too large, too small, or negative where that means nothing")]
    Range,
}

/// Parses `1 yes y true t on` or `0 no n false f off`, in any case.
pub fn boolean(text: &str) -> Result<bool, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err(ValueError::Boolean),
    }
}

/// Parses a boolean, or nothing for "not said".
pub fn tristate(text: &str) -> Result<Option<bool>, ValueError> {
    if text.is_empty() {
        return Ok(None);
    }
    boolean(text).map(Some)
}

/// Parses an integer up to `max`: decimal, `0x`, `0o` or `0` (octal), `0b`, with an optional `+`.
pub fn unsigned(text: &str, max: u64) -> Result<u64, ValueError> {
    let text = text.trim_start_matches(is_space);
    let (max, digits) = match text.strip_prefix('-') {
        Some(digits) => (0, digits), // a negative zero is a zero
        None => (max, text.strip_prefix('+').unwrap_or(text)),
    };
    let number = magnitude(digits)?;
    if number > max {
        return Err(ValueError::Range);
    }
    Ok(number)
}

/// Parses a signed integer, written as for [`unsigned`] with an optional sign.
pub fn int32(text: &str) -> Result<i32, ValueError> {
    let text = text.trim_start_matches(is_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let number = i64::try_from(magnitude(digits)?).map_err(|_| ValueError::Range)?;
    let number = if negative { -number } else { number };
    i32::try_from(number).map_err(|_| ValueError::Range)
}

/// Parses digits with the base that their prefix names.
fn magnitude(text: &str) -> Result<u64, ValueError> {
    let lower = text.get(..2).unwrap_or_default().to_ascii_lowercase();
    let (digits, radix) = match lower.as_str() {
        "0x" => (&text[2..], 16),
        "0o" => (&text[2..], 8),
        "0b" => (&text[2..], 2),
        _ if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        _ => (text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(ValueError::Integer);
    }
    u64::from_str_radix(digits, radix).map_err(|_| ValueError::Range)
}

/// Letters of sizes and their powers of two, largest first.
const UNITS: [(&str, u32); 8] = [
    ("E", 60),
    ("P", 50),
    ("T", 40),
    ("G", 30),
    ("M", 20),
    ("K", 10),
    ("B", 0),
    ("", 0),
];

/// Parses a number of bytes: parts such as `1G`, `1.5M` or `512`, each with a smaller unit than the
/// one before, added up. Units are base 1024, letters upper case, the result below 2⁶⁴.
pub fn size(text: &str) -> Result<u64, ValueError> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total = 0u64;
    loop {
        total = size_part(&mut rest, &mut units)?
            .checked_add(total)
            .ok_or(ValueError::Range)?;
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

/// Takes one part from the text, and from the units what may no longer follow.
fn size_part<'a>(
    rest: &mut &str,
    units: &mut impl Iterator<Item = &'a (&'a str, u32)>,
) -> Result<u64, ValueError> {
    let text = rest.trim_start_matches(is_space);
    if text.starts_with('-') {
        return Err(ValueError::Range);
    }
    let (whole, behind) = digits(text.strip_prefix('+').unwrap_or(text));
    if whole.is_empty() {
        return Err(ValueError::Size);
    }
    let whole: u64 = whole.parse().map_err(|_| ValueError::Range)?;
    let (fraction, behind) = match behind.strip_prefix('.') {
        Some(behind) => digits(behind),
        None => ("", behind),
    };
    let behind = behind.trim_start_matches(is_space);
    let (unit, shift) = units
        .find(|(unit, _)| behind.starts_with(unit))
        .ok_or(ValueError::Size)?;
    *rest = behind.strip_prefix(unit).unwrap_or(behind);
    let bytes = (u128::from(whole) << shift) + fraction_of(fraction, *shift)?;
    u64::try_from(bytes).map_err(|_| ValueError::Range)
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

/// The decimal fraction `0.digits` of `2^shift`, rounded down; its digits must fit 64 bits.
fn fraction_of(digits: &str, shift: u32) -> Result<u128, ValueError> {
    let numerator: u64 = match digits {
        "" => 0,
        digits => digits.parse().map_err(|_| ValueError::Range)?,
    };
    let exponent = u32::try_from(digits.len()).unwrap_or(u32::MAX);
    let whole = 10u128.checked_pow(exponent);
    Ok(whole.map_or(0, |whole| (u128::from(numerator) << shift) / whole))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_have_twelve_spellings() {
        for text in ["1", "yes", "y", "true", "t", "on", "ON", "Yes"] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["0", "no", "n", "false", "f", "off", "OFF"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        for text in ["", "2", "yess", " yes", "auto"] {
            assert_eq!(boolean(text), Err(ValueError::Boolean), "{text:?}");
        }
        assert_eq!(tristate(""), Ok(None));
    }

    #[test]
    fn integers_have_four_bases() {
        for (text, number) in [
            ("0", 0),
            ("10", 10),
            ("+10", 10),
            ("-0", 0),
            (" 10", 10),
            ("0x1F", 31),
            ("0b101", 5),
            ("0o17", 15),
            ("017", 15),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(unsigned(text, u64::MAX), Ok(number), "{text}");
        }
        for text in [
            "",
            "-1",
            "1 ",
            "1k",
            "0x",
            "08",
            "18446744073709551616",
            "+",
            "++1",
            "0x+1",
        ] {
            assert!(unsigned(text, u64::MAX).is_err(), "{text:?}");
        }
        assert_eq!(unsigned("5", 4), Err(ValueError::Range));
        for (text, number) in [
            ("-1", -1),
            ("2147483647", i32::MAX),
            ("-2147483648", i32::MIN),
        ] {
            assert_eq!(int32(text), Ok(number));
        }
        assert!(int32("2147483648").is_err());
    }

    #[test]
    fn sizes_add_up_their_parts() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1B", 1),
            ("1K", 1 << 10),
            ("10M", 10 << 20),
            ("1.5G", 3 << 29),
            ("10.M", 10 << 20),
            ("0.1K", 102),
            ("1G 500M", (1 << 30) + (500 << 20)),
            ("1G500M3", (1 << 30) + (500 << 20) + 3),
            (" 5 K", 5 << 10),
            ("9E", 9 << 60),
            ("+5M", 5 << 20),
            ("1.G", 1 << 30),
            ("0.0000000000000000000000000000000000000000001K", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "-1",
            "K",
            "1Q",
            "1k",
            "16E",
            "1.99999999999999999999K",
            "0x1000",
            "1. 5G",
            "1M1G",
            "1K1K",
            "1 2",
            "1.5.5K",
            ".5K",
            "99999999999999999999",
        ] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }
}
