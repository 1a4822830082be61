//! Splitting values into words and fields, with quotes and C escapes.

/// A value that cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// A quote without its partner.
    #[error("a quotation mark has no partner")]
    Quote,
    /// A backslash that begins no escape.
    #[error("a backslash begins no known escape sequence; write two for a plain one")]
    Escape,
    /// An escape that makes bytes that are no text.
    #[error("the escape sequences do not make valid UTF-8")]
    NotUtf8,
}

/// How a value is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    separators: &'static [u8],
    /// Whether quotes group, and vanish.
    unquote: bool,
    /// Whether a backslash begins a C escape; where not, it vanishes and the next byte is plain.
    unescape: bool,
    /// Whether each separator ends a field, so that fields may be empty.
    fields: bool,
}

/// Words between white space; quotes vanish, and a backslash makes the next byte plain.
pub fn words(text: &str) -> Result<Vec<String>, WordError> {
    Words::LIST.split(text)
}

/// Fields between colons, empty ones too. An empty text is one empty field.
pub fn fields(text: &str, flavour: Words) -> Result<Vec<String>, WordError> {
    flavour.split(text)
}

impl Words {
    /// Between white space; quotes vanish, a backslash makes the next byte plain.
    pub const LIST: Self = Self {
        separators: b" \t\n\r",
        unquote: true,
        unescape: false,
        fields: false,
    };
    /// Between colons; quotes stay, C escapes are undone.
    pub const ESCAPED_FIELDS: Self = Self {
        separators: b":",
        unquote: false,
        unescape: true,
        fields: true,
    };
    /// Between colons; quotes vanish, C escapes are undone.
    pub const QUOTED_ESCAPED_FIELDS: Self = Self {
        unquote: true,
        ..Self::ESCAPED_FIELDS
    };
    /// Between colons; quotes vanish, a backslash makes the next byte plain.
    pub const QUOTED_FIELDS: Self = Self {
        unquote: true,
        unescape: false,
        ..Self::ESCAPED_FIELDS
    };

    /// Splits a whole value.
    pub fn split(self, text: &str) -> Result<Vec<String>, WordError> {
        let mut found = Vec::new();
        self.split_into(text, &mut found)?;
        Ok(found)
    }

    /// Splits a value; what stands before an error is found even so.
    pub fn split_into(self, text: &str, found: &mut Vec<String>) -> Result<(), WordError> {
        let mut rest = Some(text.as_bytes());
        while let Some(bytes) = rest {
            let bytes = if self.fields { bytes } else { self.skip(bytes) };
            if bytes.is_empty() && !self.fields {
                break;
            }
            let mut word = Vec::new();
            rest = self.next(bytes, &mut word)?;
            found.push(String::from_utf8(word).map_err(|_| WordError::NotUtf8)?);
        }
        Ok(())
    }

    fn skip(self, text: &[u8]) -> &[u8] {
        let solid = text.iter().position(|byte| !self.separators.contains(byte));
        &text[solid.unwrap_or(text.len())..]
    }

    /// Takes the first word; gives what is behind its separator, `None` where no other can follow.
    fn next<'a>(self, text: &'a [u8], word: &mut Vec<u8>) -> Result<Option<&'a [u8]>, WordError> {
        let mut at = 0;
        let mut quote = None;
        while let Some(byte) = text.get(at).copied() {
            at += 1;
            match (byte, quote) {
                (b'\\', _) if !self.unescape => {
                    word.push(*text.get(at).ok_or(WordError::Escape)?);
                    at += 1;
                }
                (b'\\', _) => at += unescape(&text[at..], word)?,
                (byte, Some(open)) if byte == open => quote = None,
                (byte, Some(_)) => word.push(byte),
                (b'"' | b'\'', None) if self.unquote => quote = Some(byte),
                (byte, None) if self.separators.contains(&byte) => {
                    return Ok(Some(&text[at..]));
                }
                (byte, None) => word.push(byte),
            }
        }
        match quote {
            Some(_) => Err(WordError::Quote),
            None => Ok(None),
        }
    }
}

