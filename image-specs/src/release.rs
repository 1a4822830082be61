//! `os-release` and `extension-release` files: their fields, which file belongs to an extension, and
//! whether an extension fits a host (UAPI.4; os-release(5), systemd-sysext(8)).
//!
//! Invariant: parsing accepts what systemd accepts, and printing a [`Release`] parses to the same.
//! Pure.

use std::fmt;

use crate::arch::Architecture;

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

/// What kind of extension an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// For `/usr` and `/opt`.
    Sysext,
    /// For `/etc`.
    Confext,
}

/// What an extension may be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A running system.
    System,
    /// An initrd.
    Initrd,
    /// A portable service.
    Portable,
}

/// What an extension has to fit.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// The host's `os-release`.
    pub release: &'a Release,
    /// What the host's kernel runs on.
    pub architecture: Architecture,
    /// Where the extension would go; `None` skips the question.
    pub scope: Option<Scope>,
}

/// Why an extension does not fit. Two values are the extension's and the host's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// There is no field at all.
    #[error("its extension-release file says nothing")]
    Empty,
    /// It is not meant for such a place.
    #[error("it is for {extension:?}, not for {}", host.name())]
    Scope {
        /// The words of the scope field.
        extension: String,
        /// Where it would go.
        host: Scope,
    },
    /// It is built for another machine.
    #[error("ARCHITECTURE={extension} does not run on {host}")]
    Architecture {
        /// The field.
        extension: String,
        /// The host's.
        host: Architecture,
    },
    /// It does not say for which system it is.
    #[error("its extension-release file has no ID=")]
    NoId,
    /// The host does not say which system it is.
    #[error("the host's os-release file has no ID=")]
    NoHostId,
    /// It is for another system.
    #[error("ID={extension} is neither the host's ID={host} nor in its ID_LIKE={like:?}")]
    Id {
        /// The extension's.
        extension: String,
        /// The host's.
        host: String,
        /// The systems that the host says it is like.
        like: String,
    },
    /// It is for another level of the system's interfaces.
    #[error("{key}={extension} is not the host's {key}={host}")]
    Level {
        /// The field's name.
        key: &'static str,
        /// The extension's.
        extension: String,
        /// The host's.
        host: String,
    },
    /// It is for another version of the system, or for none in particular.
    #[error("VERSION_ID={} is not the host's VERSION_ID={host}", extension.as_deref().unwrap_or(""))]
    Version {
        /// The extension's.
        extension: Option<String>,
        /// The host's.
        host: String,
    },
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

