//! Short and long names. Pure.
//!
//! A name that is 8 + 3 upper-case characters stands as it is; every other one gets a long name in
//! UTF-16 and a short one made from it, unique in its directory.

use std::collections::{HashMap, HashSet};

/// A name as FAT stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FatName {
    /// Padded with spaces.
    pub(super) short: [u8; 11],
    /// The long name's UTF-16 units; empty where the short name says it all.
    pub(super) long: Vec<u16>,
}

/// Why FAT cannot hold a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    #[error("the name is not UTF-8, which FAT cannot hold; rename the file or exclude it")]
    NotUtf8,
    #[error(
        "the name has the character {0:?}, which FAT cannot hold; rename the file or exclude it"
    )]
    Character(char),
    #[error(
        "the name ends with a dot or a space, which FAT cannot hold; rename the file or exclude it"
    )]
    End,
    #[error("the name is longer than 255 UTF-16 units; rename the file or exclude it")]
    Long,
    #[error(
        "another name in this directory differs in case only, and FAT does not tell them apart; rename one or exclude it"
    )]
    Case,
    #[error(
        "too many names in this directory begin alike; spread the files over several directories"
    )]
    Alike,
}

/// Entries of a long name hold this many units each.
pub(super) const UNITS: usize = 13;

impl FatName {
    /// Directory entries that the name takes.
    pub(super) fn entries(&self) -> usize {
        1 + self.long.len().div_ceil(UNITS)
    }
}

/// The names of one directory.
#[derive(Debug, Default)]
pub(super) struct Names {
    folded: HashSet<String>,
    short: HashSet<[u8; 11]>,
    /// By the begin of a short name: the number that was given last.
    tails: HashMap<(Vec<u8>, [u8; 3]), u32>,
}

impl Names {
    /// Makes the names of a directory's entries, in their order; a failure tells which.
    pub(super) fn of<'a>(
        names: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<Vec<FatName>, (&'a [u8], NameError)> {
        let mut all = Self::default();
        let mut texts = Vec::new();
        for name in names {
            let text = all.check(name).map_err(|error| (name, error))?;
            // Names that need no change keep what they are, whatever is made of others.
            let exact = exact(text);
            all.short.extend(exact);
            texts.push((name, text, exact));
        }
        texts
            .into_iter()
            .map(|(name, text, exact)| match exact {
                Some(short) => Ok(FatName {
                    short,
                    long: Vec::new(),
                }),
                None => Ok(FatName {
                    short: all.shorten(text).map_err(|error| (name, error))?,
                    long: text.encode_utf16().collect(),
                }),
            })
            .collect()
    }

    fn check<'a>(&mut self, name: &'a [u8]) -> Result<&'a str, NameError> {
        let text = std::str::from_utf8(name).map_err(|_| NameError::NotUtf8)?;
        let bad = text
            .chars()
            .find(|character| *character < ' ' || "\"*/:<>?\\|\u{7f}".contains(*character));
        if let Some(character) = bad {
            return Err(NameError::Character(character));
        }
        if text.ends_with(['.', ' ']) {
            return Err(NameError::End);
        }
        if text.encode_utf16().count() > 255 {
            return Err(NameError::Long);
        }
        if self.folded.insert(text.to_uppercase()) {
            Ok(text)
        } else {
            Err(NameError::Case)
        }
    }

    /// Makes a short name that no other entry has: `NAME~1.EXT`.
    fn shorten(&mut self, text: &str) -> Result<[u8; 11], NameError> {
        let trimmed = text.trim_start_matches(['.', ' ']);
        let (base, extension) = match trimmed.rsplit_once('.') {
            Some((base, extension)) if !base.is_empty() => (base, extension),
            _ => (trimmed, ""),
        };
        let base = squeeze(base, 8);
        let extension = pad(&squeeze(extension, 3));
        for digits in 1..=6 {
            let stem = &base[..base.len().min(7 - digits)];
            let last = self.tails.entry((stem.to_vec(), extension)).or_insert(0);
            while *last < 10u32.pow(u32::try_from(digits).unwrap_or(0)) - 1 {
                *last += 1;
                let mut short = *b"           ";
                let tail = format!("~{last}");
                if tail.len() != digits + 1 {
                    continue;
                }
                short[..stem.len()].copy_from_slice(stem);
                short[stem.len()..stem.len() + tail.len()].copy_from_slice(tail.as_bytes());
                short[8..].copy_from_slice(&extension);
                if self.short.insert(short) {
                    return Ok(short);
                }
            }
        }
        Err(NameError::Alike)
    }
}