/// Undoes the escape behind a backslash; gives the number of bytes that it takes.
fn unescape(text: &[u8], word: &mut Vec<u8>) -> Result<usize, WordError> {
    let letter = text.first().ok_or(WordError::Escape)?;
    let plain = match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b's' => b' ',
        b'\\' | b'"' | b'\'' => *letter,
        b'x' => byte(text, 1, 2, 16)?,
        b'0'..=b'7' => return Ok(push(byte(text, 0, 3, 8)?, 3, word)),
        b'u' => return unicode(text, 4, word),
        b'U' => return unicode(text, 8, word),
        _ => return Err(WordError::Escape),
    };
    let taken = if *letter == b'x' { 3 } else { 1 };
    Ok(push(plain, taken, word))
}

fn push(byte: u8, taken: usize, word: &mut Vec<u8>) -> usize {
    word.push(byte);
    taken
}

/// A byte from `count` digits; NUL is refused.
fn byte(text: &[u8], from: usize, count: usize, radix: u32) -> Result<u8, WordError> {
    let number = number(text, from, count, radix)?;
    let byte = u8::try_from(number).map_err(|_| WordError::Escape)?;
    if byte == 0 {
        Err(WordError::Escape)
    } else {
        Ok(byte)
    }
}

fn unicode(text: &[u8], count: usize, word: &mut Vec<u8>) -> Result<usize, WordError> {
    let number = number(text, 1, count, 16)?;
    let letter = char::from_u32(number).filter(|letter| *letter != '\0');
    let letter = letter.ok_or(WordError::Escape)?;
    word.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(1 + count)
}

fn number(text: &[u8], from: usize, count: usize, radix: u32) -> Result<u32, WordError> {
    let digits = text.get(from..from + count).ok_or(WordError::Escape)?;
    digits.iter().try_fold(0u32, |number, digit| {
        let digit = char::from(*digit)
            .to_digit(radix)
            .ok_or(WordError::Escape)?;
        let number = number
            .checked_mul(radix)
            .and_then(|number| number.checked_add(digit));
        number.ok_or(WordError::Escape)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unquoted() {
        for (text, found) in [
            ("", &[] as &[&str]),
            ("  ", &[]),
            ("/a  /b\t/c ", &["/a", "/b", "/c"]),
            ("\"a b\" 'c d'", &["a b", "c d"]),
            ("a\"b c\"d", &["ab cd"]),
            (r"b\q b\x41 a\ b", &["bq", "bx41", "a b"]),
            ("\"\"", &[""]),
        ] {
            assert_eq!(words(text).unwrap(), found, "{text}");
        }
        assert_eq!(words("\"a"), Err(WordError::Quote));
        assert_eq!(words("a\\"), Err(WordError::Escape));
    }

    #[test]
    fn escapes_are_undone() {
        for (text, found) in [
            (r"a\x20b", "a b"),
            (r"a\sb", "a b"),
            (r"\u00e9\U0001F600", "é😀"),
            (r"\101\n\t\\", "A\n\t\\"),
        ] {
            assert_eq!(
                fields(text, Words::ESCAPED_FIELDS).unwrap(),
                [found],
                "{text}"
            );
        }
        for (text, error) in [
            ("a\\", WordError::Escape),
            (r"\q", WordError::Escape),
            (r"\x00", WordError::Escape),
            (r"\777", WordError::Escape),
            (r"\uD800", WordError::Escape),
            (r"\U00110000", WordError::Escape),
            (r"\xff", WordError::NotUtf8),
        ] {
            assert_eq!(fields(text, Words::ESCAPED_FIELDS), Err(error), "{text}");
        }
    }

    #[test]
    fn fields_may_be_empty() {
        for (text, found) in [
            ("", &[""] as &[&str]),
            ("a", &["a"]),
            ("a:", &["a", ""]),
            (":b", &["", "b"]),
            ("a:b:c", &["a", "b", "c"]),
            (r"a\x3ab:c", &["a:b", "c"]),
        ] {
            assert_eq!(fields(text, Words::QUOTED_ESCAPED_FIELDS).unwrap(), found);
        }
        let quoted = "\"a:b\":c";
        assert_eq!(fields(quoted, Words::QUOTED_FIELDS).unwrap(), ["a:b", "c"]);
        assert_eq!(
            fields(quoted, Words::ESCAPED_FIELDS).unwrap(),
            ["\"a", "b\"", "c"]
        );
    }
}
