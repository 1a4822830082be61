//! What the machine asks of a run on its own disk: switches on the kernel's command line, and the EFI
//! variable that requests a factory reset. Pure: words and bytes are passed in.

use image_specs::conf::boolean;
use image_specs::guid;
use serde::Deserialize;
use uuid::Uuid;

use crate::plan::{EmptyMode, ResetMode};

/// What the kernel's command line says; the last word of a kind counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// `ddi.repart=no`: nothing is done.
    pub off: bool,
    /// `ddi.repart.seed=`.
    pub seed: Option<Uuid>,
    /// `ddi.repart.empty=`.
    pub empty: Option<EmptyMode>,
    /// `systemd.factory_reset=` and `ddi.repart.factory_reset=`, which count in the initrd only.
    pub factory_reset: Option<ResetMode>,
}

/// A switch with a value that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word} on the kernel's command line is refused: known are {known}")]
pub struct SwitchError {
    word: String,
    known: &'static str,
}

/// A request that cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum RequestError {
    #[error("the EFI variable that requests a factory reset has no text in it")]
    Text,
    #[error("the EFI variable that requests a factory reset cannot be read")]
    Json(#[from] serde_json::Error),
    #[error("the EFI variable that requests a factory reset names no boot")]
    Boot,
}

/// The system that runs, and since which boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct System<'a> {
    /// `ID=` of os-release.
    pub id: Option<&'a str>,
    /// `IMAGE_ID=` of os-release.
    pub image_id: Option<&'a str>,
    /// The ID of this boot.
    pub boot: Option<Uuid>,
}

/// The JSON object in the variable.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    os_release_id: Option<String>,
    #[serde(default)]
    os_release_image_id: Option<String>,
    #[serde(default)]
    boot_id: Option<String>,
}

