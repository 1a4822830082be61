//! What is copied, and where definitions come from: the running system, or one in an image.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::common::{SEED, fails, repart, run};
use super::disk::{Disk, definitions, umount};

pub(crate) fn partitions_of_the_running_system_are_copied(folder: &Path) {
    let disk = Disk::new(folder, "running", 64, &[]);
    let size = "SizeMinBytes=24M\nSizeMaxBytes=24M\n";
    let boot = format!("Type=xbootldr\n{size}");
    let running = definitions(folder, "running.d", &[&boot]);
    run(disk.repart(&running).arg("--empty=require"));
    let key = folder.join("boot.key");
    fs::write(&key, "secret").unwrap();
    let crypt = |words: &[&str]| {
        let mut command = Command::new("cryptsetup");
        run(command.arg("-q").arg("--key-file").arg(&key).args(words));
    };
    let part = disk.part(1);
    let fast = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"];
    crypt(&[&["luksFormat"], &fast[..], &[part.to_str().unwrap()]].concat());
    crypt(&["open", part.to_str().unwrap(), "boot-volume"]);
    let volume = Path::new("/dev/mapper/boot-volume");
    run(Command::new("mkfs.ext4").arg("-q").arg(volume));
    let auto = definitions(folder, "auto.d", &["Type=xbootldr\nCopyBlocks=auto\n"]);
    let copy = Disk::new(folder, "copy", 96, &[]);
    let said = fails(copy.repart(&auto).arg("--empty=require"), 1);
    assert!(
        said.contains("the running system uses no partition of type xbootldr"),
        "{said}"
    );
    run(Command::new("mount")
        .args(["-o", "ro"])
        .arg(volume)
        .arg("/boot"));

    // Through the encryption, to the partition and its UUID.
    run(copy.repart(&auto).arg("--empty=require"));
    let uuid = |disk: &Disk| {
        let mut sfdisk = Command::new("sfdisk");
        run(sfdisk.args(["--part-uuid", &disk.node, "1"]))
    };
    assert_eq!(uuid(&copy), uuid(&disk));
    let same = |one: &Path, other: &Path| {
        run(Command::new("cmp")
            .args(["-n", "8388608"])
            .arg(one)
            .arg(other));
    };
    same(&part, &copy.part(1));
    // A directory means the device of its file system: what is inside the encryption.
    let inside = definitions(
        folder,
        "inside.d",
        &["Type=srv\nCopyBlocks=/boot/lost+found\n"],
    );
    run(copy
        .repart(&inside)
        .args(["--empty=force", "--overwrite=all"]));
    same(volume, &copy.part(1));
    let wrong = definitions(folder, "wrong.d", &["Type=home\nCopyBlocks=auto\n"]);
    let said = fails(copy.repart(&wrong).arg("--empty=force"), 1);
    assert!(said.contains("there is none for home"), "{said}");
    umount(Path::new("/boot"));
    crypt(&["close", "boot-volume"]);
    disk.detach();
    copy.detach();
}

pub(crate) fn systems_in_images_are_worked_on(folder: &Path) {
    let tree = folder.join("image-tree");
    let inside = tree.join("usr/lib/repart.d");
    fs::create_dir_all(&inside).unwrap();
    let root = "[Partition]\nType=root\nFormat=ext4\nSizeMinBytes=48M\nSizeMaxBytes=48M\n";
    fs::write(inside.join("10-root.conf"), root).unwrap();
    fs::write(tree.join("usr/lib/os-release"), "ID=test\n").unwrap();
    let image = folder.join("system.raw");
    let keys = "Type=root\nFormat=ext4\nCopyFiles=/\nSizeMinBytes=48M\nSizeMaxBytes=48M\n";
    let first = definitions(folder, "image.d", &[keys]);
    let more = tree.join("usr/lib/repart.d/20-swap.conf");
    fs::write(
        more,
        "[Partition]\nType=swap\nSizeMinBytes=8M\nSizeMaxBytes=8M\n",
    )
    .unwrap();
    run(repart()
        .args(["--empty=create", "--size=96M", SEED])
        .arg(format!("--definitions={}", first.display()))
        .arg(format!("--copy-source={}", tree.display()))
        .arg(&image));
    let within = |options: &[&str]| {
        let mut command = repart();
        command.arg(format!("--image={}", image.display()));
        command.arg(SEED).args(options);
        command
    };
    let shown = run(&mut within(&["--json=short"]));
    assert!(shown.contains("20-swap.conf"), "{shown}");
    let policy = "--image-policy=root=verity";
    let said = fails(&mut within(&["--dry-run=no", policy]), 1);
    assert!(said.contains("root"), "{said}");
    run(&mut within(&["--dry-run=no"]));
    let table = run(Command::new("sfdisk").arg("-d").arg(&image));
    assert!(table.contains("system.raw2"), "{table}");
    let again = within(&["--dry-run=no"]).output().unwrap();
    let again = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again, "No changes. There is nothing to do.\n");
    assert!(super::common::run(Command::new("losetup").arg("-j").arg(&image)).is_empty());
}
