//! The root folder of an emulated guest: programs of this machine with the libraries they need,
//! and modules of the guest's kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cpio::Archive;
use super::script::SYSTEM_PATH;

/// Folders that are symbolic links into `/usr`, on Debian and in the guest.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Where busybox's applets lie: found after real programs.
pub(super) const APPLETS: &str = "/applets";

/// A root folder with a shell, busybox's applets and modprobe.
pub(super) fn new() -> Archive {
    let mut root = Archive::default();
    for name in MERGED {
        root.folder(&format!("/usr/{name}"));
        root.link(&format!("/{name}"), &format!("usr/{name}"));
    }
    for name in ["dev", "proc", "sys", "run", "tmp", "var/tmp", "root", "etc"] {
        root.folder(&format!("/{name}"));
    }
    root.link("/etc/mtab", "/proc/self/mounts");
    root.file(
        "/etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\n".to_vec(),
    );
    root.file("/etc/group", 0o644, b"root:x:0:\n".to_vec());
    let busybox = find("busybox");
    copy(&mut root, &busybox);
    let target = placed(&busybox);
    for applet in run(Command::new(&busybox).arg("--list")).lines() {
        root.link(&format!("{APPLETS}/{applet}"), &target);
    }
    root.link("/usr/bin/sh", &target);
    let kmod = find("kmod");
    program(&mut root, &kmod);
    root.link("/usr/sbin/modprobe", &placed(&kmod));
    root
}

/// Adds what a test hands over: a program by name or path with the libraries it needs, a file, or a
/// folder with all that is in it.
pub(super) fn add(root: &mut Archive, what: &Path) {
    if what.is_dir() {
        let entries = fs::read_dir(what).unwrap_or_else(|error| fail("read", what, &error));
        root.folder(&placed(what));
        for entry in entries {
            let path = entry.unwrap_or_else(|error| fail("read", what, &error));
            add(root, &path.path());
        }
    } else if what.components().count() == 1 {
        program(root, &find(text(what)));
    } else {
        program(root, what);
    }
}

/// Adds the file `path` and, if it is a program, what `ldd` says it loads.
fn program(root: &mut Archive, path: &Path) {
    copy(root, path);
    let executable = fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"));
    if executable {
        // It fails for programs that load nothing.
        let ldd = Command::new("ldd").arg(path).output().expect("start ldd");
        for word in String::from_utf8_lossy(&ldd.stdout).split_whitespace() {
            if word.starts_with('/') && !root.has(&placed(Path::new(word))) {
                copy(root, Path::new(word));
            }
        }
    }
}

/// Adds the modules `names` of the kernel unpacked at `kernel`, and those they need.
pub(super) fn modules(root: &mut Archive, kernel: &Path, version: &str, names: &[&str]) {
    let mut modprobe = Command::new("modprobe");
    modprobe
        .env("PATH", SYSTEM_PATH)
        .arg("--dirname")
        .arg(kernel)
        .args(["--set-version", version, "--show-depends", "--all"])
        .args(names);
    let shown = run(&mut modprobe);
    let files = shown
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "));
    for path in files.map(|line| Path::new(line.trim())) {
        let inner = path
            .strip_prefix(kernel)
            .expect("a path in the kernel's folder");
        let bytes = fs::read(path).unwrap_or_else(|error| fail("read", path, &error));
        root.file(&placed(&Path::new("/").join(inner)), 0o644, bytes);
    }
    let folder = kernel.join("lib/modules").join(version);
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| fail("read", &folder, &error)) {
        let path = entry
            .unwrap_or_else(|error| fail("read", &folder, &error))
            .path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap_or_else(|error| fail("read", &path, &error));
            let name = text(Path::new(path.file_name().unwrap_or_default()));
            root.file(&format!("/usr/lib/modules/{version}/{name}"), 0o644, bytes);
        }
    }
}

fn copy(root: &mut Archive, path: &Path) {
    let bytes = fs::read(path).unwrap_or_else(|error| fail("read", path, &error));
    let mode = fs::metadata(path).map_or(0o644, |metadata| metadata.permissions().mode());
    root.file(&placed(path), mode & 0o777, bytes);
}

/// Where `path` lies in the guest: the same, but not below a link into `/usr`.
fn placed(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|error| fail("find", path, &error));
    let below = text(&absolute).trim_start_matches('/');
    let first = below.split('/').next().unwrap_or("");
    if MERGED.contains(&first) {
        format!("/usr/{below}")
    } else {
        format!("/{below}")
    }
}

/// The program `name` in the folders where packages put programs, or in `PATH`.
fn find(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    SYSTEM_PATH
        .split(':')
        .chain(path.split(':'))
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not here: see the packages in scripts/setup"))
}

/// What `command` prints; it has to succeed.
pub(super) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths for a guest are UTF-8")
}

fn fail(what: &str, path: &Path, error: &std::io::Error) -> ! {
    panic!("{what} {}: {error}", path.display())
}
