//! How long each step of a run took, told at its end.

use std::time::{Duration, Instant};

/// Steps and when they began.
#[derive(Debug)]
pub(crate) struct Times {
    steps: Vec<(String, Instant)>,
}

impl Times {
    pub(crate) const fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// A step begins, and with it the one before ends.
    pub(crate) fn begin(&mut self, step: &str) {
        self.steps.push((step.to_owned(), Instant::now()));
    }

    /// One line a step, and one for all; `None` where there was none.
    pub(crate) fn told(&self) -> Option<String> {
        let end = Instant::now();
        let ends = self.steps.iter().skip(1).map(|(_, begin)| *begin);
        let spans = self.steps.iter().zip(ends.chain([end]));
        let lines = spans.map(|((step, begin), end)| line(end - *begin, step));
        let (_, begin) = self.steps.first()?;
        let sum = line(end - *begin, "in all");
        Some(lines.chain([sum]).collect::<Vec<_>>().join("\n"))
    }
}

fn line(time: Duration, what: &str) -> String {
    format!("{:>9.3} s  {what}", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_in_one_column() {
        assert_eq!(
            line(Duration::from_millis(7), "flushing"),
            "    0.007 s  flushing"
        );
        assert_eq!(line(Duration::from_secs(12345), "x"), "12345.000 s  x");
        let mut times = Times::new();
        assert_eq!(times.told(), None);
        times.begin("one");
        times.begin("two");
        let told = times.told().unwrap();
        let words: Vec<&str> = told.lines().map(|line| &line[13..]).collect();
        assert_eq!(words, ["one", "two", "in all"]);
    }
}
