//! What keeps people from losing data: the choice of the disk, and what is refused.
#![allow(missing_docs)]

mod common;

use common::{Scratch, ddi};

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
