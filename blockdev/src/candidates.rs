//! Disks that can be partitioned, with all names by which they are known. Only reads.
//!
//! They are the whole devices of which the kernel makes partitions, and that have a size: no
//! partitions, no compressed memory, no loop devices without a file.

use std::fs;
use std::path::{Path, PathBuf};

use image_specs::units::Bytes;

use crate::sysfs::{Block, Sysfs, SysfsError};

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its node in `/dev`.
    pub node: PathBuf,
    /// The links to it that udev has made, sorted.
    pub links: Vec<PathBuf>,
    /// The number that no other disk gets before the machine is shut down.
    pub sequence: Option<u64>,
    /// How large it is.
    pub size: Bytes,
    /// Who made it.
    pub vendor: Option<String>,
    /// What it is called.
    pub model: Option<String>,
    /// What it is attached by: `scsi`, `nvme`, `virtio`.
    pub subsystem: Option<String>,
}

/// All of them, by node. `udev` is the directory of what udev knows; without it there are no links.
pub fn list(sysfs: &Sysfs, udev: &Path) -> Result<Vec<Candidate>, SysfsError> {
    let mut found = Vec::new();
    for disk in sysfs.disks()? {
        // What is removed meanwhile is none.
        found.extend(candidate(&disk, udev).ok().flatten());
    }
    Ok(found)
}

fn candidate(disk: &Block, udev: &Path) -> Result<Option<Candidate>, SysfsError> {
    let (node, size) = (disk.node()?, disk.size()?);
    let name = node.file_name().unwrap_or_default().as_encoded_bytes();
    if size.is_zero() || name.starts_with(b"zram") || !disk.takes_partitions() {
        return Ok(None);
    }
    let known = fs::read_to_string(udev.join(format!("b{}", disk.number()?)));
    Ok(Some(Candidate {
        node,
        links: links(&known.unwrap_or_default()),
        sequence: disk.sequence(),
        size,
        vendor: line(disk, "device/vendor"),
        model: line(disk, "device/model"),
        subsystem: disk.subsystem(),
    }))
}

fn line(disk: &Block, name: &str) -> Option<String> {
    let text = disk.attribute(name)?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The links in an entry of udev's database: lines `S:` and the path below `/dev`.
fn links(entry: &str) -> Vec<PathBuf> {
    let lines = entry.lines().filter_map(|line| line.strip_prefix("S:"));
    let mut links: Vec<PathBuf> = lines.map(|path| Path::new("/dev").join(path)).collect();
    links.sort();
    links
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn disks_are_listed_with_their_names() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        fs::create_dir_all(root.path().join("class/block")).unwrap();
        for (name, range, sectors) in [
            ("sda", 256, 4096),
            ("zram0", 256, 8),
            ("dm-0", 1, 8),
            ("loop0", 256, 0),
        ] {
            put(&format!("d/{name}/dev"), "8:0\n");
            put(&format!("d/{name}/uevent"), &format!("DEVNAME={name}\n"));
            put(&format!("d/{name}/size"), &format!("{sectors}\n"));
            put(&format!("d/{name}/ext_range"), &format!("{range}\n"));
            let link = root.path().join("class/block").join(name);
            symlink(root.path().join("d").join(name), link).unwrap();
        }
        put("d/sda/diskseq", "3\n");
        put("d/sda/device/model", "Disk of tests   \n");
        symlink("/sys/bus/scsi", root.path().join("d/sda/device/subsystem")).unwrap();
        put("udev/b8:0", "I:1\nS:disk/by-id/b\nS:disk/by-id/a\nE:ID=x\n");
        let found = list(&Sysfs::new(root.path()), &root.path().join("udev")).unwrap();
        let expected = Candidate {
            node: "/dev/sda".into(),
            links: vec!["/dev/disk/by-id/a".into(), "/dev/disk/by-id/b".into()],
            sequence: Some(3),
            size: Bytes::mib(2),
            vendor: None,
            model: Some("Disk of tests".to_owned()),
            subsystem: Some("scsi".to_owned()),
        };
        assert_eq!(found, [expected]);
    }
}
