//! What this machine's own kernel can show, as root, in a mount namespace of the test's own.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use blockdev::dm::DeviceMapper;
use blockdev::loopdev;
use blockdev::mount::in_own_namespace;

use super::common::{Scratch, fails, is_root, run, unprivileged};
use super::{Room, SIGNED, dissect, is_free, mount, text, umount};

/// Partitions with every file system that mounts everywhere.
const FULL: [&str; 5] = [
    "Type=root\nFormat=ext4\nCopyFiles=/\nSizeMinBytes=48M\n",
    "Type=home\nFormat=btrfs\nSizeMinBytes=128M\nSizeMaxBytes=128M\n",
    "Type=srv\nFormat=xfs\nSizeMinBytes=320M\nSizeMaxBytes=320M\n",
    "Type=tmp\nFormat=ext4\nSizeMinBytes=16M\nSizeMaxBytes=16M\n",
    "Type=var\nFormat=ext4\nMakeDirectories=/tmp\nSizeMinBytes=16M\nSizeMaxBytes=16M\n",
];

#[test]
fn ordinary_users_are_told_what_they_can_do() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    fs::write(&image, [0; 4096]).unwrap();
    let image = image.to_str().unwrap();
    for words in [
        &["--mount", image, "/mnt"][..],
        &["--umount", "/mnt"],
        &["--attach", image],
        &["--detach", image],
        &["--with", image, "true"],
        &["--copy-to", image, "/etc/hostname", "/x"],
    ] {
        let said = fails(&mut unprivileged(&dissect(words)), 1);
        assert!(
            said.contains("needs the kernel, and so root"),
            "{words:?}: {said}"
        );
        assert!(said.contains("--list"), "{words:?}: {said}");
    }
}

#[test]
fn partitions_are_mounted_in_order_and_with_their_flags() {
    if !is_root() {
        return; // see ordinary_users_are_told_what_they_can_do
    }
    let scratch = Scratch::new();
    let room = Room::new(&scratch.path(""));
    let full = room.image("full", &FULL, &[]);
    let usr = room.image(
        "usr",
        &["Type=usr\nFormat=erofs\nCopyFiles=/usr:/\nMinimize=best\n"],
        &[],
    );
    in_own_namespace(|| {
        run(&mut mount(&[], &full, &room.place()));
        assert_eq!(
            room.shown(),
            [
                "/ ext4 rw,nodev",
                "/home btrfs rw,nodev",
                "/srv xfs rw,nodev",
                "/var ext4 rw,nodev",
                "/var/tmp ext4 rw,nosuid,nodev",
            ]
        );
        let discards = |entry: &blockdev::mountinfo::MountEntry| {
            entry.super_options.split(',').any(|word| word == "discard")
        };
        assert!(room.mounts().iter().all(discards));
        fs::write(room.place().join("srv/new"), "new").unwrap();
        run(&mut umount(&room.place()));
        assert!(room.mounts().is_empty() && is_free(&full));

        run(&mut mount(&["-r"], &full, &room.place()));
        assert_eq!(
            room.shown(),
            [
                "/ ext4 ro,nodev",
                "/home btrfs ro,nodev",
                "/srv xfs ro,nodev",
                "/var ext4 ro,nodev",
                "/var/tmp ext4 ro,nosuid,nodev",
            ]
        );
        assert!(room.mounts()[2].super_options.contains("norecovery"));
        assert_eq!(
            fs::read_to_string(room.place().join("srv/new")).unwrap(),
            "new"
        );
        run(&mut umount(&room.place()));

        run(&mut mount(&[], &usr, &room.place()));
        assert_eq!(room.shown(), ["/ tmpfs rw,nodev", "/usr erofs ro,nodev"]);
        assert_eq!(fs::metadata(room.place()).unwrap().mode() & 0o7777, 0o755);
        run(&mut umount(&room.place()));
        assert!(is_free(&usr));
    })
    .unwrap();
}