/// The name as 8 + 3 characters, if it is that already.
fn exact(text: &str) -> Option<[u8; 11]> {
    let (base, extension) = text.split_once('.').unwrap_or((text, ""));
    let fits = (1..=8).contains(&base.len())
        && extension.len() <= 3
        && !text.ends_with('.')
        && (base.bytes().chain(extension.bytes()))
            .all(|byte| allowed(char::from(byte)) == Some(byte));
    fits.then(|| {
        let mut short = *b"           ";
        short[..base.len()].copy_from_slice(base.as_bytes());
        short[8..8 + extension.len()].copy_from_slice(extension.as_bytes());
        short
    })
}

/// Up to `room` characters as a short name may have them.
fn squeeze(text: &str, room: usize) -> Vec<u8> {
    text.chars()
        .filter(|character| !matches!(character, ' ' | '.'))
        .map(|character| allowed(character).unwrap_or(b'_'))
        .take(room)
        .collect()
}

fn pad(bytes: &[u8]) -> [u8; 3] {
    let mut padded = *b"   ";
    padded[..bytes.len()].copy_from_slice(bytes);
    padded
}

/// The character of a short name that stands for one of a long name.
fn allowed(character: char) -> Option<u8> {
    let byte = u8::try_from(character).ok().filter(u8::is_ascii)?;
    let sign = b"!#$%&'()-@^_`{}~".contains(&byte);
    (sign || byte.is_ascii_alphanumeric()).then(|| byte.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(names: &[&str]) -> Result<Vec<String>, NameError> {
        Names::of(names.iter().map(|name| name.as_bytes()))
            .map(|names| {
                names
                    .into_iter()
                    .map(|name| String::from_utf8(name.short.to_vec()).unwrap())
                    .collect()
            })
            .map_err(|(_, error)| error)
    }

    #[test]
    fn short_names_are_made() {
        for (long, expected) in [
            ("README", "README     "),
            ("BOOTX64.EFI", "BOOTX64 EFI"),
            ("a.txt", "A~1     TXT"),
            (".profile", "PROFIL~1   "),
            ("Long file name.conf", "LONGFI~1CON"),
            ("a+b.tar.gz", "A_BTAR~1GZ "),
            ("ä", "_~1        "),
            (".a.b", "A~1     B  "),
            ("+", "_~1        "),
        ] {
            assert_eq!(short(&[long]).unwrap(), [expected], "{long}");
        }
    }

    #[test]
    fn short_names_are_unique() {
        let names: Vec<_> = (0..12_000)
            .map(|number| format!("some-name-{number:05}.bin"))
            .collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let made = short(&names).unwrap();
        assert_eq!((&*made[0], &*made[9]), ("SOME-N~1BIN", "SOME-~10BIN"));
        let different: HashSet<_> = made.iter().collect();
        assert_eq!(different.len(), names.len());
    }

    #[test]
    fn a_made_name_gives_way_to_a_given_one() {
        let made = short(&["Long name", "LONGNA~1"]).unwrap();
        assert_eq!(made, ["LONGNA~2   ", "LONGNA~1   "]);
    }

    #[test]
    fn what_fat_cannot_hold_is_refused() {
        for (names, expected) in [
            (&["a:b"][..], NameError::Character(':')),
            (&["a\tb"], NameError::Character('\t')),
            (&["end."], NameError::End),
            (&["end "], NameError::End),
            (&["Same", "sAME"], NameError::Case),
        ] {
            assert_eq!(short(names), Err(expected), "{names:?}");
        }
        assert!(Names::of([&b"\xff"[..]].into_iter()).is_err());
    }
}
