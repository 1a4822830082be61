//! `ddi growfs`, also reached as `systemd-growfs`.

use std::path::PathBuf;

use blockdev::sysfs::Sysfs;
use dissect::growfs;

use crate::exit::{Exit, Failure};
use crate::ui::Ui;
use crate::verb::Run;

/// Grow a mounted file system over all of its device
///
/// ext4, btrfs and xfs can grow while they are mounted. Volumes of dm-crypt keep their size so far: a
/// file system in one grows to what the volume has.
#[derive(Debug, clap::Args)]
pub(crate) struct GrowfsArgs {
    /// Where the file system is mounted
    #[arg(value_name = "MOUNTPOINT")]
    place: PathBuf,
    /// Only show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Run for GrowfsArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        let (root, survey) = growfs::survey(&self.place, &Sysfs::default())?;
        let plan = growfs::plan(&survey)?;
        for volume in &plan.left {
            ui.note(&format!(
                "warning: the dm-crypt volume {} is left at its size: this version of ddi does not grow it",
                volume.display()
            ));
        }
        let (place, kind, size) = (plan.place.display(), plan.kind.name(), plan.size);
        if self.dry_run {
            ui.note(&format!("Would grow {kind} on {place} to {size} bytes."));
            return Ok(Exit::Ok);
        }
        plan.apply(&root)?;
        ui.note(&format!("{kind} on {place} has {size} bytes."));
        Ok(Exit::Ok)
    }
}
