//! Asking for what nobody may read: at the terminal, without showing what is typed.

use std::fs::File;
use std::io::{self, Read, Write};

use luks::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The most that is taken, in bytes: more than any passphrase has.
const MOST: usize = 4096;

/// The terminal of this process.
#[derive(Debug)]
pub(crate) struct Terminal {
    file: File,
}

impl Terminal {
    /// Opens it; `None` where nobody can be asked.
    pub(crate) fn open() -> Option<Self> {
        let file = File::options().read(true).write(true).open("/dev/tty");
        Some(Self { file: file.ok()? })
    }

    /// Asks for a secret; `None` where whoever is asked does not want to say (control-C, control-D).
    pub(crate) fn ask(&self, question: &str) -> io::Result<Option<Secret>> {
        let quiet = Quiet::new(&self.file)?;
        let mut terminal = &self.file;
        write!(terminal, "{question}: ")?;
        let mut line = Line::new();
        let last = loop {
            let mut byte = [0];
            match terminal.read(&mut byte) {
                Ok(0) => break Step::Cancelled,
                Ok(_) => match line.take(byte[0]) {
                    Step::More => {}
                    last => break last,
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        drop(quiet);
        writeln!(terminal)?;
        // Taken over in any case, to be erased.
        let typed = line.into_secret();
        Ok((last == Step::Done).then_some(typed))
    }
}

/// While it lives, the terminal shows nothing and makes no signals, which could end us before it is as
/// it was.
struct Quiet<'a> {
    file: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(file: &'a File) -> io::Result<Self> {
        let before = tcgetattr(file)?;
        let mut now = before.clone();
        now.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        // What was typed before the question is no answer to it.
        tcsetattr(file, OptionalActions::Flush, &now)?;
        Ok(Self { file, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // The terminal is gone where this fails.
        let _ = tcsetattr(self.file, OptionalActions::Now, &self.before);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    More,
    Done,
    Cancelled,
}

/// A line as it is typed. It never moves, so that no copies of it stay behind.
struct Line(Vec<u8>);

impl Line {
    fn new() -> Self {
        Self(Vec::with_capacity(MOST))
    }

    fn take(&mut self, byte: u8) -> Step {
        match byte {
            b'\n' | b'\r' => return Step::Done,
            3 | 4 => return Step::Cancelled,
            8 | 0x7f => {
                // A whole character: bytes that continue one, and its first.
                while self.0.pop().is_some_and(|last| last & 0xc0 == 0x80) {}
            }
            0x15 => self.0.clear(),
            _ if self.0.len() < MOST => self.0.push(byte),
            _ => {}
        }
        Step::More
    }

    fn into_secret(self) -> Secret {
        Secret::new(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_edited_like_at_a_terminal() {
        for (typed, step, line) in [
            ("abc\n", Step::Done, "abc"),
            ("\r", Step::Done, ""),
            ("abd\x7fc\n", Step::Done, "abc"),
            ("\x7f\x08a\n", Step::Done, "a"),
            ("aäö\x7f\x7fb\n", Step::Done, "ab"),
            ("wrong\x15right\n", Step::Done, "right"),
            ("abc\x03", Step::Cancelled, "abc"),
            ("\x04", Step::Cancelled, ""),
            ("abc", Step::More, "abc"),
        ] {
            let mut found = Line::new();
            let mut last = Step::More;
            for byte in typed.bytes() {
                assert_eq!(last, Step::More, "{typed:?}");
                last = found.take(byte);
            }
            assert_eq!(last, step, "{typed:?}");
            assert_eq!(found.into_secret().expose(), line.as_bytes(), "{typed:?}");
        }
    }

    #[test]
    fn lines_have_an_end() {
        let mut line = Line::new();
        let place = line.0.as_ptr();
        for _ in 0..2 * MOST {
            assert_eq!(line.take(b'x'), Step::More);
        }
        assert_eq!((line.0.len(), line.0.as_ptr()), (MOST, place));
    }
}
