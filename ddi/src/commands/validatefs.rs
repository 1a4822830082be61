//! `ddi validatefs`, also reached as `systemd-validatefs`.

use std::path::{Path, PathBuf};

use blockdev::sysfs::Sysfs;
use dissect::validatefs;

use crate::exit::{Exit, Failure};
use crate::ui::Ui;
use crate::verb::Run;

/// The root of `--root=auto` in an initrd.
const SYSROOT: &str = "/sysroot";

/// Check that a mounted file system is where it says that it belongs
///
/// The attributes user.validatefs.mount_point, user.validatefs.gpt_label and
/// user.validatefs.gpt_type_uuid of its root directory list the mount points, partition labels and
/// partition types that it may be found with. A file system without them passes. Devices of
/// device-mapper are followed down to their partitions.
#[derive(Debug, clap::Args)]
pub(crate) struct ValidatefsArgs {
    /// Where the file system is mounted
    #[arg(value_name = "MOUNTPOINT")]
    place: PathBuf,
    /// Take this directory for /, or in an initrd /sysroot with auto
    #[arg(long, value_name = "PATH|auto")]
    root: Option<String>,
}

impl Run for ValidatefsArgs {
    fn run(&self, ui: &Ui) -> Result<Exit, Failure> {
        let place = std::path::absolute(&self.place).map_err(|error| {
            Failure::message(format!("{} leads nowhere: {error}", self.place.display()))
        })?;
        let root = root(self.root.as_deref())?;
        let survey = validatefs::survey(&place, &root, &Sysfs::default())?;
        let place = place.display();
        if survey.constraints.is_empty() {
            ui.note(&format!(
                "The file system on {place} does not say where it belongs."
            ));
            return Ok(Exit::Ok);
        }
        survey.check()?;
        ui.note(&format!("The file system on {place} is where it belongs."));
        Ok(Exit::Ok)
    }
}

fn root(word: Option<&str>) -> Result<PathBuf, Failure> {
    match word {
        None | Some("") => Ok("/".into()),
        Some("auto") => {
            let initrd = Path::new("/etc/initrd-release").exists();
            Ok(if initrd { SYSROOT } else { "/" }.into())
        }
        Some(path) if path.starts_with('/') => Ok(path.into()),
        Some(path) => Err(
            Failure::message(format!("--root={path} is no absolute path"))
                .with_hint("write it from / on, or auto"),
        ),
    }
}