#[test]
fn directories_are_made_and_removed_as_asked() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let room = Room::new(&scratch.path(""));
    let image = room.image(
        "root",
        &["Type=root\nFormat=squashfs\nCopyFiles=/\nMinimize=best\n"],
        &[],
    );
    let new = room.path("new/place");
    in_own_namespace(|| {
        let said = fails(&mut mount(&[], &image, &new), 1);
        assert!(said.contains("pass --mkdir"), "{said}");
        run(dissect(&["-M"]).arg(&image).arg(&new));
        assert!(new.join("usr/bin/tool").exists());
        run(dissect(&["-U"]).arg(&new));
        assert!(!new.exists());
        let said = fails(&mut umount(&room.place()), 1);
        assert!(said.contains("is not a mount point"), "{said}");
        let known = run(&mut dissect(&["--discard=list"]));
        assert_eq!(known, "disabled\nall\ncrypt\nloop\n");
        assert!(is_free(&image));
        run(&mut mount(&["--in-memory"], &image, &room.place()));
        assert!(is_free(&image), "the copy is mounted");
        run(&mut umount(&room.place()));
    })
    .unwrap();
}

#[test]
fn block_devices_are_images_too() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let room = Room::new(&scratch.path(""));
    let image = room.image("full", &FULL[..2], &[]);
    let node = run(dissect(&["--attach"]).arg(&image));
    let node = Path::new(node.trim());
    in_own_namespace(|| {
        run(&mut mount(&[], node, &room.place()));
        assert_eq!(room.shown(), ["/ ext4 rw,nodev", "/home btrfs rw,nodev"]);
        assert_eq!(room.mounts()[1].source, blockdev::partitions::node(node, 2));
        // What others have attached is ended with the mount, as systemd-dissect does it.
        run(&mut umount(&room.place()));
    })
    .unwrap();
    assert!(is_free(&image));
}

/// A kernel without device-mapper must not be a way around the check.
#[test]
fn verity_is_not_passed_over_without_device_mapper() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let room = Room::new(&scratch.path(""));
    let image = room.image("verity", &SIGNED[..2], &[]);
    in_own_namespace(|| {
        let output = mount(&[], &image, &room.place()).output().unwrap();
        let said = text(&output);
        match DeviceMapper::open() {
            Ok(_) => assert!(output.status.success(), "{said}"),
            Err(_) => {
                assert_eq!(output.status.code(), Some(1), "{said}");
                assert!(said.contains("device-mapper is needed"), "{said}");
                assert!(said.contains("--image-policy=root=unprotected"), "{said}");
                assert!(room.mounts().is_empty());
                let policy = "--image-policy=root=unprotected";
                run(&mut mount(&[policy], &image, &room.place()));
            }
        }
        run(&mut umount(&room.place()));
    })
    .unwrap();
    assert!(is_free(&image));
}

#[test]
fn mount_ddi_is_for_mount() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let room = Room::new(&scratch.path(""));
    let image = room.image("root", &["Type=root\nFormat=ext4\nCopyFiles=/\n"], &[]);
    let helper = room.path("mount.ddi");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ddi"), &helper).unwrap();
    let call = |options: &[&str]| {
        let mut command = std::process::Command::new(&helper);
        command.arg(&image).arg(room.place()).args(options);
        command
    };
    in_own_namespace(|| {
        run(&mut call(&[
            "-o",
            "ro,nodiscard",
            "-t",
            "ddi",
            "-n",
            "-s",
            "-v",
        ]));
        assert_eq!(room.shown(), ["/ ext4 ro,nodev"]);
        run(&mut umount(&room.place()));
        run(&mut call(&["-f", "-o", "rw"]));
        assert!(room.mounts().is_empty());
        let said = fails(&mut call(&["-o", "noexec"]), 1);
        assert!(said.contains("no option of mount.ddi"), "{said}");
        fails(&mut call(&["-N", "1"]), 1);
    })
    .unwrap();
}

