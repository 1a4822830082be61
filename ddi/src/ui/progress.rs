//! Progress of long work: a bar on a terminal, silence in a pipe.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use repart::build::phase::Doing;

use super::Ui;
use crate::notify::Notifier;

/// A running piece of work. It vanishes from the screen when dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Begins to show `what`.
    pub(crate) fn start(ui: &Ui, what: String) -> Self {
        let bar = if ui.shows_progress() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Shows what a run is doing, and tells the service manager.
    pub(crate) fn follow(&self, doing: &Doing, notifier: &Notifier) {
        self.step(doing.text.clone());
        notifier.tell(doing);
    }

    /// Shows the next step.
    pub(crate) fn step(&self, what: String) {
        self.0.set_message(what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
