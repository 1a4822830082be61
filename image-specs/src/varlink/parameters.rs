//! The parameters of a call, taken one by one: none is ignored, `null` is as good as none. Pure.

use serde_json::{Map, Value};

use super::Fault;

/// Parameters that are not taken yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(Map<String, Value>);

impl Parameters {
    /// All of them.
    pub fn new(all: Map<String, Value>) -> Self {
        Self(all)
    }

    /// A text, where it is given.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        self.take(name, |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// A boolean, where it is given.
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        self.take(name, |value| value.as_bool())
    }

    /// A list of texts, where it is given.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Fault> {
        self.take(name, |value| match value {
            Value::Array(all) => all
                .into_iter()
                .map(|one| one.as_str().map(str::to_owned))
                .collect(),
            _ => None,
        })
    }

    /// Refuses what was not taken: a caller who means something by it would be misled.
    pub fn finish(self) -> Result<(), Fault> {
        match self.0.keys().next() {
            Some(name) => Err(Fault::invalid_parameter(name)),
            None => Ok(()),
        }
    }

    fn take<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        match self.0.shift_remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| Fault::invalid_parameter(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameters(value: Value) -> Parameters {
        match value {
            Value::Object(all) => Parameters::new(all),
            _ => Parameters::default(),
        }
    }

    #[test]
    fn values_have_their_types() {
        let mut given = parameters(json!({"t": "x", "b": true, "l": ["a", "b"], "n": null}));
        assert_eq!(given.text("t"), Ok(Some("x".to_owned())));
        assert_eq!(given.boolean("b"), Ok(Some(true)));
        assert_eq!(
            given.texts("l"),
            Ok(Some(vec!["a".to_owned(), "b".to_owned()]))
        );
        assert_eq!(given.text("n"), Ok(None));
        assert_eq!(given.text("t"), Ok(None));
        assert_eq!(given.finish(), Ok(()));
    }

    #[test]
    fn others_are_named() {
        let wrong = json!({"t": 5, "b": "yes", "l": ["a", 1], "m": "a"});
        let mut given = parameters(wrong);
        let name = |fault: Fault| fault.parameters["parameter"].clone();
        assert_eq!(given.text("t").map_err(name), Err("t".into()));
        assert_eq!(given.boolean("b").map_err(name), Err("b".into()));
        assert_eq!(given.texts("l").map_err(name), Err("l".into()));
        assert_eq!(given.finish().map_err(name), Err("m".into()));
    }
}
