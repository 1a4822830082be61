//! What is refused on disks before the first write, with which words, and what permits it. The words
//! are those of `docs/disk-safety.md`.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use testimages::guest::SCRATCH;

use super::common::{SEED, ddi, fails, repart, run};
use super::disk::{Disk, definitions, digest, mount, repart_on, umount};

const ROOT: &str = "Type=root\nSizeMinBytes=8M\nSizeMaxBytes=8M\n";
const MIB: u64 = 1 << 20;

/// `O_EXCL` of Linux.
const EXCLUSIVE: i32 = 0o200;

/// `O_NONBLOCK` of Linux.
const NON_BLOCKING: i32 = 0o4000;

/// Long enough for any machine; only what hangs waits for it.
const PATIENCE: Duration = Duration::from_secs(300);

/// Messages that were seen, with the names of this run taken out.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    /// The run is refused, dry or not, and no byte changes.
    fn refuses(&mut self, target: &Path, command: &mut Command, expected: &str) {
        let before = digest(target);
        for dry in ["--dry-run=yes", "--dry-run=no"] {
            let said = fails(command.arg(dry), 1);
            let said = said.replace(target.to_str().unwrap(), "NODE");
            assert!(
                said.contains(expected),
                "{dry}: {said}\nexpected: {expected}"
            );
        }
        assert_eq!(digest(target), before, "{expected}");
        self.0.push(expected.to_owned());
    }
}

#[test]
fn nothing_that_is_missed_is_overwritten() {
    testimages::in_guest!(Uml);
    let folder = Path::new(SCRATCH).join("safety");
    fs::create_dir(&folder).unwrap();
    let root = definitions(&folder, "root.d", &[ROOT]);
    let mut told = Told::default();
    what_is_in_use(&folder, &root, &mut told);
    contents_of_the_disk_itself(&folder, &root, &mut told);
    contents_of_partitions(&folder, &root, &mut told);
    other_tables(&folder, &root, &mut told);
    free_space(&folder, &mut told);
    image_files(&folder, &root, &mut told);
    tables_are_kept_and_put_back(&folder, &mut told);
    boot_records_are_put_back(&folder, &root, &mut told);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/disk-safety.md");
    let page = fs::read_to_string(page).unwrap();
    for message in &told.0 {
        println!("{message}");
        assert!(
            page.contains(message.as_str()),
            "not in docs/disk-safety.md: {message}"
        );
    }
}

fn force(disk: &Disk, definitions: &Path) -> Command {
    let mut command = disk.repart(definitions);
    command.arg("--empty=force");
    command
}

/// With one partition of 16 MiB at 1 MiB, made by another tool.
fn partitioned(folder: &Path, name: &str, label: &str) -> Disk {
    let image = folder.join(format!("{name}.raw"));
    File::create(&image).unwrap().set_len(48 * MIB).unwrap();
    let script = format!("label: {label}\nstart=1MiB, size=16MiB\n");
    fs::write(folder.join("script"), script).unwrap();
    run(Command::new("sfdisk")
        .arg("-q")
        .arg(&image)
        .stdin(File::open(folder.join("script")).unwrap()));
    Disk::attach(image, &[])
}

fn node(disk: &Disk) -> PathBuf {
    PathBuf::from(&disk.node)
}

fn put(target: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(target).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    file.sync_all().unwrap();
}

fn physical_volume(target: &Path, offset: u64) {
    let label = b"LABELONE\x01\0\0\0\0\0\0\0\0\0\0\0\x20\0\0\0LVM2 001";
    put(target, offset + 512, label);
    put(target, offset + 544, b"abcdefabcdabcdabcdabcdabcdabcdef");
}

fn what_is_in_use(folder: &Path, root: &Path, told: &mut Told) {
    let disk = partitioned(folder, "used", "gpt");
    let (target, part) = (node(&disk), disk.part(1));
    let in_use = |how: &str| {
        format!(
            "NODE cannot be changed as planned, because what would be lost is in use: partition 1 is {how}; stop that first"
        )
    };
    run(Command::new("mkfs.ext4").arg("-q").arg(&part));
    let place = folder.join("place");
    mount(&part, &place);
    let mounted = in_use("mounted on /run/ddi-test/safety/place");
    told.refuses(&target, &mut force(&disk, root), &mounted);
    // The same through the file that the disk is made of.
    let said = fails(repart_on(&disk.image, root).arg("--empty=force"), 1);
    assert!(
        said.contains("partition 1 is mounted on /run/ddi-test/safety/place"),
        "{said}"
    );
    only_the_kernel_knows(&disk, &place, told, &mounted);
    umount(&place);
    mounted_while_contents_are_read(&disk, &place);
    run(Command::new("mkswap").arg("-q").arg(&part));
    run(Command::new("swapon").arg(&part));
    let swap = in_use("used as swap (NODEp1)");
    told.refuses(&target, &mut force(&disk, root), &swap);
    run(Command::new("swapoff").arg(&part));
    let above = Disk::attach(part.clone(), &[]);
    let said = fails(&mut force(&disk, root), 1);
    let name = above.node.trim_start_matches("/dev/");
    assert!(
        said.contains(&format!("partition 1 is attached as {name}")),
        "{said}"
    );
    above.detach();
    let claim = File::options()
        .read(true)
        .custom_flags(EXCLUSIVE)
        .open(&part)
        .unwrap();
    let claimed = in_use("in the exclusive use of something that hides its name");
    told.refuses(&target, &mut force(&disk, root), &claimed);
    drop(claim);
    disk.detach();
}