#[test]
fn attached_images_stay_until_they_are_detached() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let room = Room::new(&scratch.path(""));
    let image = room.image("full", &FULL[..2], &[]);
    let file = File::open(&image).unwrap();
    let node = run(dissect(&["--attach", "--loop-ref=ours"]).arg(&image));
    let node = Path::new(node.trim());
    let found = loopdev::devices_of(&file).unwrap();
    assert_eq!(found, [node]);
    let device = loopdev::LoopDevice::open(node).unwrap();
    assert_eq!(device.status().unwrap().reference, b"ours");
    drop(device);
    for number in 1..=2 {
        assert!(blockdev::partitions::node(node, number).exists());
    }
    run(dissect(&["--attach", "-q"]).arg(&image));
    run(dissect(&["--detach"]).arg(&image));
    assert!(is_free(&image), "all of them");
    let said = fails(dissect(&["--detach"]).arg(&image), 1);
    assert!(said.contains("no loop device is bound"), "{said}");
    let node = run(dissect(&["--attach", "--loop-ref-auto"]).arg(&image));
    run(dissect(&["--detach"]).arg(node.trim()));
    assert!(is_free(&image));
    for cycle in 0..100 {
        let node = run(dissect(&["--attach"]).arg(&image));
        let by = if cycle % 2 == 0 {
            node.trim()
        } else {
            image.to_str().unwrap()
        };
        run(&mut dissect(&["--detach", by]));
    }
    assert!(is_free(&image));
}

#[test]
fn commands_run_in_the_image_and_end_as_they_do() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let room = Room::new(&scratch.path(""));
    let image = room.image(
        "root",
        &["Type=root\nFormat=ext4\nCopyFiles=/\nSizeMinBytes=48M\n"],
        &[],
    );
    let with = |script: &str| {
        let mut command = dissect(&["--with"]);
        command.arg(&image).args(["sh", "-c", script]);
        command
    };
    let told = run(&mut with(
        "test \"$PWD\" = \"$SYSTEMD_DISSECT_ROOT\" && test -b \"$SYSTEMD_DISSECT_DEVICE\" && echo new > etc/new && ls",
    ));
    assert!(told.lines().any(|line| line == "usr"), "{told}");
    assert_eq!(run(&mut with("cat etc/new")), "new\n");
    for (script, code) in [("exit 7", 7), ("kill -9 $$", 137), ("exit 255", 255)] {
        fails(&mut with(script), code);
    }
    fails(dissect(&["--with"]).arg(&image).arg("/no/such/program"), 1);
    assert!(is_free(&image));
}

#[test]
fn files_are_copied_into_images() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let room = Room::new(&scratch.path(""));
    let image = room.image(
        "root",
        &["Type=root\nFormat=ext4\nCopyFiles=/\nSizeMinBytes=64M\n"],
        &[],
    );
    let file = room.path("file");
    fs::write(&file, "of a file").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&file, Some(5), Some(6)).unwrap();
    let copy = |words: &[&str]| {
        let mut command = dissect(&["--copy-to"]);
        command.arg(&image).args(words);
        command
    };
    let file = file.to_str().unwrap();
    let tree = room.tree();
    std::os::unix::fs::symlink("/etc", room.path("out")).unwrap();
    run(&mut copy(&[file, "/etc/copied"]));
    run(&mut copy(&["--copy-ownership=yes", file, "/etc/kept"]));
    run(&mut copy(&[tree.to_str().unwrap(), "/srv/tree"]));
    run(&mut copy(&[tree.join("etc").to_str().unwrap(), "/etc"]));
    // A link in the image that would lead out of it.
    run(&mut copy(&[room.path("out").to_str().unwrap(), "/srv/out"]));
    let mut stream = copy(&["-", "/srv/out/stream"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    stream
        .stdin
        .take()
        .unwrap()
        .write_all(b"of a stream")
        .unwrap();
    assert!(stream.wait().unwrap().success());
    for (words, said) in [
        (
            &[file, "/no/such/file"][..],
            "cannot open /no/such in the image",
        ),
        (&[file, "/etc"], "is a directory"),
        (&[file, "/"], "does not end with the name of a file"),
        (&["/no/such", "/x"], "cannot read /no/such"),
    ] {
        let told = fails(&mut copy(words), 1);
        assert!(told.contains(said), "{words:?}: {told}");
    }
    assert!(is_free(&image));
    assert!(!Path::new("/etc/stream").exists());
    let script = "stat -c '%n %a %u %g %s' etc/copied etc/kept etc/stream && \
                  getfattr --only-values -n user.comment srv/tree/usr/bin/tool && \
                  find . -name '.#ddi*'";
    let mut with = dissect(&["-r", "--with"]);
    let told = run(with.arg(&image).args(["sh", "-c", script]));
    let expected = "etc/copied 640 0 0 9\netc/kept 640 5 6 9\netc/stream 644 0 0 11\nhello";
    assert_eq!(told.trim_end(), expected);
}
