//! What is mounted where: `/proc/thread-self/mountinfo` (proc(5)). Parsing is pure.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Unique while it is mounted.
    pub id: u32,
    /// The mount that it is on.
    pub parent: u32,
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// Which part of the file system it shows.
    pub root: PathBuf,
    /// Where it is.
    pub place: PathBuf,
    /// Options of the mount, comma-separated.
    pub options: String,
    /// The file system's type.
    pub kind: String,
    /// What it was mounted from.
    pub source: PathBuf,
    /// Options of the file system, comma-separated.
    pub super_options: String,
}

/// Every mount that this thread sees, each after the one that it is on.
pub fn all() -> io::Result<Vec<MountEntry>> {
    Ok(parse(&fs::read("/proc/thread-self/mountinfo")?))
}

/// The mounts at `place` and below, each after the one that it is on.
pub fn below(place: &Path) -> io::Result<Vec<MountEntry>> {
    let mut found = all()?;
    found.retain(|entry| entry.place.starts_with(place));
    Ok(found)
}

/// Parses the table; lines that make no sense are left out.
pub fn parse(table: &[u8]) -> Vec<MountEntry> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(line)
        .collect()
}

fn line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut next = || fields.next();
    let number = |field: &[u8]| str::from_utf8(field).ok()?.parse().ok();
    let id = number(next()?)?;
    let parent = number(next()?)?;
    let (major, minor) = str::from_utf8(next()?).ok()?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let root = unescape(next()?);
    let place = unescape(next()?);
    let options = text(next()?);
    // Fields of propagation follow, as many as there are.
    while next()? != b"-" {}
    Some(MountEntry {
        id,
        parent,
        device,
        root,
        place,
        options,
        kind: text(next()?),
        source: unescape(next()?),
        super_options: text(next()?),
    })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(unescape(field).as_os_str().as_bytes()).into_owned()
}

/// Undoes the octal escapes (`\040`) of `/proc` tables.
pub(crate) fn unescape(field: &[u8]) -> PathBuf {
    let mut rest = field;
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\');
        let code = octal
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = match code {
            Some(_) => &tail[3..],
            None => tail,
        };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_apart() {
        let table =
            b"30 29 259:3 /sub /mnt/a\\040b rw,nodev shared:1 master:2 - ext4 /dev/sda2 ro,x\n\
                      31 29 0:5 / /dev rw - devtmpfs udev rw\n\
                      garbage\n1 2 3:x / / rw - a b c\n";
        let found = parse(table);
        assert_eq!(found.len(), 2);
        let first = &found[0];
        assert_eq!((first.id, first.parent, first.device), (30, 29, (259, 3)));
        assert_eq!(first.place, Path::new("/mnt/a b"));
        assert_eq!(first.root, Path::new("/sub"));
        assert_eq!(first.options, "rw,nodev");
        assert_eq!(
            (first.kind.as_str(), first.super_options.as_str()),
            ("ext4", "ro,x")
        );
    }

    #[test]
    fn escapes_are_octal() {
        for (field, plain) in [
            ("/a\\134b", "/a\\b"),
            ("/a\\", "/a\\"),
            ("/a\\04", "/a\\04"),
            ("/a\\999", "/a\\999"),
        ] {
            assert_eq!(unescape(field.as_bytes()), PathBuf::from(plain));
        }
    }

    #[test]
    fn this_thread_has_a_root() {
        assert!(
            all()
                .unwrap()
                .iter()
                .any(|entry| entry.place == Path::new("/"))
        );
    }
}
