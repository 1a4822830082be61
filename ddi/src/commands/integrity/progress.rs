//! How far the writing of data and tags is.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::IntegrityArgs;
use crate::exit::Failure;
use crate::ui::Ui;
use crate::ui::progress::Progress;

/// Between two lines, where nothing is said.
const OFTEN: Duration = Duration::from_millis(500);

/// Tells how far it is: a line that changes on a terminal, lines of JSON where these are wanted.
pub(super) struct Wiping<'a> {
    args: &'a IntegrityArgs,
    ui: &'a Ui,
    device: String,
    size: u64,
    begun: Instant,
    told: Instant,
    bar: Option<Progress>,
}

impl<'a> Wiping<'a> {
    pub(super) fn start(args: &'a IntegrityArgs, ui: &'a Ui, device: &Path, size: u64) -> Self {
        let device = device.display().to_string();
        let shown = !args.progress_json && !args.batch_mode;
        let bar = shown.then(|| Progress::start(ui, format!("Writing data and tags of {device}")));
        let now = Instant::now();
        Self {
            args,
            ui,
            device,
            size,
            begun: now,
            told: now,
            bar,
        }
    }

    /// Tells that so many bytes are done.
    pub(super) fn done(&mut self, bytes: u64) {
        let often = self.args.progress_frequency;
        let often = often.map_or(OFTEN, Duration::from_secs);
        if self.told.elapsed() < often && bytes < self.size {
            return;
        }
        self.told = Instant::now();
        if self.args.progress_json {
            // Nobody can be told that standard output is closed.
            drop(self.ui.print(&format!("{}\n", self.json(bytes))));
        } else if let Some(bar) = &self.bar {
            let (done, size) = (bytes >> 20, self.size >> 20);
            let speed = self.speed(bytes) >> 20;
            bar.step(format!("{done} of {size} MiB, {speed} MiB/s"));
        }
    }

    /// Says that all is done.
    pub(super) fn finish(self) -> Result<(), Failure> {
        if self.args.batch_mode || self.args.progress_json {
            return Ok(());
        }
        let seconds = self.begun.elapsed().as_secs();
        let speed = self.speed(self.size);
        let tenths = ((speed & 0xf_ffff) * 10) >> 20;
        self.ui.print(&format!(
            "Finished, time {:02}m{:02}s, {:4} MiB written, speed {:3}.{tenths} MiB/s\n",
            seconds / 60,
            seconds % 60,
            self.size >> 20,
            speed >> 20,
        ))
    }

    fn speed(&self, bytes: u64) -> u64 {
        let time = self.begun.elapsed().as_micros().max(1);
        u64::try_from(u128::from(bytes) * 1_000_000 / time).unwrap_or(u64::MAX)
    }

    /// As cryptsetup has it: numbers are strings.
    fn json(&self, bytes: u64) -> serde_json::Value {
        let speed = self.speed(bytes);
        let left = self.size.saturating_sub(bytes);
        let eta = u128::from(left) * 1000 / u128::from(speed.max(1));
        json!({
            "device": self.device,
            "device_bytes": bytes.to_string(),
            "device_size": self.size.to_string(),
            "speed": speed.to_string(),
            "eta_ms": eta.to_string(),
            "time_ms": self.begun.elapsed().as_millis().to_string(),
        })
    }
}
