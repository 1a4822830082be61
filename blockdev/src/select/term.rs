//! The terms of a selector: parsing, and whether one holds. Pure.

use std::fmt;
use std::path::PathBuf;

use image_specs::conf::{boolean, size};
use image_specs::guid;
use image_specs::units::Bytes;

use super::{Bus, Candidate, SelectorError};

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Term {
    Serial(Pattern),
    Id(Pattern),
    Model(Pattern),
    Size(Range),
    Bus(Vec<Bus>),
    Path(PathBuf),
    Table(String),
    Removable(bool),
    Boot,
}

/// A text in which `*` stands for any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(String);

/// Sizes from the first to the last, both included, and the text that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    least: u64,
    most: u64,
    text: String,
}

impl Term {
    pub(super) fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.is_empty() {
            return Err(SelectorError::Empty);
        }
        if text == "boot" {
            return Ok(Self::Boot);
        }
        let unknown = || SelectorError::Unknown(text.to_owned());
        let at = text.find(['=', '<', '>']).ok_or_else(unknown)?;
        let (key, rest) = text.split_at(at);
        if key == "size" {
            return Range::parse(rest).map(Self::Size);
        }
        let value = rest.strip_prefix('=').ok_or_else(unknown)?;
        if value.is_empty() {
            return Err(SelectorError::NoValue(text.to_owned()));
        }
        let pattern = || Pattern(value.to_owned());
        Ok(match key {
            "serial" => Self::Serial(pattern()),
            "id" | "wwid" => Self::Id(pattern()),
            "model" => Self::Model(pattern()),
            "path" => Self::Path(PathBuf::from(value)),
            "bus" => {
                let known = |name: &str| {
                    Bus::parse(name).ok_or_else(|| SelectorError::Bus(name.to_owned()))
                };
                Self::Bus(value.split('|').map(known).collect::<Result<_, _>>()?)
            }
            "uuid" => Self::Table(table(value)?),
            "removable" => {
                let no_boolean = |_| SelectorError::Boolean(value.to_owned());
                Self::Removable(boolean(value).map_err(no_boolean)?)
            }
            _ => return Err(unknown()),
        })
    }

    /// Whether it means one disk, whichever it is, so that nobody gets another by accident.
    pub(super) fn is_identity(&self) -> bool {
        match self {
            Self::Serial(pattern) | Self::Id(pattern) => !pattern.0.contains('*'),
            Self::Path(_) | Self::Table(_) | Self::Boot => true,
            Self::Model(_) | Self::Size(_) | Self::Bus(_) | Self::Removable(_) => false,
        }
    }

    pub(super) fn holds(&self, disk: &Candidate, boot: Option<&str>) -> bool {
        let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
        match self {
            Self::Serial(pattern) => disk.serials.iter().any(|serial| pattern.fits(serial)),
            Self::Id(pattern) => {
                let ids = disk.ids.iter().map(String::as_str);
                ids.chain(disk.by_id()).any(|id| pattern.fits(id))
            }
            Self::Model(pattern) => disk
                .model
                .as_deref()
                .is_some_and(|model| pattern.fits(model)),
            Self::Size(range) => (range.least..=range.most).contains(&disk.size.get()),
            Self::Bus(buses) => buses.contains(&disk.bus),
            Self::Path(path) => disk.is_at(path),
            Self::Table(uuid) => {
                (disk.identity.table.as_deref()).is_some_and(|own| same(own, uuid))
            }
            Self::Removable(wanted) => disk.removable == *wanted,
            Self::Boot => boot.is_some_and(|boot| {
                let mut partitions = disk.identity.partitions.iter();
                partitions.any(|partition| same(partition, boot))
            }),
        }
    }

    /// What the disk has where this does not hold.
    pub(super) fn found(&self, disk: &Candidate) -> Option<String> {
        let listed = |all: &[String]| Some(all.join(" or ")).filter(|text| !text.is_empty());
        match self {
            Self::Serial(_) => listed(&disk.serials),
            Self::Id(_) => listed(&disk.ids),
            Self::Model(_) => disk.model.clone(),
            Self::Size(_) => Some(disk.size.to_string()),
            Self::Bus(_) => Some(disk.bus.to_string()),
            Self::Table(_) => disk.identity.table.clone(),
            Self::Path(_) | Self::Removable(_) | Self::Boot => None,
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(pattern) => write!(f, "serial={}", pattern.0),
            Self::Id(pattern) => write!(f, "id={}", pattern.0),
            Self::Model(pattern) => write!(f, "model={}", pattern.0),
            Self::Size(range) => write!(f, "size{}", range.text),
            Self::Bus(buses) => {
                let names: Vec<&str> = buses.iter().map(|bus| bus.name()).collect();
                write!(f, "bus={}", names.join("|"))
            }
            Self::Path(path) => write!(f, "path={}", path.display()),
            Self::Table(uuid) => write!(f, "uuid={uuid}"),
            Self::Removable(true) => f.write_str("removable=yes"),
            Self::Removable(false) => f.write_str("removable=no"),
            Self::Boot => f.write_str("boot"),
        }
    }
}

impl Pattern {
    fn fits(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        let Some(mut rest) = rest.strip_suffix(last) else {
            return false;
        };
        // The first place is as good as any later one: a star takes what lies between.
        parts.all(|part| match rest.find(part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

impl Range {
    /// What stands behind `size`: `=64G`, `=64G..1T`, `>=64G`, `<1T` and so on.
    fn parse(text: &str) -> Result<Self, SelectorError> {
        let wrong = || SelectorError::Size(format!("size{text}"));
        let bytes = |value: &str| size(value).map_err(|_| wrong());
        let starts = [">=", "<=", ">", "<", "="];
        let start = starts.into_iter().find(|start| text.starts_with(start));
        let start = start.ok_or_else(wrong)?;
        let value = &text[start.len()..];
        let (least, most) = match (start, value.split_once("..")) {
            ("=", Some((least, most))) => (bytes(least)?, bytes(most)?),
            ("=", None) => (bytes(value)?, bytes(value)?),
            (">=", None) => (bytes(value)?, u64::MAX),
            ("<=", None) => (0, bytes(value)?),
            (">", None) => (bytes(value)?.checked_add(1).ok_or_else(wrong)?, u64::MAX),
            ("<", None) => (0, bytes(value)?.checked_sub(1).ok_or_else(wrong)?),
            _ => return Err(wrong()),
        };
        if Bytes::new(least) > Bytes::new(most) {
            return Err(wrong());
        }
        Ok(Self {
            least,
            most,
            text: text.to_owned(),
        })
    }
}

/// The UUID of a GPT, or the eight hex digits of an MBR.
fn table(value: &str) -> Result<String, SelectorError> {
    if let Ok(uuid) = guid::parse(value) {
        return Ok(uuid.to_string());
    }
    let digits = value.strip_prefix("0x").unwrap_or(value);
    let is_number = digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    match is_number {
        true => Ok(digits.to_ascii_lowercase()),
        false => Err(SelectorError::Table(value.to_owned())),
    }
}
