//! Calls as they come, and replies as they go. Pure.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Fault, Parameters};

/// A method call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Interface and method, with a dot between them.
    pub method: String,
    /// What is passed to it.
    pub parameters: Map<String, Value>,
    /// How it is to be answered.
    pub mode: Mode,
    /// Whether the connection is to speak another protocol afterwards.
    pub upgrade: bool,
}

/// How a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Once.
    Once,
    /// As often as there is something to tell (`more`).
    More,
    /// Not at all (`oneway`).
    Never,
}

/// Bytes that are no call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// No JSON, or no such object.
    #[error("the message is no Varlink call")]
    Form(#[from] serde_json::Error),
    /// `more` and `oneway` together.
    #[error("the message asks for several replies and for none")]
    Contradiction,
}

/// The object as it is sent. Nothing here has been checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    method: String,
    parameters: Option<Map<String, Value>>,
    more: Option<bool>,
    oneway: Option<bool>,
    upgrade: Option<bool>,
}

impl Call {
    /// Reads a message without its NUL.
    pub fn parse(message: &[u8]) -> Result<Self, MessageError> {
        let raw: Raw = serde_json::from_slice(message)?;
        let mode = match (raw.more.unwrap_or(false), raw.oneway.unwrap_or(false)) {
            (true, true) => return Err(MessageError::Contradiction),
            (true, false) => Mode::More,
            (false, true) => Mode::Never,
            (false, false) => Mode::Once,
        };
        Ok(Self {
            method: raw.method,
            parameters: raw.parameters.unwrap_or_default(),
            mode,
            upgrade: raw.upgrade.unwrap_or(false),
        })
    }

    /// Interface and method: what stands before and behind the last dot.
    pub fn split(&self) -> Option<(&str, &str)> {
        self.method.rsplit_once('.')
    }

    /// The parameters, to be taken one by one.
    pub fn take_parameters(&mut self) -> Parameters {
        Parameters::new(std::mem::take(&mut self.parameters))
    }
}

/// A reply with its NUL; more follow where `continues`.
pub fn replied(parameters: Map<String, Value>, continues: bool) -> Vec<u8> {
    let mut message = json!({ "parameters": parameters });
    if continues {
        message["continues"] = true.into();
    }
    sealed(&message)
}

/// An error in place of a reply, with its NUL.
pub fn failed(fault: &Fault) -> Vec<u8> {
    sealed(&json!({ "error": fault.name, "parameters": fault.parameters }))
}

/// JSON has no NUL inside: in texts it is escaped.
fn sealed(message: &Value) -> Vec<u8> {
    let mut bytes = message.to_string().into_bytes();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calls_are_read() {
        for (text, mode, upgrade) in [
            (r#"{"method":"a.b.C"}"#, Mode::Once, false),
            (r#"{"method":"a.b.C","parameters":null}"#, Mode::Once, false),
            (r#"{"method":"a.b.C","more":true}"#, Mode::More, false),
            (r#"{"oneway":true,"method":"a.b.C"}"#, Mode::Never, false),
            (r#"{"method":"a.b.C","upgrade":true}"#, Mode::Once, true),
        ] {
            let call = Call::parse(text.as_bytes()).unwrap();
            assert_eq!((call.mode, call.upgrade), (mode, upgrade), "{text}");
            assert_eq!(call.split(), Some(("a.b", "C")));
        }
    }

    #[test]
    fn what_is_no_call_is_refused() {
        let deep = format!(r#"{{"method":"a.B","parameters":{}"#, "[".repeat(100_000));
        for text in [
            "",
            "[]",
            "{",
            "{}",
            "null",
            "\"a.B\"",
            r#"{"method":5}"#,
            r#"{"method":"a.B","x":1}"#,
            r#"{"method":"a.B","method":"a.B"}"#,
            r#"{"method":"a.B","more":true,"oneway":true}"#,
            r#"{"method":"a.B","more":"yes"}"#,
            r#"{"method":"a.B","parameters":[]}"#,
            r#"{"method":"a.B"} x"#,
            &deep,
        ] {
            assert!(Call::parse(text.as_bytes()).is_err(), "{text:.40}");
        }
        assert!(Call::parse(b"{\"method\":\"\xff\"}").is_err());
    }

    #[test]
    fn replies_end_with_their_only_nul() {
        let mut parameters = Map::new();
        parameters.insert("object".to_owned(), "a\0b".into());
        for (bytes, text) in [
            (
                replied(parameters.clone(), true),
                r#"{"parameters":{"object":"a\u0000b"},"continues":true}"#,
            ),
            (replied(Map::new(), false), r#"{"parameters":{}}"#),
            (
                failed(&Fault::method_not_found("x")),
                r#"{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"x"}}"#,
            ),
        ] {
            assert_eq!(bytes, format!("{text}\0").into_bytes());
        }
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Call::parse(&bytes));
        }

        #[test]
        fn any_text_survives(method in "\\PC*", key in "\\PC*", text in any::<String>()) {
            let message = json!({"method": method.clone(), "parameters": {key.clone(): text.clone()}});
            let call = Call::parse(message.to_string().as_bytes()).unwrap();
            prop_assert_eq!(call.method, method);
            prop_assert_eq!(call.parameters[&key].as_str(), Some(text.as_str()));
        }
    }
}
