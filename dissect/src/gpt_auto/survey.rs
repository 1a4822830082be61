//! Reads the running system, as far as generators have to know it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use blockdev::backing;
use blockdev::sysfs::{Block, Sysfs};
use image_specs::guid;
use uuid::Uuid;

use super::{Facts, Fstab, Place};

/// The vendor of the boot loader's EFI variables.
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The directories that partitions are mounted on.
const PLACES: [&str; 6] = ["/boot", "/efi", "/home", "/srv", "/var", "/var/tmp"];

/// File systems whose checkers are looked for.
const CHECKED: [&str; 5] = ["btrfs", "ext4", "f2fs", "vfat", "xfs"];

/// Where checkers lie.
const PROGRAMS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];

/// What can be seen below `root`, which is `/` but in tests.
///
/// What is not there counts as not so, as everywhere in early boot.
pub fn facts(root: &Path, initrd: bool) -> Facts {
    let variable = |name: &str| {
        let path = format!("sys/firmware/efi/efivars/{name}-{LOADER}");
        fs::read(root.join(path)).ok()
    };
    let efi = root.join("sys/firmware/efi").is_dir();
    let loader = variable("LoaderDevicePartUUID").filter(|_| efi);
    let stub = efi && variable("StubPcrKernelImage").is_some();
    let fstab = fs::read_to_string(root.join("etc/fstab"));
    Facts {
        initrd,
        efi,
        loader_partition: loader.and_then(|value| loader_partition(&value)),
        measured: stub && root.join("sys/class/tpmrm/tpmrm0").exists(),
        places: places(root),
        fstab: Fstab::parse(&fstab.unwrap_or_default()),
        checkers: CHECKED
            .into_iter()
            .filter(|kind| {
                let name = format!("fsck.{kind}");
                PROGRAMS
                    .iter()
                    .any(|folder| root.join(folder).join(&name).exists())
            })
            .map(str::to_owned)
            .collect(),
    }
}

/// The UUID in the EFI variable `LoaderDevicePartUUID`: attributes of 4 bytes, then UTF-16.
pub fn loader_partition(variable: &[u8]) -> Option<Uuid> {
    let units = variable.get(4..)?.chunks_exact(2);
    let units = units.map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text: Vec<u16> = units.take_while(|unit| *unit != 0).take(64).collect();
    guid::parse(&String::from_utf16(&text).ok()?).ok()
}

/// The disk that the root file system is on, or else that of `/usr`; `None` where it is on none, or
/// on several.
pub fn root_disk(sysfs: &Sysfs) -> io::Result<Option<Block>> {
    backing::disk_of_system(Path::new("/"), sysfs)
}

fn places(root: &Path) -> BTreeMap<&'static str, Place> {
    let state = |place: &'static str| {
        let path = root.join(place.trim_start_matches('/'));
        let state = match fs::read_dir(&path) {
            Ok(mut entries) => match entries.next().is_some() && !is_mounted(&path) {
                true => Place::Populated,
                false => Place::Free,
            },
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Place::NoDirectory,
            Err(_) => return None,
        };
        Some((place, state))
    };
    PLACES.into_iter().filter_map(state).collect()
}

fn is_mounted(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| backing::is_mount_root(&file).unwrap_or(false))
}

impl Fstab {
    /// Parses `/etc/fstab` (fstab(5)); lines that make no sense say nothing.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
        {
            let mut fields = line.split_ascii_whitespace();
            let (Some(source), Some(place)) = (fields.next(), fields.next()) else {
                continue;
            };
            let below = |root: &str| Path::new(place).starts_with(root);
            found.swap |= fields.next() == Some("swap");
            found.boot |= below("/boot") || below("/efi");
            found.sources.push(source.to_owned());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_tells_its_partition_in_utf_16() {
        let variable = |text: &str| {
            let units = text.encode_utf16().flat_map(u16::to_le_bytes);
            [6, 0, 0, 0].into_iter().chain(units).collect::<Vec<u8>>()
        };
        let uuid = "11111111-1111-4111-8111-111111111111";
        for text in [
            uuid.to_owned(),
            format!("{uuid}\0"),
            format!("{uuid}\0junk"),
        ] {
            assert_eq!(loader_partition(&variable(&text)), uuid.parse().ok());
        }
        for bytes in [
            &b""[..],
            &[6, 0, 0],
            &[6, 0, 0, 0],
            &variable("x"),
            &variable(uuid)[..70],
        ] {
            assert_eq!(loader_partition(bytes), None);
        }
    }

    #[test]
    fn fstab_says_what_is_there_already() {
        let fstab = Fstab::parse("# /dev/a /boot\n/dev/b none swap sw\nUUID=x /boots ext4\nbad\n");
        assert!(fstab.swap && !fstab.boot);
        assert_eq!(fstab.sources, ["/dev/b", "UUID=x"]);
        for (line, boot) in [
            ("a /boot/x b", true),
            ("a /efi b", true),
            ("a /efix b", false),
        ] {
            assert_eq!(Fstab::parse(line).boot, boot, "{line}");
        }
    }

    #[test]
    fn places_are_looked_at_and_nothing_missing_hurts() {
        let root = tempfile::tempdir().unwrap();
        let inside = |name: &str| root.path().join(name);
        fs::create_dir_all(inside("var/tmp")).unwrap();
        fs::create_dir_all(inside("home")).unwrap();
        fs::create_dir_all(inside("usr/sbin")).unwrap();
        fs::write(inside("usr/sbin/fsck.ext4"), "").unwrap();
        fs::write(inside("efi"), "").unwrap();
        let facts = facts(root.path(), false);
        let places = [
            ("/efi", Place::NoDirectory),
            ("/home", Place::Free),
            ("/var", Place::Populated),
            ("/var/tmp", Place::Free),
        ];
        assert_eq!(facts.places, BTreeMap::from(places));
        assert_eq!(facts.checkers, ["ext4"]);
        assert!(!facts.efi && !facts.measured);
    }
}
