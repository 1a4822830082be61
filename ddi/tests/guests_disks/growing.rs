//! What is mounted grows with its partition; and disks that are hard to clear.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use super::common::{fails, plant, run};
use super::disk::{Disk, definitions, mount, umount};

pub(crate) fn encrypted_volumes_grow_with_what_is_in_them(folder: &Path) {
    let key = folder.join("home.key");
    fs::write(&key, "a secret").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let home = "Type=home\nFormat=ext4\nSizeMinBytes=80M\nEncrypt=key-file\nEncryptKDF=minimal\n";
    let home = format!("{home}KeyFile={}\n", key.display());
    let disk = Disk::new(folder, "encrypted", 128, &[]);
    let all = definitions(folder, "encrypted.d", &[&home]);
    run(disk.repart(&all).arg("--empty=require"));
    let crypt = |words: &[&str]| {
        let mut command = Command::new("cryptsetup");
        run(command.arg("--key-file").arg(&key).args(words));
    };
    crypt(&["open", &format!("{}p1", disk.node), "home-volume"]);
    let place = folder.join("home-place");
    mount(Path::new("/dev/mapper/home-volume"), &place);
    let bytes = vec![0x5a; 20 << 20];
    fs::write(place.join("file"), &bytes).unwrap();
    let size = || {
        let found = rustix::fs::statvfs(&place).unwrap();
        found.f_blocks * found.f_frsize
    };
    disk.grow(512);
    let before = size();
    // As systemd does, growing what is mounted is left to when it is mounted.
    run(&mut disk.repart(&all));
    assert_eq!(size(), before);
    let keyless = definitions(folder, "keyless.d", &["Type=home\n"]);
    let grow = |definitions: &Path| {
        let mut command = disk.repart(definitions);
        command.arg("--grow-file-systems=yes");
        command
    };
    let said = fails(&mut grow(&keyless), 1);
    assert!(
        said.contains("warning: the encrypted volume home-volume keeps its size"),
        "{said}"
    );
    // The volume had some room left already.
    assert!(size() < before + (32 << 20));
    let said = grow(&all).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains("The encrypted volume home-volume has "),
        "{said}"
    );
    assert!(
        said.contains(&format!("The ext4 on {} has grown", place.display())),
        "{said}"
    );
    assert!(size() > before + (300 << 20), "{} to {}", before, size());
    assert!(fs::read(place.join("file")).unwrap() == bytes);
    let said = grow(&all).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&said.stderr),
        "No changes. There is nothing to do.\n"
    );
    umount(&place);
    run(Command::new("e2fsck").args(["-fn", "/dev/mapper/home-volume"]));
    crypt(&["close", "home-volume"]);
    disk.detach();
}

/// No time goes with the size of the disk.
pub(crate) fn large_disks_take_no_longer(folder: &Path) {
    let disk = Disk::new(folder, "large", 1 << 20, &[]);
    let all = definitions(
        folder,
        "large.d",
        &["Type=srv\nSizeMaxBytes=8M\n", "Type=home\n"],
    );
    run(disk.repart(&all).arg("--empty=require"));
    assert!(disk.known()[1].2 > 1 << 39);
    assert!(fs::metadata(&disk.image).unwrap().blocks() * 512 < 1 << 20);
    disk.detach();
}

/// A disk that was full, and that cannot be told to forget.
pub(crate) fn contents_bring_the_zeros_that_they_need(folder: &Path) {
    // hostfs makes no holes, so neither does a loop device on it.
    let host = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = host.path().join("old.raw");
    let full = "tr '\\0' '\\252' </dev/zero | head -c 83886080 >\"$1\"";
    run(Command::new("sh").args(["-c", full, "sh"]).arg(&image));
    // Something that must not show in a partition without contents.
    let magic = "printf hsqs | dd of=\"$1\" bs=1M seek=73 conv=notrunc status=none";
    run(Command::new("sh").args(["-c", magic, "sh"]).arg(&image));
    let disk = Disk::attach(image, &[]);
    let name = disk.node.trim_start_matches("/dev/");
    let zeroes = format!("/sys/block/{name}/queue/write_zeroes_max_bytes");
    assert_eq!(fs::read_to_string(zeroes).unwrap().trim(), "0");
    let tree = folder.join("zeros");
    plant(&tree);
    let size = |size: u32| format!("SizeMinBytes={size}M\nSizeMaxBytes={size}M\n");
    let all = [
        format!("Type=root\nFormat=ext4\nCopyFiles=/\n{}", size(40)),
        format!(
            "Type=linux-generic\nFormat=vfat\nCopyFiles=/usr/bin:/\n{}",
            size(24)
        ),
        format!("Type=swap\n{}", size(8)),
        "Type=srv\nSizeMinBytes=4M\n".to_owned(),
    ];
    let all = definitions(folder, "zeros.d", &all.each_ref().map(String::as_str));
    let source = format!("--copy-source={}", tree.display());
    run(disk.repart(&all).args(["--empty=require", &source]));
    run(Command::new("e2fsck").arg("-fn").arg(disk.part(1)));
    run(Command::new("fsck.vfat").arg("-n").arg(disk.part(2)));
    assert_eq!(run(Command::new("wipefs").arg(disk.part(4))), "");
    let place = folder.join("zeros-place");
    mount(&disk.part(1), &place);
    run(Command::new("diff")
        .args(["-r", "--no-dereference"])
        .arg(&tree)
        .arg(&place)
        .args(["-x", "lost+found", "-x", "pipe"]));
    umount(&place);
    // What is free still holds what it held.
    let mut bytes = vec![0; 1 << 20];
    let part = File::open(disk.part(1)).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&part, &mut bytes, 36 << 20).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0o252));
    disk.detach();
}
