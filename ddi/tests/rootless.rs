//! An ordinary user builds every file system, and neither mounts, nor loop devices, nor namespaces
//! are tried on the way.

mod common;

use std::fs;
use std::process::Command;

use common::{SEED, Scratch, repart, run, unprivileged};

/// What shows a build that leans on the kernel.
const FORBIDDEN: &[&str] = &[
    "mount(",
    "mount_setattr(",
    "move_mount(",
    "fsopen(",
    "fsmount(",
    "open_tree(",
    "umount(",
    "umount2(",
    "unshare(",
    "setns(",
    "pivot_root(",
    "chroot(",
    "CLONE_NEW",
    "/dev/loop",
    "/dev/mapper",
];

const TRACED: &str = "--trace=mount,mount_setattr,move_mount,fsopen,fsmount,open_tree,umount2,unshare,\
                      setns,pivot_root,chroot,clone,clone3,open,openat,openat2,execve";

/// libcryptsetup looks whether there is device-mapper, and does without.
fn is_look(line: &str) -> bool {
    line.contains("\"/dev/mapper/control\"") && line.contains(" = -1 E")
}

#[test]
fn nothing_is_asked_of_the_kernel_that_root_only_may() {
    let scratch = Scratch::new();
    let source = scratch.tree();
    let signing = scratch.signing();
    let mut files: Vec<(String, String)> = Vec::new();
    let mut number = 10;
    let mut add = |keys: &str| {
        files.push((format!("{number}.conf"), keys.to_owned()));
        number += 1;
    };
    add("Type=esp\nFormat=vfat\nCopyFiles=/usr/bin:/EFI\nSizeMinBytes=64M\nSizeMaxBytes=64M\n");
    add("Type=swap\nFormat=swap\nSizeMinBytes=1M\nSizeMaxBytes=1M\n");
    add(
        "Type=home\nFormat=ext4\nCopyFiles=/\nEncrypt=key-file\nEncryptKDF=minimal\nMinimize=guess\n",
    );
    for (format, kind) in [
        ("squashfs", "root"),
        ("erofs", "usr"),
        ("ext4", "root-arm64"),
    ] {
        let minimize = if format == "ext4" { "guess" } else { "best" };
        add(&format!(
            "Type={kind}\nFormat={format}\nCopyFiles=/\nVerity=data\nVerityMatchKey={format}\nMinimize={minimize}\n"
        ));
        let (stem, arch) = kind.split_once('-').map_or((kind, ""), |(a, b)| (a, b));
        let verity = match arch {
            "" => format!("{stem}-verity"),
            arch => format!("{stem}-{arch}-verity"),
        };
        add(&format!(
            "Type={verity}\nVerity=hash\nVerityMatchKey={format}\nMinimize=best\n"
        ));
        add(&format!(
            "Type={verity}-sig\nVerity=signature\nVerityMatchKey={format}\n"
        ));
    }
    let files: Vec<_> = files
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let definitions = scratch.definitions(&files);
    let mut build = repart();
    build
        .args(["--empty=create", "--size=auto", "--offline=yes", SEED])
        .args([&definitions, &source])
        .args(&signing)
        .arg(scratch.path("image.raw"));
    let log = scratch.path("strace.log");
    let build = unprivileged(&build);
    let mut traced = Command::new("strace");
    traced
        .args(["--follow-forks", "--quiet=all", TRACED, "-o"])
        .arg(&log)
        .arg(build.get_program())
        .args(build.get_args())
        .env("SOURCE_DATE_EPOCH", "1750000000");
    run(&mut traced);
    let log = fs::read_to_string(&log).unwrap();
    // The trace has seen the program and its files.
    assert!(log.contains("execve(") && log.contains("10.conf"));
    let wrong: Vec<&str> = log
        .lines()
        .filter(|line| FORBIDDEN.iter().any(|word| line.contains(word)) && !is_look(line))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} system calls seen", log.lines().count());
}
