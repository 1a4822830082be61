//! Options between commas. A backslash protects a comma and itself, and nothing else.

use crate::conf::ValueError;

/// An option that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum OptionError {
    #[error("a backslash stands before neither a comma nor a backslash, in {0:?}")]
    Escape(String),
    #[error("{0}: {1}")]
    Value(String, #[source] ValueError),
    #[error("{word}: {expected}")]
    Expected {
        word: String,
        expected: &'static str,
    },
}

/// An option that nobody knows: it is said, and passed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the option {0:?} is not known and is ignored")]
pub struct Unknown(pub String);

/// What was found, and what was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The options.
    pub options: T,
    /// Those that are not known.
    pub unknown: Vec<Unknown>,
}

/// The options of a list, each as it is written, with its first byte in the list.
pub type Words = Vec<(usize, String)>;

/// Splits a list of options.
pub fn split(text: &str) -> Result<Words, OptionError> {
    let mut words = Vec::new();
    let (mut start, mut word) = (0, String::new());
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            ',' => {
                words.push((start, std::mem::take(&mut word)));
                start = at + 1;
            }
            '\\' => match letters.next() {
                Some((_, letter @ (',' | '\\'))) => word.push(letter),
                _ => return Err(OptionError::Escape(text.to_owned())),
            },
            other => word.push(other),
        }
    }
    if !text.is_empty() {
        words.push((start, word));
    }
    words.retain(|(_, word)| !word.is_empty());
    Ok(words)
}

/// The value of `word` by `parse`.
pub(super) fn value<T>(
    word: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, ValueError>,
) -> Result<T, OptionError> {
    parse(text).map_err(|error| OptionError::Value(word.to_owned(), error))
}

/// An error that says what could be there.
pub(super) fn expected(word: &str, expected: &'static str) -> OptionError {
    OptionError::Expected {
        word: word.to_owned(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_split_and_can_be_protected() {
        for (text, words) in [
            ("", &[] as &[(usize, &str)]),
            ("a", &[(0, "a")]),
            ("a,b=c,,d", &[(0, "a"), (2, "b=c"), (7, "d")]),
            (r"a\,b,c\\d", &[(0, "a,b"), (5, r"c\d")]),
            (",", &[]),
        ] {
            let found = split(text).unwrap();
            let found: Vec<_> = found.iter().map(|(at, word)| (*at, &**word)).collect();
            assert_eq!(found, words, "{text}");
        }
        for text in [r"a\x", r"a\"] {
            assert_eq!(split(text), Err(OptionError::Escape(text.to_owned())));
        }
    }
}
