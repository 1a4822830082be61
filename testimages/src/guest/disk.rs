//! The scratch file system of a guest.

use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Room in it; the file behind it is sparse.
const BYTES: u64 = 8 << 30;

/// Makes it as the new file `path`, ext4 with these options of mkfs.ext4.
pub(super) fn make(path: &Path, options: &[&str]) {
    File::create(path)
        .and_then(|file| file.set_len(BYTES))
        .expect("make the scratch disk");
    let mkfs = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1"])
        .args(options)
        .arg(path)
        .env("PATH", super::script::SYSTEM_PATH)
        .status()
        .expect("start mkfs.ext4 (package e2fsprogs)");
    assert!(mkfs.success(), "mkfs.ext4: {mkfs}");
}
