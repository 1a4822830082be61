//! An ordinary user reads the files of images, and sees what root sees who mounts them. Nothing is
//! asked of the kernel on the way that only root may.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Scratch, ddi, fails, plant, run, unprivileged};
use testimages::guest::SCRATCH;

/// Calls and names that show a reader that leans on the kernel.
const FORBIDDEN: &[&str] = &[
    "mount(",
    "mount_setattr(",
    "move_mount(",
    "fsopen(",
    "fsmount(",
    "open_tree(",
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

/// The definitions of an image with several partitions: root verified, home, ESP.
const SEVERAL: &[(&str, &str)] = &[
    (
        "10.conf",
        "Type=root\nFormat=squashfs\nCopyFiles=/\nVerity=data\nVerityMatchKey=a\nMinimize=best\n\
         MakeDirectories=/home /efi\n",
    ),
    (
        "20.conf",
        "Type=root-verity\nVerity=hash\nVerityMatchKey=a\nMinimize=best\n",
    ),
    (
        "30.conf",
        "Type=home\nFormat=ext4\nCopyFiles=/usr:/someone\nSizeMinBytes=64M\nSizeMaxBytes=64M\n",
    ),
    (
        "40.conf",
        "Type=esp\nFormat=vfat\nCopyFiles=/usr/lib/deep:/EFI\nSizeMinBytes=64M\nSizeMaxBytes=64M\n",
    ),
];

fn words(program: &str, arguments: &[&str]) -> String {
    run(Command::new(program).args(arguments))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// One command of `ddi dissect`, run by an ordinary user.
fn dissect(arguments: &[&str]) -> Command {
    let mut command = ddi();
    command.arg("dissect").args(arguments);
    unprivileged(&command)
}

/// The same as root.
fn as_root(arguments: &[&str]) -> Command {
    let mut command = ddi();
    command.arg("dissect").args(arguments);
    command
}

/// Images of one file system each.
fn bare(scratch: &Scratch, tree: &Path) -> Vec<PathBuf> {
    let made = |name: &str| scratch.path(name);
    let (ext4, squashfs, erofs) = (made("ext4.raw"), made("squashfs.raw"), made("erofs.raw"));
    fs::File::create(&ext4).unwrap().set_len(64 << 20).unwrap();
    words("mkfs.ext4", &["-q", "-d", text(tree), text(&ext4)]);
    words(
        "mksquashfs",
        &[text(tree), text(&squashfs), "-quiet", "-no-progress"],
    );
    words("mkfs.erofs", &["-zlz4", text(&erofs), text(tree)]);
    let vfat = made("vfat.raw");
    fs::File::create(&vfat).unwrap().set_len(64 << 20).unwrap();
    words("mkfs.vfat", &[text(&vfat)]);
    let usr = tree.join("usr/lib/deep");
    words(
        "mcopy",
        &["-s", "-m", "-i", text(&vfat), text(&usr), "::/Deep Folder"],
    );
    vec![ext4, squashfs, erofs, vfat]
}

/// Mounts a file system that begins at `offset` of an image.
fn mount(image: &Path, offset: u64, size: u64, kind: &str, options: &str, at: &Path) {
    fs::create_dir_all(at).unwrap();
    let options = format!("ro,loop,offset={offset},sizelimit={size}{options}");
    words(
        "mount",
        &["-t", kind, "-o", &options, text(image), text(at)],
    );
}

/// What a mounted file system holds, read through the kernel.
fn mtree(path: &Path) -> String {
    run(&mut as_root(&["--mtree", text(path)]))
}

/// Everything that can be asked of an image, against what is mounted at `mounted`.
fn compare(scratch: &Scratch, image: &Path, mounted: &Path) {
    let expected = mtree(mounted);
    assert!(expected.lines().count() > 3, "{expected}");
    let found = run(&mut dissect(&["--mtree", text(image)]));
    assert_eq!(found, expected, "{}", image.display());
    let listed = run(&mut dissect(&["--list", text(image)]));
    assert_eq!(listed, run(&mut as_root(&["--list", text(mounted)])));

    // By tar, as root, so that owners can be given.
    let archive = scratch.path("archive.tar.gz");
    drop(fs::remove_file(&archive));
    run(&mut as_root(&[
        "--make-archive",
        text(image),
        text(&archive),
    ]));
    let unpacked = scratch.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let options = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf"];
    words(
        "tar",
        &[&["-C", text(&unpacked)][..], &options, &[text(&archive)]].concat(),
    );
    assert_eq!(mtree(&unpacked), expected, "{}", image.display());
    fs::remove_dir_all(&unpacked).unwrap();

    let copied = scratch.path("copied");
    run(&mut as_root(&[
        "--copy-from",
        text(image),
        "/",
        text(&copied),
    ]));
    assert_eq!(mtree(&copied), expected, "{}", image.display());
    fs::remove_dir_all(&copied).unwrap();

    // Somebody else owns what an ordinary user copies, and devices are root's to make.
    let mut copy = dissect(&["--copy-from", text(image), "/", text(&copied)]);
    if expected.contains(" type=char ") {
        let says = fails(&mut copy, 1);
        assert!(says.contains("/null: Operation not permitted"), "{says}");
        assert_eq!(says.lines().count(), 1, "{says}");
    } else {
        run(&mut copy);
    }
    let own = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains(" type=char "));
        let mut own = String::new();
        for line in lines {
            let words = line
                .split(' ')
                .filter(|word| !word.starts_with("uid=") && !word.starts_with("gid="));
            own.extend(words.chain(["\n"]));
        }
        own
    };
    assert_eq!(own(&mtree(&copied)), own(&expected));
    fs::remove_dir_all(&copied).unwrap();
}