/// A table that another tool has changed under a mounted partition, which the kernel keeps.
fn only_the_kernel_knows(disk: &Disk, place: &Path, told: &mut Told, mounted: &str) {
    let target = node(disk);
    let folder = place.parent().unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .open(&target)
        .unwrap();
    let old = [0, 48 * MIB - 34 * 512].map(|at| {
        let mut bytes = vec![0; 34 * 512];
        file.read_exact_at(&mut bytes, at).unwrap();
        (at, bytes)
    });
    run(Command::new("sfdisk")
        .args(["-q", "--no-reread", "--no-tell-kernel", "--delete"])
        .arg(&target)
        .arg("1"));
    let new = definitions(folder, "new.d", &[ROOT]);
    told.refuses(&target, &mut disk.repart(&new), mounted);
    // Beside it there is room.
    let padded = "Type=linux-generic\nSizeMinBytes=16M\nSizeMaxBytes=16M\nPaddingMinBytes=1M\n";
    let beside = definitions(folder, "beside.d", &[padded, ROOT]);
    run(disk
        .repart(&beside)
        .arg("--defer-partitions=linux-generic")
        .arg("--dry-run=yes"));
    for (at, bytes) in old {
        file.write_all_at(&bytes, at).unwrap();
    }
    file.sync_all().unwrap();
}

