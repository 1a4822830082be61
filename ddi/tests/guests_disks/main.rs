//! `ddi repart` on block devices: partitions come and grow under a running system, and the kernel
//! learns of each.

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod growing;
mod safety;
mod sources;
mod system;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testimages::guest::{Guest, SCRATCH};

use common::{fails, run};
use disk::{Disk, definitions, mount, repart_on, umount};
use system::the_disk_of_a_system_is_found;

const ROOT: &str = "Type=root\nFormat=ext4\nSizeMinBytes=48M\nSizeMaxBytes=48M\n";
const HOME: &str = "Type=home\nFormat=ext4\nSizeMinBytes=48M\n";
const VAR: &str = "Type=var\nFormat=ext4\nSizeMinBytes=40M\nSizeMaxBytes=40M\n";
const SRV: &str = "Type=srv\nSizeMinBytes=8M\nSizeMaxBytes=8M\n";

#[test]
fn disks_are_changed_while_they_are_used() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(300)));
    let folder = Path::new(SCRATCH);
    what_is_mounted_grows_in_place(folder);
    what_a_killed_run_has_left_is_told(folder);
    sectors_are_those_of_the_device(folder);
    what_cannot_be_changed_is_refused(folder);
    the_disk_of_a_system_is_found(folder);
}

#[test]
fn what_is_on_disks_grows_and_old_disks_are_written_over() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(300)));
    let folder = Path::new(SCRATCH);
    growing::encrypted_volumes_grow_with_what_is_in_them(folder);
    sources::partitions_of_the_running_system_are_copied(folder);
    sources::systems_in_images_are_worked_on(folder);
    growing::large_disks_take_no_longer(folder);
    growing::contents_bring_the_zeros_that_they_need(folder);
}

fn what_is_mounted_grows_in_place(folder: &Path) {
    let disk = Disk::new(folder, "grown", 160, &[]);
    let first = definitions(folder, "first.d", &[ROOT, HOME]);
    run(disk.repart(&first).arg("--empty=require"));
    assert_eq!(disk.known().len(), 2);
    assert_eq!(disk.known(), disk.named(512));
    let (root, home) = (folder.join("root"), folder.join("home"));
    mount(&disk.part(1), &root);
    mount(&disk.part(2), &home);
    run(Command::new("cp")
        .args(["-r", "/usr/bin/cp", "/usr/bin/ls"])
        .arg(&root));
    fs::write(home.join("file"), vec![7; 5 << 20]).unwrap();
    run(&mut Command::new("sync"));

    disk.grow(320);
    let before = disk.known();
    let second = definitions(folder, "second.d", &[ROOT, HOME, VAR]);
    let said = disk.repart(&second).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    for step in ["telling the kernel that partition 3 is at", "s  in all"] {
        assert!(said.contains(step), "{said}");
    }
    let after = disk.known();
    assert_eq!(after, disk.named(512));
    assert_eq!((after.len(), before[0]), (3, after[0]));
    assert_eq!((before[1].1, before[1].2 < after[1].2), (after[1].1, true));
    run(Command::new("cmp").arg("/usr/bin/ls").arg(root.join("ls")));
    assert!(fs::read(home.join("file")).unwrap() == vec![7; 5 << 20]);
    let var = folder.join("var");
    mount(&disk.part(3), &var);
    umount(&var);
    umount(&root);
    umount(&home);

    let bytes = disk.digest();
    let said = repart_on(Path::new(&disk.node), &second).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said, "No changes. There is nothing to do.\n");
    assert_eq!(disk.digest(), bytes);
    disk.detach();
}

/// The table is committed, but the kernel has not heard of it: as if killed in between.
fn what_a_killed_run_has_left_is_told(folder: &Path) {
    let disk = Disk::new(folder, "killed", 128, &[]);
    let some = definitions(folder, "some.d", &[ROOT]);
    let more = definitions(folder, "more.d", &[ROOT, SRV]);
    for (definitions, options) in [(&some, &["--empty=require"][..]), (&more, &[])] {
        let before = disk.known();
        run(repart_on(&disk.image, definitions).args(options));
        assert_eq!(disk.known(), before);
        let bytes = disk.digest();
        run(&mut disk.repart(definitions));
        assert_eq!(disk.known(), disk.named(512));
        assert_eq!(disk.digest(), bytes);
    }
    // A partition that is in use cannot be forgotten; all else is told.
    let place = folder.join("busy");
    mount(&disk.part(1), &place);
    run(Command::new("sfdisk")
        .args(["-q", "--no-reread", "--no-tell-kernel", "--delete"])
        .arg(&disk.image)
        .args(["1", "2"]));
    let said = fails(&mut disk.repart(&definitions(folder, "none.d", &[])), 1);
    assert!(
        said.contains("partition 1 is gone") && said.contains("mounted on /run/ddi-test/busy"),
        "{said}"
    );
    assert!(said.contains("hint: reboot"), "{said}");
    assert_eq!(disk.known().len(), 1);
    umount(&place);
    run(&mut disk.repart(&folder.join("none.d")));
    assert_eq!(disk.known(), []);
    disk.detach();
}

fn sectors_are_those_of_the_device(folder: &Path) {
    let disk = Disk::new(folder, "large-sectors", 128, &["-b", "4096"]);
    let both = definitions(folder, "both.d", &[ROOT, SRV]);
    run(disk.repart(&both).arg("--empty=allow"));
    assert_eq!(disk.known(), disk.named(4096));
    mount(&disk.part(1), &folder.join("sectors"));
    umount(&folder.join("sectors"));
    let image = disk.image.clone();
    disk.detach();
    let other = Disk::attach(image, &[]);
    let said = fails(other.repart(&both).arg("--empty=allow"), 1);
    assert!(said.contains("counts in sectors of 4096"), "{said}");
    other.detach();
}

fn what_cannot_be_changed_is_refused(folder: &Path) {
    let disk = Disk::new(folder, "refused", 128, &[]);
    let root = definitions(folder, "refused.d", &[ROOT]);
    run(disk.repart(&root).arg("--empty=require"));
    let part = disk.part(1);
    let said = fails(&mut repart_on(&part, &root), 1);
    let disk_named = format!("is partition 1 of {0}; name the disk, {0}", disk.node);
    assert!(said.contains(&disk_named), "{said}");
    let place = folder.join("refused");
    mount(&part, &place);
    let said = fails(disk.repart(&root).arg("--empty=force"), 1);
    assert!(
        said.contains("partition 1 is mounted on /run/ddi-test/refused"),
        "{said}"
    );
    umount(&place);
    let said = fails(disk.repart(&root).arg("--size=1G"), 1);
    assert!(said.contains("--size= is for image files"), "{said}");
    run(Command::new("blockdev").args(["--setro", &disk.node]));
    let said = fails(&mut disk.repart(&root), 1);
    assert!(said.contains("it is write-protected"), "{said}");
    run(Command::new("blockdev").args(["--setrw", &disk.node]));
    disk.detach();
}
