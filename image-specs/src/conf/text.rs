//! From a file's bytes to its entries.

use std::fmt;

use super::hint::closest;

/// A place in a file, counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the two say it")]
pub struct Location {
    pub line: u32,
    pub column: u32,
}

/// A half-open range of bytes of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the two say it")]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// One `Key=Value` assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The section it stands in.
    pub section: String,
    /// Without the space around it.
    pub key: String,
    /// Without the space around it; continued lines are joined by a space.
    pub value: String,
    /// Where the key begins.
    pub location: Location,
    /// Where the value begins; where it would, if it is empty.
    pub value_location: Location,
    /// The bytes of the key.
    pub key_span: Span,
    /// The bytes from the value's first to its last, with all that stands between.
    pub value_span: Span,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The assignments in the sections that were asked for, in order.
    pub entries: Vec<Entry>,
    /// What was skipped.
    pub strange: Vec<Located<Strange>>,
}

/// Something with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{location}: {what}")]
pub struct Located<T: fmt::Display> {
    /// Where.
    pub location: Location,
    /// What.
    pub what: T,
}

/// A line that is skipped with a warning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Strange {
    /// Not one of the sections that were asked for.
    #[error("section [{name}] is not known here and is ignored{}", hint.as_ref().map(|h| format!("; did you mean [{h}]?")).unwrap_or_default())]
    Section {
        /// The section.
        name: String,
        /// What may be meant.
        hint: Option<String>,
    },
    /// An assignment before the first section.
    #[error("this assignment stands before any section and is ignored; put [{0}] above it")]
    Outside(String),
    /// No `=`.
    #[error("this line has no \"=\" and is ignored; write KEY=VALUE")]
    NoEquals,
    /// Nothing before the `=`.
    #[error("this line has no key before its \"=\" and is ignored; write KEY=VALUE")]
    NoKey,
}

/// Why a file is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// More than a MiB without a line's end.
    #[error("the line is longer than 1 MiB")]
    LineTooLong,
    /// Bytes that are no text.
    #[error("the line is not valid UTF-8")]
    NotUtf8,
    /// `[` without `]`.
    #[error("the section header has no \"]\" at its end")]
    Header,
    /// Control characters, quotes or backslashes in a section's name.
    #[error("the section header holds characters that no section's name has")]
    HeaderCharacters,
}

const LONGEST_LINE: usize = 1024 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const WHITESPACE: [u8; 4] = [b' ', b'\t', b'\n', b'\r'];

/// Parses a file. Sections other than `sections` are skipped with a word, those named `X-…` without.
///
/// Comments begin with `#` or `;` and may stand inside of a continued line; a blank line ends one.
pub fn parse(text: &[u8], sections: &[&str]) -> Result<Parsed, Located<Fatal>> {
    let mut reader = Reader {
        text,
        line_starts: Lines::new(text).map(|line| line.start).collect(),
        sections,
        section: Section::None,
        parsed: Parsed::default(),
    };
    let mut joined = Joined::default();
    let mut mark_seen = false;
    for mut span in Lines::new(text) {
        if span.end - span.start > LONGEST_LINE {
            return Err(reader.fatal(span.start, Fatal::LineTooLong));
        }
        let solid = trimmed(text, span);
        if solid.start < solid.end && matches!(text[solid.start], b'#' | b';') {
            continue;
        }
        if !mark_seen && text[span.start..span.end].starts_with(BYTE_ORDER_MARK) {
            span.start += BYTE_ORDER_MARK.len();
            mark_seen = true;
        }
        if joined.bytes.len() + (span.end - span.start) > LONGEST_LINE {
            return Err(reader.fatal(span.start, Fatal::LineTooLong));
        }
        joined.push(text, span);
        if !joined.is_continued() {
            reader.line(&std::mem::take(&mut joined))?;
        }
    }
    reader.line(&joined)?;
    Ok(reader.parsed)
}

