//! User Mode Linux on the host's own file tree.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::outcome::{Marks, Outcome};
use super::{Machine, disk, process, script};

/// What makes the kernel start in a third of the time: no 512 old terminals, and no contest of
/// RAID 6 algorithms, of which only RAID 6 within btrfs takes the winner.
const QUICKLY: [&str; 2] = ["pty.legacy_count=0", "initcall_blacklist=raid6_select_algo"];

/// Runs `command` in a new guest.
pub(super) fn run(machine: &Machine, command: &[&OsStr]) -> Outcome {
    let folder = tempfile::Builder::new()
        .prefix("ddi-uml-")
        .tempdir()
        .expect("a folder for the guest");
    let folder = folder.path();
    let word = folder.file_name().and_then(OsStr::to_str).unwrap_or("");
    let marks = Marks::new(word);
    prepare(folder, command, machine.limit, &marks);
    let expired = boot(folder, machine.limit).then_some(machine.limit);
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
    disk::make(&folder.join("disk"), &[]);
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
        .args(QUICKLY)
        .args(["con=null", "con0=fd:0,fd:1"])
        .arg(format!("init={}", within("init")))
        .arg(format!("ubd0={}", within("disk")))
        .arg(format!("uml_dir={}", within("uml")))
        .stdin(Stdio::null())
        .stdout(console)
        .stderr(errors);
    process::run(&mut kernel, limit).expect("start linux.uml (package user-mode-linux)")
}
