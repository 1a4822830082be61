//! A TPM 2.0 in software for an emulated guest.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::process::{self, Group};

/// How long swtpm may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts one, new and empty, in `folder`. Returns it, as it ends with its value, and QEMU's
/// arguments for it.
pub(super) fn start(folder: &Path) -> (Group, [String; 6]) {
    let (state, socket) = (folder.join("tpm"), folder.join("tpm.socket"));
    std::fs::create_dir(&state).expect("make the TPM's folder");
    let mut swtpm = Command::new("swtpm");
    swtpm
        .args(["socket", "--tpm2", "--terminate", "--tpmstate"])
        .arg(format!("dir={}", state.display()))
        .arg("--ctrl")
        .arg(format!("type=unixio,path={}", socket.display()))
        .stdin(Stdio::null());
    let tpm = process::start(&mut swtpm).expect("start swtpm (package swtpm)");
    let started = Instant::now();
    while !socket.exists() {
        assert!(started.elapsed() < PATIENCE, "swtpm does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    let chardev = format!("socket,id=tpm,path={}", socket.display());
    let arguments = [
        "-chardev",
        &chardev,
        "-tpmdev",
        "emulator,id=tpm0,chardev=tpm",
        "-device",
        "tpm-tis,tpmdev=tpm0",
    ];
    (tpm, arguments.map(str::to_owned))
}
