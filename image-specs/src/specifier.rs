//! Specifiers: `%a`, `%m` and so on in values of definitions. Pure: all values are passed in.
//!
//! The two tables are kept apart: the general one is [`Values`]; `SplitName=` has its own letters,
//! which [`Values::expand_except`] leaves standing and [`SplitValues::expand`] fills in later.

use uuid::Uuid;

/// The values of the general specifiers; `None` is what could not be found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// `%a`.
    pub architecture: Option<String>,
    /// `%A`, os-release `IMAGE_VERSION=`.
    pub image_version: Option<String>,
    /// `%b`.
    pub boot_id: Option<String>,
    /// `%B`, os-release `BUILD_ID=`.
    pub build_id: Option<String>,
    /// `%H`, and up to its first dot `%l`.
    pub host_name: Option<String>,
    /// `%m`.
    pub machine_id: Option<String>,
    /// `%M`, os-release `IMAGE_ID=`.
    pub image_id: Option<String>,
    /// `%o`, os-release `ID=`.
    pub os_id: Option<String>,
    /// `%q`; the short host name where it is unset.
    pub pretty_host_name: Option<String>,
    /// `%v`.
    pub kernel_release: Option<String>,
    /// `%w`, os-release `VERSION_ID=`.
    pub os_version: Option<String>,
    /// `%W`, os-release `VARIANT_ID=`.
    pub variant_id: Option<String>,
    /// `%T`.
    pub tmp: Option<String>,
    /// `%V`.
    pub var_tmp: Option<String>,
}

/// The values of the specifiers of `SplitName=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitValues {
    /// `%t`: the type's identifier.
    pub type_name: String,
    /// `%T`.
    pub type_uuid: Uuid,
    /// `%U`.
    pub uuid: Uuid,
    /// `%n`: place in the table, from 0.
    pub number: u32,
}

/// A specifier that cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecifierError {
    /// A letter that means something, but whose value is not known here.
    #[error("%{letter} cannot be expanded: {what} could not be found out")]
    #[expect(missing_docs, reason = "the message says it")]
    Unknown { letter: char, what: &'static str },
    /// The result is longer than a path may be.
    #[error("the value is too long once its specifiers are expanded")]
    TooLong,
}

/// The letters of `SplitName=`'s own table.
pub const SPLIT_LETTERS: &[char] = &['t', 'T', 'U', 'n'];

const LONGEST: usize = 4095;

impl Values {
    /// Expands `%` and a letter; `%%` is a percent sign, an unknown letter stays as written.
    pub fn expand(&self, text: &str) -> Result<String, SpecifierError> {
        expand(text, |letter| self.value(letter))
    }

    /// As [`Values::expand`], but `%%` and the letters in `except` stay for a second expansion.
    pub fn expand_except(&self, text: &str, except: &[char]) -> Result<String, SpecifierError> {
        expand(text, |letter| match letter {
            letter if except.contains(&letter) => Ok(Some(format!("%{letter}"))),
            '%' => Ok(Some("%%".to_owned())),
            // What the first pass leaves must come out of the second as it is.
            letter => Ok(self.value(letter)?.map(|value| value.replace('%', "%%"))),
        })
    }

    fn value(&self, letter: char) -> Result<Option<String>, SpecifierError> {
        let required = |value: &Option<String>, what| match value {
            Some(value) => Ok(Some(value.clone())),
            None => Err(SpecifierError::Unknown { letter, what }),
        };
        let optional = |value: &Option<String>| Ok(Some(value.clone().unwrap_or_default()));
        match letter {
            '%' => Ok(Some("%".to_owned())),
            'a' => required(&self.architecture, "the architecture"),
            'A' => optional(&self.image_version),
            'b' => required(&self.boot_id, "the boot ID"),
            'B' => optional(&self.build_id),
            'H' => required(&self.host_name, "the host name"),
            'l' => required(&self.short_host_name(), "the host name"),
            'm' => required(&self.machine_id, "the machine ID"),
            'M' => optional(&self.image_id),
            'o' => optional(&self.os_id),
            'q' => required(&self.pretty_or_short_name(), "the host name"),
            'v' => required(&self.kernel_release, "the kernel's release"),
            'w' => optional(&self.os_version),
            'W' => optional(&self.variant_id),
            'T' => required(&self.tmp, "the directory for temporary files"),
            'V' => required(&self.var_tmp, "the directory for temporary files"),
            _ => Ok(None),
        }
    }

    fn short_host_name(&self) -> Option<String> {
        let name = self.host_name.as_deref()?;
        name.split('.').next().map(str::to_owned)
    }

    fn pretty_or_short_name(&self) -> Option<String> {
        let pretty = self.pretty_host_name.clone();
        pretty.or_else(|| self.short_host_name())
    }
}

impl SplitValues {
    /// Expands a `SplitName=` from which [`Values::expand_except`] has taken all other specifiers.
    pub fn expand(&self, template: &str) -> Result<String, SpecifierError> {
        expand(template, |letter| {
            Ok(match letter {
                '%' => Some("%".to_owned()),
                't' => Some(self.type_name.clone()),
                'T' => Some(self.type_uuid.to_string()),
                'U' => Some(self.uuid.to_string()),
                'n' => Some(self.number.to_string()),
                _ => None,
            })
        })
    }
}

/// Replaces each `%` and letter by its value; where there is none, both stay.
fn expand(
    text: &str,
    value: impl Fn(char) -> Result<Option<String>, SpecifierError>,
) -> Result<String, SpecifierError> {
    let mut expanded = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, letters.clone().next()) {
            ('%', Some(specifier)) => {
                letters.next();
                match value(specifier)? {
                    Some(value) => expanded.push_str(&value),
                    None => expanded.extend(['%', specifier]),
                }
            }
            _ => expanded.push(letter),
        }
        if expanded.len() > LONGEST {
            return Err(SpecifierError::TooLong);
        }
    }
    Ok(expanded)
}