impl Class {
    /// The folder of its release files, relative to the root.
    pub const fn release_directory(self) -> &'static str {
        match self {
            Self::Sysext => "usr/lib/extension-release.d",
            Self::Confext => "etc/extension-release.d",
        }
    }

    const fn level_key(self) -> &'static str {
        match self {
            Self::Sysext => "SYSEXT_LEVEL",
            Self::Confext => "CONFEXT_LEVEL",
        }
    }

    const fn scope_key(self) -> &'static str {
        match self {
            Self::Sysext => "SYSEXT_SCOPE",
            Self::Confext => "CONFEXT_SCOPE",
        }
    }

    /// Whether an extension is meant for `scope`.
    pub fn has_scope(self, extension: &Release, scope: Scope) -> bool {
        self.scopes(extension)
            .split_whitespace()
            .any(|word| word == scope.name())
    }

    /// The words for what an extension may be attached to.
    pub fn scopes(self, extension: &Release) -> &str {
        extension
            .field(self.scope_key())
            .unwrap_or("system portable")
    }

    /// Checks that an extension fits a host; the first rule that fails is told.
    pub fn check(self, extension: &Release, host: &Host<'_>) -> Result<(), Mismatch> {
        if extension.is_empty() {
            return Err(Mismatch::Empty);
        }
        self.check_scope(extension, host)?;
        check_architecture(extension, host)?;
        match check_id(extension, host.release)? {
            Identity::Any => Ok(()),
            Identity::Same => self.check_version(extension, host.release),
        }
    }

    fn check_scope(self, extension: &Release, host: &Host<'_>) -> Result<(), Mismatch> {
        match host.scope {
            Some(scope) if !self.has_scope(extension, scope) => Err(Mismatch::Scope {
                extension: self.scopes(extension).to_owned(),
                host: scope,
            }),
            _ => Ok(()),
        }
    }

    /// Levels decide where both sides have one, else versions. A host with neither is a rolling one.
    fn check_version(self, extension: &Release, host: &Release) -> Result<(), Mismatch> {
        let key = self.level_key();
        if let (Some(theirs), Some(ours)) = (extension.field(key), host.field(key)) {
            return (theirs == ours)
                .then_some(())
                .ok_or_else(|| Mismatch::Level {
                    key,
                    extension: theirs.to_owned(),
                    host: ours.to_owned(),
                });
        }
        match (extension.field("VERSION_ID"), host.field("VERSION_ID")) {
            (theirs, Some(ours)) if theirs != Some(ours) => Err(Mismatch::Version {
                extension: theirs.map(str::to_owned),
                host: ours.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

fn check_architecture(extension: &Release, host: &Host<'_>) -> Result<(), Mismatch> {
    match extension.field("ARCHITECTURE") {
        None | Some("_any") => Ok(()),
        Some(name) if name == host.architecture.name() => Ok(()),
        Some(name) => Err(Mismatch::Architecture {
            extension: name.to_owned(),
            host: host.architecture,
        }),
    }
}

enum Identity {
    /// It fits any system, of any version.
    Any,
    Same,
}

fn check_id(extension: &Release, host: &Release) -> Result<Identity, Mismatch> {
    let ours = host.field("ID").ok_or(Mismatch::NoHostId)?;
    let like = host.field("ID_LIKE").unwrap_or("");
    match extension.field("ID").ok_or(Mismatch::NoId)? {
        "_any" => Ok(Identity::Any),
        theirs if theirs == ours || like.split_whitespace().any(|word| word == theirs) => {
            Ok(Identity::Same)
        }
        theirs => Err(Mismatch::Id {
            extension: theirs.to_owned(),
            host: ours.to_owned(),
            like: like.to_owned(),
        }),
    }
}

impl Scope {
    /// The word in scope fields.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Initrd => "initrd",
            Self::Portable => "portable",
        }
    }
}

/// The image name by which a file is known: without suffixes of images and compression.
pub fn image_name(file_name: &str) -> &str {
    const SUFFIXES: [&str; 10] = [
        ".xz",
        ".gz",
        ".bz2",
        ".zst",
        ".sysext.raw",
        ".confext.raw",
        ".raw",
        ".qcow2",
        ".img",
        ".bin",
    ];
    let mut name = file_name;
    while let Some(shorter) = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)) {
        name = shorter;
    }
    name
}

/// A file `extension-release.SUFFIX` that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// What stands behind `extension-release.`.
    pub suffix: &'a str,
    /// What its xattr `user.extension-release.strict` says; missing or unreadable is true.
    pub strict: bool,
}

/// More than one release file could be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("extension-release.{0} and extension-release.{1} both fit; an image may have one")]
pub struct Ambiguous(pub String, pub String);

/// The release file of the image `name`: the one of exactly this name, else the only one that is
/// for its base name or says that any name will do. `relaxed` takes any only one.
pub fn select<'a>(
    name: &str,
    found: impl IntoIterator<Item = Found<'a>>,
    relaxed: bool,
) -> Result<Option<Found<'a>>, Ambiguous> {
    let base = base_name(name);
    let mut chosen: Option<Found<'a>> = None;
    let mut rival = None;
    for file in found {
        if file.suffix == name {
            return Ok(Some(file));
        }
        if relaxed || !file.strict || file.suffix == base {
            match chosen {
                None => chosen = Some(file),
                Some(_) => rival = rival.or(Some(file)),
            }
        }
    }
    match (chosen, rival) {
        (Some(one), Some(other)) => Err(Ambiguous(one.suffix.into(), other.suffix.into())),
        (chosen, _) => Ok(chosen),
    }
}

