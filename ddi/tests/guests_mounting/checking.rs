//! How the kernel is told to check data with a hash tree: parity, and what corruption leads to.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use blockdev::dm::{DeviceMapper, DmName};
use testimages::guest::{Guest, SCRATCH};

use super::common::{fails, run};
use super::{Room, SIGNED, is_free, mount, no_mapped_devices, umount};

/// An image that is one file system, with a hash tree and parity beside it, and its root hash.
fn with_parity(room: &Room) -> (PathBuf, PathBuf, String) {
    let (image, parity) = (room.path("single.raw"), room.path("single.fec"));
    run(Command::new("mksquashfs")
        .arg(room.tree())
        .arg(&image)
        .arg("-quiet"));
    let told = run(Command::new("veritysetup")
        .args(["format", "--fec-roots=4", "--fec-device"])
        .arg(&parity)
        .arg(&image)
        .arg(room.path("single.verity")));
    let root = told
        .lines()
        .find_map(|line| line.strip_prefix("Root hash:"));
    (image, parity, root.unwrap().trim().to_owned())
}

#[test]
fn the_kernel_repairs_by_parity() {
    let programs = [PathBuf::from(env!("CARGO_BIN_EXE_ddi"))];
    testimages::in_guest!(Guest::Qemu.with(&programs).with(&[
        "mksquashfs",
        "veritysetup",
        "mkfifo",
        "setfattr",
        "find",
        "touch"
    ]));
    let room = Room::new(Path::new(SCRATCH));
    let (image, parity, root) = with_parity(&room);
    fs::write(room.path("single.roothash"), &root).unwrap();
    let file = File::options().write(true).open(&image).unwrap();
    // Behind what says that it is squashfs.
    file.write_all_at(&[0xaa; 3000], 96).unwrap();
    file.sync_all().unwrap();
    let place = room.place();
    let said = fails(&mut mount(&[], &image, &place), 1);
    assert!(said.contains("does not fit root hash"), "{said}");
    let device = format!("--fec-device={}", parity.display());
    for (options, why) in [
        (
            &["--fec-roots=4", "--fec-offset=100"][..],
            "multiple of the block size",
        ),
        (&["--fec-roots=24"], "parity of this image has"),
        (&["--fec-roots=25"], "only 2 to 24"),
        (&["--fec-roots=3"], "does not fit root hash"),
    ] {
        let options = [&[device.as_str()], options].concat();
        let said = fails(&mut mount(&options, &image, &place), 1);
        assert!(said.contains(why), "{said}");
        assert!(no_mapped_devices() && is_free(&image) && is_free(&parity));
    }
    run(&mut mount(&[&device, "--fec-roots=4"], &image, &place));
    assert_eq!(
        fs::read(place.join("usr/bin/tool")).unwrap(),
        fs::read(room.tree().join("usr/bin/tool")).unwrap()
    );
    run(&mut umount(&place));
    assert!(no_mapped_devices() && is_free(&image) && is_free(&parity));
    parity_behind_the_tree_is_found(&room);
}

/// Parity of `VerityFEC=` needs no options.
fn parity_behind_the_tree_is_found(room: &Room) {
    let with_parity = format!("{}VerityFEC=4\n", SIGNED[1]);
    let image = room.image("parity", &[SIGNED[0], &with_parity], &[]);
    let bytes = fs::read(&image).unwrap();
    let start = bytes.windows(4).position(|bytes| bytes == b"hsqs").unwrap();
    let file = File::options().write(true).open(&image).unwrap();
    let at = u64::try_from(start).unwrap() + 96;
    file.write_all_at(&[0xaa; 3000], at).unwrap();
    file.sync_all().unwrap();
    let place = room.place();
    let said = run(&mut mount(&[], &image, &place));
    assert_eq!(said, "");
    assert_eq!(
        fs::read(place.join("usr/bin/tool")).unwrap(),
        fs::read(room.tree().join("usr/bin/tool")).unwrap()
    );
    run(&mut umount(&place));
    assert!(no_mapped_devices() && is_free(&image));
}

#[test]
fn corruption_may_end_the_machine() {
    testimages::in_guest!(Uml);
    let room = Room::new(Path::new(SCRATCH));
    let image = room.image("plain", &SIGNED[..2], &[]);
    let (place, mapper) = (room.place(), DeviceMapper::open().unwrap());
    for (option, word) in [
        ("--on-corruption=fail", None),
        ("--on-corruption=restart", Some("restart_on_corruption")),
        ("--on-corruption=panic", Some("panic_on_corruption")),
    ] {
        run(&mut mount(&[option], &image, &place));
        let name = fs::read_to_string("/sys/block/dm-0/dm/name").unwrap();
        let table = mapper.table(&DmName::new(name.trim()).unwrap()).unwrap();
        let found = table[0]
            .parameters
            .split(' ')
            .find(|word| word.contains("_on_"));
        assert_eq!(found, word);
        run(&mut umount(&place));
        assert!(no_mapped_devices() && is_free(&image));
    }
    let plain = room.image(
        "none",
        &["Type=root\nFormat=squashfs\nCopyFiles=/\nMinimize=best\n"],
        &[],
    );
    let said = fails(&mut mount(&["--on-corruption=panic"], &plain, &place), 1);
    assert!(said.contains("this has none"), "{said}");
    assert!(is_free(&plain));
}
