//! Versions and their order (UAPI.10, version format specification).
//!
//! Where the specification's text and systemd differ, this follows systemd: the side that has digits
//! is newer than the side that has none at the same place, so `1.a` is older than `1.0`.
//!
//! Invariant: [`compare`] is a total order on any bytes up to what it calls equal. Pure.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A version of the characters that UAPI.10 allows: ASCII letters and digits, `.`, `-`, `~`, `^`.
///
/// Equal means of the same age: `1.0` equals `1.00`, though their texts differ.
#[derive(Clone, Debug)]
pub struct Version(String);

/// The text is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Nothing at all.
    #[error("a version cannot be empty")]
    Empty,
    /// A character that only separates.
    #[error("{text:?} is not a version: {found:?} is not a letter, a digit or one of . - ~ ^")]
    Character {
        /// The whole text.
        text: String,
        /// The first character that is not allowed.
        found: char,
    },
}

/// Orders two versions, older first. Any text has a place; other characters only separate.
pub fn compare(a: impl AsRef<[u8]>, b: impl AsRef<[u8]>) -> Ordering {
    let (mut a, mut b) = (a.as_ref(), b.as_ref());
    loop {
        (a, b) = (skip_separators(a), skip_separators(b));
        if let Some(decided) = step_over(b'~', &mut a, &mut b) {
            return decided;
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        for mark in *b"-^." {
            if let Some(decided) = step_over(mark, &mut a, &mut b) {
                return decided;
            }
        }
        let numeric = starts_with_digit(a) || starts_with_digit(b);
        let class = match numeric {
            true => u8::is_ascii_digit,
            false => u8::is_ascii_alphabetic,
        };
        let (word_a, rest_a) = split_run(a, class);
        let (word_b, rest_b) = split_run(b, class);
        let order = match numeric {
            true => compare_numbers(word_a, word_b),
            false => word_a.cmp(word_b),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// Whether the byte has a meaning of its own in a version.
const fn is_significant(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'~' | b'^')
}

fn skip_separators(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| is_significant(*byte));
    &text[start.unwrap_or(text.len())..]
}

/// The side that alone begins with `mark` is older; where both do, it is passed over.
fn step_over(mark: u8, a: &mut &[u8], b: &mut &[u8]) -> Option<Ordering> {
    match (a.strip_prefix(&[mark]), b.strip_prefix(&[mark])) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some(rest_a), Some(rest_b)) => {
            (*a, *b) = (rest_a, rest_b);
            None
        }
    }
}

fn starts_with_digit(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_digit)
}

fn split_run(text: &[u8], class: fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !class(byte));
    text.split_at(end.unwrap_or(text.len()))
}

/// Compares runs of digits of any length as numbers; no digits are below zero.
fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    let (number_a, number_b) = (without_zeros(a), without_zeros(b));
    (!a.is_empty())
        .cmp(&!b.is_empty())
        .then(number_a.len().cmp(&number_b.len()))
        .then_with(|| number_a.cmp(number_b))
}

fn without_zeros(run: &[u8]) -> &[u8] {
    let start = run.iter().position(|digit| *digit != b'0');
    &run[start.unwrap_or(run.len())..]
}

impl Version {
    /// Checks the characters of a version.
    pub fn new(text: impl Into<String>) -> Result<Self, VersionError> {
        let text = text.into();
        if text.is_empty() {
            return Err(VersionError::Empty);
        }
        let stranger = |letter: &char| {
            !u8::try_from(*letter).is_ok_and(|byte| byte < 128 && is_significant(byte))
        };
        match text.chars().find(stranger) {
            Some(found) => Err(VersionError::Character { text, found }),
            None => Ok(Self(text)),
        }
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(symbol: &str) -> Ordering {
        match symbol {
            "<" => Ordering::Less,
            "=" => Ordering::Equal,
            ">" => Ordering::Greater,
            other => panic!("no order: {other}"),
        }
    }

    #[test]
    fn orders_the_vectors_of_the_specification() {
        for (a, symbol, b) in [
            ("11", "=", "11"),
            ("systemd-123", "=", "systemd-123"),
            ("bar-123", "<", "foo-123"),
            ("123a", ">", "123"),
            ("123.a", ">", "123"),
            ("123.a", "<", "123.b"),
            ("123a", ">", "123.a"),
            ("11α", "=", "11β"),
            ("B", "<", "a"),
            ("", "<", "0"),
            ("0.", ">", "0"),
            ("0.0", ">", "0"),
            ("0", ">", "~"),
            ("", ">", "~"),
            ("1_", "=", "1"),
            ("_1", "=", "1"),
            ("1_", "<", "1.2"),
            ("1_2_3", ">", "1.3.3"),
            ("1+", "=", "1"),
            ("+1", "=", "1"),
            ("1+", "<", "1.2"),
            ("1+2+3", ">", "1.3.3"),
            ("00123", "=", "123"),
            ("1.0", "<", "1.0.0"),
            ("1~~", ">", "1~"),
            ("1~", "<", "1"),
            ("1-", ">", "1"),
            ("1^1", ">", "1"),
            ("1..2", "<", "1.2"),
            ("1a", "<", "10"),
            ("1~rc1", "<", "1"),
            ("1-1", "<", "1.1"),
            ("1a", ">", "1.1"),
            ("1.0", ">", "1"),
            // Here the specification's text says the opposite.
            ("1.a", "<", "1.0"),
        ] {
            assert_eq!(compare(a, b), order(symbol), "{a:?} {symbol} {b:?}");
            assert_eq!(compare(b, a), order(symbol).reverse(), "{b:?}, {a:?}");
        }
    }

    #[test]
    fn orders_the_chain_of_the_specification() {
        let chain = [
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for (i, a) in chain.iter().enumerate() {
            for (j, b) in chain.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a:?}, {b:?}");
            }
        }
    }

    #[test]
    fn orders_as_systemd_does() {
        let lines = include_str!("../tests/vectors/version.txt").lines();
        let mut count = 0;
        for line in lines.filter(|line| !line.starts_with('#')) {
            let [a, symbol, b] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("not three words: {line:?}");
            };
            assert_eq!(compare(a, b), order(symbol), "{line}");
            count += 1;
        }
        assert_eq!(count, 1500);
    }

    #[test]
    fn versions_have_their_characters_only() {
        for good in ["1", "1.2~rc1", "a^b-c", ".", "~"] {
            assert_eq!(Version::new(good).unwrap().to_string(), good);
        }
        assert_eq!(Version::new(""), Err(VersionError::Empty));
        for (bad, found) in [
            ("1_2", '_'),
            ("1+3", '+'),
            ("1 ", ' '),
            ("1,2", ','),
            ("1ä", 'ä'),
        ] {
            let text = bad.to_owned();
            assert_eq!(
                Version::new(bad),
                Err(VersionError::Character { text, found })
            );
        }
        assert_eq!(Version::new("1.0"), Version::new("1.00"));
    }

    proptest! {
        #[test]
        fn order_is_total(a in "[01a~^._-]{0,6}", b in "[01a~^._-]{0,6}", c in "[01a~^._-]{0,6}") {
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            let mut sorted = [&a, &b, &c];
            sorted.sort_by(|x, y| compare(x, y));
            prop_assert_ne!(compare(sorted[0], sorted[2]), Ordering::Greater);
        }
    }
}
