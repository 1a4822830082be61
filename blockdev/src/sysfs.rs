//! Block devices as `/sys` shows them: sizes, partitions, and what a device is made of.
//!
//! Only reads. The kernel's text is trusted; that something is missing is an answer where it can be one.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image_specs::units::Bytes;

/// Where `/sys` is mounted.
#[derive(Clone, Debug)]
pub struct Sysfs(PathBuf);

/// The number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block(PathBuf);

/// The kernel does not say what it should.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct SysfsError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::new("/sys")
    }
}

impl Sysfs {
    /// Takes another place for `/sys`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The block device of this number.
    pub fn block(&self, number: Number) -> Result<Block, SysfsError> {
        resolve(&self.0.join("dev/block").join(number.to_string()))
    }

    /// All block devices that are no partitions, by name.
    pub fn disks(&self) -> Result<Vec<Block>, SysfsError> {
        blocks(&self.0.join("class/block")).map(|mut found| {
            found.retain(|block| !block.has("partition"));
            found
        })
    }
}

impl Number {
    /// Takes the number apart that `stat` gives.
    pub fn from_dev(dev: u64) -> Self {
        Self {
            major: rustix::fs::major(dev),
            minor: rustix::fs::minor(dev),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl Block {
    /// Its number.
    pub fn number(&self) -> Result<Number, SysfsError> {
        let path = self.0.join("dev");
        let text = read(&path)?;
        let parse = |text: &str| {
            let (major, minor) = text.trim().split_once(':')?;
            Some(Number {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
            })
        };
        parse(&text).ok_or_else(|| nonsense(path))
    }

    /// Its node in `/dev`.
    pub fn node(&self) -> Result<PathBuf, SysfsError> {
        let path = self.0.join("uevent");
        let text = read(&path)?;
        let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
        let name = name.ok_or_else(|| nonsense(path))?;
        Ok(Path::new("/dev").join(name))
    }

    /// How large it is.
    pub fn size(&self) -> Result<Bytes, SysfsError> {
        let path = self.0.join("size");
        let sectors: Option<u64> = read(&path)?.trim().parse().ok();
        let bytes = sectors.and_then(|count| count.checked_mul(512));
        bytes.map(Bytes::new).ok_or_else(|| nonsense(path))
    }

    /// A number of the disk that no other disk gets before the machine is shut down.
    pub fn sequence(&self) -> Option<u64> {
        read(&self.0.join("diskseq")).ok()?.trim().parse().ok()
    }

    /// Its number on its disk, where it is a partition.
    pub fn partition(&self) -> Option<u32> {
        read(&self.0.join("partition")).ok()?.trim().parse().ok()
    }

    /// Where it begins on its disk, where it is a partition.
    pub fn start(&self) -> Option<Bytes> {
        let sectors: u64 = read(&self.0.join("start")).ok()?.trim().parse().ok()?;
        sectors.checked_mul(512).map(Bytes::new)
    }

    /// Its partitions, as far as the kernel knows them, by number.
    pub fn partitions(&self) -> Result<Vec<Self>, SysfsError> {
        let entries = fs::read_dir(&self.0).map_err(|source| self.failed(source))?;
        let mut found = Vec::new();
        for entry in entries {
            let block = Self(entry.map_err(|source| self.failed(source))?.path());
            found.extend(block.partition().map(|number| (number, block)));
        }
        found.sort_by_key(|(number, _)| *number);
        Ok(found.into_iter().map(|(_, block)| block).collect())
    }

    /// What it is attached by.
    pub fn subsystem(&self) -> Option<String> {
        let bus = fs::read_link(self.0.join("device/subsystem")).ok()?;
        Some(bus.file_name()?.to_string_lossy().into_owned())
    }

    /// Whether the kernel refuses to write to it.
    pub fn is_read_only(&self) -> bool {
        read(&self.0.join("ro")).is_ok_and(|text| text.trim() == "1")
    }

    /// Whether the kernel makes partitions of it: not of those of device-mapper.
    pub fn takes_partitions(&self) -> bool {
        read(&self.0.join("ext_range")).is_ok_and(|text| text.trim() != "1")
    }

    /// The disk that it is a partition of.
    pub fn disk(&self) -> Option<Self> {
        let parent = self.0.parent().filter(|_| self.has("partition"))?;
        Some(Self(parent.to_owned()))
    }

    /// Its partition of this number, as far as the kernel knows it.
    pub fn partition_of(&self, number: u32) -> Result<Option<Self>, SysfsError> {
        let entries = fs::read_dir(&self.0).map_err(|source| self.failed(source))?;
        for entry in entries {
            let block = Self(entry.map_err(|source| self.failed(source))?.path());
            if block.partition() == Some(number) {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// The block devices that it is made of, for device-mapper and its like; else none.
    pub fn made_of(&self) -> Result<Vec<Self>, SysfsError> {
        match self.has("slaves") {
            true => blocks(&self.0.join("slaves")),
            false => Ok(Vec::new()),
        }
    }

    /// The block devices that are made of it.
    pub fn holders(&self) -> Result<Vec<Self>, SysfsError> {
        match self.has("holders") {
            true => blocks(&self.0.join("holders")),
            false => Ok(Vec::new()),
        }
    }

    /// The UUID of a device-mapper device, which begins with its kind: `CRYPT-LUKS2-…`, `LVM-…`.
    pub fn mapper_uuid(&self) -> Option<String> {
        let text = read(&self.0.join("dm/uuid")).ok()?;
        Some(text.trim().to_owned())
    }

    /// Its directory in `/sys/devices`, below those of the controllers that it is attached to.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// The text of one of its files, as it is; `None` where there is no such file, or no text in it.
    pub fn attribute(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join(name)).ok()
    }

    /// Whether the file of this name says 1.
    pub fn flag(&self, name: &str) -> bool {
        self.attribute(name).is_some_and(|text| text.trim() == "1")
    }

    fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    fn failed(&self, source: io::Error) -> SysfsError {
        let path = self.0.clone();
        SysfsError { path, source }
    }
}

fn blocks(directory: &Path) -> Result<Vec<Block>, SysfsError> {
    let failed = |source| SysfsError {
        path: directory.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        names.push(entry.map_err(failed)?.path());
    }
    names.sort();
    names.iter().map(|path| resolve(path)).collect()
}

fn resolve(path: &Path) -> Result<Block, SysfsError> {
    let real = fs::canonicalize(path).map_err(|source| SysfsError {
        path: path.to_owned(),
        source,
    })?;
    Ok(Block(real))
}

fn read(path: &Path) -> Result<String, SysfsError> {
    fs::read_to_string(path).map_err(|source| SysfsError {
        path: path.to_owned(),
        source,
    })
}

fn nonsense(path: PathBuf) -> SysfsError {
    let source = io::Error::new(io::ErrorKind::InvalidData, "its text makes no sense");
    SysfsError { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const MAPPED: Number = Number {
        major: 253,
        minor: 0,
    };

    /// A disk with one partition, and a device-mapper device on it.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("devices/sda/dev", "8:0\n");
        put("devices/sda/size", "4096\n");
        put("devices/sda/diskseq", "9\n");
        put("devices/sda/sda7/dev", "8:7\n");
        put("devices/sda/sda7/partition", "7\n");
        put("devices/sda/sda7/uevent", "MAJOR=8\nDEVNAME=sda7\n");
        put("devices/dm-0/dev", "253:0\n");
        put("devices/dm-0/size", "x\n");
        put("devices/dm-0/dm/uuid", "CRYPT-LUKS2-00-name\n");
        let link = |name: &str, target: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(root.path().join(target), path).unwrap();
        };
        link("dev/block/253:0", "devices/dm-0");
        link("devices/dm-0/slaves/sda7", "devices/sda/sda7");
        link("class/block/sda", "devices/sda");
        link("class/block/sda7", "devices/sda/sda7");
        link("class/block/dm-0", "devices/dm-0");
        root
    }

    #[test]
    fn devices_are_followed_down_to_partitions_and_disks() {
        let root = machine();
        let sysfs = Sysfs::new(root.path());
        let mapped = sysfs.block(MAPPED).unwrap();
        assert_eq!(mapped.number().unwrap(), MAPPED);
        assert_eq!(mapped.mapper_uuid().unwrap(), "CRYPT-LUKS2-00-name");
        assert_eq!((mapped.partition(), mapped.disk()), (None, None));
        let below = mapped.made_of().unwrap();
        assert_eq!(below[0].node().unwrap(), Path::new("/dev/sda7"));
        assert_eq!(below[0].partition(), Some(7));
        let disk = below[0].disk().unwrap();
        assert_eq!(disk.size().unwrap(), Bytes::mib(2));
        assert_eq!((disk.sequence(), mapped.sequence()), (Some(9), None));
        assert_eq!(disk.partition_of(7).unwrap(), Some(below[0].clone()));
        assert_eq!(disk.partition_of(1).unwrap(), None);
        assert_eq!(disk.made_of().unwrap(), []);
        assert_eq!(sysfs.disks().unwrap(), [mapped, disk]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let root = machine();
        let sysfs = Sysfs::new(root.path());
        let mapped = sysfs.block(MAPPED).unwrap();
        for error in [
            mapped.size().unwrap_err(),
            mapped.node().unwrap_err(),
            sysfs.block(Number { major: 1, minor: 1 }).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.starts_with("cannot read /"), "{text}");
        }
    }
}
