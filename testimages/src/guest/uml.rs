//! User Mode Linux on the host's own file tree.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::outcome::{Marks, Outcome};
use super::{process, script};

/// Room in the scratch file system; the file behind it is sparse.
const SCRATCH_BYTES: u64 = 8 << 30;

/// Runs `command` in a new guest.
pub(super) fn run(limit: Duration, command: &[&OsStr]) -> Outcome {
    let folder = tempfile::Builder::new()
        .prefix("ddi-uml-")
        .tempdir()
        .expect("a folder for the guest");
    let folder = folder.path();
    let word = folder.file_name().and_then(OsStr::to_str).unwrap_or("");
    let marks = Marks::new(word);
    prepare(folder, command, limit, &marks);
    let expired = boot(folder, limit).then_some(limit);
    let console = std::fs::read(folder.join("console")).expect("read the console");
    Outcome::read(&console, &marks, expired)
}

/// Writes what the guest starts from.
fn prepare(folder: &Path, command: &[&OsStr], limit: Duration, marks: &Marks) {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("write into the guest's folder");
        std::fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("set its mode");
    };
    write("init", include_str!("uml.sh"));
    write("command", &script::command("uml", command, limit, marks));
    // modprobe looks for lib/modules below the folder it is told.
    std::fs::create_dir(folder.join("lib")).expect("make lib");
    symlink("/usr/lib/uml/modules", folder.join("lib/modules")).expect("link the modules");
    let disk = folder.join("disk");
    File::create(&disk)
        .and_then(|file| file.set_len(SCRATCH_BYTES))
        .expect("make the scratch disk");
    let mkfs = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1"])
        .arg(&disk)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .status()
        .expect("start mkfs.ext4 (package e2fsprogs)");
    assert!(mkfs.success(), "mkfs.ext4: {mkfs}");
}

/// Boots and waits until it is over; returns whether the guest had to be killed. The kernel is a
/// group of processes that only such a kill ends as a whole.
fn boot(folder: &Path, limit: Duration) -> bool {
    let within = |name: &str| folder.join(name).display().to_string();
    let console = File::create(folder.join("console")).expect("make the console's file");
    let errors = console.try_clone().expect("share the console's file");
    let mut kernel = Command::new("linux.uml");
    kernel
        .args(["mem=2G", "root=/dev/root", "rootfstype=hostfs"])
        .args(["rootflags=/", "rw", "quiet", "oops=panic"])
        .args(["con=null", "con0=fd:0,fd:1"])
        .arg(format!("init={}", within("init")))
        .arg(format!("ubd0={}", within("disk")))
        .arg(format!("uml_dir={}", within("uml")))
        .stdin(Stdio::null())
        .stdout(console)
        .stderr(errors);
    process::run(&mut kernel, limit).expect("start linux.uml (package user-mode-linux)")
}
