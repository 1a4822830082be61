//! The UUIDs that partitions must have, from a credential. Pure.

use std::collections::BTreeMap;

use image_specs::guid::{self, GuidError};
use image_specs::partition::Designator;
use uuid::Uuid;

/// The UUIDs that partitions must have; those that are not listed may have any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins(BTreeMap<Designator, Uuid>);

/// A list of UUIDs makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the partition UUIDs makes no sense")]
pub struct PinError {
    /// Counted from 1.
    pub line: usize,
    /// Why.
    #[source]
    pub why: PinFailure,
}

/// Why a line makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum PinFailure {
    #[error("write it as designator=UUID")]
    Form,
    #[error("{0:?} is no designator; write root, usr, home, esp, …")]
    Designator(String),
    #[error("there is a UUID for {0} already")]
    Twice(Designator),
    #[error(transparent)]
    Uuid(#[from] GuidError),
}

impl Pins {
    /// Parses lines of `designator=UUID`; empty lines and those that begin with `#` say nothing.
    pub fn parse(text: &str) -> Result<Self, PinError> {
        let mut pins = BTreeMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (designator, uuid) = pin(text).map_err(|why| PinError { line, why })?;
            if pins.insert(designator, uuid).is_some() {
                let why = PinFailure::Twice(designator);
                return Err(PinError { line, why });
            }
        }
        Ok(Self(pins))
    }

    /// The UUID that a partition must have.
    pub fn wanted(&self, designator: Designator) -> Option<Uuid> {
        self.0.get(&designator).copied()
    }
}

fn pin(text: &str) -> Result<(Designator, Uuid), PinFailure> {
    let (name, uuid) = text.split_once('=').ok_or(PinFailure::Form)?;
    let name = name.trim();
    let designator = Designator::from_policy_name(name);
    let designator = designator.ok_or_else(|| PinFailure::Designator(name.to_owned()))?;
    Ok((designator, guid::parse(uuid.trim())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_pin_designators() {
        let uuid = "11111111-2222-3333-4444-555555555555";
        let pins =
            Pins::parse(&format!("# ours\n\n home = {uuid} \nroot-verity={uuid}\n")).unwrap();
        assert_eq!(pins.wanted(Designator::Home), uuid.parse().ok());
        assert_eq!(pins.wanted(Designator::RootVerity), uuid.parse().ok());
        assert_eq!(pins.wanted(Designator::Root), None);
        for (text, line, why) in [
            ("home".to_owned(), 1, "write it as designator=UUID"),
            (format!("\nhouse={uuid}"), 2, "\"house\" is no designator"),
            (
                format!("home={uuid}\nhome={uuid}"),
                2,
                "a UUID for home already",
            ),
            ("home=x".to_owned(), 1, "\"x\" is not a UUID"),
        ] {
            let error = Pins::parse(&text).unwrap_err();
            assert_eq!(error.line, line);
            assert!(error.why.to_string().contains(why), "{}", error.why);
        }
    }
}
