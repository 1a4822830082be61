//! Which disk is meant where none is named.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::common::{SEED, fails, repart, run};
use super::disk::{Disk, definitions, mount, umount};

const DATA: &str = "Type=root\nFormat=ext4\nSizeMinBytes=48M\nSizeMaxBytes=48M\n";
const HASH: &str = "Type=root-verity\nSizeMinBytes=8M\nSizeMaxBytes=8M\n";

pub(crate) fn the_disk_of_a_system_is_found(folder: &Path) {
    let disk = Disk::new(folder, "system", 128, &[]);
    let both = definitions(folder, "system.d", &[DATA, HASH]);
    run(disk.repart(&both).arg("--empty=require"));
    let place = folder.join("system");
    let is_found = |root: &Path| {
        let mut command = repart();
        command
            .arg(SEED)
            .arg(format!("--definitions={}", both.display()));
        command
            .arg(format!("--root={}", root.display()))
            .arg("--json=short");
        let rows: serde_json::Value = serde_json::from_str(&run(&mut command)).unwrap();
        assert_eq!(rows[0]["node"], format!("{}p1", disk.node));
        assert_eq!(rows[1]["activity"], "unchanged");
    };
    mount(&disk.part(1), &place);
    is_found(&place);
    umount(&place);
    // A root file system in memory, and /usr on the disk.
    let memory = folder.join("memory");
    fs::create_dir_all(&memory).unwrap();
    run(Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&memory));
    mount(&disk.part(1), &memory.join("usr"));
    is_found(&memory);
    umount(&memory.join("usr"));
    let mut nowhere = repart();
    let said = fails(nowhere.arg(format!("--root={}", memory.display())), 76);
    assert!(said.contains("is on no disk, or on several"), "{said}");
    umount(&memory);

    let opened = Path::new("/dev/mapper/system");
    let verity = || Command::new("veritysetup");
    let told = run(verity().arg("format").arg(disk.part(1)).arg(disk.part(2)));
    let root = told
        .lines()
        .find_map(|line| line.strip_prefix("Root hash:"))
        .unwrap();
    run(verity()
        .arg("open")
        .arg(disk.part(1))
        .arg("system")
        .arg(disk.part(2))
        .arg(root.trim()));
    run(Command::new("mount")
        .args(["-o", "ro"])
        .arg(opened)
        .arg(&place));
    is_found(&place);
    umount(&place);
    run(verity().args(["close", "system"]));

    let key = folder.join("key");
    fs::write(&key, "secret").unwrap();
    let crypt = || {
        let mut command = Command::new("cryptsetup");
        command.arg("-q").arg("--key-file").arg(&key);
        command
    };
    let fast = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"];
    run(crypt().arg("luksFormat").args(fast).arg(disk.part(1)));
    run(crypt().arg("open").arg(disk.part(1)).arg("system"));
    run(Command::new("mkfs.ext4").arg("-q").arg(opened));
    mount(opened, &place);
    is_found(&place);
    let said = fails(disk.repart(&both).arg("--empty=force"), 1);
    assert!(said.contains("partition 1 is held by dm-0"), "{said}");
    umount(&place);
    run(crypt().args(["close", "system"]));

    let listed = run(repart().arg("--list-devices"));
    assert!(listed.lines().any(|line| line == disk.node), "{listed}");
    assert!(!listed.contains(&format!("{}p", disk.node)), "{listed}");
    let listed = run(repart().args(["--list-devices", "--json=short"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let mut rows = listed.as_array().unwrap().iter();
    let row = rows.find(|row| row["node"] == disk.node).unwrap();
    assert_eq!(row["sizeBytes"], 128 << 20);
    disk.detach();
}
