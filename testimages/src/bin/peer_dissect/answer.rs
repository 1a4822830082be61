//! What a tool said, in a form that two can be compared in.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::Outcome;

/// How a run ended.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Answer {
    /// The answer to a case, our paths as they are inside of `root`.
    pub(crate) fn read(folder: &Path, number: usize, side: &str, root: &Path) -> Outcome<Self> {
        let text = |suffix: &str| -> Outcome<String> {
            let bytes = fs::read(folder.join(format!("{number}.{side}{suffix}")))?;
            let text = String::from_utf8_lossy(&bytes);
            Ok(text.replace(&*root.to_string_lossy(), ""))
        };
        Ok(Self {
            code: text(".code")?.trim().parse()?,
            output: text("")?,
            errors: text(".err")?,
        })
    }

    pub(crate) fn is_success(&self) -> bool {
        self.code == 0
    }

    /// Where this differs from `theirs`, a line each. What failing runs say is not compared.
    pub(crate) fn differences(&self, theirs: &Self) -> Vec<String> {
        if self.is_success() != theirs.is_success() {
            let line = |whose, answer: &Self| {
                let said = format!("{}{}", answer.errors.trim(), answer.output.trim());
                format!("{whose} ends with {}: {said}", answer.code)
            };
            return vec![line("ours", self), line("systemd's", theirs)];
        }
        if !self.is_success() {
            return Vec::new();
        }
        let mut found = Vec::new();
        compare("", &self.value(), &theirs.value(), &mut found);
        found
    }

    /// JSON, or the text.
    pub(crate) fn value(&self) -> Value {
        let value = serde_json::from_str(&self.output);
        let mut value = value.unwrap_or_else(|_| Value::String(self.output.clone()));
        let mounts = value.get_mut("mounts").and_then(Value::as_array_mut);
        for mount in mounts.into_iter().flatten() {
            forget_loop(mount);
        }
        value
    }
}

/// The loop device is gone when its name is read.
fn forget_loop(mount: &mut Value) {
    let node = mount["node"].as_str().unwrap_or_default();
    if node.starts_with("/dev/loop") {
        mount["node"] = Value::Null;
    }
}

fn compare(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                compare_member(path, key, a, b, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{index}]"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}: ours {a}, systemd's {b}")),
    }
}

fn compare_member(
    path: &str,
    key: &str,
    ours: &Map<String, Value>,
    theirs: &Map<String, Value>,
    found: &mut Vec<String>,
) {
    let path = format!("{path}.{key}");
    match (ours.get(key), theirs.get(key)) {
        (Some(a), Some(b)) => compare(&path, a, b, found),
        (Some(a), None) => found.push(format!("{path}: ours {a}, systemd's has none")),
        (None, Some(b)) => found.push(format!("{path}: ours has none, systemd's {b}")),
        (None, None) => {}
    }
}
