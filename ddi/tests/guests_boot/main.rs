//! A whole machine boots from an image that `ddi repart` built, grows itself on a larger disk, and has
//! nothing more to do at the next boot.
#![allow(missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testimages::guest::appliance;

const SEED: &str = "--seed=5ad4a2b4-3f6b-4b12-9a86-c4e2a2f4a001";
const LIMIT: Duration = Duration::from_secs(600);
/// How large the disk is that the image is put on.
const DISK: u64 = 1 << 30;

/// What the image brings: an ESP, a verified root file system and a small /var.
const BUILT: [(&str, &str); 4] = [
    (
        "10-esp.conf",
        "Type=esp\nFormat=vfat\nCopyFiles=/esp:/\nSizeMinBytes=96M\nSizeMaxBytes=96M\n",
    ),
    (
        "20-root.conf",
        "Type=root\nFormat=squashfs\nCopyFiles=/tree:/\nVerity=data\nVerityMatchKey=root\nMinimize=best\n",
    ),
    (
        "21-root-verity.conf",
        "Type=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n",
    ),
    (
        "30-var.conf",
        "Type=var\nFormat=ext4\nCopyFiles=/var:/\nSizeMinBytes=64M\nSizeMaxBytes=64M\n",
    ),
];

/// What the machine is to have: a /var that grows, and a new encrypted /home.
const WANTED: [(&str, &str); 5] = [
    ("10-esp.conf", "Type=esp\n"),
    (
        "20-root.conf",
        "Type=root\nVerity=data\nVerityMatchKey=root\nWeight=0\n",
    ),
    (
        "21-root-verity.conf",
        "Type=root-verity\nVerity=hash\nVerityMatchKey=root\nWeight=0\n",
    ),
    ("30-var.conf", "Type=var\nSizeMinBytes=200M\n"),
    (
        "40-home.conf",
        "Type=home\nFormat=ext4\nEncrypt=key-file\nEncryptKDF=minimal\n",
    ),
];

#[test]
fn an_image_grows_itself_at_its_first_boot_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let image = build(folder.path());
    let disk = fs::OpenOptions::new().write(true).open(&image).unwrap();
    disk.set_len(DISK).unwrap();
    drop(disk);

    let first = appliance::boot(&image, LIMIT);
    println!("{first}");
    assert!(first.contains("\ndone\n"), "it did not come to its end");
    let failed: Vec<&str> = first
        .lines()
        .filter(|line| line.starts_with("status: ") && *line != "status: 0")
        .collect();
    assert_eq!(failed, [""; 0], "a step failed");
    assert!(first.contains("\nbrought along\n"), "/var was not kept");
    let size = |console: &str, name: &str| -> u64 {
        let line = console.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split(' ').next());
        number.unwrap().parse().unwrap()
    };
    assert!(size(&first, "var: ") > 180 << 10, "/var did not grow");
    assert!(size(&first, "home: ") > 180 << 10, "/home is small");
    let grown = dump(&image);
    assert_eq!(grown.matches("type=").count(), 5, "{grown}");

    let second = appliance::boot(&image, LIMIT);
    println!("{second}");
    assert!(second.contains("\ndone\n"), "it did not come to its end");
    assert!(
        second.contains("No changes."),
        "the second boot changes something"
    );
    assert_eq!(dump(&image), grown);
    assert_eq!(size(&first, "var: "), size(&second, "var: "));
    let verified = Command::new("sfdisk").arg("--verify").arg(&image).output();
    assert!(verified.unwrap().status.success());
}

/// Builds the image in two runs, as its boot loader must know the root hash.
fn build(folder: &Path) -> std::path::PathBuf {
    let image = folder.join("image.raw");
    let source = folder.join("source");
    let definitions = source.join("tree/usr/lib/repart.d");
    for name in [
        "esp",
        "var",
        "tree/usr/lib/repart.d",
        "tree/etc",
        "tree/var",
    ] {
        fs::create_dir_all(source.join(name)).unwrap();
    }
    write_all(&definitions, &WANTED);
    let key = source.join("tree/etc/ddi-test.key");
    fs::write(&key, "a key for tests").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(source.join("tree/usr/lib/os-release"), "ID=test\n").unwrap();
    fs::write(source.join("var/kept"), "brought along\n").unwrap();
    let built = folder.join("repart.d");
    fs::create_dir(&built).unwrap();
    write_all(&built, &BUILT);

    let repart = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ddi"));
        command
            .args(["repart", "--dry-run=no", "--json=short", SEED])
            .args(arguments)
            .arg(format!("--definitions={}", built.display()))
            .arg(format!("--copy-source={}", source.display()))
            .arg(&image);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        rows
    };
    let rows = repart(&["--empty=create", "--size=auto", "--defer-partitions=esp"]);
    let hash = rows
        .as_array()
        .unwrap()
        .iter()
        .find_map(|row| row["roothash"].as_str());
    let hash = hash.expect("a root hash");
    let init = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests_boot/initrd.sh"));
    let ddi = env!("CARGO_BIN_EXE_ddi");
    let files = [ddi, "mkfs.ext4", "cryptsetup", "/etc/mke2fs.conf"];
    appliance::fill_esp(
        &source.join("esp"),
        &format!("roothash={hash} ddi={ddi}"),
        &init.unwrap(),
        &files,
    );
    repart(&[]);
    image
}

fn write_all(folder: &Path, files: &[(&str, &str)]) {
    for (name, keys) in files {
        fs::write(folder.join(name), format!("[Partition]\n{keys}")).unwrap();
    }
}

fn dump(image: &Path) -> String {
    let output = Command::new("sfdisk")
        .arg("-d")
        .arg(image)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