#[test]
fn an_ordinary_user_sees_what_root_mounts() {
    testimages::in_guest!(Uml);
    let scratch = Scratch::within(SCRATCH);
    let tree = scratch.path("tree");
    plant(&tree);
    words("chown", &["-R", "7:8", text(&tree.join("opt"))]);
    words("mknod", &[text(&tree.join("null")), "c", "1", "3"]);
    let mounted = scratch.path("mounted");
    for image in bare(&scratch, &tree) {
        let kind = image.file_stem().unwrap().to_str().unwrap();
        let size = fs::metadata(&image).unwrap().len();
        let options = match kind {
            "ext4" => ",norecovery",
            "vfat" => ",utf8,tz=UTC",
            _ => "",
        };
        mount(&image, 0, size, kind, options, &mounted);
        compare(&scratch, &image, &mounted);
        words("umount", &[text(&mounted)]);
    }
}

#[test]
fn the_file_systems_of_an_image_are_where_systemd_mounts_them() {
    testimages::in_guest!(Uml);
    let scratch = Scratch::within(SCRATCH);
    let tree = scratch.path("tree");
    plant(&tree);
    let definitions = scratch.definitions(SEVERAL);
    let image = scratch.path("image.raw");
    let mut build = common::repart();
    build.args([
        "--empty=create",
        "--size=auto",
        "--offline=yes",
        common::SEED,
        "--json=short",
    ]);
    build
        .args([definitions, format!("--copy-source={}", tree.display())])
        .arg(&image);
    let partitions = run(&mut build);
    let partitions: Vec<serde_json::Value> = serde_json::from_str(&partitions).unwrap();
    let place = |kind: &str| {
        let found = partitions
            .iter()
            .find(|one| one["type"].as_str().unwrap().starts_with(kind));
        let number = |key: &str| found.unwrap()[key].as_u64().unwrap();
        (number("offset"), number("raw_size"))
    };
    let mounted = scratch.path("mounted");
    for (kind, format, options, at) in [
        ("root-", "squashfs", "", ""),
        ("home", "ext4", ",norecovery", "home"),
        ("esp", "vfat", ",utf8,tz=UTC,fmask=0177,dmask=0077", "efi"),
    ] {
        let (offset, size) = place(kind);
        mount(&image, offset, size, format, options, &mounted.join(at));
    }
    compare(&scratch, &image, &mounted);
    words("umount", &["-R", text(&mounted)]);

    // One byte of data in the middle of the file system is not what its root hash stands for.
    let (offset, size) = place("root-");
    let mut bytes = fs::read(&image).unwrap();
    let middle = usize::try_from(offset + size / 2).unwrap();
    bytes[middle] ^= 1;
    fs::write(&image, &bytes).unwrap();
    let says = fails(&mut dissect(&["--mtree", text(&image)]), 1);
    assert!(says.contains(" is corrupted"), "{says}");
    run(&mut dissect(&[
        "--list",
        "--image-policy=root=unprotected:=open",
        text(&image),
    ]));
}

