//! `ddi dissect diff A B`: what differs between two images: table, flags, versions, files.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use dissect::metadata::Metadata;
use dissect::report::{Mount, Report};
use filetree::diff::{Change, Difference, diff};
use filetree::{Kind, Tree};
use serde_json::{Value, json};

use super::DissectArgs;
use super::files::Files;
use super::open;
use crate::exit::{Exit, Failure};
use crate::ui::{Mode, Ui};

/// Files that say which version an image is.
const RELEASES: [&str; 4] = [
    "etc/os-release",
    "usr/lib/os-release",
    "etc/initrd-release",
    "usr/lib/initrd-release",
];

/// The folders of the same for extensions.
const EXTENSIONS: [&str; 2] = ["usr/lib/extension-release.d", "etc/extension-release.d"];

/// The largest release file that is looked into.
const MAX_RELEASE: u64 = 1 << 20;

/// One side of the comparison.
struct Side {
    /// Fields of the image and its partitions by their names; a directory has none.
    facts: Option<BTreeMap<String, String>>,
    tree: Tree,
}

/// A field that differs; `None` where a side does not have it.
struct Fact {
    name: String,
    old: Option<String>,
    new: Option<String>,
}

pub(super) fn run(args: &DissectArgs, ui: &Ui, old: &Path, new: &Path) -> Result<Exit, Failure> {
    let (old, new) = (Side::open(args, ui, old)?, Side::open(args, ui, new)?);
    let facts = facts(&old, &new)?;
    let files = diff(&old.tree, &new.tree)?;
    match ui.mode() {
        Mode::Text => ui.print(&text(&facts, &files))?,
        _ => ui.print_json(&as_json(&facts, &files))?,
    }
    Ok(match facts.is_empty() && files.is_empty() {
        true => Exit::Ok,
        false => Exit::Different,
    })
}

impl Side {
    fn open(args: &DissectArgs, ui: &Ui, path: &Path) -> Result<Self, Failure> {
        if path.is_dir() {
            return Ok(Self {
                facts: None,
                tree: Files::open(args, ui, path)?.tree()?,
            });
        }
        let opened = open::open(args, path)?;
        let mut facts = image_facts(&Report::new(&opened.dissected, &Metadata::default()));
        if let Some(verity) = &opened.dissected.verity {
            facts.insert("root hash".to_owned(), verity.root_hash.to_string());
        }
        Ok(Self {
            facts: Some(facts),
            tree: Files::of(args, ui, &opened)?.tree()?,
        })
    }
}

/// All that is said of an image and its partitions, but for their names on the host.
fn image_facts(report: &Report) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut add = |name: String, value: Option<String>| {
        if let Some(value) = value {
            facts.insert(name, value);
        }
    };
    add("size".to_owned(), Some(report.size.to_string()));
    add(
        "sector size".to_owned(),
        Some(report.sector_size.to_string()),
    );
    add("architecture".to_owned(), report.architecture.clone());
    add("image UUID".to_owned(), report.image_uuid.clone());
    for mount in &report.mounts {
        for (field, value) in partition_facts(mount) {
            add(format!("{} {field}", mount.designator), value);
        }
    }
    facts
}

