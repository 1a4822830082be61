//! What is wrong is named, with what to do about it, by the exit code that systemd's tool has, and
//! nothing has changed.

mod cases;
#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use cases::{ARGUMENTS, DEFINITIONS, FINE, SETS, VARIABLES};
use common::{SEED, Scratch, ddi, is_root, repart, run, unprivileged};
use rustix::fs::{FlockOperation, flock};
use testimages::hostile::{self, Expected};

/// Type and permissions, and bytes, of everything in a folder.
type State = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// The folder that all runs of a case see as their working directory.
struct Place {
    scratch: Scratch,
    keep: Vec<UnixListener>,
}

impl Place {
    fn new() -> Self {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path(name);
        fs::create_dir_all(at("src/folder")).unwrap();
        fs::write(at("src/file"), "hello\n").unwrap();
        fs::write(at("src/block"), vec![7; 8192]).unwrap();
        fs::write(at("file"), "hello\n").unwrap();
        fs::write(at("blank.raw"), vec![0; 2 << 20]).unwrap();
        fs::write(at("small.raw"), vec![0; 16384]).unwrap();
        let noise = (0u64..9000).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        fs::write(at("src/noise"), noise.collect::<Vec<u8>>()).unwrap();
        let mut dos = vec![0; 2 << 20];
        dos[446 + 4] = 0x83;
        dos[446 + 8] = 2;
        dos[446 + 12] = 100;
        dos[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(at("dos.raw"), dos).unwrap();
        let place = Self {
            scratch,
            keep: Vec::new(),
        };
        place.define(&[("10-x.conf", FINE)]);
        run(place.repart("--empty=create --size=auto gpt.raw").arg(SEED));
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// Keys, and things that are no files.
    fn furnish(mut self) -> Self {
        run(Command::new("mkfifo").arg(self.at("pipe")));
        self.keep
            .push(UnixListener::bind(self.at("socket")).unwrap());
        std::os::unix::fs::symlink("nowhere", self.at("dangling")).unwrap();
        for name in ["one", "two"] {
            let line = format!(
                "req -x509 -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.crt"
            );
            self.openssl(&line);
        }
        self.openssl("pkey -in one.key -aes256 -passout pass:secret -out locked.key");
        self
    }

    fn openssl(&self, line: &str) {
        run(Command::new("openssl")
            .args(line.split(' '))
            .current_dir(self.at("")));
    }

    fn define(&self, files: &[(&str, &str)]) {
        let folder = self.at("repart.d");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        self.scratch.definitions(files);
    }

    fn repart(&self, line: &str) -> Command {
        let mut command = repart();
        command
            .args(["--definitions=repart.d", "--copy-source=src", "--pretty=no"])
            .args(line.split(' ').filter(|word| !word.is_empty()))
            .current_dir(self.at(""))
            .env_remove("PIN");
        command
    }

    /// Everything that is in the folder.
    fn state(&self) -> State {
        let mut state = BTreeMap::new();
        state_of(&self.at(""), &mut state);
        state
    }

    /// Runs what must fail with this code; returns how it differs from what is expected.
    fn check(&self, command: &mut Command, code: i32, says: &str) -> Option<String> {
        let before = self.state();
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let text = text.replace(
            &format!("{}/", self.at("").display()).replace("//", "/"),
            "$/",
        );
        let text = text.trim_end();
        let same = self.state() == before;
        drop(fs::remove_file(self.at("new.raw")));
        let found = output.status.code();
        let right_text = match says.strip_suffix('\u{2026}') {
            Some(start) => text.starts_with(start),
            None => text == says,
        };
        let right = found == Some(code) && right_text && same;
        (!right).then(|| format!("code {found:?}, unchanged {same}\n@@{text:?}@@"))
    }
}

fn state_of(folder: &Path, state: &mut State) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let bytes = match kind.is_file() {
            true => fs::read(&path).unwrap(),
            false => Vec::new(),
        };
        if kind.is_dir() {
            state_of(&path, state);
        }
        state.insert(path, (metadata.mode(), bytes));
    }
}

