//! Mounting and attaching with the real kernel: on this machine as root what its kernel has, in
//! guests the rest (dm-verity, vfat, signatures). As an ordinary user all of it is refused.

mod checking;
#[path = "../common/mod.rs"]
mod common;
mod encrypted;
mod guest;
mod host;
mod kill;
mod policy;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use blockdev::dm::DeviceMapper;
use blockdev::loopdev;
use blockdev::mountinfo::{self, MountEntry};

use common::{SEED, ddi, plant, repart, run};

/// A folder with an image, a place to mount it, and keys.
struct Room {
    folder: PathBuf,
}

impl Room {
    fn new(folder: &Path) -> Self {
        let folder = folder.join("room");
        fs::create_dir(&folder).unwrap();
        fs::create_dir(folder.join("place")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn place(&self) -> PathBuf {
        self.path("place")
    }

    /// A small tree with the directories that are mounted on.
    fn tree(&self) -> PathBuf {
        let tree = self.path("tree");
        if !tree.exists() {
            plant(&tree);
            for name in ["boot", "efi", "home", "srv", "var/tmp"] {
                fs::create_dir_all(tree.join(name)).unwrap();
            }
        }
        tree
    }

    /// An image of these partitions; what is copied is from [`Self::tree`].
    fn image(&self, name: &str, partitions: &[&str], more: &[String]) -> PathBuf {
        let definitions = self.path(&format!("{name}.d"));
        fs::create_dir(&definitions).unwrap();
        for (number, keys) in partitions.iter().enumerate() {
            let file = definitions.join(format!("{number}0.conf"));
            fs::write(file, format!("[Partition]\n{keys}")).unwrap();
        }
        let image = self.path(&format!("{name}.raw"));
        let copy = format!("--copy-source={}", self.tree().display());
        run(repart()
            .args(["--empty=create", "--size=auto", "--dry-run=no", SEED])
            .arg(format!("--definitions={}", definitions.display()))
            .arg(copy)
            .args(more)
            .arg(&image));
        image
    }

    /// A key and a certificate.
    fn signer(&self, name: &str) -> (PathBuf, PathBuf) {
        let (key, certificate) = (
            self.path(&format!("{name}.key")),
            self.path(&format!("{name}.crt")),
        );
        run(Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout",
            ])
            .arg(&key)
            .arg("-out")
            .arg(&certificate));
        (key, certificate)
    }

    /// Everything that is mounted in the place: where, type, options of mount and file system.
    fn mounts(&self) -> Vec<MountEntry> {
        mountinfo::below(&self.place()).unwrap()
    }

    /// What is mounted, as `WHERE TYPE ro|rw NOSUID…` in the order of mounting.
    fn shown(&self) -> Vec<String> {
        let place = self.place();
        let line = |entry: &MountEntry| {
            let below = entry.place.strip_prefix(&place).unwrap();
            let known = ["ro", "rw", "nosuid", "nodev", "noexec", "nosymfollow"];
            let words = entry.options.split(',').filter(|word| known.contains(word));
            let words: Vec<&str> = words.collect();
            format!("/{} {} {}", below.display(), entry.kind, words.join(","))
        };
        self.mounts().iter().map(line).collect()
    }
}

/// Partitions of a signed verity set of root.
const SIGNED: [&str; 3] = [
    "Type=root\nFormat=squashfs\nCopyFiles=/\nMinimize=best\nVerity=data\nVerityMatchKey=r\n",
    "Type=root-verity\nVerity=hash\nVerityMatchKey=r\nMinimize=best\n",
    "Type=root-verity-sig\nVerity=signature\nVerityMatchKey=r\n",
];

fn signing((key, certificate): &(PathBuf, PathBuf)) -> [String; 2] {
    [
        format!("--private-key={}", key.display()),
        format!("--certificate={}", certificate.display()),
    ]
}

fn dissect(words: &[&str]) -> Command {
    let mut command = ddi();
    command.arg("dissect").args(words);
    command
}

fn mount(options: &[&str], image: &Path, place: &Path) -> Command {
    let mut command = dissect(&["--mount"]);
    command.args(options).arg(image).arg(place);
    command
}

fn umount(place: &Path) -> Command {
    let mut command = dissect(&["--umount"]);
    command.arg(place);
    command
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Waits until `done`, for what the kernel does after a call has returned.
fn soon(done: impl Fn() -> bool) -> bool {
    (0..400).any(|_| {
        let is = done();
        if !is {
            thread::sleep(Duration::from_millis(5));
        }
        is
    })
}

/// Whether no loop device is bound to the image.
fn is_free(image: &Path) -> bool {
    let file = File::open(image).unwrap();
    soon(|| loopdev::devices_of(&file).unwrap().is_empty())
}

/// Whether there is no device-mapper device at all: in a guest, all are ours.
fn no_mapped_devices() -> bool {
    DeviceMapper::open().unwrap();
    soon(|| {
        let names = fs::read_dir("/sys/block").unwrap();
        let names = names.map(|entry| entry.unwrap().file_name());
        !names
            .into_iter()
            .any(|name| name.to_string_lossy().starts_with("dm-"))
    })
}