#[test]
fn nothing_is_asked_of_the_kernel_that_root_only_may() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    plant(&tree);
    for image in bare(&scratch, &tree) {
        for command in [
            "--list",
            "--mtree",
            "--copy-from",
            "--make-archive",
            "--validate",
        ] {
            let log = scratch.path("strace.log");
            let copied = scratch.path("copied");
            let mut arguments = vec![command, text(&image)];
            if command == "--copy-from" {
                arguments.extend(["/", text(&copied)]);
            }
            let inner = dissect(&arguments);
            let mut traced = Command::new("strace");
            traced
                .args(["--follow-forks", "--quiet=all", TRACED, "-o"])
                .arg(&log);
            traced.arg(inner.get_program()).args(inner.get_args());
            run(&mut traced);
            drop(fs::remove_dir_all(&copied));
            let log = fs::read_to_string(&log).unwrap();
            assert!(log.contains("execve(") && log.contains(text(&image)));
            let mut wrong = log.lines();
            let wrong = wrong.find(|line| FORBIDDEN.iter().any(|word| line.contains(word)));
            assert_eq!(wrong, None, "{command} {}", image.display());
        }
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    plant(&tree);
    let image = scratch.path("image.raw");
    words(
        "mksquashfs",
        &[text(&tree), text(&image), "-quiet", "-no-progress"],
    );
    let there = scratch.path("there");
    fs::write(&there, "").unwrap();
    let (image, there) = (text(&image), text(&there));
    let cat = |path| run(&mut dissect(&["--cat", image, path]));
    for path in [
        "/usr/lib/os-release",
        "etc/os-release",
        "/etc/../etc/../../etc/os-release",
    ] {
        assert_eq!(cat(path), "ID=test\nVERSION_ID=1\n", "{path}");
    }
    for (arguments, says) in [
        (
            &["--cat", image, "/usr"][..],
            "/usr in the image is a directory, not a regular file",
        ),
        (
            &["--cat", image, "/nowhere"],
            "there is no /nowhere in the image",
        ),
        (
            &["--cat", image, "/usr/bin/tool/x"],
            "/usr/bin/tool in the image is no directory",
        ),
        (
            &["--copy-from", image, "/usr/lib/pipe", "x"],
            "is a named pipe, not a regular file",
        ),
        (
            &["--copy-from", image, "/usr"],
            "/usr in the image is a directory, not a regular file",
        ),
        (
            &["--copy-from", image, "/usr/bin/tool", there],
            "cannot create ",
        ),
        (
            &["--copy-from", image, "/usr", there],
            " exists and is no directory",
        ),
        (
            &["--make-archive", image, "a.zip"],
            "is not the name of an archive",
        ),
        (&["--list", "/nowhere.raw"], "cannot open /nowhere.raw"),
        (&["--list", image, image], "is one argument too many"),
        (&["--cat", image], "--cat needs more arguments"),
        (&["--shift", image, "7"], "7 is not a multiple of 65536"),
        (&["--shift", image, "0"], "needs the kernel, and so root"),
        (
            &["--list", "/etc/passwd"],
            "no partition table and no file system",
        ),
    ] {
        let found = fails(&mut dissect(arguments), 1);
        assert!(found.contains(says), "{arguments:?}: {found}");
    }
}

