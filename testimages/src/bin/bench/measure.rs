//! How long a command takes, how much memory and how many writes.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Outcome;

const ROUNDS: usize = 3;

/// What one command took: the best of some rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) seconds: f64,
    pub(crate) peak_mib: f64,
    pub(crate) written_mib: f64,
}

/// Memory and writes of one run, and the best time of some more, so that what else the machine does
/// counts least, and time(1) itself not at all.
pub(crate) fn measure(mut command: impl FnMut() -> Command) -> Outcome<Taken> {
    let mut taken = once(&mut command)?;
    for _ in 0..ROUNDS {
        let mut command = command();
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status()?;
        let seconds = start.elapsed().as_secs_f64();
        if !status.success() {
            return Err(format!("{command:?} failed").into());
        }
        taken.seconds = taken.seconds.min(seconds);
    }
    Ok(taken)
}

/// Runs a command under time(1), which knows its peak memory and its writes.
pub(crate) fn once(mut command: impl FnMut() -> Command) -> Outcome<Taken> {
    let inner = command();
    let mut outer = Command::new("time");
    outer
        .args(["-q", "-f", "%M %O"])
        .arg(inner.get_program())
        .args(inner.get_args());
    let start = Instant::now();
    let output = outer
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    let seconds = start.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{inner:?} failed:\n{text}").into());
    }
    let line = text.lines().last().unwrap_or_default();
    let mut numbers = line
        .split_whitespace()
        .filter_map(|word| word.parse::<f64>().ok());
    let peak = numbers.next().ok_or("time(1) said nothing")?;
    let blocks = numbers.next().ok_or("time(1) said too little")?;
    Ok(Taken {
        seconds,
        peak_mib: peak / 1024.0,
        written_mib: blocks * 512.0 / 1_048_576.0,
    })
}

pub(crate) fn check(command: &mut Command) -> Outcome<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}