/// Fails with all that is wrong at once.
fn report(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn definitions_that_are_wrong() {
    let place = Place::new();
    let mut wrong = Vec::new();
    for (keys, code, says) in DEFINITIONS {
        let here = place.at("").display().to_string();
        place.define(&[("10-x.conf", &keys.replace("$/", &here))]);
        let mut command = place.repart("--empty=create --size=auto new.raw");
        let found = place.check(command.arg(SEED), *code, says);
        wrong.extend(found.map(|found| format!("{keys:?}: {found}")));
    }
    report(wrong);
}

#[test]
fn definitions_that_do_not_go_together() {
    let place = Place::new();
    let mut wrong = Vec::new();
    for (files, code, says) in SETS {
        place.define(files);
        let mut command = place.repart("--empty=create --size=auto --split=yes new.raw");
        let found = place.check(command.arg(SEED), *code, says);
        wrong.extend(found.map(|found| format!("{:?}: {found}", files[0])));
    }
    report(wrong);
}

#[test]
fn arguments_that_are_wrong() {
    let place = Place::new().furnish();
    let mut wrong = Vec::new();
    for (line, code, says) in ARGUMENTS {
        let found = place.check(&mut place.repart(line), *code, says);
        wrong.extend(found.map(|found| format!("{line:?}: {found}")));
    }
    report(wrong);
}

#[test]
fn variables_that_are_wrong() {
    let place = Place::new();
    let mut wrong = Vec::new();
    for (name, value, code, says) in VARIABLES {
        let mut command = place.repart("--empty=create --size=auto new.raw");
        let found = place.check(command.env(name, value), *code, says);
        wrong.extend(found.map(|found| format!("{name:?}, {value:?}: {found}")));
    }
    report(wrong);
}

#[test]
fn disks_that_are_broken() {
    let place = Place::new();
    place.define(&[("10-x.conf", "Type=linux-generic\n")]);
    for case in hostile::tables() {
        let image = place.at("hostile.raw");
        fs::write(&image, &case.bytes).unwrap();
        let before = place.state();
        let sector = format!("--sector-size={}", case.sector.get());
        for run in ["--dry-run=yes", "--dry-run=no"] {
            let mut command = place.repart(run);
            let output = command.args([&sector, "hostile.raw"]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            let code = output.status.code();
            let name = case.name;
            let (codes, says): (&[i32], &str) = match case.expected {
                Expected::Nothing => (&[77], "hostile.raw: the disk has no partition table"),
                Expected::Foreign => (&[77], "hostile.raw: the disk has "),
                Expected::Damaged(what) => (&[1], what),
                Expected::Primary(..) => (&[0, 1], ""),
                Expected::Backup => (&[0, 1], "warning: only the Backup copy"),
            };
            assert!(
                code.is_some_and(|code| codes.contains(&code)),
                "{name}: {code:?} {text}"
            );
            assert!(text.contains(says), "{name}: {text}");
            assert!(!text.contains("bug in ddi"), "{name}: {text}");
            if run == "--dry-run=yes" || code != Some(0) {
                assert!(
                    place.state() == before,
                    "{name}: {run} has changed something"
                );
            }
        }
    }
}

#[test]
fn disks_that_end_early() {
    let place = Place::new();
    let image = fs::read(place.at("gpt.raw")).unwrap();
    for size in [0, 1, 511, 512, 1023, 1024, 8192, 34816, image.len() / 2] {
        fs::write(place.at("short.raw"), &image[..size]).unwrap();
        let before = place.state();
        let output = place.repart("--dry-run=no short.raw").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(1 | 77)),
            "{size}: {text}"
        );
        assert!(text.contains("short.raw"), "{size}: {text}");
        assert!(place.state() == before, "{size}");
    }
}

#[test]
fn a_disk_that_somebody_else_works_on() {
    let place = Place::new();
    let image = fs::File::open(place.at("gpt.raw")).unwrap();
    flock(&image, FlockOperation::LockExclusive).unwrap();
    let holder = format!("(process {})", std::process::id());
    for line in ["--dry-run=no gpt.raw", "--dry-run=yes gpt.raw"] {
        let before = place.state();
        let text = common::fails(&mut place.repart(line), 1);
        assert!(
            text.contains("another process holds a lock on it: "),
            "{text}"
        );
        assert!(text.contains(&holder), "{text}");
        assert!(place.state() == before);
    }
}