impl Switches {
    /// Reads the words of the command line; dashes and underscores in names are the same.
    ///
    /// # Errors
    /// Where a word of ddi has a value that it cannot have; others are not ours to judge.
    pub fn parse<'a>(
        words: impl IntoIterator<Item = &'a str>,
        initrd: bool,
    ) -> Result<Self, SwitchError> {
        let mut switches = Self::default();
        for word in words {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            let taken = switches.take(&name.replace('-', "_"), value, initrd);
            taken.map_err(|known| SwitchError {
                word: word.to_owned(),
                known,
            })?;
        }
        Ok(switches)
    }

    /// Takes a word; the error says which values are known.
    fn take(&mut self, name: &str, value: Option<&str>, initrd: bool) -> Result<(), &'static str> {
        let switch = |known| value.map_or(Ok(true), boolean).map_err(|_| known);
        match name {
            "ddi.repart" => self.off = !switch("yes and no")?,
            "ddi.repart.seed" => {
                let seed = value.and_then(|value| guid::parse(value).ok());
                self.seed = Some(seed.ok_or("UUIDs")?);
            }
            "ddi.repart.empty" => {
                self.empty = Some(match value {
                    Some("refuse") => EmptyMode::Refuse,
                    Some("allow") => EmptyMode::Allow,
                    Some("require") => EmptyMode::Require,
                    // What always makes a new table would do so at each boot.
                    _ => return Err("refuse, allow and require"),
                });
            }
            "ddi.repart.factory_reset" => {
                let mode = match value {
                    Some("leave") => ResetMode::Leave,
                    _ => switch("yes, no and leave")?.into(),
                };
                self.factory_reset = Some(mode).filter(|_| initrd).or(self.factory_reset);
            }
            "systemd.factory_reset" if initrd => {
                let mode = switch("").ok().map(ResetMode::from);
                self.factory_reset = mode.or(self.factory_reset);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether the EFI variable `FactoryResetRequest`, as efivarfs shows it (four bytes of attributes, then
/// JSON), asks this system for a factory reset: it must have been set by the same system, before this
/// boot.
///
/// # Errors
/// Where its value is none that systemd writes.
pub fn asks_for_reset(variable: &[u8], system: System<'_>) -> Result<bool, RequestError> {
    let (_, value) = variable
        .split_first_chunk::<4>()
        .ok_or(RequestError::Text)?;
    let raw: Raw = serde_json::from_str(text(value)?.trim_end_matches('\0'))?;
    let same = |asked: &Option<String>, runs: Option<&str>| {
        asked.as_deref().unwrap_or_default() == runs.unwrap_or_default()
    };
    let ours =
        same(&raw.os_release_id, system.id) && same(&raw.os_release_image_id, system.image_id);
    let boot = raw.boot_id.and_then(|boot| guid::parse(&boot).ok());
    let boot = boot.ok_or(RequestError::Boot)?;
    Ok(ours && system.boot.is_some_and(|now| now != boot))
}

/// The text of a variable: UTF-16, as strings in EFI are, or UTF-8.
fn text(value: &[u8]) -> Result<String, RequestError> {
    let is_wide = value.len().is_multiple_of(2) && value.get(1) == Some(&0);
    let text = match is_wide {
        true => {
            let units = value.chunks_exact(2);
            let units: Vec<u16> = units
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16(&units).ok()
        }
        false => String::from_utf8(value.to_vec()).ok(),
    };
    text.ok_or(RequestError::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "11111111-2222-3333-4444-555555555555";

    fn parse(line: &str, initrd: bool) -> Result<Switches, String> {
        Switches::parse(line.split(' '), initrd).map_err(|error| error.to_string())
    }

    #[test]
    fn switches_are_read() {
        let none = Switches::default();
        let reset = |mode| Switches {
            factory_reset: Some(mode),
            ..none
        };
        for (line, initrd, expected) in [
            ("root=/dev/sda ro quiet ddi.repartition=no", true, none),
            ("ddi.repart=no", false, Switches { off: true, ..none }),
            ("ddi.repart=0 ddi.repart", false, none),
            (
                "ddi.repart.empty=allow",
                false,
                Switches {
                    empty: Some(EmptyMode::Allow),
                    ..none
                },
            ),
            (
                "ddi.repart.empty=require ddi.repart.empty=refuse",
                false,
                Switches {
                    empty: Some(EmptyMode::Refuse),
                    ..none
                },
            ),
            ("systemd.factory_reset", true, reset(ResetMode::Recreate)),
            ("systemd.factory-reset=no", true, reset(ResetMode::Never)),
            ("systemd.factory_reset=maybe", true, none),
            ("systemd.factory_reset=yes", false, none),
            (
                "ddi.repart.factory_reset=leave",
                true,
                reset(ResetMode::Leave),
            ),
            ("ddi.repart.factory_reset=leave", false, none),
            (
                "systemd.factory_reset=yes ddi.repart.factory_reset=no",
                true,
                reset(ResetMode::Never),
            ),
        ] {
            assert_eq!(parse(line, initrd), Ok(expected), "{line}");
        }
        let seeded = parse(&format!("ddi.repart.seed={SEED}"), false).unwrap();
        assert_eq!(seeded.seed, Some(guid::parse(SEED).unwrap()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (word, known) in [
            ("ddi.repart=maybe", "known are yes and no"),
            ("ddi.repart.seed=x", "known are UUIDs"),
            ("ddi.repart.seed", "known are UUIDs"),
            (
                "ddi.repart.empty=force",
                "known are refuse, allow and require",
            ),
            ("ddi.repart.empty", "known are refuse"),
            (
                "ddi.repart.factory_reset=maybe",
                "known are yes, no and leave",
            ),
        ] {
            let error = parse(word, false).unwrap_err();
            assert!(
                error.contains(word) && error.contains(known),
                "{word}: {error}"
            );
        }
    }

    #[test]
    fn a_reset_is_requested_by_the_same_system_before_this_boot() {
        let wide = |text: &str| -> Vec<u8> {
            let units = text.encode_utf16().chain([0]);
            [7, 0, 0, 0]
                .into_iter()
                .chain(units.flat_map(u16::to_le_bytes))
                .collect()
        };
        let narrow = |text: &str| [&[7, 0, 0, 0], text.as_bytes()].concat();
        let now = "22222222222233334444555555555555";
        let system = System {
            id: Some("debian"),
            image_id: None,
            boot: Some(guid::parse(now).unwrap()),
        };
        let old = format!(r#"{{"osReleaseId":"debian","bootId":"{SEED}"}}"#);
        let with_image =
            format!(r#"{{"osReleaseId":"debian","osReleaseImageId":"x","bootId":"{SEED}"}}"#);
        let other = format!(r#"{{"osReleaseId":"fedora","bootId":"{SEED}"}}"#);
        let this =
            format!(r#"{{"osReleaseId":"debian","osReleaseImageId":null,"bootId":"{now}"}}"#);
        for (text, expected) in [
            (&old, true),
            (&with_image, false),
            (&other, false),
            (&this, false),
        ] {
            for variable in [wide(text), narrow(text)] {
                assert_eq!(
                    asks_for_reset(&variable, system).unwrap(),
                    expected,
                    "{text}"
                );
            }
        }
        let image = System {
            image_id: Some("x"),
            ..system
        };
        assert!(asks_for_reset(&wide(&with_image), image).unwrap());
        let unknown = System {
            boot: None,
            ..system
        };
        assert!(!asks_for_reset(&wide(&old), unknown).unwrap());
        for bad in [
            &b""[..],
            b"\x07\0\0",
            b"\x07\0\0\0",
            b"\x07\0\0\0{}",
            b"\x07\0\0\0\xff\xff",
            b"\x07\0\0\0[1]",
            b"\x07\0\0\0\0\xd8\0\0",
        ] {
            asks_for_reset(bad, system).unwrap_err();
        }
    }
}