fn partition_facts(mount: &Mount) -> [(&'static str, Option<String>); 8] {
    let text = |text: Option<&str>| text.map(str::to_owned);
    [
        ("mode", Some(mount.rw.to_owned())),
        ("UUID", mount.partition_uuid.clone()),
        ("label", mount.partition_label.clone()),
        ("file system", mount.fstype.clone()),
        ("architecture", text(mount.architecture)),
        ("verity", text(mount.verity)),
        ("grows", mount.growfs.then(|| "yes".to_owned())),
        ("number", mount.partno.map(|number| number.to_string())),
    ]
}

/// The fields in which the two differ, those of the release files after those of the image.
fn facts(old: &Side, new: &Side) -> Result<Vec<Fact>, Failure> {
    let images = old.facts.as_ref().zip(new.facts.as_ref());
    let mut all = images.map_or_else(Vec::new, |(old, new)| differing(old, new));
    all.extend(differing(&releases(&old.tree)?, &releases(&new.tree)?));
    Ok(all)
}

fn differing(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<Fact> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let facts = names.into_iter().map(|name| Fact {
        name: name.clone(),
        old: old.get(name).cloned(),
        new: new.get(name).cloned(),
    });
    facts.filter(|fact| fact.old != fact.new).collect()
}

/// The fields of all release files, by file and key.
fn releases(tree: &Tree) -> Result<BTreeMap<String, String>, Failure> {
    let mut paths: Vec<String> = RELEASES.map(str::to_owned).into();
    for folder in EXTENSIONS {
        let found = tree.lookup(folder.as_bytes()).map(|id| tree.inode(id));
        for name in found
            .and_then(|inode| inode.entries())
            .into_iter()
            .flatten()
        {
            let name = String::from_utf8_lossy(name.0.as_bytes()).into_owned();
            paths.push(format!("{folder}/{name}"));
        }
    }
    let mut fields = BTreeMap::new();
    for path in paths {
        let Some(id) = tree.lookup(path.as_bytes()) else {
            continue;
        };
        let Kind::File(content) = &tree.inode(id).kind else {
            continue;
        };
        if content.size() > MAX_RELEASE {
            continue;
        }
        let mut bytes = Vec::new();
        content
            .open()?
            .read_chunks(content.size(), |chunk| bytes.extend_from_slice(chunk))?;
        let text = String::from_utf8_lossy(&bytes);
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            fields.insert(format!("{path} {key}"), value.to_owned());
        }
    }
    Ok(fields)
}

fn text(facts: &[Fact], files: &[Difference]) -> String {
    let mut text = String::new();
    for Fact { name, old, new } in facts {
        let shown = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".to_owned());
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name}: {} -> {}", shown(old), shown(new));
    }
    for (path, changes) in by_path(files) {
        let sign = match changes.first() {
            Some(Change::Added) => '+',
            Some(Change::Removed) => '-',
            _ => '~',
        };
        let words: Vec<String> = changes.iter().filter_map(|change| word(change)).collect();
        let path = escape(path);
        let _ = match words.is_empty() {
            true => writeln!(text, "{sign} {path}"),
            false => writeln!(text, "{sign} {path} ({})", words.join(", ")),
        };
    }
    text
}

/// `{"fields": [{name, old, new}], "files": [{path, change, what}]}`.
fn as_json(facts: &[Fact], files: &[Difference]) -> Value {
    let facts: Vec<Value> = facts
        .iter()
        .map(|Fact { name, old, new }| json!({ "name": name, "old": old, "new": new }))
        .collect();
    let files: Vec<Value> = by_path(files)
        .into_iter()
        .map(|(path, changes)| {
            let change = match changes.first() {
                Some(Change::Added) => "added",
                Some(Change::Removed) => "removed",
                _ => "changed",
            };
            let what: Vec<String> = changes.iter().filter_map(|change| word(change)).collect();
            json!({ "path": escape(path), "change": change, "what": what })
        })
        .collect();
    json!({ "fields": facts, "files": files })
}

/// The changes of each path together; they come sorted.
fn by_path(files: &[Difference]) -> Vec<(&Path, Vec<&Change>)> {
    let mut all: Vec<(&Path, Vec<&Change>)> = Vec::new();
    for Difference { path, change } in files {
        match all.last_mut() {
            Some((last, changes)) if *last == path => changes.push(change),
            _ => all.push((path, vec![change])),
        }
    }
    all
}

/// What changed, as a word; nothing for what was added or removed as a whole.
fn word(change: &Change) -> Option<String> {
    Some(match change {
        Change::Added | Change::Removed => return None,
        Change::Kind => "kind".to_owned(),
        Change::Mode => "mode".to_owned(),
        Change::Owner => "owner".to_owned(),
        Change::Mtime => "time".to_owned(),
        Change::Xattr(name) => format!(
            "attribute {}",
            String::from_utf8_lossy(name).escape_default()
        ),
        Change::Size => "size".to_owned(),
        Change::Data => "data".to_owned(),
        Change::Holes => "holes".to_owned(),
        Change::Target => "target".to_owned(),
        Change::Device => "device".to_owned(),
        Change::Links => "hard links".to_owned(),
        _ => "other".to_owned(),
    })
}

/// Absolute, without control characters, which are not the terminal's business.
fn escape(path: &Path) -> String {
    let path = Path::new("/").join(path);
    let text = path.to_string_lossy();
    text.chars()
        .flat_map(|one| {
            let plain = !one.is_control() && one != '\\';
            let kept = plain.then_some(one);
            let escaped = (!plain).then(|| one.escape_default());
            kept.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}
