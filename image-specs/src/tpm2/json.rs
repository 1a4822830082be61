//! Fields of JSON objects that must have one type and a bounded size. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Bank, PcrSet, pcrs};

/// A field is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is {1}")]
pub struct FieldError(pub(super) &'static str, pub(super) &'static str);

pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

pub(super) const MISSING: &str = "missing";

impl<'a> Fields<'a> {
    /// A field with anything but null.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn boolean(&self, name: &'static str) -> Result<bool, FieldError> {
        match self.get(name) {
            None => Ok(false),
            Some(value) => value
                .as_bool()
                .ok_or(FieldError(name, "neither true nor false")),
        }
    }

    pub(super) fn text(&self, name: &'static str) -> Result<Option<&'a str>, FieldError> {
        let text = |value: &'a Value| value.as_str().ok_or(FieldError(name, "no text"));
        self.get(name).map(text).transpose()
    }

    pub(super) fn number<T: TryFrom<u64>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, FieldError> {
        let number = |value: &Value| {
            let number = value.as_u64().and_then(|number| number.try_into().ok());
            number.ok_or(FieldError(name, "no number that is possible here"))
        };
        self.get(name).map(number).transpose()
    }

    pub(super) fn bank(&self, name: &'static str) -> Result<Option<Bank>, FieldError> {
        let bank = |text: &str| text.parse().map_err(|_| FieldError(name, "no PCR bank"));
        self.text(name)?.map(bank).transpose()
    }

    pub(super) fn pcrs(&self, name: &'static str) -> Result<Option<PcrSet>, FieldError> {
        self.get(name)
            .map(|value| set(value).ok_or(FieldError(name, "no list of PCR numbers below 24")))
            .transpose()
    }

    pub(super) fn base64(
        &self,
        name: &'static str,
        max: usize,
    ) -> Result<Option<Vec<u8>>, FieldError> {
        let decode = |value| {
            decoded(value, max, |text| STANDARD.decode(text).ok())
                .ok_or(FieldError(name, "no base64 text of a possible size"))
        };
        self.get(name).map(decode).transpose()
    }
}

/// A list of PCR numbers.
pub(super) fn set(value: &Value) -> Option<PcrSet> {
    let numbers = value.as_array()?.iter().map(|number| {
        let number = u8::try_from(number.as_u64()?).ok()?;
        (number < pcrs::PCRS).then_some(number)
    });
    numbers.collect()
}

/// The bytes of a hexadecimal text.
pub(super) fn unhex(value: &Value, max: usize) -> Option<Vec<u8>> {
    decoded(value, max, |text| hex::decode(text).ok())
}

/// The bytes of a base64 text.
pub(super) fn unbase64(value: &Value, max: usize) -> Option<Vec<u8>> {
    decoded(value, max, |text| STANDARD.decode(text).ok())
}

/// Base64 as it is written.
pub(super) fn base64(bytes: &[u8]) -> Value {
    STANDARD.encode(bytes).into()
}

fn decoded(value: &Value, max: usize, decode: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let text = value.as_str().filter(|text| text.len() / 2 <= max)?;
    decode(text).filter(|bytes| !bytes.is_empty() && bytes.len() <= max)
}