/// Lines without their ends: they end with LF, CR, NUL, or with CR and LF together in either order.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }
}

impl Iterator for Lines<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let start = self.at;
        let rest = self.text.get(start..).filter(|rest| !rest.is_empty())?;
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
        let length = rest.iter().position(is_end).unwrap_or(rest.len());
        let ends = match rest.get(length..).unwrap_or_default() {
            [b'\r', b'\n', 0, ..] | [b'\n', b'\r', 0, ..] => 3,
            [b'\r', b'\n', ..] | [b'\n', b'\r', ..] | [b'\n' | b'\r', 0, ..] => 2,
            [] => 0,
            _ => 1,
        };
        self.at = start + length + ends;
        let end = start + length;
        Some(Span { start, end })
    }
}

/// Physical lines that make one logical line.
#[derive(Default)]
struct Joined {
    bytes: Vec<u8>,
    /// Where each piece begins: in `bytes`, and in the text.
    pieces: Vec<(usize, usize)>,
}

impl Joined {
    fn push(&mut self, text: &[u8], span: Span) {
        self.pieces.push((self.bytes.len(), span.start));
        self.bytes.extend_from_slice(&text[span.start..span.end]);
    }

    /// Whether the line ends in a backslash that escapes the line's end; it becomes a space.
    fn is_continued(&mut self) -> bool {
        let escaped = self
            .bytes
            .iter()
            .fold(false, |escaped, byte| !escaped && *byte == b'\\');
        if let (true, Some(last)) = (escaped, self.bytes.last_mut()) {
            *last = b' ';
        }
        escaped
    }

    /// The offset in the text of a byte here.
    fn offset(&self, at: usize) -> usize {
        let piece = self.pieces.iter().rev().find(|(start, _)| *start <= at);
        piece.map_or(at, |(start, offset)| offset + (at - start))
    }

    /// The bytes of the text from the first to the last of the range.
    fn span(&self, range: Span) -> Span {
        let start = self.offset(range.start);
        let end = match range.end.checked_sub(1) {
            Some(last) if range.end > range.start => self.offset(last) + 1,
            _ => start,
        };
        Span { start, end }
    }
}

enum Section {
    None,
    Ignored,
    Known(String),
}

struct Reader<'a> {
    text: &'a [u8],
    line_starts: Vec<usize>,
    sections: &'a [&'a str],
    section: Section,
    parsed: Parsed,
}

impl Reader<'_> {
    /// Takes one logical line.
    fn line(&mut self, line: &Joined) -> Result<(), Located<Fatal>> {
        let whole = Span {
            start: 0,
            end: line.bytes.len(),
        };
        let span = trimmed(&line.bytes, whole);
        if span.start == span.end {
            return Ok(());
        }
        let fatal = |what| Err(self.fatal(line.offset(span.start), what));
        let Ok(text) = std::str::from_utf8(&line.bytes[span.start..span.end]) else {
            return fatal(Fatal::NotUtf8);
        };
        if let Some(header) = text.strip_prefix('[') {
            return match header.strip_suffix(']') {
                None => fatal(Fatal::Header),
                Some(name) if !is_safe(name) => fatal(Fatal::HeaderCharacters),
                Some(name) => {
                    self.header(name, line.offset(span.start));
                    Ok(())
                }
            };
        }
        self.assignment(line, span, text);
        Ok(())
    }

    fn header(&mut self, name: &str, offset: usize) {
        if self.sections.contains(&name) {
            self.section = Section::Known(name.to_owned());
            return;
        }
        self.section = Section::Ignored;
        if !name.starts_with("X-") {
            let hint = closest(name, self.sections).map(str::to_owned);
            let name = name.to_owned();
            self.strange(offset, Strange::Section { name, hint });
        }
    }

    fn assignment(&mut self, line: &Joined, span: Span, text: &str) {
        let offset = line.offset(span.start);
        let section = match &self.section {
            Section::Known(name) => name.clone(),
            Section::Ignored => return,
            Section::None => {
                let first = self.sections.first().copied().unwrap_or_default();
                return self.strange(offset, Strange::Outside(first.to_owned()));
            }
        };
        let Some(equals) = text.find('=') else {
            return self.strange(offset, Strange::NoEquals);
        };
        if equals == 0 {
            return self.strange(offset, Strange::NoKey);
        }
        let equals = span.start + equals;
        let key = trimmed(
            &line.bytes,
            Span {
                start: span.start,
                end: equals,
            },
        );
        let value = trimmed(
            &line.bytes,
            Span {
                start: equals + 1,
                end: span.end,
            },
        );
        let piece = |span: Span| String::from_utf8_lossy(&line.bytes[span.start..span.end]);
        let (key_span, value_span) = (line.span(key), line.span(value));
        self.parsed.entries.push(Entry {
            section,
            key: piece(key).into_owned(),
            value: piece(value).into_owned(),
            location: locate(self.text, &self.line_starts, key_span.start),
            value_location: locate(self.text, &self.line_starts, value_span.start),
            key_span,
            value_span,
        });
    }

    fn strange(&mut self, offset: usize, what: Strange) {
        let location = locate(self.text, &self.line_starts, offset);
        self.parsed.strange.push(Located { location, what });
    }

    fn fatal(&self, offset: usize, what: Fatal) -> Located<Fatal> {
        let location = locate(self.text, &self.line_starts, offset);
        Located { location, what }
    }
}

