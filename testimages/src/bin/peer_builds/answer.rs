//! What a program answered: exit code, JSON or text, messages.

use std::process::Output;

use serde_json::Value;

/// The outcome of one command.
pub(crate) struct Answer {
    code: i32,
    out: String,
    messages: String,
    note: &'static str,
}

impl Answer {
    /// The outcome, with paths as inside of `root`.
    pub(crate) fn new(output: &Output, root: &str) -> Self {
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            if root.is_empty() {
                text
            } else {
                text.replace(root, "")
            }
        };
        Self {
            code: output.status.code().unwrap_or(255),
            out: text(&output.stdout),
            messages: text(&output.stderr),
            note: "",
        }
    }

    /// Where it is not what the other says.
    pub(crate) fn differences(&self, theirs: &Self, loose: bool) -> Vec<String> {
        let mut found = Vec::new();
        if self.code == 1 && theirs.code > 128 {
            return found; // an assertion of its own failed
        }
        if self.code != theirs.code {
            found.push(format!("exit {} for {}", self.code, theirs.code));
            found.push(format!("ours: {}", self.summary()));
            found.push(format!("peer: {}", theirs.summary()));
            return found;
        }
        if self.code != 0 {
            // A failed run of ours may print the error as JSON, which the other never does.
            return found;
        }
        if self.note != theirs.note {
            found.push(format!("left {} for {}", self.note, theirs.note));
        }
        match (self.json(), theirs.json()) {
            // docs/extensions.md: the minimal size as JSON.
            (Some(ours), None) if ours["minimalSizeBytes"].is_u64() => {}
            (Some(ours), Some(theirs)) => compare(&ours, &theirs, loose, "", &mut found),
            (None, None) => {
                if self.out.is_empty() != theirs.out.is_empty() {
                    found.push(format!("output {:?} for {:?}", self.out, theirs.out));
                }
            }
            (ours, _) => found.push(format!(
                "output is{} JSON: {:?} for {:?}",
                if ours.is_some() { "" } else { " not" },
                self.out,
                theirs.out
            )),
        }
        if theirs.out.is_empty() {
            return found;
        }
        let lines = |answer: &Self| answer.json().map(|_| answer.out.lines().count() > 1);
        if found.is_empty() && lines(self) != lines(theirs) {
            found.push("the JSON has another shape".to_owned());
        }
        found
    }

    /// The same with a remark on what the run left, which is compared, too.
    pub(crate) fn with_note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// Whether it prints this.
    pub(crate) fn says(&self, words: &str) -> bool {
        self.out.contains(words)
    }

    /// Whether it failed an assertion, or found no room for what ends off the grain.
    pub(crate) fn is_shortcoming(&self) -> bool {
        self.code > 128 || self.messages.contains("Can't fit requested partitions")
    }

    /// Whether the note says so.
    pub(crate) fn left_alone(&self) -> bool {
        self.note == "unchanged"
    }

    pub(crate) fn is_success(&self) -> bool {
        self.code == 0
    }

    /// The same without what only mounting tells: metadata of the tree, and device nodes.
    pub(crate) fn without_metadata(mut self) -> Self {
        const PLAIN: [&str; 6] = [
            "name",
            "size",
            "sectorSize",
            "architecture",
            "imageUuid",
            "mounts",
        ];
        if let Some(Value::Object(mut view)) = self.json() {
            view.retain(|key, _| PLAIN.contains(&key.as_str()));
            let mounts = view.get_mut("mounts").and_then(Value::as_array_mut);
            for mount in mounts
                .into_iter()
                .flatten()
                .filter_map(Value::as_object_mut)
            {
                mount.remove("node");
            }
            self.out = Value::Object(view).to_string();
        }
        self
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "exit {} {} {}",
            self.code,
            self.out.trim(),
            self.messages.trim()
        )
    }

    fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.out).ok()
    }
}

/// Fields that come from what mkfs programs make of contents.
const LOOSE: [&str; 6] = [
    "offset",
    "raw_size",
    "roothash",
    "uuid",
    "raw_padding",
    "old_size",
];

fn compare(ours: &Value, theirs: &Value, loose: bool, at: &str, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                compare(ours, theirs, loose, &format!("{at}[{index}]"), found);
            }
        }
        (Value::Object(ours), Value::Object(theirs))
            if ours.keys().collect::<Vec<_>>() == theirs.keys().collect::<Vec<_>>() =>
        {
            for (key, ours) in ours {
                if loose && LOOSE.contains(&key.as_str()) {
                    continue;
                }
                compare(ours, &theirs[key], loose, &format!("{at}.{key}"), found);
            }
        }
        _ if ours == theirs => {}
        _ => found.push(format!("{at}: {ours} for {theirs}")),
    }
}
