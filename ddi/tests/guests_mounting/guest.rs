//! What only a kernel with device-mapper, vfat and all rights can show.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testimages::guest::{Guest, SCRATCH};

use super::common::{fails, repart, run};
use super::{Room, SIGNED, dissect, is_free, mount, no_mapped_devices, signing, text, umount};

#[test]
fn verity_images_are_checked_shared_and_leave_nothing() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(240)));
    let room = Room::new(Path::new(SCRATCH));
    let image = room.image("signed", &SIGNED, &signing(&room.signer("us")));
    let place = room.place();
    run(&mut mount(&[], &image, &place));
    assert_eq!(room.shown(), ["/ squashfs ro,nodev"]);
    let source = room.mounts()[0].source.clone();
    assert!(source.starts_with("/dev/dm-0"), "{source:?}");
    assert_eq!(
        fs::read(place.join("usr/bin/tool")).unwrap(),
        fs::read(room.tree().join("usr/bin/tool")).unwrap()
    );
    let second = room.path("second");
    fs::create_dir(&second).unwrap();
    run(&mut mount(&[], &image, &second));
    assert!(!Path::new("/dev/dm-1").exists(), "one device for both");
    run(&mut umount(&place));
    assert!(second.join("usr/bin/tool").exists());
    run(&mut umount(&second));
    assert!(no_mapped_devices() && is_free(&image));

    // Plain unmounting is enough, too.
    run(&mut mount(&[], &image, &place));
    run(std::process::Command::new("umount").arg(&place));
    assert!(no_mapped_devices() && is_free(&image));

    for _ in 0..100 {
        run(&mut mount(&[], &image, &place));
        run(&mut umount(&place));
    }
    assert!(no_mapped_devices() && is_free(&image));
}

#[test]
fn changed_verity_images_are_found_out() {
    testimages::in_guest!(Uml);
    let room = Room::new(Path::new(SCRATCH));
    let image = room.image("plain", &SIGNED[..2], &[]);
    let place = room.place();
    let definitions = format!("--definitions={}", room.path("plain.d").display());
    let table = run(repart().args(["--json=short", &definitions]).arg(&image));
    let table: Value = serde_json::from_str(&table).unwrap();
    let start = |row: usize| table[row]["offset"].as_u64().unwrap();
    let flip = |offset: u64| {
        let mut file = File::options().read(true).write(true).open(&image).unwrap();
        let mut byte = [0];
        file.seek(SeekFrom::Start(offset)).unwrap();
        std::io::Read::read_exact(&mut file, &mut byte).unwrap();
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(&[byte[0] ^ 1]).unwrap();
        file.sync_all().unwrap();
    };
    let refused = |offset: u64, why: &str| {
        flip(offset);
        let said = fails(&mut mount(&[], &image, &place), 1);
        assert!(said.contains(why), "{said}");
        assert!(room.mounts().is_empty() && no_mapped_devices() && is_free(&image));
        flip(offset);
    };
    let size = table[0]["raw_size"].as_u64().unwrap();
    refused(start(0) + 96, "does not fit root hash");
    refused(start(1) + 4096, "does not fit root hash");
    refused(start(1) + 89, "does not fit root hash");
    refused(start(1), "holds no hash tree");
    // Behind the first block: what is read there fails, the rest does not.
    flip(start(0) + size / 2);
    run(&mut mount(&[], &image, &place));
    let all = std::process::Command::new("sh")
        .args(["-c", "cat /dev/dm-0 >/dev/null"])
        .output()
        .unwrap();
    assert!(!all.status.success());
    run(&mut umount(&place));
    let wrong = format!("--root-hash={}", "ab".repeat(32));
    let said = fails(&mut mount(&[&wrong], &image, &place), 1);
    assert!(
        said.contains("a verity set of root was asked for"),
        "{said}"
    );
    assert!(no_mapped_devices() && is_free(&image));
    parity_behind_the_tree_is_no_obstacle(&room);
}

/// This kernel knows no parity: what a footer tells of is left alone, and so is a footer that lies.
fn parity_behind_the_tree_is_no_obstacle(room: &Room) {
    let with_parity = format!("{}VerityFEC=2\n", SIGNED[1]);
    let image = room.image("parity", &[SIGNED[0], &with_parity], &[]);
    let place = room.place();
    let told = |words: &str| {
        let output = mount(&[], &image, &place).output().unwrap();
        let said = text(&output);
        assert!(output.status.success() && said.contains(words), "{said}");
        assert_eq!(
            fs::read(place.join("usr/bin/tool")).unwrap(),
            fs::read(room.tree().join("usr/bin/tool")).unwrap()
        );
        run(&mut umount(&place));
        assert!(no_mapped_devices() && is_free(&image));
    };
    told("the kernel does not take the parity behind the hash tree");
    let bytes = fs::read(&image).unwrap();
    let magic = bytes.windows(8).rposition(|bytes| bytes == b"ddi-fec\0");
    let file = File::options().write(true).open(&image).unwrap();
    let at = u64::try_from(magic.unwrap()).unwrap();
    FileExt::write_all_at(&file, &[3], at + 12).unwrap();
    file.sync_all().unwrap();
    told("the checksum of the footer of the parity");
}