/// Between the first look and the first write: the run waits for its fstab, which is a pipe here.
fn mounted_while_contents_are_read(disk: &Disk, place: &Path) {
    let folder = place.parent().unwrap();
    let pipe = folder.join("fstab");
    run(Command::new("mkfifo").arg(&pipe));
    let keys = "Type=root\nSizeMinBytes=32M\nSizeMaxBytes=32M\nFormat=ext4\nMountPoint=/\n";
    let definitions = definitions(folder, "tab.d", &[keys]);
    let before = disk.digest();
    let mut repart = force(disk, &definitions);
    repart
        .args(["--overwrite=ext4", "--append-fstab=auto"])
        .arg(format!("--generate-fstab={}", pipe.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = repart.spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    // Opening fails until the run has it open, too.
    let writer = loop {
        let mut options = File::options();
        let opened = options.write(true).custom_flags(NON_BLOCKING).open(&pipe);
        match opened {
            Ok(writer) => break writer,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        assert_eq!(child.try_wait().unwrap(), None);
        sleep(Duration::from_millis(20));
    };
    run(Command::new("mount")
        .args(["-o", "ro"])
        .arg(disk.part(1))
        .arg(place));
    drop(writer);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("partition 1 is mounted on /run/ddi-test/safety/place"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(disk.digest(), before);
    umount(place);
}

fn lost(what: &str, permit: &str) -> String {
    format!(
        "NODE cannot be changed as planned, because this would be lost: {what}; pass --overwrite={permit} if it may go"
    )
}

fn contents_of_the_disk_itself(folder: &Path, root: &Path, told: &mut Told) {
    let disk = Disk::new(folder, "bare", 48, &[]);
    let target = node(&disk);
    run(Command::new("mkfs.ext4")
        .args(["-q", "-L", "data"])
        .arg(&target));
    let expected = lost("ext4 \"data\" at byte 1080 of the disk itself", "ext4");
    for empty in ["--empty=allow", "--empty=require", "--empty=force"] {
        told.refuses(&target, disk.repart(root).arg(empty), &expected);
    }
    // By systemd's name only what was asked for is forgotten.
    told.refuses(&target, theirs(&disk, root).arg("--empty=allow"), &expected);
    run(disk
        .repart(root)
        .args(["--empty=allow", "--overwrite=ext4"]));
    assert_eq!(disk.known().len(), 1);
    disk.detach();
}

fn theirs(disk: &Disk, definitions: &Path) -> Command {
    let mut command = ddi();
    command
        .arg0("systemd-repart")
        .args(["--dry-run=no", "--pretty=no", SEED])
        .arg(format!("--definitions={}", definitions.display()))
        .arg(&disk.node);
    command
}

fn contents_of_partitions(folder: &Path, root: &Path, told: &mut Told) {
    let disk = partitioned(folder, "parts", "gpt");
    let (target, part) = (node(&disk), disk.part(1));
    run(Command::new("mkfs.ext4")
        .args(["-q", "-L", "home"])
        .arg(&part));
    let expected = lost("ext4 \"home\" at byte 1049656, in partition 1", "ext4");
    told.refuses(&target, &mut force(&disk, root), &expected);
    run(theirs(&disk, root).arg("--empty=force"));
    disk.detach();
    let disk = partitioned(folder, "volumes", "gpt");
    let target = node(&disk);
    physical_volume(&disk.image, MIB);
    run(Command::new("blockdev").args(["--flushbufs", &disk.node]));
    let expected = lost("LVM2_member at byte 1049112, in partition 1", "LVM2_member");
    told.refuses(&target, &mut force(&disk, root), &expected);
    told.refuses(&target, theirs(&disk, root).arg("--empty=force"), &expected);
    told.refuses(
        &target,
        force(&disk, root).arg("--overwrite=ext4"),
        &expected,
    );
    run(force(&disk, root).arg("--overwrite=ext4,LVM2_member"));
    disk.detach();
}

fn other_tables(folder: &Path, root: &Path, told: &mut Told) {
    let disk = partitioned(folder, "dos", "dos");
    let target = node(&disk);
    let part = disk.part(1);
    run(Command::new("mkfs.ext2")
        .args(["-q", "-L", "old"])
        .arg(&part));
    let expected = lost(
        "dos at byte 0 of the disk itself; ext2 \"old\" at byte 1049656, in partition 1",
        "dos,ext2",
    );
    told.refuses(&target, &mut force(&disk, root), &expected);
    run(force(&disk, root).arg("--overwrite=all"));
    disk.detach();
    // Two that are no table any more: both copies damaged, and without the guard.
    for (at, bytes) in [(528, &[1; 4][..]), (510, &[0; 2])] {
        let disk = partitioned(folder, &format!("gone{at}"), "gpt");
        let target = node(&disk);
        put(&disk.image, at, bytes);
        if at == 528 {
            put(&disk.image, 48 * MIB - 512 + 16, bytes);
        }
        run(Command::new("blockdev").args(["--flushbufs", &disk.node]));
        let expected = lost("gpt at byte 512 of the disk itself", "gpt");
        told.refuses(&target, &mut force(&disk, root), &expected);
        let done = force(&disk, root).arg("--overwrite=gpt").output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let said = format!("{done:?}");
        assert!(
            said.contains("The old partition table is kept in"),
            "{said}"
        );
        disk.detach();
    }
}

fn free_space(folder: &Path, told: &mut Told) {
    let disk = partitioned(folder, "free", "gpt");
    let target = node(&disk);
    let home = definitions(
        folder,
        "home.d",
        &["Type=home\nSizeMinBytes=16M\nSizeMaxBytes=16M\n"],
    );
    // Just behind the partition that is there.
    physical_volume(&disk.image, 17 * MIB);
    put(&disk.image, 17 * MIB + 1080, &[0x53, 0xef]);
    run(Command::new("blockdev").args(["--flushbufs", &disk.node]));
    let expected = lost(
        "LVM2_member at byte 17826328, where no partition is now",
        "LVM2_member",
    );
    told.refuses(&target, &mut disk.repart(&home), &expected);
    run(disk.repart(&home).arg("--overwrite=LVM2_member"));
    assert_eq!(disk.known().len(), 2);
    disk.detach();
}

/// Of image files only what is more than their own is kept.
fn image_files(folder: &Path, root: &Path, told: &mut Told) {
    let image = folder.join("image.raw");
    File::create(&image).unwrap().set_len(32 * MIB).unwrap();
    run(Command::new("mkfs.ext4").arg("-q").arg(&image));
    run(repart_on(&image, root).arg("--empty=force"));
    physical_volume(&image, 0);
    let expected = lost("LVM2_member at byte 536 of the disk itself", "LVM2_member");
    let mut command = repart_on(&image, root);
    told.refuses(&image, command.arg("--empty=force"), &expected);
}

/// Two partitions come, and go again with the table that was kept.
fn tables_are_kept_and_put_back(folder: &Path, told: &mut Told) {
    let disk = partitioned(folder, "kept", "gpt");
    let target = node(&disk);
    let (before, known) = (table_of(&disk), disk.known());
    let more = definitions(
        folder,
        "more.d",
        &[
            "Type=home\nSizeMinBytes=8M\nSizeMaxBytes=8M\n",
            "Type=srv\n",
        ],
    );
    run(&mut disk.repart(&more));
    assert_eq!(disk.known().len(), 3);
    let file = kept_file(&disk);
    let restore = || {
        let mut command = repart();
        command.arg(format!("--restore={}", file.display()));
        command
    };
    let shown = run(restore().arg(&target));
    assert_eq!(shown.matches("goes").count(), 2, "{shown}");
    assert_eq!(disk.known().len(), 3);
    // What goes must not be in use.
    run(Command::new("mkfs.ext4").arg("-q").arg(disk.part(2)));
    let place = folder.join("place");
    mount(&disk.part(2), &place);
    let in_use = "the table of NODE cannot be put back, because what would change is in use: partition 2 is mounted on /run/ddi-test/safety/place; stop that first";
    told.refuses(&target, restore().arg(&target), in_use);
    umount(&place);
    run(restore().arg(&target).arg("--dry-run=no"));
    assert_eq!(table_of(&disk), before);
    assert_eq!(disk.known(), known);
    // Another disk, and one that was partitioned anew.
    let other = Disk::new(folder, "other", 64, &[]);
    told.refuses(
        &node(&other),
        restore().arg(&other.node),
        "NODE has 67108864 bytes, but the table was kept of a disk of 50331648 bytes",
    );
    other.detach();
    let anew = partitioned(folder, "anew", "gpt");
    let said = fails(restore().arg(&anew.node), 1);
    assert!(
        said.contains(
            "which is neither the one that was kept nor the one that was written over it"
        ),
        "{said}"
    );
    anew.detach();
    let mut bytes = fs::read(&file).unwrap();
    bytes.truncate(bytes.len() - 1);
    fs::write(&file, bytes).unwrap();
    let said = fails(restore().arg(&target), 1);
    assert!(said.contains("bytes of the disk where"), "{said}");
    // A file that exists is not replaced, and nothing is written without the backup.
    let busy = format!("--backup-table={}", file.display());
    let before = digest(&target);
    let said = fails(disk.repart(&more).arg(busy), 1);
    assert!(
        said.contains("cannot keep the old partition table in"),
        "{said}"
    );
    assert_eq!(digest(&target), before);
    disk.detach();
}

/// With a boot record its partitions come back for the kernel, too; another disk does not get it.
fn boot_records_are_put_back(folder: &Path, root: &Path, told: &mut Told) {
    let disk = partitioned(folder, "record", "dos");
    let (before, known) = (table_of(&disk), disk.known());
    run(force(&disk, root).arg("--overwrite=all"));
    assert_ne!(disk.known(), known);
    let restore = format!("--restore={}", kept_file(&disk).display());
    let back = |node: &str| {
        let mut command = repart();
        command.args([&restore, node]);
        command
    };
    run(back(&disk.node).arg("--dry-run=no"));
    assert_eq!((table_of(&disk), disk.known()), (before, known));
    // What stays may be in use.
    run(Command::new("mkfs.ext4").arg("-q").arg(disk.part(1)));
    let place = folder.join("place");
    mount(&disk.part(1), &place);
    run(back(&disk.node).arg("--dry-run=no"));
    // A table that comes back over one that is lost does not change what the kernel knows.
    let first = fs::read(&disk.image).unwrap()[..512].to_vec();
    put(Path::new(&disk.node), 0, &[0; 512]);
    run(back(&disk.node).arg("--dry-run=no"));
    assert_eq!(fs::read(&disk.image).unwrap()[..512], first);
    umount(&place);
    disk.detach();
    let other = Disk::new(folder, "bare", 48, &[]);
    run(Command::new("mkfs.ext4")
        .args(["-q", "-L", "data"])
        .arg(&other.node));
    let expected = lost("ext4 \"data\" at byte 1080 of the disk itself", "ext4");
    told.refuses(&node(&other), &mut back(&other.node), &expected);
    other.detach();
}

/// Where the newest table of the disk is kept.
fn kept_file(disk: &Disk) -> PathBuf {
    let name = disk.node.trim_start_matches("/dev/");
    let logs = fs::read_dir("/run/ddi-test/log").unwrap();
    let mut files: Vec<PathBuf> = logs.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(name)
    });
    files.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
    files.pop().unwrap()
}

/// The table as another tool sees it.
fn table_of(disk: &Disk) -> String {
    run(Command::new("sfdisk").args(["-d", &disk.node]))
}
