//! `ddi pick` answers as systemd-vpick 262.1 did: a table of its recorded answers.
//!
//! Where `DDI_PEER_ROOT` names a folder with that systemd (`make peer-test` does so), the table is held
//! against it as well.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image_specs::arch::Architecture;

const CASES: &str = include_str!("cases.txt");

/// A command line with its answer.
#[derive(Default)]
struct Case {
    arguments: Vec<String>,
    printed: String,
    exit: i32,
    /// The exit code of systemd-vpick, which prints nothing, where ours differs.
    peer_exit: Option<i32>,
}

#[test]
fn answers_are_those_of_systemd_vpick() {
    let folder = tempfile::tempdir().unwrap();
    make_tree(folder.path());
    for case in cases(folder.path()) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ddi"));
        command.arg0("systemd-vpick").current_dir(folder.path());
        let output = command.args(&case.arguments).output().unwrap();
        check(&case, &output, &case.printed, case.exit);
    }
    if let Some(root) = std::env::var_os("DDI_PEER_ROOT") {
        the_peer_answers_as_recorded(&root);
    }
}

fn the_peer_answers_as_recorded(root: &OsString) {
    let folder = tempfile::tempdir_in(Path::new(root).join("var/tmp")).unwrap();
    make_tree(folder.path());
    let tree = Path::new("/").join(folder.path().strip_prefix(root).unwrap());
    for case in cases(&tree) {
        let mut command = Command::new("chroot");
        command.arg(root).args(["env", "-C"]).arg(&tree);
        command.arg("systemd-vpick").args(&case.arguments);
        let output = command.output().unwrap();
        match case.peer_exit {
            Some(exit) => check(&case, &output, "", exit),
            None => check(&case, &output, &case.printed, case.exit),
        }
    }
}

fn check(case: &Case, output: &Output, printed: &str, exit: i32) {
    let found = String::from_utf8_lossy(&output.stdout);
    let message = String::from_utf8_lossy(&output.stderr);
    let arguments = &case.arguments;
    assert_eq!(found, printed, "{arguments:?}: {message}");
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {message}");
    assert_eq!(message.is_empty(), exit == 0, "{arguments:?}: {message}");
}

/// The lines of the table that say something, with the names of this machine and tree.
fn lines(tree: &Path) -> Vec<String> {
    let machine = rustix::system::uname();
    let machine = machine.machine().to_str().unwrap();
    let native = Architecture::from_uname(machine).unwrap().to_string();
    let tree = tree.to_str().unwrap();
    let lines = CASES
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.replace("NATIVE", &native).replace('@', tree))
        .collect()
}

fn make_tree(root: &Path) {
    let inside = |name: &str| -> PathBuf {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for line in lines(root) {
        if line.starts_with('$') {
            break;
        }
        match line.split_once(" -> ") {
            Some((name, target)) => symlink(target, inside(name)).unwrap(),
            None if line.ends_with('/') => fs::create_dir_all(inside(&line)).unwrap(),
            None => match line.strip_suffix('|') {
                Some(name) => {
                    let status = Command::new("mkfifo").arg(inside(name)).status();
                    assert!(status.unwrap().success());
                }
                None => fs::write(inside(&line), "").unwrap(),
            },
        }
    }
}

fn cases(tree: &Path) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in lines(tree) {
        if let Some(words) = line.strip_prefix("$ ") {
            let arguments = shell_words::split(words).unwrap();
            cases.push(Case {
                arguments,
                ..Case::default()
            });
            continue;
        }
        let Some(case) = cases.last_mut() else {
            continue;
        };
        match line.split_once(' ') {
            Some(("!", _)) => {}
            Some(("=", code)) => case.exit = code.parse().unwrap(),
            Some(("~", code)) => case.peer_exit = Some(code.parse().unwrap()),
            _ => case.printed += &format!("{line}\n"),
        }
    }
    assert!(cases.len() > 150, "only {} cases", cases.len());
    cases
}
