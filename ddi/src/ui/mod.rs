//! What a person sees: tables, maps, progress, messages. Results go to standard output, everything
//! else to standard error.

pub(crate) mod map;
pub(crate) mod progress;
pub(crate) mod prompt;
pub(crate) mod table;

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::exit::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// For people.
    Text,
    /// JSON, indented.
    JsonPretty,
    /// JSON on one line.
    JsonShort,
}

/// The terminal, or the pipes in its place.
#[derive(Debug)]
pub(crate) struct Ui {
    mode: Mode,
    width: usize,
    stderr_is_terminal: bool,
}

impl Ui {
    /// Looks at standard output and standard error.
    pub(crate) fn new(mode: Mode) -> Self {
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.parse().ok());
        let width = columns
            .or_else(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)))
            .unwrap_or(80);
        Self {
            mode,
            width,
            stderr_is_terminal: io::stderr().is_terminal(),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Columns to draw in.
    pub(crate) fn width(&self) -> usize {
        self.width.clamp(20, 400)
    }

    /// Whether somebody may be watching progress.
    pub(crate) fn shows_progress(&self) -> bool {
        self.stderr_is_terminal
    }

    /// Prints a result.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Whoever read the pipe has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }

    /// Where a long result goes, a piece at a time.
    pub(crate) fn output(&self) -> io::BufWriter<io::StdoutLock<'static>> {
        io::BufWriter::with_capacity(64 << 10, io::stdout().lock())
    }

    /// Prints a result as JSON.
    pub(crate) fn print_json(&self, value: &Value) -> Result<(), Failure> {
        let text = match self.mode {
            Mode::JsonShort => serde_json::to_string(value)?,
            Mode::Text | Mode::JsonPretty => serde_json::to_string_pretty(value)?,
        };
        self.print(&format!("{text}\n"))
    }

    /// Says something that is no result.
    pub(crate) fn note(&self, text: &str) {
        // Nobody can be told that standard error is closed.
        drop(writeln!(io::stderr().lock(), "{text}"));
    }

    /// Says why the run failed.
    pub(crate) fn fail(&self, failure: &Failure) {
        match self.mode {
            Mode::Text => self.note(&format!("error: {failure}")),
            Mode::JsonPretty | Mode::JsonShort => self.note(&failure.json().to_string()),
        }
    }
}
