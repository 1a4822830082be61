//! The units that veritytab, integritytab and the kernel's command line become: those that the generators
//! of systemd 262 wrote, as they are recorded in `units`. Where `DDI_PEER_ROOT` names a root with systemd,
//! its answers are asked for anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TABLES: [(&str, &str, &str); 2] = [
    ("verity", "SYSTEMD_VERITYTAB", include_str!("veritytab")),
    (
        "integrity",
        "SYSTEMD_INTEGRITYTAB",
        include_str!("integritytab"),
    ),
];
const RECORDED: &str = include_str!("units");

/// Command lines, whether they are an initrd's, and whether systemd has the same for them: it takes a file
/// for a device there.
const LINES: [(&str, bool, bool); 11] = [
    (
        "quiet roothash=ROOT usrhash=USR systemd.verity_usr_options=superblock=no",
        true,
        true,
    ),
    ("roothash=ROOT usrhash=USR", false, true),
    (
        "roothash=ROOT systemd.verity_root_data=/dev/x systemd.verity=0",
        true,
        true,
    ),
    ("roothash=ROOT rd.systemd.verity=0", true, true),
    ("roothash=ROOT rd.systemd.verity=0", false, true),
    (
        "roothash=ROOT systemd.verity_root_hash=PARTLABEL=y veritytab=0",
        true,
        true,
    ),
    (
        "usrhash=USR systemd.verity_usr_data=/dev/q%r systemd.verity_usr_hash=/dev/u",
        true,
        true,
    ),
    ("rd.roothash=ROOT", true, true),
    ("roothash=zz", true, true),
    ("systemd.verity_root_data=/dev/q", true, true),
    ("roothash=ROOT systemd.verity_root_data=/img/a", true, false),
];

/// Everything below a folder, as text.
fn dump(folder: &Path) -> String {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.symlink_metadata().unwrap().is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    let show = |path: &PathBuf| {
        let name = path.strip_prefix(folder).unwrap().display();
        match fs::read_link(path) {
            Ok(target) => format!("## {name} -> {}\n", target.display()),
            Err(_) => format!("## {name}\n{}", fs::read_to_string(path).unwrap()),
        }
    };
    found.iter().map(show).collect()
}

/// A folder with a table and places for units.
fn place(kind: &str, table: Option<&str>, parent: &Path) -> PathBuf {
    let folder = parent.join(format!("ddi-volumes-{kind}"));
    let _ = fs::remove_dir_all(&folder);
    for name in ["n", "e", "l"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    if let Some(text) = table {
        fs::write(folder.join("table"), text).unwrap();
    }
    folder
}

/// What a generator writes; `folder` is as it is seen from within `root`.
fn run(
    mut command: Command,
    (kind, variable): (&str, &str),
    (folder, root): (&Path, &Path),
    (line, initrd): (&str, bool),
) -> (Output, String) {
    let inner = Path::new("/").join(folder.strip_prefix(root).unwrap());
    let output = command
        .args(["n", "e", "l"].map(|name| inner.join(name)))
        .env(variable, inner.join("table"))
        .env("SYSTEMD_PROC_CMDLINE", line)
        .env("SYSTEMD_IN_INITRD", if initrd { "1" } else { "0" })
        .output()
        .unwrap();
    let source = inner.join("table").display().to_string();
    let text = dump(&folder.join("n")).replace(&source, &format!("/etc/{kind}tab"));
    (output, text)
}

fn ours(kind: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ddi"));
    command.arg(format!("{kind}setup-generator"));
    command
}

fn theirs(kind: &str, root: &Path) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root).arg(format!(
        "/usr/lib/systemd/system-generators/systemd-{kind}setup-generator"
    ));
    command
}

fn peer() -> Option<PathBuf> {
    std::env::var_os("DDI_PEER_ROOT").map(PathBuf::from)
}

#[test]
fn tables_become_the_units_of_systemd() {
    let scratch = tempfile::tempdir().unwrap();
    let mut all = String::new();
    for (kind, variable, table) in TABLES {
        let folder = place(kind, Some(table), scratch.path());
        let (output, text) = run(
            ours(kind),
            (kind, variable),
            (&folder, Path::new("/")),
            ("quiet", false),
        );
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(": the line has too few fields"), "{said}");
        if let Some(root) = peer() {
            let folder = place(kind, Some(table), &root.join("tmp"));
            let names = (kind, variable);
            let (_, other) = run(
                theirs(kind, &root),
                names,
                (&folder, &root),
                ("quiet", false),
            );
            assert_eq!(text, other);
        }
        all += &text;
    }
    assert_eq!(all, RECORDED);
}

#[test]
fn command_lines_become_the_units_of_systemd() {
    let scratch = tempfile::tempdir().unwrap();
    let names = ("verity", "SYSTEMD_VERITYTAB");
    let digits = |first: &str| format!("{first}{}", "00112233445566778899".repeat(3));
    for (line, initrd, same) in LINES {
        let line = line
            .replace("ROOT", &digits("0123"))
            .replace("USR", &digits("9876"));
        let folder = place("line", None, scratch.path());
        let (output, text) = run(
            ours("verity"),
            names,
            (&folder, Path::new("/")),
            (&line, initrd),
        );
        let good = !line.contains("zz") && line.contains("hash=");
        assert_eq!(output.status.success(), good, "{line}: {output:?}");
        let off = line.contains("verity=0") && initrd;
        assert_eq!(text.is_empty(), off || !good, "{line}: {text}");
        if let Some(root) = peer().filter(|_| same) {
            let folder = place("line", None, &root.join("tmp"));
            let (other, other_text) = run(
                theirs("verity", &root),
                names,
                (&folder, &root),
                (&line, initrd),
            );
            assert_eq!(text, other_text, "{line}");
            assert_eq!(output.status.success(), other.status.success(), "{line}");
        }
    }
}

#[test]
fn without_a_folder_units_are_shown() {
    let scratch = tempfile::tempdir().unwrap();
    let table = scratch.path().join("table");
    fs::write(&table, "v /dev/a /dev/b 00\n").unwrap();
    let output = ours("verity")
        .env("SYSTEMD_VERITYTAB", &table)
        .env("SYSTEMD_PROC_CMDLINE", "quiet")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("veritysetup.target.requires/systemd-veritysetup@v.service -> ../"),
        "{text}"
    );
    assert!(
        text.contains("systemd-veritysetup@v.service:\n# Automatically"),
        "{text}"
    );
}
