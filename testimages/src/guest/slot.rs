//! Turns: no more guests at once than processors, whichever processes start them.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

/// Waits until another guest may run. It is another's turn when the file is closed.
pub(super) fn wait() -> File {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    loop {
        if let Some(file) = (0..count).find_map(take) {
            return file;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Takes slot `number` unless it is taken. Slots are shared by all processes of one user.
fn take(number: usize) -> Option<File> {
    let user = rustix::process::getuid().as_raw();
    let path = std::env::temp_dir().join(format!("ddi-guest-{user}-{number}.lock"));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => panic!("lock {}: {error}", path.display()),
    }
}
