//! veritytab(5) and integritytab(5): tables of volumes, one a line, each with options.
//!
//! Fields stand between blanks, options between commas; a backslash protects a comma and itself. Lines
//! that make no sense are skipped and told with their place, so that one of them does not cost the other
//! volumes. Pure.

mod integrity;
mod options;
pub mod units;
mod verity;

pub use integrity::{Algorithm, IntegrityMode, IntegrityOptions, Units};
pub use options::{Found, OptionError, Unknown, Words, split};
pub use verity::{Corruption, RootHashSource, SignatureSource, VerityOptions};

use crate::conf::{Located, Location};

/// Which of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `NAME DATA HASH ROOTHASH [OPTIONS]`
    Verity,
    /// `NAME DEVICE [KEYFILE|-] [OPTIONS|-]`
    Integrity,
}

/// A line with a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where it stands.
    pub location: Location,
    /// Its name in `/dev/mapper`.
    pub name: String,
    /// Everything between name and options: devices, and root hash or key file.
    pub fields: Vec<String>,
    /// The options, and where they begin.
    pub options: Option<(Location, String)>,
}

/// A line that is skipped, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum TabError {
    #[error("the line has too few fields; write {}", .0.usage())]
    TooFew(Table),
    #[error(
        "{0:?} stands behind the options and is ignored; write options with commas and no blanks"
    )]
    TooMany(String),
    #[error("there is a line for the volume {0:?} already; this one is ignored")]
    Twice(String),
    #[error("{0:?} cannot name a volume: one to 127 letters, digits and #+-.:=@_ are possible")]
    Name(String),
    #[error("the line is no text (UTF-8) and is ignored")]
    NotText,
}

impl Table {
    /// How a line of it is written.
    pub const fn usage(self) -> &'static str {
        match self {
            Self::Verity => "NAME DATA HASH ROOTHASH [OPTIONS]",
            Self::Integrity => "NAME DEVICE [KEYFILE|-] [OPTIONS|-]",
        }
    }

    /// Fields that a line must have, and those before its options.
    const fn counts(self) -> (usize, usize) {
        match self {
            Self::Verity => (4, 4),
            Self::Integrity => (2, 3),
        }
    }

    /// Reads a table: the volumes, and what is wrong with other lines.
    pub fn parse(self, bytes: &[u8]) -> (Vec<Volume>, Vec<Located<TabError>>) {
        let mut volumes: Vec<Volume> = Vec::new();
        let mut errors = Vec::new();
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let place = |column| Location {
                line: number,
                column,
            };
            let Ok(line) = std::str::from_utf8(line) else {
                errors.push(Located {
                    location: place(1),
                    what: TabError::NotText,
                });
                continue;
            };
            let mut words = fields(line);
            if words.first().is_none_or(|(_, word)| word.starts_with('#')) {
                continue;
            }
            let located = |(column, what)| Located {
                location: place(column),
                what,
            };
            match self.volume(&mut words, &volumes) {
                Err(error) => errors.push(located(error)),
                Ok(extra) => {
                    errors.extend(extra.map(located));
                    volumes.push(self.taken(&words, number));
                }
            }
        }
        (volumes, errors)
    }

    /// Whether the words are a volume; what stands behind them is dropped and given back.
    fn volume(
        self,
        words: &mut Vec<(u32, &str)>,
        before: &[Volume],
    ) -> Result<Option<(u32, TabError)>, (u32, TabError)> {
        let (least, plain) = self.counts();
        let first = words.first().copied().unwrap_or((1, ""));
        if words.len() < least {
            return Err((first.0, TabError::TooFew(self)));
        }
        if !is_volume_name(first.1) {
            return Err((first.0, TabError::Name(first.1.to_owned())));
        }
        if before.iter().any(|volume| volume.name == first.1) {
            return Err((first.0, TabError::Twice(first.1.to_owned())));
        }
        let extra = words.get(plain + 1).copied();
        words.truncate(plain + 1);
        Ok(extra.map(|(column, word)| (column, TabError::TooMany(word.to_owned()))))
    }

    fn taken(self, words: &[(u32, &str)], line: u32) -> Volume {
        let (_, plain) = self.counts();
        let place = |column| Location { line, column };
        let text = |(_, word): &(u32, &str)| (*word).to_owned();
        let options = words.get(plain).filter(|(_, word)| *word != "-");
        Volume {
            location: place(words.first().map_or(1, |(column, _)| *column)),
            name: words.first().map(text).unwrap_or_default(),
            fields: words.iter().take(plain).skip(1).map(text).collect(),
            options: options.map(|(column, word)| (place(*column), (*word).to_owned())),
        }
    }
}

/// Whether `/dev/mapper` and device-mapper can take a name without escapes.
pub fn is_volume_name(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte);
    let taken = [".", "..", "control"].contains(&name);
    (1..128).contains(&name.len()) && name.bytes().all(fine) && !taken
}

