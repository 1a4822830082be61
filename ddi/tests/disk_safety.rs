//! What keeps people from losing data: the choice of the disk, and what is refused.
#![allow(missing_docs)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{SEED, Scratch, ddi, repart, run};

fn fails(words: &[&str]) -> String {
    let scratch = Scratch::new();
    let definitions = scratch.definitions(&[("10-root.conf", "Type=root\n")]);
    let done = ddi()
        .arg("repart")
        .args(words)
        .arg(definitions)
        .output()
        .unwrap();
    let text = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{words:?}: {text}");
    assert_eq!(done.stdout, b"", "{words:?}");
    text
}

/// Whatever disks this machine has, none is that.
#[test]
fn a_disk_that_is_not_there_is_not_replaced_by_another() {
    for selector in [
        "serial=no such disk",
        "size>=8E",
        "bus=nvme,bus=usb",
        "path=/dev/null",
    ] {
        let text = fails(&[&format!("--disk={selector}"), "--empty=force"]);
        assert!(
            text.contains(&format!("no disk fits {selector:?}")),
            "{text}"
        );
        assert!(text.contains("WHY NOT"), "{text}");
    }
}

#[test]
fn selectors_that_make_no_sense_are_told() {
    for (words, expected) in [
        (&["--disk=color=red"][..], "\"color=red\" is no term"),
        (&["--disk="], "it is empty"),
        (&["--disk=bus=usb", "/dev/null"], "cannot be used with"),
        (
            &["--disk=bus=usb", "--disk=bus=ata"],
            "--disk= is given twice",
        ),
    ] {
        let text = fails(words);
        assert!(text.contains(expected), "{words:?}: {text}");
    }
}

/// An image of 32 MiB that another tool has given a table.
fn partitioned(image: &Path, script: &str) {
    File::create(image).unwrap().set_len(32 << 20).unwrap();
    let mut tool = Command::new("sfdisk")
        .arg("-q")
        .arg(image)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut tool.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(tool.wait().unwrap().success());
}

fn dump(image: &Path) -> String {
    run(Command::new("sfdisk").arg("-d").arg(image))
}

/// A boot record comes back with what it lists; a disk of the same size that is another one keeps what
/// it has, unless that is given up by name.
#[test]
fn a_table_is_put_back_only_where_it_was_kept() {
    let scratch = Scratch::new();
    let definitions = scratch.definitions(&[("10-root.conf", "Type=root\nSizeMaxBytes=10M\n")]);
    let (image, kept) = (scratch.path("image.raw"), scratch.path("kept"));
    partitioned(
        &image,
        "label: dos\nstart=1MiB, size=4MiB\nsize=4MiB, type=82\n",
    );
    let before = dump(&image);
    run(repart()
        .args(["--dry-run=no", "--empty=force", SEED])
        .arg(&definitions)
        .arg(&image)
        .arg(format!("--backup-table={}", kept.display())));
    assert_ne!(dump(&image), before);
    let restore = |image: &Path, dry: &str| {
        let mut command = repart();
        let file = format!("--restore={}", kept.display());
        command.args([&file, dry]).arg(image);
        command
    };
    let shown = run(&mut restore(&image, "--dry-run=yes"));
    assert!(shown.contains("swap"), "{shown}");
    run(&mut restore(&image, "--dry-run=no"));
    assert_eq!(dump(&image), before);

    let other = scratch.path("other.raw");
    for (script, at, magic, expected) in [
        (
            "label: dos\nstart=2MiB\n",
            510,
            &b"\x55\xaa"[..],
            "dos at byte 0",
        ),
        (
            "label: gpt\n",
            0,
            &[0; 512],
            "which is neither the one that was kept",
        ),
        (
            "label: dos\n",
            0,
            b"LUKS\xba\xbe\0\x02",
            "crypto_LUKS at byte 0",
        ),
    ] {
        partitioned(&other, script);
        let file = File::options().write(true).open(&other).unwrap();
        file.write_all_at(magic, at).unwrap();
        let bytes = fs::read(&other).unwrap();
        for dry in ["--dry-run=yes", "--dry-run=no"] {
            let done = restore(&other, dry).output().unwrap();
            let text = String::from_utf8(done.stderr).unwrap();
            assert_eq!(done.status.code(), Some(1), "{expected}: {text}");
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(fs::read(&other).unwrap() == bytes, "{expected}");
    }
    // What was given up by name may go.
    run(restore(&other, "--dry-run=no").arg("--overwrite=dos,crypto_LUKS"));
    assert_eq!(dump(&other), before.replace("image.raw", "other.raw"));
}
