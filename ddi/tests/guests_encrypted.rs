//! What was encrypted or given tags here, opened by cryptsetup, integritysetup and the kernel.

mod common;

use std::fs;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{SEED, partitions, plant, repart, run};
use image_specs::integrity::{Layout, Superblock};
use image_specs::units::Bytes;
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
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(400)));
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
    tags_without_encryption(&folder);
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
    compare(folder, kind);
    run(Command::new("cryptsetup").args(["close", "volume"]));
    run(Command::new("losetup").args(["--detach", device]));
}

/// The open volume is mounted, and has every file.
fn compare(folder: &Path, kind: &str) {
    let path = |name: &str| folder.join(name);
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
}

/// Definitions with tags of their own, and how integritysetup is told of these.
const TAGGED: [(&str, &str); 4] = [
    ("Type=root\nFormat=ext4\nMinimize=guess\n", ""),
    (
        "Type=usr\nFormat=squashfs\nMinimize=best\nIntegrityKeyFile=KEY\n",
        "--integrity=hmac-sha256 --integrity-key-size=32 --integrity-key-file=KEY",
    ),
    (
        "Type=home\nFormat=ext4\nFileSystemSectorSize=512\nSizeMinBytes=64M\nIntegrityAlgorithm=sha256\n",
        "--integrity=sha256",
    ),
    (
        "Type=srv\nFormat=vfat\nSizeMinBytes=64M\nIntegrityAlgorithm=crc32c\n",
        "--integrity=crc32c",
    ),
];

/// integritysetup opens what was built offline, and a sector that was changed is found out.
fn tags_without_encryption(folder: &Path) {
    let path = |name: &str| folder.join(name);
    let key = path("tag-key");
    fs::write(&key, [b'k'; 32]).unwrap();
    let with_key = |text: &str| text.replace("KEY", &key.display().to_string());
    fs::create_dir(path("tags.d")).unwrap();
    for (number, (keys, _)) in TAGGED.iter().enumerate() {
        let text = format!("[Partition]\n{keys}CopyFiles=/usr:/\nIntegrity=standalone\n");
        fs::write(
            path("tags.d").join(format!("{number}.conf")),
            with_key(&text),
        )
        .unwrap();
    }
    let option = |name: &str, value: &str| format!("--{name}={}", path(value).display());
    fs::remove_file(path("image")).unwrap();
    let built = partitions(
        repart()
            .args(["--empty=create", "--size=auto", SEED, "--pretty=no"])
            .args([
                option("definitions", "tags.d"),
                option("copy-source", "tree"),
            ])
            .arg(path("image")),
    );
    for (partition, (keys, options)) in built.iter().zip(TAGGED) {
        let offset = format!("--offset={}", partition["offset"]);
        let size = format!("--sizelimit={}", partition["raw_size"]);
        let device = run(Command::new("losetup")
            .args(["--find", "--show", &offset, &size])
            .arg(path("image")));
        let device = device.trim();
        let shown = run(Command::new("integritysetup").args(["dump", device]));
        assert!(shown.contains("fix_padding fix_hmac"), "{shown}");
        let open = || {
            run(Command::new("integritysetup")
                .arg("open")
                .args(with_key(options).split_whitespace())
                .args([device, "volume"]));
        };
        let close = || run(Command::new("integritysetup").args(["close", "volume"]));
        open();
        compare(folder, keys);
        let read = || fs::read("/dev/mapper/volume");
        read().unwrap();
        close();
        spoil(Path::new(device));
        open();
        let error = read().unwrap_err();
        assert!(error.raw_os_error().is_some(), "{keys}: {error}");
        close();
        run(Command::new("losetup").args(["--detach", device]));
    }
}

/// Changes a byte of the sector that is last.
fn spoil(device: &Path) {
    let mut node = fs::File::options()
        .read(true)
        .write(true)
        .open(device)
        .unwrap();
    let size = Bytes::new(node.seek(SeekFrom::End(0)).unwrap());
    let mut start = [0; 4096];
    node.read_exact_at(&mut start, 0).unwrap();
    let superblock = Superblock::parse(&start).unwrap().unwrap();
    let layout = Layout::of(&superblock, size).unwrap();
    let (sector, _) = layout.find(layout.provided_sectors - 8);
    let mut bytes = [0; 512];
    node.read_exact_at(&mut bytes, sector * 512).unwrap();
    bytes[7] ^= 1;
    node.write_all_at(&bytes, sector * 512).unwrap();
    node.sync_all().unwrap();
}
