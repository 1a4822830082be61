//! Whatever moment a run is killed in, what it leaves can be cleared.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use blockdev::loopdev;
use testimages::guest::{Guest, SCRATCH};

use super::common::run;
use super::encrypted::key_file;
use super::{Room, SIGNED, dissect, is_free, mount, no_mapped_devices, signing, text, umount};

#[test]
fn two_hundred_kills_leave_nothing_that_stays() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(900)));
    let room = Room::new(Path::new(SCRATCH));
    let image = room.image("signed", &SIGNED, &signing(&room.signer("us")));
    kill_at_all_moments(&room, &image, &[]);
}

/// The same with a partition on dm-crypt, and one on dm-crypt on dm-verity.
#[test]
fn two_hundred_kills_leave_no_volume_open() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(1500)));
    let room = Room::new(Path::new(SCRATCH));
    let key = key_file(&room, "key", b"right");
    let image = room.image("encrypted", &ENCRYPTED, std::slice::from_ref(&key));
    kill_at_all_moments(&room, &image, &[&key]);
}

const ENCRYPTED: [&str; 3] = [
    "Type=root\nFormat=squashfs\nCopyFiles=/\nEncrypt=key-file\nEncryptKDF=minimal\nVerity=data\n\
     VerityMatchKey=r\nMinimize=best\n",
    "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nSizeMinBytes=2M\nSizeMaxBytes=2M\n",
    "Type=home\nFormat=ext4\nEncrypt=key-file\nEncryptKDF=minimal\nSizeMinBytes=64M\n\
     SizeMaxBytes=64M\n",
];

fn kill_at_all_moments(room: &Room, image: &Path, options: &[&str]) {
    let place = room.place();
    let started = Instant::now();
    run(&mut mount(options, image, &place));
    let whole = started.elapsed();
    run(&mut umount(&place));
    let mut mounted = 0;
    for round in 0..200_u32 {
        let mut command = match round % 4 {
            0 => attach(image),
            1 => {
                run(&mut mount(options, image, &place));
                umount(&place)
            }
            _ => mount(options, image, &place),
        };
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = quiet.spawn().unwrap();
        // From its start to a little beyond its end, in steps that fall elsewhere each time.
        thread::sleep(whole.mul_f64(f64::from(round * 89 % 200) / 180.0));
        child.kill().unwrap();
        child.wait().unwrap();
        mounted += u32::from(!room.mounts().is_empty());
        clear(room, image, round);
    }
    assert!(mounted > 0, "some were done before they were killed");
}

fn attach(image: &Path) -> Command {
    let mut command = dissect(&["--attach"]);
    command.arg(image);
    command
}

/// What a person would do: unmount what is mounted, detach what is attached.
fn clear(room: &Room, image: &Path, round: u32) {
    if !room.mounts().is_empty() {
        run(&mut umount(&room.place()));
    }
    let file = fs::File::open(image).unwrap();
    if !loopdev::devices_of(&file).unwrap().is_empty() {
        let detached = dissect(&["--detach"]).arg(image).output().unwrap();
        let told = text(&detached);
        // The kernel may have done it in between.
        let fine = detached.status.success() || told.contains("no loop device is bound");
        assert!(fine, "round {round}: {told}");
    }
    assert!(room.mounts().is_empty(), "round {round}");
    if !no_mapped_devices() || !is_free(image) {
        let names = fs::read_dir("/sys/block").unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        let table = Command::new("dmsetup").args(["info"]).output().unwrap();
        panic!("round {round}: {names:?}\n{}", text(&table));
    }
}
