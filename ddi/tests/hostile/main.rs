//! Images that lie are refused with a reason or read without harm: no panic, no endless run, little
//! memory, nothing written outside of the target, no device left behind.

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{SEED, Scratch, repart, run};
use testimages::hostile_images::{HostileImage, Verdict, images, sets};

/// The most memory that looking into a hostile image may take, in KiB.
const PEAK: u64 = 64 << 10;

/// Seconds after which a run counts as endless: far more than any needs, even on a busy machine.
const LIMIT: &str = "60";

/// What is done to each image; the words behind it are the verb's arguments.
const VERBS: [&[&str]; 7] = [
    &["--mtree", "IMAGE"],
    &["IMAGE"],
    &["--json=short", "IMAGE"],
    &["--list", "IMAGE"],
    &["--validate", "IMAGE"],
    &["--copy-from", "IMAGE", "/", "TARGET"],
    &["--make-archive", "IMAGE", "ARCHIVE"],
];

/// How a run ended.
struct End {
    code: Option<i32>,
    message: String,
    peak: u64,
}

struct Place {
    scratch: Scratch,
}

impl Place {
    fn new() -> Self {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("outside")).unwrap();
        fs::write(scratch.path("outside/file"), "untouched").unwrap();
        Self { scratch }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    fn dissect(&self, words: &[&str]) -> End {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", LIMIT, "time", "-q", "-f", "PEAK %M"]);
        command.args([env!("CARGO_BIN_EXE_ddi"), "dissect"]);
        for word in words {
            match *word {
                "IMAGE" => command.arg(self.at("image.raw")),
                "TARGET" => command.arg(self.at("target/copy")),
                "ARCHIVE" => command.arg(self.at("target/archive.tar")),
                word => command.arg(word),
            };
        }
        let output = command
            .output()
            .expect("timeout(1), and time(1) of the package time");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        let peak = message
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("PEAK "));
        End {
            code: output.status.code(),
            peak: peak.and_then(|peak| peak.parse().ok()).unwrap_or(u64::MAX),
            message,
        }
    }

    /// Runs all verbs on an image; what is wrong with what they do, in words.
    fn try_out(&self, image: &HostileImage) -> Vec<String> {
        fs::write(self.at("image.raw"), &image.bytes).unwrap();
        let mut wrong = Vec::new();
        for words in VERBS {
            fs::remove_dir_all(self.at("target")).ok();
            fs::create_dir(self.at("target")).unwrap();
            let end = self.dissect(words);
            let fault = end.fault(words[0], image.verdict);
            wrong.extend(fault.map(|fault| {
                let verb = words[0];
                format!("{}: {verb}: {fault}: {}", image.name, end.message.trim())
            }));
        }
        let same = fs::read(self.at("image.raw")).unwrap() == image.bytes;
        if !same {
            wrong.push(format!("{}: the image changed", image.name));
        }
        wrong.extend(self.outside().map(|what| format!("{}: {what}", image.name)));
        wrong
    }

    /// What has appeared or changed where nothing may.
    fn outside(&self) -> Option<String> {
        let names = |folder: &Path| {
            let entries = fs::read_dir(folder).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let folder = self.at("");
        let kept = ["image.raw", "outside", "target"];
        let untouched = fs::read(self.at("outside/file")).unwrap() == b"untouched";
        let found = (names(&folder), names(&self.at("outside")));
        let fine = found.0 == kept && found.1 == ["file"] && untouched;
        let bound = loops()
            .into_iter()
            .find(|backing| backing.starts_with(&folder));
        match (fine, bound) {
            (true, None) => None,
            (false, _) => Some(format!(
                "something was written outside of the target: {found:?}"
            )),
            (_, Some(backing)) => Some(format!("a loop device is left on {}", backing.display())),
        }
    }
}

impl End {
    /// What is wrong with how the verb ended. Only `--mtree` reads all that is in the image.
    fn fault(&self, verb: &str, verdict: Verdict) -> Option<&'static str> {
        let words = match (verb, verdict) {
            ("--mtree", Verdict::Refused(words)) | ("--validate", Verdict::Invalid(words)) => {
                Some(words)
            }
            _ => None,
        };
        let must_pass = verb == "--mtree" && words.is_none();
        match (self.code, words) {
            (Some(124 | 137), _) => Some("it did not end"),
            (None | Some(2..), _) => Some("it died"),
            _ if self.message.contains("panicked") => Some("it panicked"),
            _ if self.peak > PEAK => Some("it took too much memory"),
            (Some(0), Some(_)) => Some("it was not refused"),
            (Some(_), Some(words)) if !self.message.contains(words) => {
                Some("the reason is another")
            }
            (Some(1), None) if must_pass => Some("it was refused"),
            _ => None,
        }
    }
}

/// The files that loop devices are bound to.
fn loops() -> Vec<PathBuf> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let files = devices.map(|device| device.path().join("loop/backing_file"));
    files
        .filter_map(|file| fs::read_to_string(file).ok())
        .map(|path| PathBuf::from(path.trim_end()))
        .collect()
}

/// A signed image of three partitions, to be taken apart.
fn signed() -> Vec<u8> {
    let scratch = Scratch::new();
    let set = "VerityMatchKey=root\n";
    let definitions = scratch.definitions(&[
        (
            "10-root.conf",
            &format!("Type=root\nFormat=erofs\nCopyFiles=/\nMinimize=best\nVerity=data\n{set}"),
        ),
        (
            "20-verity.conf",
            &format!("Type=root-verity\nVerity=hash\nMinimize=best\n{set}"),
        ),
        (
            "30-signature.conf",
            &format!("Type=root-verity-sig\nVerity=signature\n{set}"),
        ),
    ]);
    let tree = scratch.path("tree");
    fs::create_dir_all(tree.join("usr/lib")).unwrap();
    fs::write(tree.join("usr/lib/os-release"), "ID=test\n").unwrap();
    let data: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(tree.join("data"), data).unwrap();
    let image = scratch.path("signed.raw");
    run(repart()
        .args(["--empty=create", "--size=auto", "--sector-size=512", SEED])
        .arg(definitions)
        .arg(format!("--copy-source={}", tree.display()))
        .args(scratch.signing())
        .arg(&image));
    fs::read(image).unwrap()
}

#[test]
fn hostile_images_do_no_harm() {
    let mut all = images();
    all.extend(sets(&signed()));
    assert!(all.len() >= 60, "{} images", all.len());
    let place = Place::new();
    let wrong: Vec<String> = all.iter().flat_map(|image| place.try_out(image)).collect();
    assert!(
        wrong.is_empty(),
        "{} faults:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    println!(
        "{} hostile images, {} runs",
        all.len(),
        all.len() * VERBS.len()
    );
}