#[test]
fn what_may_not_be_read_or_written() {
    let place = Place::new();
    let mode = |name: &str, mode| {
        fs::set_permissions(place.at(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(place.at("closed")).unwrap();
    mode("closed", 0o555);
    mode("gpt.raw", 0o444);
    fs::write(place.at("src/secret"), "x").unwrap();
    let user = |line: &str| {
        let mut command = unprivileged(&place.repart(line));
        command.current_dir(place.at(""));
        command
    };
    let refused = |line: &str, says: &str| place.check(&mut user(line), 1, says);
    let mut wrong = Vec::new();
    wrong.extend(refused(
        "--empty=create --size=auto closed/new.raw",
        "error: cannot create closed/new.raw: Permission denied (os error 13)",
    ));
    wrong.extend(refused(
        "--dry-run=no --size=4M gpt.raw",
        "error: cannot open gpt.raw: Permission denied (os error 13)",
    ));
    // Nobody but root could look at these to see whether they changed.
    if is_root() {
        mode("src/secret", 0);
        wrong.extend(refused(
            "--empty=create --size=auto new.raw",
            "error: making the squashfs file system of 10-x.conf: cannot read src/secret: Permission denied (os error 13)",
        ));
    }
    report(wrong);
}

#[test]
fn folders_without_definitions_are_mentioned() {
    let place = Place::new();
    fs::create_dir(place.at("hollow")).unwrap();
    for (folder, says) in [
        ("nowhere", "warning: --definitions=nowhere does not exist\n"),
        (
            "hollow",
            "warning: --definitions=hollow has no definition files (*.conf)\n",
        ),
    ] {
        let mut command = repart();
        command
            .args(["--empty=create", "--size=auto", "--pretty=no", SEED])
            .arg(format!("--definitions={folder}"))
            .arg("new.raw")
            .current_dir(place.at(""));
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), says);
        assert!(output.status.success(), "as systemd-repart");
        fs::remove_file(place.at("new.raw")).unwrap();
    }
}

#[test]
fn more_partitions_than_a_table_holds() {
    let place = Place::new();
    let names: Vec<String> = (0..129).map(|n| format!("{n:03}.conf")).collect();
    let keys = "Type=linux-generic\nSizeMaxBytes=4K\n";
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), keys)).collect();
    place.define(&files);
    report(Vec::from_iter(place.check(
        &mut place.repart("--empty=create --size=auto new.raw"),
        1,
        "error: new.raw: the partition table has 128 slots and all are used, so there is none for the linux-generic partition of $/repart.d/128.conf; remove a definition",
    )));
}

#[test]
fn an_fstab_that_is_there_stays() {
    let place = Place::new();
    place.define(&[(
        "10-x.conf",
        "Type=root\nFormat=squashfs\nCopyFiles=/\nMountPoint=/\n",
    )]);
    fs::write(place.at("src/fstab"), "mine\n").unwrap();
    let mut command = place.repart("--empty=create --size=auto --generate-fstab=/fstab new.raw");
    report(Vec::from_iter(place.check(&mut command, 1, "error: cannot write src/fstab: it exists already; pass --append-fstab=auto to add to it or --append-fstab=replace to replace it")));
}

#[test]
fn a_source_that_changes_while_it_is_copied() {
    let place = Place::new();
    let source = place.at("src/busy");
    fs::write(&source, vec![1; 48 << 20]).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::OpenOptions::new().append(true).open(&source).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                file.write_all(b"more").unwrap();
            }
        });
        let output = place.repart("--empty=create --size=auto new.raw").output();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        output.unwrap()
    });
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("src/busy changed while it was being copied; try again when nothing writes"),
        "{text}"
    );
    assert!(!place.at("new.raw").exists());
}

#[test]
fn a_file_system_that_is_full() {
    let place = Place::new();
    let line = place.repart("--empty=create --size=auto new.raw");
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$@\"", "sh"])
        .arg(line.get_program())
        .args(line.get_args())
        .env("SOURCE_DATE_EPOCH", "1750000000")
        .current_dir(place.at(""));
    report(Vec::from_iter(place.check(&mut command, 1, "error: resizing new.raw to 1M: cannot resize new.raw at byte 1069568: File too large (os error 27)")));
}

#[test]
fn a_run_that_is_killed_leaves_nothing() {
    let place = Place::new();
    fs::write(place.at("src/large"), vec![7; 24 << 20]).unwrap();
    let scratch = place.at("tmp");
    fs::create_dir(&scratch).unwrap();
    let build = || {
        let mut command = place.repart("--empty=create --size=auto new.raw");
        command.arg(SEED).env("TMPDIR", &scratch);
        command
    };
    let begin = std::time::Instant::now();
    run(&mut build());
    let whole_run = begin.elapsed();
    let whole = fs::read(place.at("new.raw")).unwrap();
    fs::remove_file(place.at("new.raw")).unwrap();
    let before = place.state();
    let mut killed = 0;
    for step in 0..24 {
        let mut child = build().spawn().unwrap();
        std::thread::sleep(whole_run * step / 20);
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
        match fs::read(place.at("new.raw")) {
            Ok(bytes) => assert!(bytes == whole, "a half-made image has the name"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
        drop(fs::remove_file(place.at("new.raw")));
        assert!(place.state() == before, "something was left behind");
    }
    assert!(killed > 5, "only {killed} runs were cut");
    println!("{killed} runs killed");
}

#[test]
fn broken_images_are_dissected_without_a_crash() {
    let place = Place::new();
    for case in hostile::tables() {
        fs::write(place.at("hostile.raw"), &case.bytes).unwrap();
        let mut command = ddi();
        command
            .args(["dissect", "hostile.raw"])
            .current_dir(place.at(""));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{}: {text}",
            case.name
        );
        assert!(!text.contains("panicked"), "{}: {text}", case.name);
    }
}
