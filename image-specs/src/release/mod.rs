//! `os-release` and `extension-release` files: their fields, which file belongs to an extension, and
//! whether an extension fits a host (UAPI.4; os-release(5), systemd-sysext(8)).
//!
//! Invariant: parsing accepts what systemd accepts, and printing a [`Release`] parses to the same.
//! Pure.

mod file;
mod fit;

use std::fmt;

pub use file::{Ambiguous, Found, NameMismatch, check_name, image_name, select};
pub use fit::{Class, Host, Mismatch, Scope};

/// The fields of a release file, in the order in which they first occur.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release(Vec<(String, String)>);

/// The file is too much to be a release file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// More bytes than [`Release::MAX_BYTES`].
    #[error("{0} bytes are too many for a release file")]
    TooLarge(usize),
    /// More fields than [`Release::MAX_FIELDS`].
    #[error("a release file has at most {} fields", Release::MAX_FIELDS)]
    TooManyFields,
}

impl Release {
    /// The largest file that is read, in bytes.
    pub const MAX_BYTES: usize = 1 << 20;
    /// The most fields that are kept.
    pub const MAX_FIELDS: usize = 1024;

    /// Reads `KEY=value` lines with shell quoting. A later field replaces an earlier one; lines that
    /// are no assignment to a plain name, and values that are not UTF-8, are passed over.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(ReleaseError::TooLarge(bytes.len()));
        }
        let mut release = Self::default();
        let mut rest = bytes;
        while let Some(assignment) = next_assignment(&mut rest) {
            let (Ok(key), Ok(value)) = (
                String::from_utf8(assignment.key),
                String::from_utf8(assignment.value),
            ) else {
                continue;
            };
            if is_name(&key) {
                release.set(key, value)?;
            }
        }
        Ok(release)
    }

    fn set(&mut self, key: String, value: String) -> Result<(), ReleaseError> {
        match self.0.iter().position(|(known, _)| *known == key) {
            Some(index) => self.0[index].1 = value,
            None if self.0.len() >= Self::MAX_FIELDS => return Err(ReleaseError::TooManyFields),
            None => self.0.push((key, value)),
        }
        Ok(())
    }

    /// The value of a field; `None` where it is missing or empty, which mean the same.
    pub fn field(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == key)?;
        (!value.is_empty()).then_some(value)
    }

    /// Every field with its value, empty ones too.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Release {
    /// Lines of `KEY="value"`, quoted for the shell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in &self.0 {
            write!(f, "{key}=\"")?;
            for letter in value.chars() {
                if matches!(letter, '"' | '\\' | '$' | '`') {
                    write!(f, "\\")?;
                }
                write!(f, "{letter}")?;
            }
            writeln!(f, "\"")?;
        }
        Ok(())
    }
}

fn is_name(key: &str) -> bool {
    !key.starts_with(|first: char| first.is_ascii_digit())
        && !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

struct Assignment {
    key: Vec<u8>,
    value: Vec<u8>,
}

const fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Takes the next assignment off `rest`, passing over comments and lines without `=`.
fn next_assignment(rest: &mut &[u8]) -> Option<Assignment> {
    loop {
        *rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| is_newline(*byte));
        let line = &rest[..end.unwrap_or(rest.len())];
        if line.is_empty() {
            return None;
        }
        let equals = line.iter().position(|byte| *byte == b'=');
        match equals.filter(|_| !matches!(line[0], b'#' | b';')) {
            None => *rest = &rest[line.len()..],
            Some(equals) => {
                let key = line[..equals].trim_ascii_end().to_vec();
                *rest = &rest[equals + 1..];
                let value = take_value(rest);
                return Some(Assignment { key, value });
            }
        }
    }
}

/// Takes a value off `rest`, up to the end of its line. Quotes count only until the first letter
/// that is not quoted.
fn take_value(rest: &mut &[u8]) -> Vec<u8> {
    let mut value = vec![];
    while let [first, tail @ ..] = *rest {
        match first {
            b'"' | b'\'' => {
                *rest = tail;
                take_quoted(rest, *first, &mut value);
            }
            byte if is_newline(*byte) => break,
            byte if is_blank(*byte) => *rest = tail,
            _ => {
                take_plain(rest, &mut value);
                break;
            }
        }
    }
    value
}

