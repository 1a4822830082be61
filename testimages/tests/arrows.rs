//! The house rules that no compiler checks: which crate may use which, that every dependency has
//! its reason in ARCHITECTURE.md, that `unsafe` stays within its fences, and that nothing in the
//! tree knows the machine on which it was written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each crate may use, as ARCHITECTURE.md draws it. Anyone's tests may use `testimages`, and
/// its tests may use anyone.
const ARROWS: &[(&str, &[&str])] = &[
    ("image-specs", &[]),
    ("filetree", &["image-specs"]),
    ("blockdev", &["image-specs"]),
    ("squashfs", &["image-specs", "filetree"]),
    ("veritysetup", &["image-specs", "blockdev"]),
    ("luks", &["image-specs", "blockdev"]),
    (
        "dissect",
        &[
            "image-specs",
            "filetree",
            "squashfs",
            "blockdev",
            "veritysetup",
            "luks",
        ],
    ),
    (
        "repart",
        &[
            "image-specs",
            "filetree",
            "squashfs",
            "blockdev",
            "veritysetup",
            "luks",
            "dissect",
        ],
    ),
    (
        "ddi",
        &[
            "image-specs",
            "filetree",
            "squashfs",
            "blockdev",
            "veritysetup",
            "luks",
            "dissect",
            "repart",
        ],
    ),
    ("testimages", &["image-specs", "blockdev"]),
];

/// The only places where `unsafe` may stand.
const FENCES: [&str; 3] = [
    "blockdev/src/sys",
    "squashfs/src/ffi",
    "veritysetup/src/hasher/simd",
];

/// How unsafe code begins, spelled so that this file does not find itself.
const MARKS: [&str; 6] = [
    concat!("uns", "afe {"),
    concat!("uns", "afe fn"),
    concat!("uns", "afe impl"),
    concat!("uns", "afe extern"),
    concat!("uns", "afe trait"),
    concat!("uns", "afe("),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap()
}

fn dependencies(package: &Value) -> &[Value] {
    package["dependencies"].as_array().unwrap()
}

#[test]
fn crates_use_only_what_is_drawn() {
    let drawn: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for package in &packages() {
        let user = name(package);
        let allowed = drawn
            .get(user)
            .unwrap_or_else(|| panic!("{user} is not drawn"));
        for dependency in dependencies(package) {
            let used = name(dependency);
            let in_tests = dependency["kind"] == "dev" && [user, used].contains(&"testimages");
            assert!(
                !drawn.contains_key(used) || allowed.contains(&used) || in_tests,
                "{user} uses {used}: draw that arrow in ARCHITECTURE.md and here, or move code down"
            );
        }
    }
}

#[test]
fn dependencies_have_their_reasons() {
    let architecture = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let crates = architecture
        .split("## Dependencies")
        .nth(1)
        .expect("a chapter on dependencies");
    let told: BTreeSet<&str> = crates
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .flat_map(|line| line.split('|').next().unwrap_or("").split('`'))
        .collect();
    let packages = packages();
    let ours: BTreeSet<&str> = packages.iter().map(name).collect();
    let mut used = BTreeSet::new();
    for package in &packages {
        let others = dependencies(package).iter().map(name);
        used.extend(others.filter(|dependency| !ours.contains(dependency)));
    }
    let silent: Vec<_> = used.difference(&told).collect();
    assert!(
        silent.is_empty(),
        "say in ARCHITECTURE.md why these are here: {silent:?}"
    );
}

#[test]
fn unsafe_stays_within_its_fences() {
    for path in files() {
        let relative = path.strip_prefix(root()).unwrap();
        let module = relative.with_extension("");
        let fenced = FENCES.iter().any(|fence| module.starts_with(fence));
        if fenced || path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split("//").next().unwrap_or("");
            let keyword = MARKS.iter().any(|mark| code.contains(mark));
            assert!(
                !keyword,
                "{}:{number}: unsafe code outside its fences",
                relative.display()
            );
        }
    }
}

#[test]
fn crates_forbid_or_deny_unsafe_code() {
    for package in &packages() {
        for target in package["targets"].as_array().unwrap() {
            let path = target["src_path"].as_str().unwrap();
            if !path.ends_with("src/lib.rs") && !path.ends_with("src/main.rs") {
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            if text.lines().all(|line| line.starts_with("//")) {
                continue; // nothing there yet
            }
            let says = |lint: &str| text.contains(&format!("#![{lint}(unsafe_code)]"));
            assert!(
                says("forbid") || says("deny"),
                "{path} does not forbid unsafe code"
            );
        }
    }
}

#[test]
fn nothing_knows_where_it_was_written() {
    let places = [concat!("/wo", "rk/"), concat!("/var/tmp", "/w/")];
    for path in files() {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue; // a sample that is no text
        };
        for (number, line) in (1..).zip(text.lines()) {
            let found = places.iter().any(|place| {
                line.match_indices(place).any(|(at, _)| {
                    !line[..at].ends_with(|before: char| {
                        before.is_alphanumeric() || "._}".contains(before)
                    })
                })
            });
            assert!(
                !found,
                "{}:{number}: a path of one machine: {line}",
                path.display()
            );
        }
    }
}

/// Every file of the source tree, without what is built or found.
fn files() -> Vec<PathBuf> {
    const SKIPPED: [&str; 6] = [".git", "target", "corpus", "artifacts", "demo", "seeds"];
    let mut files = vec![];
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            let skipped = SKIPPED.iter().any(|name| entry.file_name() == *name);
            if kind.is_dir() && !skipped {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name() != ".git" {
                files.push(entry.path());
            }
        }
    }
    files
}
