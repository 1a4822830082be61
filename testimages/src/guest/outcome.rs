//! What came of a run in a guest, read from its console. Pure.

use std::time::Duration;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The command ended with this status; 128 and a signal's number if by a signal.
    Exited(i32),
    /// The kernel panicked; its words.
    Panicked(String),
    /// The guest was killed after this time.
    TimedOut(Duration),
    /// The guest was gone before the command ended.
    Lost,
}

/// What came of a run in a guest.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// What the command wrote to standard output and standard error.
    pub output: String,
    /// All that the console showed, the kernel's words among it.
    pub console: String,
}

impl Outcome {
    /// Whether the command ended with status 0.
    pub fn is_success(&self) -> bool {
        self.end == End::Exited(0)
    }

    /// Panics with the console's text unless the command was a test executable, and one test
    /// passed.
    pub fn assert_test_passed(&self) {
        let passed = self.output.contains("test result: ok. 1 passed");
        assert!(
            self.is_success() && passed,
            "in the guest, the test did not pass ({:?}); its console:\n{}",
            self.end,
            self.console
        );
    }

    /// Reads the `console` of a guest that told the words of `marks`. `expired` says that it had to
    /// be killed.
    pub(super) fn read(console: &[u8], marks: &Marks, expired: Option<Duration>) -> Self {
        let console = String::from_utf8_lossy(console).replace('\r', "");
        let (output, status) = marks.find(&console);
        let end = match (status, panic(&console), expired) {
            (Some(status), ..) => End::Exited(status),
            (None, Some(words), _) => End::Panicked(words),
            (None, None, Some(limit)) => End::TimedOut(limit),
            (None, None, None) => End::Lost,
        };
        Self {
            end,
            output: output.to_owned(),
            console,
        }
    }
}

fn panic(console: &str) -> Option<String> {
    let at = console.find("Kernel panic")?;
    console[at..].lines().next().map(str::to_owned)
}

/// The lines around the command's output. A word that nobody can guess keeps them apart from what
/// the command prints.
#[derive(Debug)]
pub(super) struct Marks {
    /// The line before the output.
    pub(super) begin: String,
    /// The line behind the output, but for the status at its end.
    pub(super) end: String,
}

impl Marks {
    pub(super) fn new(word: &str) -> Self {
        Self {
            begin: format!("ddi-guest-begins {word}"),
            end: format!("ddi-guest-ended {word} "),
        }
    }

    /// The output, up to the end of what there is, and the status if it is there.
    fn find<'c>(&self, console: &'c str) -> (&'c str, Option<i32>) {
        let Some((_, rest)) = console.split_once(&format!("{}\n", self.begin)) else {
            return ("", None);
        };
        let Some((output, rest)) = rest.split_once(&format!("\n{}", self.end)) else {
            return (rest, None);
        };
        let status = rest.split_once('\n').map(|(status, _)| status.parse());
        (output, status.and_then(Result::ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_tells_how_it_ended() {
        let limit = Duration::from_secs(5);
        let cases: &[(&str, Option<Duration>, End, &str)] = &[
            (
                "boot\r\nddi-guest-begins w\r\na\r\nb\r\n\r\nddi-guest-ended w 101\r\nbye\r\n",
                None,
                End::Exited(101),
                "a\nb\n",
            ),
            // Killed while it powered off: the status stands.
            (
                "ddi-guest-begins w\n\nddi-guest-ended w 0\n",
                Some(limit),
                End::Exited(0),
                "",
            ),
            // A status cut off is none; another's word is not ours.
            (
                "ddi-guest-begins w\n\nddi-guest-ended w 1",
                None,
                End::Lost,
                "",
            ),
            (
                "ddi-guest-begins w\nx\nddi-guest-ended v 0\n",
                None,
                End::Lost,
                "x\nddi-guest-ended v 0\n",
            ),
            (
                "ddi-guest-begins w\nx\n",
                Some(limit),
                End::TimedOut(limit),
                "x\n",
            ),
            (
                "ddi-guest-begins w\nx\n[  1.0] Kernel panic - not syncing: y\nmore",
                Some(limit),
                End::Panicked("Kernel panic - not syncing: y".to_owned()),
                "x\n[  1.0] Kernel panic - not syncing: y\nmore",
            ),
            ("", None, End::Lost, ""),
        ];
        for (console, expired, end, output) in cases {
            let outcome = Outcome::read(console.as_bytes(), &Marks::new("w"), *expired);
            assert_eq!(outcome.end, *end, "{console}");
            assert_eq!(outcome.output, *output, "{console}");
        }
    }

    #[test]
    fn a_run_without_the_test_does_not_pass() {
        let output = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out";
        let outcome = Outcome {
            end: End::Exited(0),
            output: output.to_owned(),
            console: String::new(),
        };
        assert!(std::panic::catch_unwind(|| outcome.assert_test_passed()).is_err());
    }
}