/// Takes what is quoted, with the closing quote; the file's end closes too.
fn take_quoted(rest: &mut &[u8], quote: u8, value: &mut Vec<u8>) {
    while let [first, tail @ ..] = *rest {
        *rest = tail;
        match (first, tail) {
            (byte, _) if *byte == quote => return,
            (b'\\', [escaped, tail @ ..]) if quote == b'"' => {
                *rest = tail;
                match escaped {
                    b'"' | b'\\' | b'$' | b'`' => value.push(*escaped),
                    byte if is_newline(*byte) => {}
                    other => value.extend([b'\\', *other]),
                }
            }
            (b'\\', []) if quote == b'"' => {}
            (byte, _) => value.push(*byte),
        }
    }
}

/// Takes what is not quoted, up to the end of the line, without blanks at its end.
fn take_plain(rest: &mut &[u8], value: &mut Vec<u8>) {
    let mut kept = value.len();
    while let [first, tail @ ..] = *rest {
        match (first, tail) {
            (byte, _) if is_newline(*byte) => break,
            (b'\\', [escaped, tail @ ..]) => {
                *rest = tail;
                if !is_newline(*escaped) {
                    value.push(*escaped);
                    kept = value.len();
                }
            }
            (b'\\', []) => *rest = tail,
            (byte, tail) => {
                *rest = tail;
                value.push(*byte);
                if !is_blank(*byte) {
                    kept = value.len();
                }
            }
        }
    }
    value.truncate(kept);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn release(text: &str) -> Release {
        Release::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn values_are_what_systemd_reads() {
        for (text, value) in [
            ("V=abc\n", "abc"),
            ("V=\"a b\"\n", "a b"),
            ("V='a b'\n", "a b"),
            ("V=a b   \n", "a b"),
            ("V=a\\ b\n", "a b"),
            ("V=a\\ \n", "a "),
            ("V=\"a\\\"b\"\n", "a\"b"),
            ("V=\"a\\nb\"\n", "a\\nb"),
            ("V=\"a\\$b\\`c\\\\d\"\n", "a$b`c\\d"),
            ("V='a\\nb'\n", "a\\nb"),
            ("V=a\"b\"c\n", "a\"b\"c"),
            ("V=\"a\"  b\n", "ab"),
            ("V=\"a\"'b'\n", "ab"),
            ("V=\"a\" # c\n", "a# c"),
            ("V=a # c\n", "a # c"),
            ("  V=a\n", "a"),
            ("V =a\n", "a"),
            ("V=  \"a\"  \n", "a"),
            ("V=a\nV=b\n", "b"),
            ("V=\"a\nb\"\n", "a\nb"),
            ("V=a\\\nb\n", "ab"),
            ("V=\"a\\\nb\"\n", "ab"),
            ("V=\"a\n", "a\n"),
            ("V='a\n", "a\n"),
            ("V=\"a\"\r\n", "a"),
            ("V=a\\\n", "a"),
            ("V=a\\", "a"),
            ("V=\"a\\", "a"),
            ("junk\nV=a\n", "a"),
            ("1X=2\na b=2\n=x\nV=a", "a"),
            ("# c \\\nV=a\n", "a"),
            ("V=$HOME\n", "$HOME"),
        ] {
            assert_eq!(release(text).field("V"), Some(value), "{text:?}");
        }
        for text in [
            "#V=a\n",
            ";V=a\n",
            "export V=a\n",
            "V=a\nV=\n",
            "V\n",
            "X=1 V=a\n",
            "X=\nV\n",
            "",
        ] {
            assert_eq!(release(text).field("V"), None, "{text:?}");
        }
        assert_eq!(Release::parse(b"V=\xff\nW=a").unwrap(), release("W=a"));
    }

    #[test]
    fn too_much_is_refused() {
        let many: String = (0..=Release::MAX_FIELDS)
            .map(|i| format!("F{i}=1\n"))
            .collect();
        assert_eq!(
            Release::parse(many.as_bytes()),
            Err(ReleaseError::TooManyFields)
        );
        let large = vec![b'#'; Release::MAX_BYTES + 1];
        assert_eq!(
            Release::parse(&large),
            Err(ReleaseError::TooLarge(large.len()))
        );
    }

    proptest! {
        #[test]
        fn text_says_all(text in "(([A-C_]{1,2}=)?[a \"'\\\\$#=\n\r]{0,6}\n?){0,4}") {
            let parsed = release(&text);
            prop_assert_eq!(release(&parsed.to_string()), parsed);
        }
    }
}