/// The path of a device that is named as in fstab: `UUID=`, `PARTUUID=`, `LABEL=`, `PARTLABEL=`, else a
/// path.
pub fn device_path(text: &str) -> String {
    const TAGS: [&str; 5] = ["UUID", "PARTUUID", "LABEL", "PARTLABEL", "ID"];
    let tagged = text.split_once('=');
    let Some((tag, value)) = tagged.filter(|(tag, _)| TAGS.contains(tag)) else {
        return text.to_owned();
    };
    let value = unquote(value);
    let value = match tag {
        "UUID" | "PARTUUID" => value.to_ascii_lowercase(),
        _ => value.to_owned(),
    };
    format!(
        "/dev/disk/by-{}/{}",
        tag.to_ascii_lowercase(),
        encode(&value)
    )
}

fn unquote(text: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}

/// As udev writes names of links: what is not plain becomes `\xNN`.
fn encode(value: &str) -> String {
    let mut text = String::new();
    for letter in value.chars() {
        let plain = letter.is_ascii_alphanumeric() || "#+-.:=@_".contains(letter);
        match plain || !letter.is_ascii() {
            true => text.push(letter),
            false => text += &format!("\\x{:02x}", u32::from(letter)),
        }
    }
    text
}

/// The words of a line with their columns, counted in characters from one.
fn fields(line: &str) -> Vec<(u32, &str)> {
    let blank = |letter: char| letter.is_ascii_whitespace() || letter == '\x0b';
    let mut words = Vec::new();
    let mut start = None;
    let mut column = 0u32;
    for (at, letter) in line.char_indices() {
        column = column.saturating_add(1);
        match (blank(letter), start) {
            (false, None) => start = Some((column, at)),
            (true, Some((column, from))) => {
                words.extend(line.get(from..at).map(|word| (column, word)));
                start = None;
            }
            _ => {}
        }
    }
    let last = start.and_then(|(column, from)| Some((column, line.get(from..)?)));
    words.extend(last);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_volumes_with_their_places() {
        let text = b"# a table\n\n  root /dev/a\t/dev/b 00ff  nofail,x \r\nusr UUID=x b -\n";
        let (volumes, errors) = Table::Verity.parse(text);
        assert_eq!(errors, []);
        assert_eq!(volumes.len(), 2);
        assert_eq!(volumes[0].name, "root");
        assert_eq!(volumes[0].location, Location { line: 3, column: 3 });
        assert_eq!(volumes[0].fields, ["/dev/a", "/dev/b", "00ff"]);
        let (place, options) = volumes[0].options.as_ref().unwrap();
        assert_eq!((place.column, options.as_str()), (28, "nofail,x"));
        assert_eq!(volumes[1].options, None);

        let (volumes, errors) =
            Table::Integrity.parse(b"a /dev/x\nb /dev/x - -\nc d /k mode=direct");
        assert_eq!(errors, []);
        let counts: Vec<_> = volumes.iter().map(|volume| volume.fields.len()).collect();
        assert_eq!(counts, [1, 2, 2]);
        assert!(volumes[1].options.is_none() && volumes[2].options.is_some());
    }

    #[test]
    fn what_is_wrong_costs_its_line_only() {
        let text =
            b"a b c\na b c d\n \xff\na x y z\n../x b c d\n\xc3\xa4 b c d e f\nq b c d e f g\n";
        let (volumes, errors) = Table::Verity.parse(text);
        let names: Vec<_> = volumes.iter().map(|volume| &*volume.name).collect();
        assert_eq!(names, ["a", "q"]);
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 6, "{told:?}");
        assert_eq!(
            told[0],
            "1:1: the line has too few fields; write NAME DATA HASH ROOTHASH [OPTIONS]"
        );
        assert!(told[1].starts_with("3:1: the line is no text"));
        assert!(told[2].starts_with("4:1: there is a line for the volume \"a\""));
        assert!(told[3].starts_with("5:1: \"../x\" cannot name a volume"));
        assert!(told[4].starts_with("6:1: "));
        assert!(told[5].starts_with("7:11: \"f\" stands behind the options"));
    }

    #[test]
    fn devices_are_named_as_in_fstab() {
        for (text, path) in [
            ("/dev/x", "/dev/x"),
            ("UUID=AB-cd", "/dev/disk/by-uuid/ab-cd"),
            ("PARTUUID=\"A\"", "/dev/disk/by-partuuid/a"),
            ("LABEL=a b/c", "/dev/disk/by-label/a\\x20b\\x2fc"),
            ("PARTLABEL=\u{e4}", "/dev/disk/by-partlabel/\u{e4}"),
            ("ID=nvme-x", "/dev/disk/by-id/nvme-x"),
            ("FOO=x", "FOO=x"),
        ] {
            assert_eq!(device_path(text), path);
        }
    }
}
