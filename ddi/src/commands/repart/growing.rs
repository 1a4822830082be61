//! `--grow-file-systems=`: what is mounted grows with its partition, in the same run.

use std::path::Path;

use blockdev::sysfs::Sysfs;
use clap::{ArgAction, Args};
use image_specs::conf::boolean;
use luks::Strictness;
use repart::build::growing;
use repart::build::job::Job;
use repart::plan::Plan;

use super::times::Times;
use crate::exit::{Exit, Failure};
use crate::surroundings;
use crate::ui::Ui;

/// What grows with its partition.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Growing")]
pub(crate) struct Growing {
    /// Whether file systems that are mounted, and open encrypted volumes, grow with their partition
    /// where that is marked for it [default: no, systemd-growfs does when they are mounted]
    #[arg(long, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    pub(crate) grow_file_systems: Option<bool>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Grown {
    /// Something has another size.
    pub(crate) anything: bool,
    /// How the run ends, where something could not be grown.
    pub(crate) exit: Option<Exit>,
}

/// Grows all that is mounted from the disk. One that cannot grow does not stop the others.
pub(crate) fn run(
    ui: &Ui,
    disk: &Path,
    (job, plan): (&Job, &Plan),
    times: &mut Times,
) -> Result<Grown, Failure> {
    let stacks = growing::survey(disk, plan, &Sysfs::default())?;
    let strictness = Strictness::with_memory(surroundings::memory());
    let mut grown = Grown::default();
    for act in growing::plan(&stacks) {
        times.begin(&act.to_string());
        match growing::apply(&act, job, &strictness) {
            Ok(Some(told)) => {
                ui.note(&told);
                grown.anything = true;
            }
            Ok(None) => {}
            Err(error) => {
                ui.note(&format!("warning: {}", Failure::from(error)));
                grown.exit = Some(Exit::Failure);
            }
        }
    }
    Ok(grown)
}
