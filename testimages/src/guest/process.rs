//! A process, with all that it started, that lives no longer than it may.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Starts `command` in a process group of its own and waits for it. After `limit` the group is
/// killed; returns whether it was.
pub(super) fn run(command: &mut Command, limit: Duration) -> io::Result<bool> {
    let mut child = start(command)?;
    let started = Instant::now();
    while child.0.try_wait()?.is_none() {
        if started.elapsed() >= limit {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

/// Starts `command` in a process group of its own.
pub(super) fn start(command: &mut Command) -> io::Result<Group> {
    Ok(Group(command.process_group(0).spawn()?))
}

/// The leader of a process group, which ends with this value.
#[derive(Debug)]
pub(super) struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // What the group does not let be done to it is nothing that a test could mend.
        let running = matches!(self.0.try_wait(), Ok(None));
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let (true, Some(pid)) = (running, pid) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}