#[test]
fn hash_trees_may_lie_beside_the_image() {
    testimages::in_guest!(Uml);
    let room = Room::new(Path::new(SCRATCH));
    let (image, tree) = (room.path("single.raw"), room.path("single.verity"));
    let shell = |program: &str, words: &[&Path]| {
        let mut command = std::process::Command::new(program);
        run(command.args(words).args(if program == "mksquashfs" {
            &["-quiet"][..]
        } else {
            &[]
        }))
    };
    shell("mksquashfs", &[&room.tree(), &image]);
    let told = shell("veritysetup", &[Path::new("format"), &image, &tree]);
    let root = told
        .lines()
        .find_map(|line| line.strip_prefix("Root hash:"));
    let root = root.unwrap().trim();
    fs::write(room.path("single.roothash"), root).unwrap();
    let place = room.place();
    run(&mut mount(&[], &image, &place));
    assert_eq!(room.shown(), ["/ squashfs ro,nodev"]);
    assert!(room.mounts()[0].source.starts_with("/dev/dm-0"));
    run(&mut umount(&place));
    assert!(no_mapped_devices() && is_free(&image) && is_free(&tree));
    fs::write(room.path("single.roothash"), "ab".repeat(32)).unwrap();
    let said = fails(&mut mount(&[], &image, &place), 1);
    assert!(said.contains("does not fit root hash"), "{said}");
    assert!(no_mapped_devices() && is_free(&image) && is_free(&tree));
}

#[test]
fn boot_partitions_go_where_there_is_room() {
    testimages::in_guest!(Uml);
    let room = Room::new(Path::new(SCRATCH));
    let place = room.place();
    let root = "Type=root\nFormat=ext4\nCopyFiles=/\nSizeMinBytes=48M\n";
    let no_boot = "Type=root\nFormat=ext4\nCopyFiles=/usr:/usr\nSizeMinBytes=48M\n";
    let full_boot =
        "Type=root\nFormat=squashfs\nCopyFiles=/usr:/usr\nCopyFiles=/etc:/boot\nMinimize=best\n";
    let esp = "Type=esp\nFormat=vfat\nSizeMinBytes=48M\nSizeMaxBytes=48M\n";
    let xbootldr = "Type=xbootldr\nFormat=vfat\nSizeMinBytes=48M\nSizeMaxBytes=48M\n";
    let flags = "vfat rw,nosuid,nodev,noexec,nosymfollow";
    for (name, partitions, expected) in [
        ("esp", &[root, esp][..], &["/boot"][..]),
        ("both", &[root, esp, xbootldr], &["/boot", "/efi"]),
        ("xbootldr", &[root, xbootldr], &["/boot"]),
        ("no-boot", &[no_boot, esp], &["/efi"]),
        ("full-boot", &[full_boot, esp], &[]),
    ] {
        let image = room.image(name, partitions, &[]);
        run(&mut mount(&[], &image, &place));
        let shown = room.shown();
        let boot: Vec<String> = expected.iter().map(|at| format!("{at} {flags}")).collect();
        assert_eq!(shown[1..], boot, "{name}");
        for at in expected {
            let at = place.join(&at[1..]);
            fs::write(at.join("file"), "x").unwrap();
            assert_eq!(fs::metadata(at.join("file")).unwrap().mode() & 0o777, 0o600);
            assert_eq!(fs::metadata(at).unwrap().mode() & 0o777, 0o700);
        }
        run(&mut umount(&place));
        assert!(is_free(&image));
    }
}

#[test]
fn marked_file_systems_grow() {
    testimages::in_guest!(Uml);
    let room = Room::new(Path::new(SCRATCH));
    let place = room.place();
    let keys = "Type=root\nFormat=ext4\nCopyFiles=/\nMinimize=guess\nGrowFileSystem=yes\n";
    let image = room.image("grow", &[keys], &[]);
    let size = fs::metadata(&image).unwrap().len();
    let bigger = room.path("bigger.d");
    fs::create_dir(&bigger).unwrap();
    fs::write(
        bigger.join("10.conf"),
        "[Partition]\nType=root\nSizeMinBytes=128M\n",
    )
    .unwrap();
    run(repart()
        .args(["--dry-run=no", "--size=192M"])
        .arg(format!("--definitions={}", bigger.display()))
        .arg(&image));
    assert!(size < 100 << 20);
    let blocks = |options: &[&str]| {
        run(&mut mount(options, &image, &place));
        let found = rustix::fs::statvfs(&place).unwrap();
        run(&mut umount(&place));
        found.f_blocks * found.f_frsize
    };
    assert!(blocks(&["--growfs=no"]) < 100 << 20);
    assert!(blocks(&["-r"]) < 100 << 20);
    assert!(blocks(&[]) > 110 << 20);
    assert!(is_free(&image));
}

#[test]
fn damaged_file_systems_are_not_mounted_for_writing() {
    testimages::in_guest!(Uml);
    let room = Room::new(Path::new(SCRATCH));
    let image = room.image(
        "root",
        &["Type=root\nFormat=ext4\nCopyFiles=/\nSizeMinBytes=48M\n"],
        &[],
    );
    let node = run(dissect(&["--attach"]).arg(&image));
    let part = format!("{}p1", node.trim());
    // An inode in use that the tables say is free, and a note that something is wrong.
    run(std::process::Command::new("debugfs").args(["-w", "-R", "clri <2>", &part]));
    run(std::process::Command::new("debugfs").args(["-w", "-R", "ssv state 2", &part]));
    run(dissect(&["--detach"]).arg(&image));
    let said = fails(&mut mount(&[], &image, &room.place()), 1);
    assert!(said.contains("is damaged"), "{said}");
    assert!(room.mounts().is_empty() && is_free(&image));
}
