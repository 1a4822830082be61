//! Every file system that repart makes passes its own checker and holds the tree it was made from.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{SEED, Scratch, cut, is_root, partitions, repart, run, unprivileged};

/// How much of the source comes back when a file system is extracted here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fidelity {
    /// Owners, modes, times, links, xattrs, data.
    Full,
    /// Names and data.
    Data,
}

#[test]
fn vfat() {
    round_trip(
        "vfat",
        "esp",
        "SizeMinBytes=64M\nSizeMaxBytes=64M\n",
        "fsck.vfat -n",
    );
}

#[test]
fn squashfs() {
    round_trip("squashfs", "root", "Minimize=best\n", "unsquashfs -s");
}

#[test]
fn erofs() {
    round_trip("erofs", "root", "Minimize=best\n", "fsck.erofs");
}

#[test]
fn ext4() {
    round_trip("ext4", "root", "Minimize=guess\n", "e2fsck -fn");
}

#[test]
fn btrfs() {
    round_trip(
        "btrfs",
        "root",
        "SizeMinBytes=300M\nSizeMaxBytes=300M\n",
        "btrfs check",
    );
}

#[test]
fn xfs() {
    round_trip(
        "xfs",
        "root",
        "SizeMinBytes=400M\nSizeMaxBytes=400M\n",
        "xfs_repair -n -f",
    );
}

#[test]
fn swap() {
    let scratch = Scratch::new();
    let definitions =
        scratch.definitions(&[("10-swap.conf", "Type=swap\nSizeMaxBytes=16M\nLabel=page\n")]);
    let image = scratch.path("image.raw");
    let built = partitions(
        unprivileged(
            repart()
                .args(["--empty=create", "--size=auto", SEED, &definitions])
                .arg(&image),
        )
        .arg("--offline=yes"),
    );
    let part = scratch.path("part");
    cut(&image, &built[0], &part);
    let shown = run(Command::new("blkid").arg("-p").arg(&part));
    assert!(
        shown.contains("TYPE=\"swap\"") && shown.contains("LABEL=\"page\""),
        "{shown}"
    );
    assert!(
        shown.contains("UUID=\"dab19906-d93f-471c-9ccf-d761df1da04b\""),
        "{shown}"
    );
}

fn round_trip(format: &str, kind: &str, size: &str, checker: &str) {
    let scratch = Scratch::new();
    let source = scratch.tree();
    let keys = format!("Type={kind}\nFormat={format}\nCopyFiles=/\nAddValidateFS=no\n{size}");
    let definitions = scratch.definitions(&[("10-part.conf", &keys)]);
    let image = scratch.path("image.raw");
    let mut build = repart();
    build
        .args([
            "--empty=create",
            "--size=auto",
            "--offline=yes",
            SEED,
            &definitions,
            &source,
        ])
        .arg(&image);
    let built = partitions(&mut unprivileged(&build));
    run(Command::new("sfdisk").arg("--verify").arg(&image));

    let part = scratch.path("part");
    cut(&image, &built[0], &part);
    let words: Vec<&str> = checker.split(' ').collect();
    run(Command::new(words[0]).args(&words[1..]).arg(&part));

    let out = scratch.path("out");
    if let Some(fidelity) = extract(format, &part, &out) {
        assert_same(&scratch.path("tree"), &out, fidelity);
    }
    drop(Command::new("umount").arg("-q").arg(&out).status());
}

