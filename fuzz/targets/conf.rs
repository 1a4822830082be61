//! Configuration text: every position lies in the text and points at what it names; values and word
//! lists parse or fail, and what was parsed prints to the same.
#![no_main]

use image_specs::conf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(parsed) = conf::parse(data, &["Partition"]) {
        for entry in &parsed.entries {
            for (span, text) in [
                (entry.key_span, &entry.key),
                (entry.value_span, &entry.value),
            ] {
                let bytes = &data[span.start..span.end];
                if !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
                    assert_eq!(bytes, text.as_bytes());
                }
            }
            values(&entry.value);
        }
        again(&parsed);
    }
    if let Ok(text) = str::from_utf8(data) {
        values(text);
    }
});

/// Plain entries, written one to a line, parse to the same keys and values.
fn again(parsed: &conf::Parsed) {
    let plain = |entry: &&conf::Entry| {
        !entry.key.starts_with(['#', ';', '[']) && !entry.value.ends_with('\\')
    };
    let entries: Vec<_> = parsed.entries.iter().filter(plain).collect();
    if entries.len() != parsed.entries.len() {
        return;
    }
    let mut text = String::from("[Partition]\n");
    for entry in &entries {
        text.push_str(&format!("{}={}\n", entry.key, entry.value));
    }
    let Ok(second) = conf::parse(text.as_bytes(), &["Partition"]) else {
        return; // joined lines may have become too long for one
    };
    let pairs = |entry: &conf::Entry| (entry.key.clone(), entry.value.clone());
    let before: Vec<_> = parsed.entries.iter().map(pairs).collect();
    let behind: Vec<_> = second.entries.iter().map(pairs).collect();
    assert_eq!(before, behind);
}

fn values(text: &str) {
    let _ = conf::boolean(text);
    let _ = conf::tristate(text);
    let _ = conf::int32(text);
    assert!(
        conf::unsigned(text, 4096).is_ok_and(|number| number <= 4096)
            || conf::unsigned(text, 4096).is_err()
    );
    let _ = conf::size(text);
    let _ = conf::words(text);
    for flavour in [
        conf::Words::LIST,
        conf::Words::ESCAPED_FIELDS,
        conf::Words::QUOTED_ESCAPED_FIELDS,
        conf::Words::QUOTED_FIELDS,
    ] {
        let _ = conf::fields(text, flavour);
    }
    let _ = conf::closest(text, &["Type", "Label", "CopyFiles"]);
    if let Ok(path) = conf::absolute_path(text, false) {
        assert_eq!(conf::absolute_path(&path, false).as_ref(), Ok(&path));
    }
}
