//! `ddi makefs`, also reached as `systemd-makefs`.

use std::path::PathBuf;

use blockdev::sysfs::Sysfs;
use image_specs::guid;
use repart::makefs::{self, Plan, Wanted};

use crate::exit::{Exit, Failure};
use crate::surroundings;
use crate::ui::Ui;
use crate::verb::Run;

/// Make a file system on a device that has none
///
/// A device on which anything is found, be it a file system, a partition table or part of something
/// larger, is left as it is, and that is no failure. The new file system has a random UUID, and the
/// name of the device as its label.
#[derive(Debug, clap::Args)]
pub(crate) struct MakefsArgs {
    /// Format: ext4, btrfs, xfs, vfat, swap, or another that has a mkfs program
    #[arg(value_name = "FSTYPE")]
    format: String,
    /// Block device or image file
    #[arg(value_name = "DEVICE")]
    device: PathBuf,
}

impl Run for MakefsArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        let environment = surroundings::environment()?;
        let wanted = Wanted {
            format: &self.format,
            uuid: guid::v4(surroundings::random()?),
            time: environment.time(),
            search: &environment.search,
            scratch: &environment.scratch,
        };
        let survey = makefs::survey(&self.device, &Sysfs::default())?;
        let plan = makefs::plan(&survey, &wanted)?;
        plan.apply(survey, &wanted)?;
        let device = self.device.display();
        ui.note(&match plan {
            Plan::Keep(found) => format!("{device} holds {} and is left alone.", found.join(", ")),
            Plan::Make { label, .. } => format!(
                "Made {} on {device}, with the label {label:?} and the UUID {}.",
                self.format, wanted.uuid
            ),
        });
        Ok(Exit::Ok)
    }
}
