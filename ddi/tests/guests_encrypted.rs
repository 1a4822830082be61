//! What was encrypted here, opened by cryptsetup and the kernel.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{SEED, partitions, plant, repart, run};
use testimages::guest::{Guest, SCRATCH};

const DEFINITIONS: [(&str, &str); 4] = [
    ("10.conf", "Type=root\nFormat=ext4\nMinimize=guess\n"),
    ("20.conf", "Type=usr\nFormat=squashfs\nMinimize=best\n"),
    (
        "30.conf",
        "Type=esp\nFormat=vfat\nSizeMinBytes=128M\nFileSystemSectorSize=512\n",
    ),
    (
        "40.conf",
        "Type=home\nFormat=btrfs\nSizeMinBytes=300M\nEncryptFreeSpace=yes\n",
    ),
];

/// The kernel mounts each file system through dm-crypt, and finds every file as it was.
#[test]
fn the_kernel_reads_what_was_encrypted() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(300)));
    let folder = Path::new(SCRATCH).join("room");
    fs::create_dir(&folder).unwrap();
    let path = |name: &str| folder.join(name);
    plant(&path("tree"));
    fs::create_dir(path("repart.d")).unwrap();
    for (name, keys) in DEFINITIONS {
        let text =
            format!("[Partition]\n{keys}CopyFiles=/usr:/\nEncrypt=key-file\nEncryptKDF=minimal\n");
        fs::write(path("repart.d").join(name), text).unwrap();
    }
    fs::write(path("key"), "secret").unwrap();
    let option = |name: &str, value: &str| format!("--{name}={}", path(value).display());
    let image = path("image");
    let built = partitions(
        repart()
            .args(["--empty=create", "--size=auto", SEED])
            .args([
                option("definitions", "repart.d"),
                option("copy-source", "tree"),
            ])
            .args([option("key-file", "key"), "--pretty=no".to_owned()])
            .arg(&image),
    );
    fs::create_dir(path("place")).unwrap();
    for partition in &built {
        open_and_compare(&folder, partition);
    }
}

fn open_and_compare(folder: &Path, partition: &serde_json::Value) {
    let path = |name: &str| folder.join(name);
    let kind = partition["type"].as_str().unwrap();
    let offset = format!("--offset={}", partition["offset"]);
    let size = format!("--sizelimit={}", partition["raw_size"]);
    let device = run(Command::new("losetup")
        .args(["--find", "--show", &offset, &size])
        .arg(path("image")));
    let device = device.trim();
    run(Command::new("cryptsetup")
        .args(["open", "--key-file"])
        .arg(path("key"))
        .args([device, "volume"]));
    run(Command::new("mount")
        .args(["-o", "ro", "/dev/mapper/volume"])
        .arg(path("place")));
    let mut compare = Command::new("diff");
    compare.args(["--recursive", "--no-dereference"]);
    compare.args(["--exclude=lost+found", "--exclude=pipe"]);
    compare.args([path("tree/usr"), path("place")]);
    let said = run(&mut compare);
    assert_eq!(said, "", "{kind}");
    run(Command::new("umount").arg(path("place")));
    run(Command::new("cryptsetup").args(["close", "volume"]));
    run(Command::new("losetup").args(["--detach", device]));
}
