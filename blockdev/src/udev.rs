//! Staying in step with udev, where that runs: partitions that are new are of use to others when it has
//! seen them and made its links.
//!
//! Nothing is asked of it, and without it nothing is waited for.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::sysfs::Number;

/// How long udev may take for all of them.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where udev says that it runs, and what it knows.
#[derive(Clone, Debug)]
pub struct Udev(PathBuf);

impl Default for Udev {
    fn default() -> Self {
        Self::new("/run/udev")
    }
}

impl Udev {
    /// Takes another place for `/run/udev`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Waits until udev knows these devices; those that it does not know after some time. Whoever
    /// holds a lock on their disk waits for nothing: udev waits for the lock.
    pub fn wait_for(&self, devices: &[Number]) -> Vec<Number> {
        self.wait(devices, Instant::now() + PATIENCE)
    }

    fn wait(&self, devices: &[Number], end: Instant) -> Vec<Number> {
        if !self.0.join("control").exists() {
            return Vec::new();
        }
        let mut unknown = devices.to_vec();
        loop {
            unknown.retain(|number| !self.knows(*number));
            if unknown.is_empty() || Instant::now() >= end {
                return unknown;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn knows(&self, number: Number) -> bool {
        let entry = Path::new("data").join(format!("b{number}"));
        self.0.join(entry).exists()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn devices_are_waited_for_only_where_udev_runs() {
        let run = tempfile::tempdir().unwrap();
        let udev = Udev::new(run.path());
        let number = |minor| Number { major: 259, minor };
        assert_eq!(udev.wait_for(&[number(1)]), []);
        fs::write(run.path().join("control"), "").unwrap();
        fs::create_dir(run.path().join("data")).unwrap();
        fs::write(run.path().join("data/b259:1"), "").unwrap();
        let now = Instant::now();
        assert_eq!(udev.wait(&[number(1), number(2)], now), [number(2)]);
        let entry = run.path().join("data/b259:2");
        let later = thread::spawn(move || fs::write(entry, "").unwrap());
        assert_eq!(udev.wait_for(&[number(1), number(2)]), []);
        later.join().unwrap();
    }
}
