//! Disks for tests: loop devices whose partitions the kernel looks at.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::common::{SEED, repart, run};

/// An image file that is attached as a disk.
pub(crate) struct Disk {
    pub(crate) image: PathBuf,
    pub(crate) node: String,
}

impl Disk {
    /// An empty disk of `size` MiB; `options` are those of `losetup`.
    pub(crate) fn new(folder: &Path, name: &str, size: u64, options: &[&str]) -> Self {
        let image = folder.join(format!("{name}.raw"));
        File::create(&image).unwrap().set_len(size << 20).unwrap();
        Self::attach(image, options)
    }

    pub(crate) fn attach(image: PathBuf, options: &[&str]) -> Self {
        let mut command = Command::new("losetup");
        command.args(["-f", "-P", "--show"]).args(options);
        let node = run(command.arg(&image)).trim().to_owned();
        Self { image, node }
    }

    /// Makes it larger, as a virtual machine's disk is.
    pub(crate) fn grow(&self, size: u64) {
        File::options()
            .write(true)
            .open(&self.image)
            .unwrap()
            .set_len(size << 20)
            .unwrap();
        run(Command::new("losetup").args(["-c", &self.node]));
    }

    pub(crate) fn part(&self, number: u32) -> PathBuf {
        format!("{}p{number}", self.node).into()
    }

    /// The partitions that the kernel knows: number, first byte, bytes.
    pub(crate) fn known(&self) -> Vec<(u32, u64, u64)> {
        let name = self.node.trim_start_matches("/dev/");
        let read =
            |path: PathBuf| -> Option<u64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
        let mut found = Vec::new();
        for entry in fs::read_dir(format!("/sys/block/{name}")).unwrap() {
            let path = entry.unwrap().path();
            if let Some(number) = read(path.join("partition")) {
                let sectors = |name: &str| read(path.join(name)).unwrap() * 512;
                let number = u32::try_from(number).unwrap();
                found.push((number, sectors("start"), sectors("size")));
            }
        }
        found.sort_unstable();
        found
    }

    /// What the table in the image names, as sfdisk reads it: number, first byte, bytes.
    pub(crate) fn named(&self, sector: u64) -> Vec<(u32, u64, u64)> {
        let text = run(Command::new("sfdisk").arg("--json").arg(&self.node));
        let table: serde_json::Value = serde_json::from_str(&text).unwrap();
        let rows = table["partitiontable"]["partitions"].as_array().cloned();
        let mut found = Vec::new();
        for row in rows.unwrap_or_default() {
            let node = row["node"].as_str().unwrap();
            let number = node.rsplit('p').next().unwrap().parse().unwrap();
            let bytes = |key: &str| row[key].as_u64().unwrap() * sector;
            found.push((number, bytes("start"), bytes("size")));
        }
        found
    }

    /// `ddi repart` on the disk, for real.
    pub(crate) fn repart(&self, definitions: &Path) -> Command {
        repart_on(Path::new(&self.node), definitions)
    }

    /// All bytes, in short.
    pub(crate) fn digest(&self) -> String {
        digest(Path::new(&self.node))
    }

    pub(crate) fn detach(self) {
        run(Command::new("losetup").args(["-d", &self.node]));
    }
}

pub(crate) fn repart_on(target: &Path, definitions: &Path) -> Command {
    let mut command = repart();
    command
        .args(["--dry-run=no", SEED])
        .arg(format!("--definitions={}", definitions.display()))
        .arg(target);
    command
}

pub(crate) fn digest(path: &Path) -> String {
    let text = run(Command::new("sha256sum").arg(path));
    text.split(' ').next().unwrap().to_owned()
}

/// A folder of definitions, named by their order.
pub(crate) fn definitions(folder: &Path, name: &str, partitions: &[&str]) -> PathBuf {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    for (number, keys) in partitions.iter().enumerate() {
        let file = folder.join(format!("{}0.conf", number + 1));
        fs::write(file, format!("[Partition]\n{keys}")).unwrap();
    }
    folder
}

pub(crate) fn mount(node: &Path, place: &Path) {
    fs::create_dir_all(place).unwrap();
    run(Command::new("mount").arg(node).arg(place));
}

pub(crate) fn umount(place: &Path) {
    run(Command::new("umount").arg(place));
}
