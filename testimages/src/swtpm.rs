//! A software TPM of one's own: a process that is gone when the value goes.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// A running software TPM with a fresh state.
#[derive(Debug)]
pub struct Swtpm {
    child: Child,
    port: u16,
    state: TempDir,
}

const STATE: &str = "tpm2-00.permall";
const TRIES: usize = 20;
const PATIENCE: usize = 200;

impl Swtpm {
    /// Starts one, on a free port of the loopback.
    ///
    /// # Panics
    ///
    /// If the program is missing or does not come up.
    pub fn start() -> Self {
        Self::run(tempfile::tempdir().expect("a folder for the TPM's state"))
    }

    /// Starts one with what [`Swtpm::state`] has told of another: the same keys, and PCRs of zeros.
    ///
    /// # Panics
    ///
    /// If the program is missing or does not come up.
    pub fn with_state(bytes: &[u8]) -> Self {
        let state = tempfile::tempdir().expect("a folder for the TPM's state");
        fs::write(state.path().join(STATE), bytes).expect("the TPM's state");
        Self::run(state)
    }

    /// All that stays in the TPM when it is switched off.
    ///
    /// # Panics
    ///
    /// If it has not stored anything yet.
    pub fn state(&self) -> Vec<u8> {
        fs::read(self.state.path().join(STATE)).expect("the TPM's state")
    }

    fn run(state: TempDir) -> Self {
        for _ in 0..TRIES {
            let port = free_ports();
            let mut child = spawn(&state, port);
            if comes_up(&mut child, port) {
                return Self { child, port, state };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("swtpm does not come up");
    }

    /// Its name for `--tpm2-device=` and for the TSS.
    pub fn device(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Runs a program of tpm2-tools against it.
    ///
    /// # Panics
    ///
    /// If the program is missing or fails.
    pub fn tool(&self, words: &str) -> Output {
        let words = shell_words::split(words).expect("words");
        let (program, arguments) = words.split_first().expect("a program");
        let output = Command::new(program)
            .args(arguments)
            .env("TPM2TOOLS_TCTI", self.device())
            .output()
            .unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {message}");
        output
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free, and the one after it: there the TPM takes orders.
fn free_ports() -> u16 {
    loop {
        let found = TcpListener::bind("127.0.0.1:0").and_then(|first| {
            let port = first.local_addr()?.port();
            let next = port.checked_add(1).ok_or(io::ErrorKind::AddrInUse)?;
            TcpListener::bind(("127.0.0.1", next))?;
            Ok(port)
        });
        if let Ok(port) = found {
            return port;
        }
    }
}

fn spawn(state: &TempDir, port: u16) -> Child {
    let order = port + 1;
    Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .arg("--tpmstate")
        .arg(format!("dir={}", state.path().display()))
        .arg("--server")
        .arg(format!("type=tcp,bindaddr=127.0.0.1,port={port}"))
        .arg("--ctrl")
        .arg(format!("type=tcp,bindaddr=127.0.0.1,port={order}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run swtpm: {error}"))
}

fn comes_up(child: &mut Child, port: u16) -> bool {
    for _ in 0..PATIENCE {
        if !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}