#[test]
fn images_are_compared() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    plant(&tree);
    let make = |name: &str| {
        let image = scratch.path(name);
        words(
            "mksquashfs",
            &[text(&tree), text(&image), "-quiet", "-no-progress"],
        );
        image
    };
    let old = make("old.raw");
    fs::remove_file(tree.join("usr/bin/empty")).unwrap();
    fs::write(tree.join("etc/new"), "new").unwrap();
    fs::write(tree.join("usr/lib/os-release"), "ID=test\nVERSION_ID=2\n").unwrap();
    let new = make("new.raw");
    let (old, new) = (text(&old), text(&new));
    assert_eq!(run(&mut dissect(&["diff", old, old])), "");
    let output = dissect(&["diff", old, new]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let found = String::from_utf8(output.stdout).unwrap();
    for line in [
        "usr/lib/os-release VERSION_ID: 1 -> 2",
        "+ /etc/new",
        "- /usr/bin/empty",
    ] {
        assert!(found.lines().any(|one| one == line), "{line}:\n{found}");
    }
    let output = dissect(&["diff", "--json=short", old, new])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let files = json["files"].as_array().unwrap();
    let changed = |path: &str| {
        let found = files.iter().find(|file| file["path"] == path).unwrap();
        (found["change"].as_str().unwrap(), found["what"].to_string())
    };
    assert_eq!(changed("/etc/new"), ("added", "[]".to_owned()));
    let (change, what) = changed("/usr/lib/os-release");
    assert_eq!(change, "changed");
    assert!(what.contains("\"data\""), "{what}");
    // A directory is compared by its files alone.
    let extracted = scratch.path("extracted");
    run(&mut as_root(&["--copy-from", new, "/", text(&extracted)]));
    assert_eq!(run(&mut as_root(&["diff", new, text(&extracted)])), "");
}

#[test]
fn the_newest_of_several_versions_is_read() {
    let scratch = Scratch::new();
    let versions = scratch.path("os.raw.v");
    fs::create_dir(&versions).unwrap();
    for version in ["9", "10"] {
        let tree = scratch.path(version);
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("version"), version).unwrap();
        let image = versions.join(format!("os_{version}.raw"));
        words(
            "mksquashfs",
            &[text(&tree), text(&image), "-quiet", "-no-progress"],
        );
    }
    assert_eq!(
        run(&mut dissect(&["--cat", text(&versions), "version"])),
        "10"
    );
    let picked = scratch.path("os.raw.v/os___.raw");
    assert_eq!(
        run(&mut dissect(&["--cat", text(&picked), "version"])),
        "10"
    );
    let none = scratch.path("none.raw.v");
    fs::create_dir(&none).unwrap();
    let says = fails(&mut dissect(&["--list", text(&none)]), 1);
    assert!(
        says.contains("there is no version of an image in"),
        "{says}"
    );
}

#[test]
fn owners_in_an_image_are_shifted_and_shifted_again() {
    testimages::in_guest!(Uml);
    let scratch = Scratch::within(SCRATCH);
    let tree = scratch.path("tree");
    plant(&tree);
    words("chown", &["-R", "7:8", text(&tree.join("opt"))]);
    let image = scratch.path("ext4.raw");
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    words("mkfs.ext4", &["-q", "-d", text(&tree), text(&image)]);
    let before = run(&mut dissect(&["--mtree", text(&image)]));
    run(&mut as_root(&["--shift", text(&image), "524288"]));
    let shifted = run(&mut dissect(&["--mtree", text(&image)]));
    assert!(shifted.contains("./opt/ type=dir mode=0755 uid=524295 gid=524296"));
    assert!(!shifted.contains("uid=0 "), "{shifted}");
    run(&mut as_root(&["--shift", text(&image), "0"]));
    assert_eq!(run(&mut dissect(&["--mtree", text(&image)])), before);
}
