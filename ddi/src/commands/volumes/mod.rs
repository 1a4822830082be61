//! Volumes of tables: what systemd's units and generators run for veritytab and integritytab.

pub(crate) mod generator;
pub(crate) mod integrity;
pub(crate) mod verity;

use std::fs;

use blockdev::sysfs::Number;
use image_specs::tab::Unknown;

use crate::ui::Ui;

/// Says which options are passed over.
fn tell_unknown(unknown: &[Unknown], ui: &Ui) {
    for option in unknown {
        ui.note(&format!("warning: {option}"));
    }
}

/// A property that udev has found of a block device.
fn udev_property(device: Number, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/run/udev/data/b{device}")).ok()?;
    let start = format!("E:{name}=");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.map(str::to_owned)
}