/// An image's name without suffix, version and counters.
fn base_name(name: &str) -> &str {
    let name = [".sysext.raw", ".confext.raw", ".raw"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name);
    name.split(['_', '+']).next().unwrap_or(name)
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

    #[test]
    fn extensions_fit_by_the_rules() {
        let debian = "ID=debian\nVERSION_ID=12\n";
        let rolling = "ID=arch\nID_LIKE=\"foo bar\"\n";
        let level = "ID=x\nVERSION_ID=12\nSYSEXT_LEVEL=2\nCONFEXT_LEVEL=7\n";
        let level_only = "ID=x\nSYSEXT_LEVEL=2\n";
        for (host, extension, answer) in [
            (debian, "ID=debian\nVERSION_ID=12", ""),
            (debian, "ID=_any", ""),
            (debian, "", "its extension-release file says nothing"),
            (
                debian,
                "VERSION_ID=12",
                "its extension-release file has no ID=",
            ),
            (
                debian,
                "ID=debian\nVERSION_ID=11",
                "VERSION_ID=11 is not the host's VERSION_ID=12",
            ),
            (
                debian,
                "ID=debian",
                "VERSION_ID= is not the host's VERSION_ID=12",
            ),
            (
                debian,
                "ID=arch\nVERSION_ID=12",
                "ID=arch is neither the host's ID=debian nor in its ID_LIKE=\"\"",
            ),
            (rolling, "ID=arch\nVERSION_ID=1", ""),
            (rolling, "ID=bar", ""),
            (
                rolling,
                "ID=foo bar",
                "ID=foo bar is neither the host's ID=arch nor in its ID_LIKE=\"foo bar\"",
            ),
            (level, "ID=x\nSYSEXT_LEVEL=2\nVERSION_ID=11", ""),
            (
                level,
                "ID=x\nSYSEXT_LEVEL=1\nVERSION_ID=12",
                "SYSEXT_LEVEL=1 is not the host's SYSEXT_LEVEL=2",
            ),
            (level, "ID=x\nCONFEXT_LEVEL=2\nVERSION_ID=12", ""),
            (level_only, "ID=x\nVERSION_ID=3", ""),
            (debian, "ID=_any\nARCHITECTURE=x86-64", ""),
            (debian, "ID=_any\nARCHITECTURE=_any", ""),
            (
                debian,
                "ID=_any\nARCHITECTURE=arm64",
                "ARCHITECTURE=arm64 does not run on x86-64",
            ),
            (
                debian,
                "ID=_any\nSYSEXT_SCOPE=portable",
                "it is for \"portable\", not for system",
            ),
            (debian, "ID=_any\nSYSEXT_SCOPE=\"initrd system\"", ""),
            ("NAME=x", "ID=_any", "the host's os-release file has no ID="),
        ] {
            let host = Host {
                release: &release(host),
                architecture: Architecture::X86_64,
                scope: Some(Scope::System),
            };
            let found = Class::Sysext.check(&release(extension), &host);
            let found = found.map_or_else(|mismatch| mismatch.to_string(), |()| String::new());
            assert_eq!(found, answer, "{extension:?} on {:?}", host.release);
        }
    }

    #[test]
    fn each_class_and_scope_has_its_words() {
        let silent = release("ID=_any");
        assert!(Class::Sysext.has_scope(&silent, Scope::System));
        assert!(Class::Confext.has_scope(&silent, Scope::Portable));
        assert!(!Class::Confext.has_scope(&silent, Scope::Initrd));
        let host = Host {
            release: &release("ID=x"),
            architecture: Architecture::Arm64,
            scope: None,
        };
        let initrd = release("ID=x\nSYSEXT_SCOPE=initrd");
        assert_eq!(Class::Sysext.check(&initrd, &host), Ok(()));
    }

    #[test]
    fn release_files_are_found_by_name() {
        for (file, name) in [
            ("foo.raw", "foo"),
            ("foo.sysext.raw.xz", "foo"),
            ("foo_1.2.img.zst", "foo_1.2"),
            ("foo", "foo"),
        ] {
            assert_eq!(image_name(file), name);
        }
        let file = |suffix, strict| Found { suffix, strict };
        for (found, relaxed, answer) in [
            (
                vec![file("a_1", true), file("a", true), file("b", false)],
                false,
                Some("a_1"),
            ),
            (vec![file("a", true), file("b", true)], false, Some("a")),
            (vec![file("b", false), file("c", true)], false, Some("b")),
            (vec![file("b", true)], false, None),
            (vec![file("b", true)], true, Some("b")),
            (vec![], true, None),
        ] {
            let chosen = select("a_1", found, relaxed).unwrap();
            assert_eq!(chosen.map(|file| file.suffix), answer);
        }
        let two = [file("b", false), file("a", true)];
        assert_eq!(
            select("a+3", two, false),
            Err(Ambiguous("b".into(), "a".into()))
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
