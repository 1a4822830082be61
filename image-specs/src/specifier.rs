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
    /// `%T`, without dashes.
    pub type_uuid: Uuid,
    /// `%U`, without dashes.
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
    /// A letter or digit that means nothing.
    #[error("%{0} is no specifier; write %% for a percent sign")]
    NoSuch(char),
    /// The result is longer than a path may be.
    #[error("the value is too long once its specifiers are expanded")]
    TooLong,
}

/// The letters of `SplitName=`'s own table.
pub const SPLIT_LETTERS: &[char] = &['t', 'T', 'U', 'n'];

const LONGEST: usize = 4095;

impl Values {
    /// Expands `%` and a letter; `%%` is a percent sign, another sign behind `%` stays as written.
    pub fn expand(&self, text: &str) -> Result<String, SpecifierError> {
        expand(text, |letter| self.value(letter))
    }

    /// As [`Values::expand`], but `%%` and the letters in `except` stay for a second expansion.
    pub fn expand_except(&self, text: &str, except: &[char]) -> Result<String, SpecifierError> {
        expand(text, |letter| match letter {
            letter if except.contains(&letter) => Ok(Some(format!("%{letter}"))),
            '%' => Ok(Some("%%".to_owned())),
            // What the first pass puts in must come out of the second as it is; what it does not know,
            // the second refuses.
            letter => Ok(Some(match self.value(letter)? {
                Some(value) => value.replace('%', "%%"),
                None => format!("%{letter}"),
            })),
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
                'T' => Some(self.type_uuid.simple().to_string()),
                'U' => Some(self.uuid.simple().to_string()),
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
                    None if specifier.is_ascii_alphanumeric() => {
                        return Err(SpecifierError::NoSuch(specifier));
                    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        Values {
            architecture: Some("x86-64".to_owned()),
            host_name: Some("host.example".to_owned()),
            os_id: Some("debian".to_owned()),
            var_tmp: Some("/var/%t".to_owned()),
            ..Values::default()
        }
    }

    #[test]
    fn letters_become_their_values() {
        for (text, expanded) in [
            ("", ""),
            ("%", "%"),
            ("%%50%", "%50%"),
            ("%a-%o-%w-%A%B%M%W", "x86-64-debian--"),
            ("%H %l %q", "host.example host host"),
            ("a%-b%_%é% ", "a%-b%_%é% "),
            ("%%%%x", "%%x"),
        ] {
            assert_eq!(values().expand(text).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_said() {
        for letter in ['Q', 'z', '5', 't', 'n'] {
            let error = SpecifierError::NoSuch(letter);
            assert_eq!(values().expand(&format!("%{letter}")), Err(error));
        }
        for letter in ['m', 'b', 'v', 'T'] {
            let error = values().expand(&format!("%{letter}")).unwrap_err();
            assert!(matches!(error, SpecifierError::Unknown { .. }), "{error}");
        }
        assert_eq!(
            values().expand(&"x".repeat(5000)),
            Err(SpecifierError::TooLong)
        );
    }

    #[test]
    fn the_table_of_split_names_comes_second() {
        let split = SplitValues {
            type_name: "root".to_owned(),
            type_uuid: Uuid::from_u128(1),
            uuid: Uuid::from_u128(2),
            number: 0,
        };
        for (text, template, expanded) in [
            ("%t", "%t", "root"),
            ("%a.%t.%n%%", "x86-64.%t.%n%%", "x86-64.root.0%"),
            ("%%t", "%%t", "%t"),
            ("%V", "/var/%%t", "/var/%t"),
            (
                "%T %U",
                "%T %U",
                "00000000000000000000000000000001 00000000000000000000000000000002",
            ),
            ("%", "%", "%"),
        ] {
            let first = values().expand_except(text, SPLIT_LETTERS).unwrap();
            assert_eq!(first, template, "{text}");
            assert_eq!(split.expand(&first).as_deref(), Ok(expanded));
        }
        let first = values().expand_except("%z", SPLIT_LETTERS).unwrap();
        assert_eq!(split.expand(&first), Err(SpecifierError::NoSuch('z')));
    }
}