/// The range without the space at both ends; an empty one stands at the end.
fn trimmed(bytes: &[u8], span: Span) -> Span {
    let inside = &bytes[span.start..span.end];
    let solid = |byte: &u8| !WHITESPACE.contains(byte);
    let start = inside.iter().position(solid).unwrap_or(inside.len());
    let end = inside
        .iter()
        .rposition(solid)
        .map_or(start, |last| last + 1);
    Span {
        start: span.start + start,
        end: span.start + end,
    }
}

fn is_safe(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(|c: char| c.is_ascii_control() || matches!(c, '"' | '\'' | '\\'))
}

/// The line and column of a byte, given where every line begins.
fn locate(text: &[u8], line_starts: &[usize], offset: usize) -> Location {
    let line = line_starts.partition_point(|start| *start <= offset);
    let line = line.saturating_sub(1);
    let start = line_starts.get(line).copied().unwrap_or_default();
    let before = text.get(start..offset).unwrap_or_default();
    let before = before.strip_prefix(BYTE_ORDER_MARK).unwrap_or(before);
    let column = String::from_utf8_lossy(before).chars().count();
    let counted = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
    Location {
        line: counted(line),
        column: counted(column),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &[u8]) -> Vec<(String, String)> {
        let entries = parse(text, &["A", "B"]).unwrap().entries;
        let pair = |entry: Entry| (format!("{}.{}", entry.section, entry.key), entry.value);
        entries.into_iter().map(pair).collect()
    }

    #[test]
    fn assignments_are_found_as_systemd_finds_them() {
        for (text, found) in [
            ("", &[] as &[(&str, &str)]),
            ("[A]\nx=1", &[("A.x", "1")]),
            ("[A]\n x = 1 \n\n[B]\ny=\n", &[("A.x", "1"), ("B.y", "")]),
            (
                "[A]\nx=1\n[B]\ny=2\n[A]\nz=3",
                &[("A.x", "1"), ("B.y", "2"), ("A.z", "3")],
            ),
            ("[A]\n#x=1\n ; y=2\nz=3#4\n", &[("A.z", "3#4")]),
            ("[A]\nx=1\\\n2\\\n  3", &[("A.x", "1 2   3")]),
            ("[A]\nx=1\\\n# no\n 2", &[("A.x", "1  2")]),
            ("[A]\nx=1\\\n\ny=2", &[("A.x", "1"), ("A.y", "2")]),
            ("[A]\nx=1\\\\\ny=2", &[("A.x", "1\\\\"), ("A.y", "2")]),
            ("[A]\nx=1\\", &[("A.x", "1")]),
            ("\u{feff}[A]\nx=1", &[("A.x", "1")]),
            ("[A]\nx=1\n\u{feff}y=2", &[("A.x", "1"), ("A.y", "2")]),
            (
                "[A]\r\nx=1\r\ry=2\n\rz=3\0w=4",
                &[("A.x", "1"), ("A.y", "2"), ("A.z", "3"), ("A.w", "4")],
            ),
            ("[A]\nx=a=b", &[("A.x", "a=b")]),
            ("[X-B]\nx=1\n[C]\ny=2\n[A]\nz=3", &[("A.z", "3")]),
        ] {
            let found: Vec<_> = found
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(pairs(text.as_bytes()), found, "{text:?}");
        }
    }

    #[test]
    fn strange_lines_are_told_with_their_place() {
        let text = "x=1\n[a]\n[X-q]\n[A]\n  novalue\n=1\n[Foo]\nbar\n";
        let strange = parse(text.as_bytes(), &["A"]).unwrap().strange;
        let lines: Vec<_> = strange.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        1:1: this assignment stands before any section and is ignored; put [A] above it
        2:1: section [a] is not known here and is ignored; did you mean [A]?
        5:3: this line has no "=" and is ignored; write KEY=VALUE
        6:1: this line has no key before its "=" and is ignored; write KEY=VALUE
        7:1: section [Foo] is not known here and is ignored
        "#);
    }

    #[test]
    fn damaged_files_are_refused() {
        let long = [b"[A]\nx=".as_slice(), &vec![b'a'; LONGEST_LINE]].concat();
        let continued = [
            b"[A]\nx=".as_slice(),
            &vec![b'a'; LONGEST_LINE - 9],
            b"\\\naaaaaaaaaaaa",
        ]
        .concat();
        for (text, line, what) in [
            (b"[A]\nx=\xff".as_slice(), 2, Fatal::NotUtf8),
            (b"[X]\n\n\xff", 3, Fatal::NotUtf8),
            (b"[A", 1, Fatal::Header),
            (b"\n[A] b", 2, Fatal::Header),
            (b"[]", 1, Fatal::HeaderCharacters),
            (b"[\"A\"]", 1, Fatal::HeaderCharacters),
            (&long, 2, Fatal::LineTooLong),
            (&continued, 3, Fatal::LineTooLong),
        ] {
            let error = parse(text, &["A"]).unwrap_err();
            assert_eq!((error.location.line, error.what), (line, what));
        }
    }

    #[test]
    fn spans_and_columns_name_the_place() {
        let text = "[A]\n é = ü\\\n# c\n\tz\n";
        let entry = parse(text.as_bytes(), &["A"]).unwrap().entries.remove(0);
        assert_eq!(&text[entry.key_span.start..entry.key_span.end], "é");
        assert_eq!(
            &text[entry.value_span.start..entry.value_span.end],
            "ü\\\n# c\n\tz"
        );
        assert_eq!((entry.location.line, entry.location.column), (2, 2));
        assert_eq!(
            (entry.value_location.line, entry.value_location.column),
            (2, 6)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(pieces in proptest::collection::vec(prop_oneof![
            Just(b"[A]\n".to_vec()), Just(b"x=".to_vec()), Just(b"\\\n".to_vec()),
            Just(b"#".to_vec()), Just(b"\xef\xbb\xbf".to_vec()), Just(b"\r".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4),
        ], 0..20)) {
            let text = pieces.concat();
            if let Ok(parsed) = parse(&text, &["A"]) {
                for entry in parsed.entries {
                    prop_assert!(entry.key_span.start < entry.key_span.end);
                    prop_assert!(entry.value_span.start <= entry.value_span.end);
                    prop_assert!(entry.value_span.end <= text.len());
                    prop_assert!(!entry.key.is_empty());
                }
            }
        }
    }
}
