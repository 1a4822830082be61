//! BSD locks on images and block devices, held from the survey to the end of apply.
//!
//! udev and the system's own tools take the same lock, so nobody probes or changes what we work on.
//! A lock ends when the file is closed.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Who else may hold the lock at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Other readers.
    Shared,
    /// Nobody.
    Exclusive,
}

/// A process that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process ID.
    pub pid: u32,
    /// Its name, where the kernel told it.
    pub name: Option<String>,
}

/// The lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another process holds a lock on it{}; wait for that to end", by(.0))]
    Held(Vec<Holder>),
    /// The kernel refused.
    #[error("cannot lock it")]
    Io(#[source] io::Error),
}

/// Takes the lock on an open file, without waiting.
pub fn lock(file: &File, kind: LockKind) -> Result<(), LockError> {
    let operation = match kind {
        LockKind::Shared => FlockOperation::NonBlockingLockShared,
        LockKind::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(file, operation) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(LockError::Held(holders(file))),
        Err(error) => Err(LockError::Io(error.into())),
    }
}

/// Who holds a BSD lock on the file; empty where the kernel does not tell.
fn holders(file: &File) -> Vec<Holder> {
    let (Ok(metadata), Ok(table)) = (file.metadata(), fs::read_to_string("/proc/locks")) else {
        return Vec::new();
    };
    let device = metadata.dev();
    let identity = format!(
        "{:02x}:{:02x}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device),
        metadata.ino()
    );
    pids(&table, &identity).map(Holder::of).collect()
}

/// The processes that `/proc/locks` lists with a BSD lock on the inode `identity`
/// (`MAJOR:MINOR:INODE`, the first two in hex).
fn pids<'a>(table: &'a str, identity: &'a str) -> impl Iterator<Item = u32> + 'a {
    table.lines().filter_map(move |line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, _, pid, inode, ..] if inode == identity => pid.parse().ok(),
            _ => None,
        }
    })
}

impl Holder {
    fn of(pid: u32) -> Self {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        Self {
            pid,
            name: name.ok().map(|name| name.trim_end().to_owned()),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (process {})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

fn by(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return String::new();
    }
    let names: Vec<String> = holders.iter().map(Holder::to_string).collect();
    format!(": {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        lock(file.as_file(), LockKind::Exclusive).unwrap();
        let second = File::open(file.path()).unwrap();
        let error = lock(&second, LockKind::Shared).unwrap_err();
        let LockError::Held(holders) = &error else {
            panic!("{error:?}");
        };
        let me = std::process::id();
        assert!(holders.iter().any(|holder| holder.pid == me), "{error}");
        assert!(error.to_string().contains(&format!("process {me}")));
    }

    #[test]
    fn readers_share() {
        let file = tempfile::NamedTempFile::new().unwrap();
        lock(file.as_file(), LockKind::Shared).unwrap();
        let second = File::open(file.path()).unwrap();
        lock(&second, LockKind::Shared).unwrap();
        assert!(lock(&second, LockKind::Exclusive).is_err());
    }

    #[test]
    fn only_bsd_locks_on_that_inode_count() {
        let table = "1: FLOCK  ADVISORY  WRITE 12 fe:00:77 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 13 fe:00:77 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 14 fe:00:78 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 15 fe:00:77 0 EOF\n";
        assert_eq!(pids(table, "fe:00:77").collect::<Vec<_>>(), [12]);
    }
}
