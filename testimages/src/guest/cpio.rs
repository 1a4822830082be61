//! Archives that a kernel unpacks at boot: cpio in the form "newc", uncompressed, as the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst` describes it. Pure.

use std::collections::BTreeMap;

/// Types of files in `st_mode`.
const FOLDER: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Files by path; the folders above them come by themselves. All belongs to root.
#[derive(Debug, Default)]
pub(super) struct Archive {
    /// Paths without a slash in front, so that folders stand before what is in them.
    entries: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Archive {
    /// Adds or replaces the file at the absolute `path`.
    pub(super) fn file(&mut self, path: &str, permissions: u32, bytes: Vec<u8>) {
        self.add(path, REGULAR | permissions, bytes);
    }

    /// Adds or replaces the symbolic link at `path`.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.add(path, LINK | 0o777, target.as_bytes().to_vec());
    }

    /// Adds the folder at `path`.
    pub(super) fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if !path.is_empty() && !self.entries.contains_key(path) {
            self.add(path, FOLDER | 0o755, Vec::new());
        }
    }

    /// Whether there is something at `path`.
    pub(super) fn has(&self, path: &str) -> bool {
        self.entries.contains_key(path.trim_matches('/'))
    }

    fn add(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        if let Some((above, _)) = path.trim_matches('/').rsplit_once('/') {
            self.folder(above);
        }
        let path = path.trim_matches('/').to_owned();
        self.entries.insert(path, (mode, content));
    }

    /// The archive's bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, (path, (mode, content))) in (1..).zip(&self.entries) {
            entry(&mut bytes, number, path, *mode, content);
        }
        entry(&mut bytes, 0, "TRAILER!!!", 0, &[]);
        bytes
    }
}

/// One entry: thirteen numbers of eight hexadecimal digits behind a magic, then name and content,
/// each padded to four bytes.
fn entry(bytes: &mut Vec<u8>, number: usize, path: &str, mode: u32, content: &[u8]) {
    let mode = usize::try_from(mode).expect("32 bits");
    let (owner, links, time, device, sum) = (0, 1, 0, 0, 0);
    let fields = [number, mode, owner, owner, links, time, content.len()];
    let rest = [device, device, device, device, path.len() + 1, sum];
    bytes.extend(b"070701");
    for field in fields.into_iter().chain(rest) {
        bytes.extend(format!("{field:08X}").as_bytes());
    }
    bytes.extend(path.as_bytes());
    bytes.push(0);
    pad(bytes);
    bytes.extend(content);
    pad(bytes);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// cpio itself (package cpio) lists what is in an archive.
    #[test]
    fn cpio_reads_it() {
        let mut archive = Archive::default();
        archive.file("/a/b/program", 0o755, b"12345".to_vec());
        archive.link("/a/link", "b/program");
        archive.file("/a/b/program", 0o644, b"1234567".to_vec());
        assert!(archive.has("/a/b") && !archive.has("/b"));
        let mut cpio = Command::new("cpio")
            .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start cpio (package cpio)");
        let mut input = cpio.stdin.take().unwrap();
        input.write_all(&archive.into_bytes()).unwrap();
        drop(input);
        let listed = cpio.wait_with_output().unwrap();
        assert!(listed.status.success());
        let lines: Vec<String> = String::from_utf8(listed.stdout)
            .unwrap()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let expected = [
            "drwxr-xr-x 1 0 0 0 Jan 1 1970 a",
            "drwxr-xr-x 1 0 0 0 Jan 1 1970 a/b",
            "-rw-r--r-- 1 0 0 7 Jan 1 1970 a/b/program",
            "lrwxrwxrwx 1 0 0 9 Jan 1 1970 a/link -> b/program",
        ];
        assert_eq!(lines, expected);
    }
}