/// Unpacks a file system with the real tools; by the kernel, which tells most, where it can be asked.
fn extract(format: &str, part: &Path, out: &Path) -> Option<Fidelity> {
    Some(match format {
        "vfat" => {
            fs::create_dir(out).unwrap();
            run(Command::new("mcopy")
                .args(["-s", "-n", "-m", "-Q", "-i"])
                .arg(part)
                .arg("::*")
                .arg(out));
            Fidelity::Data
        }
        "squashfs" => {
            run(Command::new("unsquashfs")
                .args(["-no-progress", "-d"])
                .arg(out)
                .arg(part));
            // An ordinary user's unsquashfs clears set-user-ID bits.
            if is_root() {
                Fidelity::Full
            } else {
                Fidelity::Data
            }
        }
        _ if is_root() && mounts(format) => {
            fs::create_dir(out).unwrap();
            run(Command::new("mount")
                .args(["-o", "loop,ro"])
                .arg(part)
                .arg(out));
            Fidelity::Full
        }
        "erofs" => {
            run(Command::new("fsck.erofs")
                .arg(format!("--extract={}", out.display()))
                .arg(part));
            // erofs-utils 1.5 cannot extract files with holes: that one is compared where the kernel
            // can be asked, and left out here.
            let source = part.with_file_name("tree").join("usr/lib/holes");
            fs::copy(source, out.join("usr/lib/holes")).unwrap();
            Fidelity::Data
        }
        "ext4" => {
            fs::create_dir(out).unwrap();
            run(Command::new("debugfs")
                .arg("-R")
                .arg(format!("rdump / {}", out.display()))
                .arg(part));
            Fidelity::Data
        }
        "btrfs" => {
            fs::create_dir(out).unwrap();
            run(Command::new("btrfs")
                .args(["restore", "-S"])
                .arg(part)
                .arg(out));
            Fidelity::Data
        }
        _ => {
            eprintln!("{format} was checked, but only the kernel can read its files: not compared");
            return None;
        }
    })
}

/// Whether this machine's kernel has loop devices and the file system.
fn mounts(format: &str) -> bool {
    let free = Command::new("losetup").arg("--find").output().unwrap();
    drop(Command::new("modprobe").args(["-q", format]).status());
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    free.status.success()
        && known
            .lines()
            .any(|line| line.ends_with(&format!("\t{format}")))
}

/// Compares two folders by the words of find, sha256sum and getfattr.
fn assert_same(source: &Path, found: &Path, fidelity: Fidelity) {
    let (expected, found) = (describe(source, fidelity), describe(found, fidelity));
    for (expected, found) in expected.lines().zip(found.lines()) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected.lines().count(), found.lines().count());
}

fn describe(root: &Path, fidelity: Fidelity) -> String {
    let script = match fidelity {
        // A directory's size and link count are the file system's own business.
        Fidelity::Full => {
            "find . -path ./lost+found -prune -o -type d -printf '%P d %m %U %G %T@\\n' \
             -o -printf '%P %y %m %U %G %s %n %T@ %l\\n' | sort; \
             find . -type f | sort | xargs -d '\\n' sha256sum; getfattr -R -h -d -m - . | sort"
        }
        Fidelity::Data => {
            "find . -path ./lost+found -prune -o -type d -printf '%P d\\n' -o -type f -printf '%P f %s\\n' | sort; \
             find . -type f | sort | xargs -d '\\n' sha256sum"
        }
    };
    run(Command::new("sh")
        .arg("-c")
        .arg(script)
        .env("LC_ALL", "C")
        .current_dir(root))
}

/// squashfs has no place for ACLs: they are left out, as mksquashfs does, but not without a word.
#[test]
fn acls_that_squashfs_cannot_hold_are_mentioned() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("tree")).unwrap();
    fs::write(scratch.path("tree/file"), b"x").unwrap();
    run(Command::new("setfacl")
        .args(["-m", "u:1:r"])
        .arg(scratch.path("tree/file")));
    let definitions = scratch.definitions(&[(
        "10-root.conf",
        "Type=root\nFormat=squashfs\nCopyFiles=/\nMinimize=best\n",
    )]);
    let source = format!("--copy-source={}", scratch.path("tree").display());
    let output = repart()
        .args(["--empty=create", "--size=auto", SEED, &definitions, &source])
        .arg(scratch.path("image.raw"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("leaving out ACLs"), "{said}");
}
