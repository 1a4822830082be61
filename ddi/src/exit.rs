//! How a run ends: exit codes, and failures with their causes and a hint.

use std::error::Error;
use std::fmt;

/// Exit codes, those of the tools that ddi answers as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or nothing to do.
    Ok,
    /// Failed.
    Failure,
    /// Two things that were compared differ (`dissect diff`).
    Different,
    /// No permission, or data that are not what a root hash stands for (veritysetup: 2).
    Refused,
    /// The device is not there, or is no such device (veritysetup: 4).
    NoDevice,
    /// The device is in use, or there already (veritysetup: 5).
    InUse,
    /// No disk is known that could be meant (repart).
    NoDisk,
    /// The device has no partition table, or one that is not GPT (repart).
    NoLabel,
    /// A command that was run for the user has ended with this.
    Command(u8),
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure | Self::Different => 1,
            Self::Refused => 2,
            Self::NoDevice => 4,
            Self::InUse => 5,
            Self::NoDisk => 76,
            Self::NoLabel => 77,
            Self::Command(code) => code,
        }
    }
}

/// A failed run: its exit code, what was tried and why it failed, what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: Box<dyn Error + Send + Sync>,
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure that no library error stands behind.
    pub(crate) fn message(text: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failure,
            error: text.into().into(),
            hint: None,
        }
    }

    /// The same with another exit code.
    pub(crate) fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same with what to do next.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error and its causes, outermost first, without what the message before says already.
    pub(crate) fn chain(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut next: Option<&(dyn Error + 'static)> = Some(self.error.as_ref());
        while let Some(error) = next {
            let text = error.to_string();
            let said = causes.last().is_some_and(|last| last.ends_with(&text));
            if !said {
                causes.push(text);
            }
            next = error.source();
        }
        causes
    }

    /// Whether all that failed is that nobody reads the output any more.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let mut next: Option<&(dyn Error + 'static)> = Some(self.error.as_ref());
        while let Some(error) = next {
            let io = error.downcast_ref::<std::io::Error>();
            if io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
                return true;
            }
            next = error.source();
        }
        false
    }

    /// The failure as a JSON object for programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut chain = self.chain().into_iter();
        serde_json::json!({
            "error": chain.next(),
            "causes": chain.collect::<Vec<_>>(),
            "hint": self.hint,
            "exitCode": self.exit.code(),
        })
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            exit: Exit::Failure,
            error: Box::new(error),
            hint: None,
        }
    }
}

impl fmt::Display for Failure {
    /// `error: cause: deeper cause`, and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain().join(": "))?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_shown_once_each() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open it")]
        struct Outer(#[source] std::io::Error);
        let failure = Failure::from(Outer(std::io::Error::other("disk on fire"))).with_hint("run");
        assert_eq!(
            failure.to_string(),
            "cannot open it: disk on fire\nhint: run"
        );
        assert_eq!(failure.json()["causes"][0], "disk on fire");
        assert_eq!(failure.with_exit(Exit::NoLabel).json()["exitCode"], 77);
    }
}
